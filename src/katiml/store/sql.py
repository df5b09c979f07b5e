"""Names and strings that stand in SQL text where no parameter can."""

from __future__ import annotations

import re

from katiml.errors import InvalidInput

__all__ = ["identifier", "sql_string"]

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def identifier(name: str) -> str:
    """`name`, if it can stand in SQL without quotes.

    >>> identifier("tags")
    'tags'
    """
    if not _IDENTIFIER.match(name):
        raise InvalidInput(f"{name!r} cannot name a table")
    return name


def sql_string(value: str) -> str:
    """`value` as an SQL string literal.

    >>> sql_string("it's")
    "'it''s'"
    """
    return "'" + value.replace("'", "''") + "'"
