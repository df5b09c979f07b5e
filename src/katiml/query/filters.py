"""Filters -> SQL: the one compiler.

A filter is `{"left": field, "op": operator, "right": value}`; a list of them is ANDed. Groups:
`{"any": [...]}`, `{"all": [...]}`, `{"not": ...}`, `{"exists": "tags", "where": [...]}`.

Filters on an attachment table ask whether the row has such an attachment. Within one list, the
i-th filter of each attachment column speaks of the i-th attachment: `tags.name` and `tags.value`
of the same tag; name, value, name, value of two. For the `is` family (`groundtruths.id is null`)
a row without attachments counts as having one whose every column is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from katiml.errors import InvalidFilter
from katiml.query.fields import Field, Parameters, quoted, resolve, resolve_table, shown
from katiml.query.operators import compare, holds_for_missing, operator_named
from katiml.query.values import plain
from katiml.schema import link

__all__ = ["MAX_DEPTH", "MAX_FILTERS", "Condition", "compile_filters"]

MAX_DEPTH = 20
MAX_FILTERS = 500


@dataclass(frozen=True)
class Condition:
    """A WHERE clause over the columns of one table, with the values it names."""

    sql: str
    parameters: dict[str, Any]

    @property
    def always(self) -> bool:
        """Whether it keeps every row."""
        return self.sql == "TRUE"


def compile_filters(table: str, filters: Any, prefix: str = "f") -> Condition:
    """The condition under which a row of `table` passes `filters` (None keeps everything).

    The SQL is a template for `Scope` and names columns without their table; parameters are
    named `prefix0`, `prefix1`... Raises InvalidFilter, naming what was wrong and where.

    >>> compile_filters("tags", {"left": "name", "op": "=", "right": "split"})
    Condition(sql='("name" = $f0)', parameters={'f0': 'split'})
    >>> compile_filters("datapoints", [{"left": "tags.value", "op": "=", "right": "train"}]).sql
    '"id" IN (SELECT "datapoint" FROM {tags} WHERE ("value" = $f0))'
    """
    compiler = _Compiler(prefix)
    return Condition(compiler.conjunction(table, filters, "filters", 0), compiler.parameters.values)


@dataclass(frozen=True)
class _Comparison:
    field: Field
    operator: str
    right: Any


class _Compiler:
    def __init__(self, prefix: str) -> None:
        self.parameters = Parameters(prefix)
        self._count = 0
        self._negations = 0

    def conjunction(self, root: str, filters: Any, place: str, depth: int) -> str:
        """All of a list of filters, or one filter; attachments bind by position."""
        if depth > MAX_DEPTH:
            raise InvalidFilter(
                f"{place} is nested more than {MAX_DEPTH} deep", hint="flatten the groups"
            )
        conditions: list[str] = []
        # (table, position) -> the comparisons that speak of that attachment.
        rows: dict[tuple[str, int], list[_Comparison]] = {}
        seen: dict[tuple[str, str], int] = {}
        for item, where in _items(filters, place):
            self._counted(where)
            if "left" not in item:
                conditions.append(self._group(root, item, where, depth))
                continue
            comparison = _comparison(root, item, where)
            table, key = comparison.field.table, comparison.field.key
            if table == root:
                conditions.append(self._compare(comparison, where))
            else:
                position = seen.get((table, key), 0)
                seen[table, key] = position + 1
                rows.setdefault((table, position), []).append(comparison)
        for (table, _), comparisons in rows.items():
            conditions.append(self._attached(root, table, comparisons, place))
        return _joined("AND", conditions, "TRUE")

    def _group(self, root: str, item: Mapping[str, Any], place: str, depth: int) -> str:
        names = set(item)
        if names == {"any"}:
            members = _list(item["any"], f"{place}.any")
            alternatives = [
                self.conjunction(root, member, f"{place}.any[{index}]", depth + 1)
                for index, member in enumerate(members)
            ]
            return _joined("OR", alternatives, "FALSE")
        if names == {"all"}:
            members = _list(item["all"], f"{place}.all")
            return self.conjunction(root, members, f"{place}.all", depth + 1)
        if names == {"not"}:
            self._negations += 1
            inner = self.conjunction(root, item["not"], f"{place}.not", depth + 1)
            self._negations -= 1
            return f"(NOT {inner})"
        if names in ({"exists"}, {"exists", "where"}):
            table = resolve_table(root, item["exists"])
            where = self.conjunction(table, item.get("where"), f"{place}.where", depth + 1)
            return _semi_join(root, table, where)
        raise InvalidFilter(
            f"{place} is {shown(dict(item))}, which is not a filter",
            hint="a filter has left, op and right; a group has any, all, not, or exists and where",
        )

    def _attached(self, root: str, table: str, comparisons: list[_Comparison], place: str) -> str:
        where = _joined("AND", [self._compare(one, place) for one in comparisons], "TRUE")
        found = _semi_join(root, table, where)
        if all(holds_for_missing(one.operator, one.right) for one in comparisons):
            return f"({found} OR (NOT {_semi_join(root, table, 'TRUE')}))"
        return found

    def _compare(self, comparison: _Comparison, place: str) -> str:
        try:
            return compare(
                comparison.field,
                comparison.operator,
                comparison.right,
                self.parameters,
                negated=self._negations > 0,
            )
        except InvalidFilter as error:
            raise InvalidFilter(f"{place}: {error.message}", hint=error.hint) from None

    def _counted(self, place: str) -> None:
        self._count += 1
        if self._count > MAX_FILTERS:
            raise InvalidFilter(
                f"{place} is past the limit of {MAX_FILTERS} filters",
                hint="many values of one field go into one filter with the operator 'in'",
            )


def _items(filters: Any, place: str) -> list[tuple[Mapping[str, Any], str]]:
    if filters is None:
        return []
    if isinstance(filters, Mapping):
        return [(filters, place)]
    items = _list(filters, place)
    named = [(item, f"{place}[{index}]") for index, item in enumerate(items)]
    for item, where in named:
        if not isinstance(item, Mapping):
            raise InvalidFilter(
                f"{where} is {shown(item)}, not a filter",
                hint="a filter is {'left': 'type', 'op': '=', 'right': 'IMAGE'}",
            )
    return named


def _list(value: Any, place: str) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    raise InvalidFilter(
        f"{place} is {shown(value)}, not a list of filters",
        hint="a filter is {'left': 'type', 'op': '=', 'right': 'IMAGE'}",
    )


def _comparison(root: str, item: Mapping[str, Any], place: str) -> _Comparison:
    unknown = [name for name in item if name not in ("left", "op", "right")]
    if unknown or "op" not in item:
        problem = f"has an unknown key {shown(unknown[0])}" if unknown else "has no op"
        raise InvalidFilter(f"{place} {problem}", hint="a filter has left, op and right")
    try:
        field = resolve(root, item["left"])
        operator = operator_named(item["op"])
        if "right" not in item and operator not in ("is null", "is not null"):
            raise InvalidFilter(f"{operator!r} has nothing to compare with", hint="give it a right")
        return _Comparison(field, operator, plain(item.get("right"), field))
    except InvalidFilter as error:
        raise InvalidFilter(f"{place}: {error.message}", hint=error.hint) from None


def _semi_join(root: str, table: str, where: str) -> str:
    linked = link(root, table)
    if linked is None:
        raise ValueError(f"{table} has no link to {root}")
    mine, theirs = quoted(linked[0]), quoted(linked[1])
    # NULL among the values of an IN would turn "no" into "unknown", and NOT with it.
    conditions = [where] if where != "TRUE" else []
    if linked[1] not in ("id", "datapoint"):
        conditions.insert(0, f"{theirs} IS NOT NULL")
    clause = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    found = f"{mine} IN (SELECT {theirs} FROM {{{table}}}{clause})"
    return found if linked[0] in ("id", "datapoint") else f"({mine} IS NOT NULL AND {found})"


def _joined(word: str, conditions: list[str], empty: str) -> str:
    if not conditions:
        return empty
    if len(conditions) == 1:
        return conditions[0]
    return f"({f' {word} '.join(conditions)})"
