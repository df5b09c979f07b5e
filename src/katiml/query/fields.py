"""Field names (`metadata.uri`, `groundtruths.class_name`) and what they stand for in SQL.

>>> field = resolve("datapoints", "groundtruths.metrics.entropy")
>>> field.table, field.column.name, field.path
('groundtruths', 'metrics', ('entropy',))
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from katiml.errors import InvalidFilter
from katiml.schema import RECORD_TABLES, TABLES, Column, link

__all__ = [
    "Field",
    "Parameters",
    "iso_text",
    "json_pointer",
    "known_fields",
    "quoted",
    "resolve",
    "resolve_table",
    "shown",
    "split",
    "suggestion",
    "table_of",
]

_MAX_LENGTH = 1000
_SEGMENT = re.compile(r'"((?:[^"\\]|\\.|"")*)"|([^."\[\]]+)')
_INDEX = re.compile(r"\[(\d{1,9})\]")
_UNESCAPE = re.compile(r'\\(.)|""')

# Names of older documentation, for the JSON column that holds the same today.
_OLD_COLUMNS = {
    "image_metadata": "metadata",
    "video_metadata": "metadata",
    "audio_metadata": "metadata",
    "text_metadata": "metadata",
}


class Parameters:
    """Values on their way into SQL: each gets a name, equal texts share one.

    >>> parameters = Parameters("f")
    >>> parameters.add("cat"), parameters.add(3), parameters.add("cat")
    ('$f0', '$f1', '$f0')
    >>> parameters.values
    {'f0': 'cat', 'f1': 3}
    """

    def __init__(self, prefix: str) -> None:
        self.values: dict[str, Any] = {}
        self._prefix = prefix
        self._texts: dict[str, str] = {}

    def add(self, value: Any) -> str:
        """The placeholder for `value`."""
        if isinstance(value, str) and value in self._texts:
            return self._texts[value]
        name = f"{self._prefix}{len(self.values)}"
        self.values[name] = value
        if isinstance(value, str):
            self._texts[value] = f"${name}"
        return f"${name}"


@dataclass(frozen=True)
class Field:
    """A column of `table`, or what lies under `path` in a JSON column of it."""

    table: str
    column: Column
    path: tuple[str, ...] = ()
    # Whether the text NaN in JSON is no number; false where it cannot matter, which is faster.
    exact: bool = True

    @property
    def kind(self) -> str:
        """How its values compare: json, text, uuid, number, time, list or bytes."""
        if self.column.type.endswith("[]"):
            return "list"
        return {
            "JSON": "json",
            "VARCHAR": "text",
            "UUID": "uuid",
            "TIMESTAMPTZ": "time",
            "BLOB": "bytes",
        }.get(self.column.type, "number")

    @property
    def key(self) -> str:
        """Its name inside its table, quotes where they are needed."""
        return ".".join([self.column.name, *map(_quote_segment, self.path)])

    def sql(self) -> str:
        """The column itself."""
        return quoted(self.column.name)

    def json(self, parameters: Parameters) -> str:
        """The JSON value, as JSON text; 'null' where JSON says null."""
        if not self.path:
            return self.sql()
        return f"json_extract({self.sql()}, {parameters.add(json_pointer(self.path))})"

    def text(self, parameters: Parameters) -> str:
        """The value as text: what like and the regular expressions see."""
        if self.kind == "json" and self.path:
            return f"json_extract_string({self.sql()}, {parameters.add(json_pointer(self.path))})"
        if self.kind == "text":
            return self.sql()
        if self.kind == "time":
            return iso_text(self.sql())
        return f"CAST({self.sql()} AS VARCHAR)"

    def number(self, parameters: Parameters) -> str:
        """The value as a number; NULL where it is none."""
        if self.kind == "number":
            return self.sql()
        number = f"TRY_CAST({self.text(parameters)} AS DOUBLE)"
        # To DuckDB NaN is greater than every number and equal to itself.
        return f"nullif({number}, CAST('NaN' AS DOUBLE))" if self.exact else number


def iso_text(sql: str) -> str:
    """A TIMESTAMPTZ as JavaScript's toISOString writes it: 2024-05-01T12:00:00.000Z."""
    return f"strftime(make_timestamp(epoch_us({sql})), '%Y-%m-%dT%H:%M:%S.%gZ')"


def quoted(name: str) -> str:
    """An identifier of the schema, quoted.

    >>> quoted("left")
    '"left"'
    """
    return '"' + name.replace('"', '""') + '"'


def json_pointer(path: Iterable[str]) -> str:
    """The JSON pointer (RFC 6901) of a path; safe for any key.

    >>> json_pointer(["a/b", "0"])
    '/a~1b/0'
    """
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)


def _quote_segment(segment: str) -> str:
    if _SEGMENT.fullmatch(segment) and not segment.startswith('"'):
        return segment
    return '"' + segment.replace("\\", "\\\\").replace('"', '\\"') + '"'


def split(name: str) -> list[str] | None:
    r"""The segments of a dotted name, or None if it is not one.

    >>> split('metadata."a.b"[2].c')
    ['metadata', 'a.b', '2', 'c']
    >>> split("metadata..uri")
    """
    segments: list[str] = []
    position = 1 if name.startswith(".") else 0
    while True:
        match = _SEGMENT.match(name, position)
        if not match:
            return None
        segments.append(
            match[2]
            if match[1] is None
            else _UNESCAPE.sub(lambda escape: escape[1] or '"', match[1])
        )
        position = match.end()
        while index := _INDEX.match(name, position):
            segments.append(index[1])
            position = index.end()
        if position == len(name):
            return segments
        if name[position] != ".":
            return None
        position += 1


def table_of(name: str) -> str | None:
    """The table a name means: itself, or the plural of an attachment's singular.

    >>> table_of("prediction"), table_of("bbox"), table_of("colours")
    ('predictions', 'bboxes', None)
    """
    for candidate in (name, f"{name}s", f"{name}es"):
        if candidate in RECORD_TABLES:
            return candidate
    return None


def resolve(root: str, name: object, *, what: str = "field") -> Field:
    """The field that `name` means in a query on `root`; InvalidFilter if there is none.

    >>> resolve("predictions", "datapoints").column.name
    'datapoint'
    >>> resolve("datapoints", "image_metadata.uri").path
    ('uri',)
    """
    if not isinstance(name, str):
        raise InvalidFilter(
            f"a {what} is a text such as 'metadata.uri', not {shown(name)}",
            hint=f"fields of {root}: {_listed(root)}",
        )
    segments = split(name.strip()) if len(name) <= _MAX_LENGTH else None
    if segments is None:
        raise InvalidFilter(
            f"{what} {shown(name)} is not a dotted name",
            hint='write it like metadata.uri; keys with dots in quotes: metadata."a.b"',
        )
    head, *rest = segments
    own = _own(root, head, rest)
    if own is not None:
        return own
    table = table_of(head)
    if table is None:
        raise _unknown(root, name, what)
    if not rest:
        # Documentation says `datapoints` where the column is `datapoint`.
        column = TABLES[root].parents.get(table)
        if column is not None:
            return Field(root, TABLES[root].columns[column])
        raise InvalidFilter(
            f"{what} {shown(name)} is a table, not a column",
            hint=f"name a column of it: {_listed(table, prefix=table)}",
        )
    if table != root and link(root, table) is None:
        raise _unknown(root, name, what)
    field = _own(table, rest[0], rest[1:])
    if field is None:
        raise _unknown(root, name, what)
    return field


def _own(table: str, head: str, rest: list[str]) -> Field | None:
    columns = TABLES[table].columns
    column = columns.get(head) or columns.get(_OLD_COLUMNS.get(head, ""))
    if column is None or (rest and not column.is_json):
        return None
    return Field(table, column, tuple(rest))


def resolve_table(root: str, name: object) -> str:
    """The attachment table `name` of `root`; InvalidFilter if there is none."""
    table = table_of(name) if isinstance(name, str) else None
    if table is None or link(root, table) is None:
        tables = [other for other in RECORD_TABLES if link(root, other)]
        raise InvalidFilter(
            f"{shown(name)} is not a table that belongs to {root}",
            hint=f"tables are: {', '.join(tables)}",
        )
    return table


def known_fields(root: str) -> list[str]:
    """Every field of `root` and its attachments, JSON columns without their paths.

    >>> known_fields("tags")[:4]
    ['id', 'organization_id', 'datapoint', 'created_at']
    """
    own = [column.name for column in TABLES[root].visible]
    linked = [table for table in RECORD_TABLES if table != root and link(root, table)]
    return own + [f"{table}.{column.name}" for table in linked for column in TABLES[table].visible]


def suggestion(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` was perhaps meant to be.

    >>> suggestion("metrcs.entropy", ["metadata", "metrics"])
    'metrics'
    """
    names = list(candidates)
    close = difflib.get_close_matches(name, names, 1) or difflib.get_close_matches(
        name.partition(".")[0], names, 1
    )
    return close[0] if close else None


def _unknown(root: str, name: str, what: str) -> InvalidFilter:
    segments = split(name.strip()) or [name]
    table = table_of(segments[0])
    if table == "tags" and root != "tags":
        hint = "a tag is found by two filters: tags.name = split and tags.value = train"
    elif table is not None and table_of(segments[1]) and link(root, table_of(segments[1]) or ""):
        hint = f"name the inner table directly: {'.'.join(segments[1:])}"
    else:
        near = suggestion(name, known_fields(root))
        meant = f"did you mean {near!r}? " if near else ""
        listed = _listed(table or root, prefix=table or "")
        hint = f"{meant}fields of {table or root}: {listed}"
    return InvalidFilter(f"unknown {what} {shown(name)} of {root}", hint=hint)


def _listed(table: str, prefix: str = "") -> str:
    names = [column.name for column in TABLES[table].visible]
    dotted = f"{prefix}." if prefix else ""
    return ", ".join(f"{dotted}{name}" for name in names)


def shown(value: object) -> str:
    """`value` for an error message, cut at a readable length."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
