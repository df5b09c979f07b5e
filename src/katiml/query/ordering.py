"""order_by, pages, and the cursors that continue after a row.

Rows without a value come last in both directions, and ties are broken by id, so pages are stable.
"""

from __future__ import annotations

import base64
import operator
import re
from dataclasses import dataclass
from typing import Any

import orjson

from katiml.errors import InvalidFilter, InvalidInput
from katiml.query.fields import Field, Parameters, known_fields, quoted, resolve, shown
from katiml.query.values import as_uuid
from katiml.schema import TABLES

__all__ = ["Order", "decode_cursor", "encode_cursor", "parse_order", "whole_number"]

_RANDOM = re.compile(r"\s*random\s*\(\s*\)\s*\Z", re.IGNORECASE)
_LARGEST = 2**62


@dataclass(frozen=True)
class _Key:
    """One sort key: its SQL, how a cursor carries it, whether it can be missing."""

    sql: str
    kind: str
    nullable: bool = True

    def exported(self) -> str:
        """The value as a cursor carries it."""
        casts = {"time": f"epoch_us({self.sql})", "uuid": f"CAST({self.sql} AS VARCHAR)"}
        return casts.get(self.kind, self.sql)

    def imported(self, placeholder: str) -> str:
        """A cursor's value as SQL."""
        casts = {
            "time": f"make_timestamptz(CAST({placeholder} AS BIGINT))",
            "uuid": f"CAST({placeholder} AS UUID)",
        }
        return casts.get(self.kind, placeholder)


@dataclass(frozen=True)
class Order:
    """How the rows of a select are sorted."""

    name: str
    keys: tuple[_Key, ...]
    desc: bool
    columns: tuple[str, ...] = ()

    @property
    def random(self) -> bool:
        """Whether the rows are shuffled."""
        return not self.keys

    @property
    def seekable(self) -> bool:
        """Whether a page can continue after a row."""
        return bool(self.keys) and all(key.kind != "list" for key in self.keys)

    def clause(self) -> str:
        """What follows ORDER BY."""
        if self.random:
            return "random()"
        direction = "DESC" if self.desc else "ASC"
        return ", ".join(
            f"{key.sql} {direction}{' NULLS LAST' if key.nullable else ''}" for key in self.keys
        )

    def exported(self) -> list[str]:
        """The values of a row that a cursor is made of."""
        return [key.exported() for key in self.keys]

    def after(self, values: list[Any], parameters: Parameters) -> str:
        """The condition under which a row comes after the one with these values."""
        condition = "FALSE"
        for key, value in reversed(list(zip(self.keys, values, strict=True))):
            condition = self._after(key, value, condition, parameters)
        return condition

    def _after(self, key: _Key, value: Any, then: str, parameters: Parameters) -> str:
        if value is None:
            return f"({key.sql} IS NULL AND {then})"
        bound = key.imported(parameters.add(value))
        sign = "<" if self.desc else ">"
        if not key.nullable:
            # The first half alone already lets the table's statistics skip what came before.
            return f"({key.sql} {sign}= {bound} AND ({key.sql} {sign} {bound} OR {then}))"
        equal = f"({key.sql} = {bound} AND {then})"
        return f"({key.sql} {sign} {bound} OR {key.sql} IS NULL OR {equal})"


_ID = _Key(quoted("id"), "uuid", nullable=False)


def parse_order(
    root: str, order_by: str | None, desc: bool | None, parameters: Parameters
) -> Order:
    """The order that `order_by` asks of `root`: by creation when None.

    Raises InvalidFilter for an unknown field and for one of another table.

    >>> parse_order("tags", "name", True, Parameters("o")).clause()
    '"name" DESC NULLS LAST, "id" DESC'
    """
    desc = _flag(desc)
    if order_by is None or order_by == "":
        return Order(
            "", (_Key(quoted("created_at"), "time", nullable=False), _ID), desc, ("created_at",)
        )
    if isinstance(order_by, str) and _RANDOM.match(order_by):
        return Order("RANDOM()", (), desc)
    field = resolve(root, order_by, what="order_by")
    if field.table != root:
        raise InvalidFilter(
            f"order_by {shown(order_by)} is a column of {field.table}: a row of {root} can have "
            "many of them",
            hint=f"order {root} by one of: {', '.join(_orderable(root))}, or RANDOM(); "
            f"or select {field.table}",
        )
    if field.kind == "bytes":
        raise InvalidFilter(f"order_by {shown(order_by)}: raw bytes have no order")
    keys = _keys(field, parameters)
    ties = () if field.column.name == "id" else (_ID,)
    return Order(field.key, (*keys, *ties), desc, (field.column.name,))


def _keys(field: Field, parameters: Parameters) -> tuple[_Key, ...]:
    if field.kind != "json":
        return (_Key(field.sql(), field.kind, nullable=field.column.name != "id"),)
    # Numbers by value, then texts; texts are looked at only where there is no number.
    number = field.number(parameters)
    text = field.text(parameters)
    return (
        _Key(number, "number"),
        _Key(f"CASE WHEN {number} IS NULL THEN {text} END", "text"),
    )


def _orderable(root: str) -> list[str]:
    own = len(TABLES[root].visible)
    return known_fields(root)[:own]


def _flag(desc: Any) -> bool:
    if desc is None or isinstance(desc, bool):
        return bool(desc)
    raise InvalidInput(f"desc is {shown(desc)}, not true or false", hint="pass True or False")


def whole_number(name: str, value: Any) -> int | None:
    """`value` as a number of rows; InvalidInput unless it is None or a whole number from 0.

    >>> whole_number("limit", 10)
    10
    """
    if value is None:
        return None
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < 0:
        raise InvalidInput(
            f"{name} is {shown(value)}, not a whole number from 0 up",
            hint=f"leave {name} out for all rows" if name == "limit" else "the first row is 0",
        )
    return min(number, _LARGEST)


def encode_cursor(root: str, order: Order, values: list[Any]) -> str:
    """An opaque text from which the next page continues."""
    return base64.urlsafe_b64encode(orjson.dumps([root, order.name, order.desc, values])).decode()


def decode_cursor(root: str, order: Order, cursor: str) -> list[Any]:
    """The values in a cursor; InvalidInput unless it was made for this table and order."""
    try:
        made = orjson.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
        table, name, desc, values = made
        values = list(values)
        matches = len(values) == len(order.keys)
        matches = matches and all(map(_fits, order.keys, values))
    except (ValueError, TypeError):
        raise InvalidInput(
            f"after is {shown(cursor)}, which is no cursor",
            hint="pass the next_cursor of the page before, or the id of its last row",
        ) from None
    if not matches or (table, name, desc) != (root, order.name, order.desc):
        raise InvalidInput(
            "the cursor in after was made for another table or order",
            hint="keep order_by and desc as they were for the page before",
        )
    return values


def _fits(key: _Key, value: Any) -> bool:
    if value is None:
        return key.nullable
    if key.kind == "uuid":
        return as_uuid(value) is not None
    if key.kind == "time":
        return isinstance(value, int) and not isinstance(value, bool)
    if key.kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, str)
