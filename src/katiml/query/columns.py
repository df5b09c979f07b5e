"""The fields of a select -> the columns of its result.

`*` is every visible column, `metadata.uri` a part of a JSON column; columns of another table
(`groundtruths.*`) come as one column named after that table, a list of objects in each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from katiml.errors import InvalidFilter
from katiml.query.fields import (
    Field,
    Parameters,
    iso_text,
    known_fields,
    quoted,
    resolve,
    resolve_table,
    shown,
    table_of,
)
from katiml.schema import TABLES

__all__ = ["Attached", "Own", "json_object", "parse_fields", "sql_struct"]


@dataclass(frozen=True)
class Own:
    """A column of the result that comes from the row itself."""

    name: str
    field: Field

    def sql(self, parameters: Parameters, *, as_json: bool) -> str:
        """Its value; in JSON, moments are ISO 8601 texts."""
        if self.field.kind == "json":
            return self.field.json(parameters)
        if as_json and self.field.kind == "time":
            return iso_text(self.field.sql())
        return self.field.sql()


@dataclass(frozen=True)
class Attached:
    """A column of the result that lists the row's attachments in another table."""

    table: str
    items: tuple[Own, ...]

    @property
    def name(self) -> str:
        """Its name in the result."""
        return self.table


def parse_fields(root: str, fields: Sequence[str] | str | None) -> list[Own | Attached]:
    """The columns that `fields` ask of `root`, in their order, each once.

    Raises InvalidFilter for an unknown field.

    >>> [column.name for column in parse_fields("tags", ["value", "tags.name", "datapoints.*"])]
    ['value', 'name', 'datapoints']
    """
    own: dict[str, Own] = {}
    attached: dict[str, dict[str, Own]] = {}
    order: list[str] = []
    for name in _names(root, fields):
        table, items = _expanded(root, name)
        if table == root:
            own.update({item.name: item for item in items if item.name not in own})
            order.extend(item.name for item in items)
        else:
            members = attached.setdefault(table, {})
            members.update({item.name: item for item in items if item.name not in members})
            order.append(table)
    return [
        own[name] if name in own else Attached(name, tuple(attached[name].values()))
        for name in dict.fromkeys(order)
    ]


def json_object(items: Sequence[Own], parameters: Parameters) -> str:
    """One JSON object of these columns."""
    pairs = [f"{parameters.add(item.name)}, {item.sql(parameters, as_json=True)}" for item in items]
    return f"json_object({', '.join(pairs)})"


def _names(root: str, fields: Sequence[str] | str | None) -> list[str]:
    if fields is None:
        return ["*"]
    names: list[Any] = [fields] if isinstance(fields, str) else _listed(root, fields)
    for name in names:
        if not isinstance(name, str):
            raise InvalidFilter(
                f"a field is a text such as 'metadata.uri', not {shown(name)}",
                hint=f"fields of {root}: {', '.join(known_fields(root)[:20])}",
            )
    return names or ["*"]


def _listed(root: str, fields: Any) -> list[Any]:
    try:
        return list(fields)
    except TypeError:
        raise InvalidFilter(
            f"fields are a list of names, not {shown(fields)}",
            hint=f"fields of {root}: {', '.join(known_fields(root)[:20])}",
        ) from None


def _expanded(root: str, name: str) -> tuple[str, list[Own]]:
    """The table a requested name speaks of, and the columns it stands for."""
    name = name.strip()
    if name == "*":
        return root, _all(root)
    if name.endswith(".*"):
        table = table_of(name[:-2])
        if table != root:
            table = resolve_table(root, name[:-2])
        return table, _all(table)
    field = resolve(root, name)
    if not field.path:
        return field.table, [Own(field.column.name, field)]
    # A part of a JSON column is named as it was asked for, without the table before it.
    head, _, rest = name.lstrip(".").partition(".")
    named = rest if table_of(head) and head not in TABLES[root].columns else name.lstrip(".")
    return field.table, [Own(named, field)]


def _all(table: str) -> list[Own]:
    return [Own(column.name, Field(table, column)) for column in TABLES[table].visible]


def sql_struct(items: Sequence[Own], parameters: Parameters) -> str:
    """One struct of these columns; its members are named c0, c1... because names are free."""
    members = [
        f"{quoted(f'c{index}')} := {item.sql(parameters, as_json=False)}"
        for index, item in enumerate(items)
    ]
    return f"struct_pack({', '.join(members)})"
