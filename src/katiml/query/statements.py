"""Which SQL texts may be run for a user: DuckDB's own parser says what a text is.

One SELECT whose every table is a table of records, or a name that the text itself defines, and
whose every function only computes. What is not known to be harmless is refused, so neither files,
settings and secrets nor the rows of others can be reached.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

import duckdb
import orjson

from katiml.errors import InvalidInput
from katiml.query.bare import bare_duckdb
from katiml.query.fields import shown, suggestion
from katiml.schema import RECORD_TABLES

__all__ = ["SQL_TABLES", "Statement", "parse_statement"]

# What a text may read: rows of the caller's organization under these names.
SQL_TABLES = (*RECORD_TABLES, "uploads", "rejected_records")
_TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series", "json_each", "json_tree"})
_MAX_LENGTH = 200_000

# Volatile functions that only compute; the others touch sequences, logs or time.
_VOLATILE = frozenset(
    {"random", "uuid", "gen_random_uuid", "uuidv4", "uuidv7", "now", "today", "current_date"}
    | {"get_current_time", "get_current_timestamp", "transaction_timestamp", "unnest"}
)
# Functions that look at settings, the catalog, other statements or the machine.
_LOOKING = re.compile(
    r"(pg_(?!typeof$|size_pretty$)|has_.*_privilege$|inet_|icu_|__internal|parse_duckdb"
    r"|json_serialize|json_deserialize|.*_description$|current_(?!date$|local)|getenv|getvariable)"
    r"|(session_user|user|in_search_path|get_block_size|map_to_pg_oid|format_pg_type|format_type"
    r"|create_sort_key|vector_type)$"
)
# What a text may not name a query of its own: such names find files and views of the system in the
# places where DuckDB does not see the query.
_RESERVED = re.compile(r"(duckdb_|pg_|pragma_|sqlite_)|.*[./\\:*?\[]", re.DOTALL)
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE"})
# Parts of a statement that name no table; their members are looked at like all others.
_PARTS = re.compile(
    r"(ORDER|LIMIT|LIMIT_PERCENT|DISTINCT)_MODIFIER$|ORDER_DEFAULT$|ASCENDING$|DESCENDING$"
    r"|JOIN$|SUBQUERY$|EXPRESSION_LIST$|EMPTY$|.*_TYPE_INFO$"
)


@dataclass(frozen=True)
class Statement:
    """A text that may be run: without what follows it, with the names it uses."""

    text: str
    tables: frozenset[str]
    parameters: frozenset[str]


def parse_statement(text: object) -> Statement:
    """`text` as a statement that may be run; InvalidInput says why it may not.

    >>> parse_statement("SELECT name FROM tags WHERE value = $value; -- all")
    Statement(text='SELECT name FROM tags WHERE value = $value', \
tables=frozenset({'tags'}), parameters=frozenset({'value'}))
    """
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise InvalidInput(
            f"{shown(text)} is no SQL", hint="pass a text such as 'SELECT * FROM datapoints'"
        )
    if len(text) > _MAX_LENGTH:
        raise InvalidInput(
            f"the SQL is {len(text):,} characters long",
            hint=f"up to {_MAX_LENGTH:,} are taken; long lists of values go into parameters",
        )
    body = _without_end(text)
    checker = _Checker(body)
    checker.check(_tree(body))
    return Statement(body, frozenset(checker.tables), frozenset(checker.parameters))


def _tree(text: str) -> dict[str, Any]:
    with bare_duckdb() as connection:
        row = connection.execute("SELECT json_serialize_sql($text)", {"text": text}).fetchone()
    try:
        parsed = orjson.loads(row[0]) if row else {}
    except orjson.JSONDecodeError:
        raise InvalidInput(
            "the SQL is nested too deeply", hint="name parts of it by WITH"
        ) from None
    if parsed.get("error"):
        if parsed.get("error_type") == "not implemented":
            raise InvalidInput(
                "only SELECT statements are run here",
                hint="records change by ingest and delete, not by SQL",
            )
        where = f" at character {parsed['position']}" if parsed.get("position") else ""
        raise InvalidInput(
            f"the SQL cannot be read{where}: {parsed.get('error_message')}",
            hint="the syntax is DuckDB's: https://duckdb.org/docs/stable/sql/introduction",
        )
    statements = parsed["statements"]
    if len(statements) != 1:
        raise InvalidInput(
            f"the SQL holds {len(statements)} statements", hint="run them one by one"
        )
    tree: dict[str, Any] = statements[0]
    return tree


def _without_end(text: str) -> str:
    """`text` without the semicolons behind it, and the comments behind them."""
    try:
        tokens = duckdb.tokenize(text)
    except (duckdb.Error, RuntimeError):
        return text
    raw = text.encode()
    end = len(raw)
    # Comments are no tokens; a token that begins with a semicolon is nothing else.
    for position, _ in reversed(tokens):
        if raw[position : position + 1] != b";":
            break
        end = position
    return raw[:end].decode().rstrip()


@lru_cache(maxsize=1)
def _functions() -> frozenset[str]:
    """The functions that may be called: DuckDB's own that only compute."""
    with bare_duckdb() as connection:
        rows = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE database_name = 'system' "
            "AND schema_name = 'main' AND function_type IN ('scalar', 'aggregate', 'macro') "
            "AND coalesce(stability, 'CONSISTENT') = 'CONSISTENT'"
        ).fetchall()
    return frozenset(name for (name,) in rows if not _LOOKING.match(name)) | _VOLATILE


def _folded(name: object) -> str:
    """A name as DuckDB compares names: only ASCII letters have no case."""
    return str(name).translate(_ASCII_LOWER)


class _Checker:
    """Walks the parsed statement with the names that are defined at each place."""

    def __init__(self, text: str) -> None:
        self.tables: set[str] = set()
        self.parameters: set[str] = set()
        self._text = text
        # Parts still to be looked at, with the names defined around them.
        self._open: list[tuple[Any, frozenset[str]]] = []

    def check(self, tree: dict[str, Any]) -> None:
        self._open.append((tree["node"], frozenset()))
        while self._open:
            part, names = self._open.pop()
            if isinstance(part, list):
                self._open += [(member, names) for member in part]
            elif isinstance(part, dict):
                self._look_at(part, names)

    def _look_at(self, part: dict[str, Any], names: frozenset[str]) -> None:
        kind = part.get("type")
        if "class" in part:
            self._expression(part, names)
        elif isinstance(kind, str) and kind.endswith("_NODE"):
            self._node(part, names)
        elif kind == "BASE_TABLE":
            self._table(part, names)
        elif kind == "TABLE_FUNCTION":
            self._table_function(part, names)
        elif kind == "SHOW_REF":
            if not part.get("query"):
                self._refuse(part, "SHOW is not run here", f"tables are: {', '.join(SQL_TABLES)}")
            self._open.append((part["query"], names))
        elif isinstance(kind, str) and not _PARTS.match(kind):
            self._refuse(part, f"{kind} is not run here", "write it as a plain SELECT")
        else:
            self._members(part, names)

    def _members(self, part: dict[str, Any], names: frozenset[str], *but: str) -> None:
        self._open += [(member, names) for key, member in part.items() if key not in but]

    def _node(self, part: dict[str, Any], names: frozenset[str]) -> None:
        if part["type"] not in _NODES:
            self._refuse(part, f"{part['type']} is not run here", "write it as a plain SELECT")
        for entry in (part.get("cte_map") or {}).get("map", []):
            # A query sees the names defined before its own.
            self._open.append((entry["value"], names))
            names |= {self._defined(part, entry["key"])}
        if part["type"] == "RECURSIVE_CTE_NODE":
            # Its first half is what it starts from, and does not see the name.
            self._open.append((part["left"], names))
            names |= {self._defined(part, part["cte_name"])}
            self._members(part, names, "cte_map", "left")
        else:
            self._members(part, names, "cte_map")

    def _defined(self, part: dict[str, Any], key: object) -> str:
        name = _folded(key)
        if _RESERVED.match(name):
            self._refuse(
                part, f"WITH cannot name a query {shown(key)}", "take letters, digits and _"
            )
        return name

    def _table(self, part: dict[str, Any], names: frozenset[str]) -> None:
        name = str(part.get("table_name"))
        qualified = part.get("schema_name") or part.get("catalog_name")
        if part.get("at_clause"):
            self._refuse(part, "AT names another version of a table", "leave it out")
        if not qualified and _folded(name) in names:
            return
        if qualified or _folded(name) not in SQL_TABLES:
            near = suggestion(name.lower(), SQL_TABLES)
            meant = f"did you mean {near!r}? " if near and not qualified else ""
            full = f"{qualified}.{name}" if qualified else name
            self._refuse(
                part, f"{shown(full)} is no table here", f"{meant}tables: {', '.join(SQL_TABLES)}"
            )
        self.tables.add(_folded(name))

    def _table_function(self, part: dict[str, Any], names: frozenset[str]) -> None:
        function = part["function"]
        name = str(function.get("function_name")).lower()
        if name not in _TABLE_FUNCTIONS or function.get("catalog") or function.get("schema"):
            allowed = ", ".join(sorted(_TABLE_FUNCTIONS))
            self._refuse(part, f"the function {name} makes no table here", f"use {allowed}")
        self._members(part, names, "function")
        self._members(function, names)

    def _expression(self, part: dict[str, Any], names: frozenset[str]) -> None:
        if part["class"] == "CONSTANT":
            return
        if part["class"] == "PARAMETER":
            self._parameter(part)
        name = part.get("function_name")
        if name is not None:
            allowed = str(name).lower() in _functions()
            if not allowed or part.get("catalog") not in (None, "", "system"):
                near = suggestion(str(name).lower(), _functions())
                self._refuse(
                    part,
                    f"the function {name} is not allowed here",
                    f"did you mean {near!r}?" if near else "functions that only compute are",
                )
        self._members(part, names)

    def _parameter(self, part: dict[str, Any]) -> None:
        name = str(part.get("identifier"))
        if not name.isidentifier() or name.lower() == "organization_id":
            self._refuse(part, f"the parameter ${name} has no free name", "name it like $value")
        self.parameters.add(name)
        if len({_folded(known) for known in self.parameters}) < len(self.parameters):
            self._refuse(part, f"another parameter differs from ${name} in case", "rename one")

    def _refuse(self, part: dict[str, Any], problem: str, hint: str) -> NoReturn:
        # DuckDB counts bytes, and gives the largest number where it does not know.
        location = part.get("query_location", -1)
        raw = self._text.encode()
        if isinstance(location, int) and 0 <= location <= len(raw):
            before = raw[:location].decode(errors="replace")
            line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
            problem = f"line {line}, column {column}: {problem}"
        raise InvalidInput(problem, hint=hint)
