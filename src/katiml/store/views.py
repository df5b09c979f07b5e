"""Which rows a reader sees: those of some datapoints, and those that were there at some moment.

A change is a transaction that wrote records; it has a number, unique in its organization, and a row
of `changes`. Each row of a table of records says which change wrote it (`since`); rows taken away
are in the table's twin, which also says which change did it (`until`). Numbers are not ordered: two
writers may commit in either order. So a moment is the set of changes that were there, and a row was
there when `since` is in the set and `until` is not.

Predictions, with their boxes, lanes, completions and vectors, are made after the datapoints they
are about were chosen, and are not kept when others replace them. A view of the past shows those of
now; of datapoints that were deleted since, those that were deleted with them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyroaring import BitMap

from katiml.schema import RECORD_TABLES, REMOVED, TABLES

if TYPE_CHECKING:
    from katiml.store.scope import Scope, ScopedTransaction

__all__ = ["EVERYTHING", "Moment", "View", "bind", "bitmap_of", "inside", "subquery"]

# Up to this many ranges, comparing with each is faster than looking a bit up.
_MAX_RANGES = 16
# Values are sent as a list where a bit for each number between them would be longer.
_BITS_PER_LISTED = 64
_PARAMETER = re.compile(r"\$(\w+)")
_ORGANIZATION = "organization_id = $organization_id"


def bitmap_of(numbers: pa.ChunkedArray | pa.Array) -> BitMap:
    """The set of the integers in an Arrow column, 0 to 2^32 - 1.

    >>> bitmap_of(pa.array([3, 1, 3]))
    BitMap([1, 3])
    """
    import numpy as np

    return BitMap(numbers.to_numpy().astype(np.uint32))


def inside(column: str, numbers: BitMap, name: str) -> tuple[str, dict[str, Any]]:
    """SQL that is true where `column`, a BIGINT, is one of `numbers`, and its parameters.

    Names of parameters begin with `name`. Ranges where they are few, else a bit string, else
    (numbers far apart) a list: looking a bit up in 2,000,000 rows takes 40 ms, joining them with
    a list of 1,000,000 300 ms.

    >>> inside("row", BitMap([1, 2, 3, 7]), "m")
    ('(row BETWEEN $m_0 AND $m_1 OR row = $m_2)', {'m_0': 1, 'm_1': 3, 'm_2': 7})
    """
    if not numbers:
        return "FALSE", {}
    ranges = _ranges(numbers)
    if ranges is not None:
        return _in_ranges(column, ranges, name)
    first, last = numbers.min(), numbers.max()
    bounds = {f"{name}_first": first, f"{name}_last": last}
    between = f"{column} BETWEEN ${name}_first AND ${name}_last"
    if last - first > _BITS_PER_LISTED * len(numbers):
        # A text is read into a list a hundred times faster than a list is bound.
        listed = f"[{','.join(map(str, numbers))}]"
        found = f"{column} IN (SELECT unnest(CAST(${name}_list AS BIGINT[])))"
        return f"({between} AND {found})", {**bounds, f"{name}_list": listed}
    # DuckDB may look at the bit before it compares with the bounds, hence greatest and least.
    place = f"greatest(least({column}, ${name}_last) - ${name}_first, 0)"
    found = f"get_bit(CAST(${name}_bits AS BIT), CAST({place} AS INTEGER)) = 1"
    return f"({between} AND {found})", {**bounds, f"{name}_bits": _bits(numbers, first, last)}


def _ranges(numbers: BitMap) -> list[tuple[int, int]] | None:
    """The runs of consecutive numbers, None where they are many."""
    ranges: list[tuple[int, int]] = []
    start = numbers.min()
    largest = numbers.max()
    while True:
        # The largest n for which all of start .. start + n are there.
        low, high = 0, largest - start
        while low < high:
            middle = (low + high + 1) // 2
            if numbers.contains_range(start, start + middle + 1):
                low = middle
            else:
                high = middle - 1
        ranges.append((start, start + low))
        if start + low == largest:
            return ranges
        if len(ranges) == _MAX_RANGES:
            return None
        start = numbers.next_set_bit(start + low + 1)


def _in_ranges(column: str, ranges: list[tuple[int, int]], name: str) -> tuple[str, dict[str, Any]]:
    parts: list[str] = []
    parameters: dict[str, Any] = {}

    def placeholder(value: int) -> str:
        key = f"{name}_{len(parameters)}"
        parameters[key] = value
        return f"${key}"

    for first, last in ranges:
        if first == last:
            parts.append(f"{column} = {placeholder(first)}")
        else:
            parts.append(f"{column} BETWEEN {placeholder(first)} AND {placeholder(last)}")
    return f"({' OR '.join(parts)})", parameters


def _bits(numbers: BitMap, first: int, last: int) -> bytes:
    """A bit for each number from `first` on, the first one leftmost."""
    import numpy as np

    bits = np.zeros(last - first + 1, np.uint8)
    bits[np.asarray(numbers.to_array(), np.int64) - first] = 1
    return np.packbits(bits).tobytes()


@dataclass(frozen=True)
class Moment:
    """The changes that a reader saw at some time: what a dataset version remembers.

    >>> Moment.from_bytes(Moment(BitMap([0, 1, 2])).to_bytes()) == Moment(BitMap([0, 1, 2]))
    True
    """

    changes: BitMap

    @classmethod
    def read(cls, reader: Scope | ScopedTransaction) -> Moment:
        """This moment, as `reader` sees it. That of a transaction has its own changes in it."""
        numbers = bitmap_of(reader.query("SELECT number FROM {changes}").column(0))
        numbers.add(0)  # rows that are older than history
        own = getattr(reader, "change", None)
        if own is not None:
            numbers.add(own)
        return cls(numbers)

    def to_bytes(self) -> bytes:
        """The set in the portable format of Roaring bitmaps, made as short as it can be."""
        numbers = self.changes.copy()
        numbers.run_optimize()
        return bytes(numbers.serialize())

    @classmethod
    def from_bytes(cls, data: bytes) -> Moment:
        """The moment that `to_bytes` wrote."""
        return cls(BitMap.deserialize(data))

    def __hash__(self) -> int:
        return hash(self.to_bytes())


@dataclass(frozen=True, eq=False)
class View:
    """What a reader sees: rows of the datapoints whose `row` is in `members`, as of `moment`.

    None stands for all datapoints, and for now. Make one and use it again: what it needs to be
    part of a statement is made once.

    >>> View(members=BitMap([0, 1])), View().is_everything
    (View(members=BitMap([0, 1]), moment=None), True)
    """

    members: BitMap | None = None
    moment: Moment | None = None

    @property
    def is_everything(self) -> bool:
        """Whether this is the current state of all datapoints."""
        return self.members is None and self.moment is None

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """What the statements over this view need; some need less."""
        return {**self._member[1], **self._since[1], **self._until[1]}

    @cached_property
    def _member(self) -> tuple[str, dict[str, Any]]:
        if self.members is None:
            return "TRUE", {}
        return inside('"row"', self.members, "view_members")

    @cached_property
    def _since(self) -> tuple[str, dict[str, Any]]:
        if self.moment is None:
            return "TRUE", {}
        return inside("since", self.moment.changes, "view_changes")

    @cached_property
    def _until(self) -> tuple[str, dict[str, Any]]:
        if self.moment is None:
            return "TRUE", {}
        return inside("until", self.moment.changes, "view_changes")

    def where(self, table: str) -> str:
        """The condition on rows of `lake.<table>` that belong to a member, with an AND before it.

        The empty text where every row does.
        """
        if self.members is None or table.removeprefix(REMOVED) not in RECORD_TABLES:
            return ""
        if table.removeprefix(REMOVED) == "datapoints":
            return f" AND {self._member[0]}"
        # A member may have been deleted since: then the twin knows its id.
        tables = ["datapoints"] if self.moment is None else ["datapoints", f"{REMOVED}datapoints"]
        ids = " UNION ALL ".join(
            f"SELECT id FROM lake.{name} WHERE {_ORGANIZATION} AND {self._member[0]}"
            for name in tables
        )
        return f" AND datapoint IN ({ids})"

    def subquery(self, table: str) -> str:
        """What `{table}` in a template stands for."""
        if table not in self._subqueries:
            self._subqueries[table] = subquery(table, self)
        return self._subqueries[table]

    @cached_property
    def _subqueries(self) -> dict[str, str]:
        return {}


EVERYTHING = View()


def subquery(table: str, view: View = EVERYTHING) -> str:
    """The rows of `table` that belong to $organization_id and are in the view, as a subquery."""
    if table not in TABLES:
        raise ValueError(f"{{{table}}} in SQL is not a table of the lake")
    computed = "".join(
        f', {column.computed} AS "{column.name}"'
        for column in TABLES[table].columns.values()
        if column.computed
    )
    if view.moment is None or table not in RECORD_TABLES:
        where = f"{_ORGANIZATION}{view.where(table)}"
        return f"(SELECT *{computed} FROM lake.{table} WHERE {where})"
    now, past = _at(table, view)
    columns = ", ".join(f'"{column.name}"' for column in TABLES[table].stored)
    return (
        f"(SELECT {columns}{computed} FROM lake.{table} "
        f"WHERE {_ORGANIZATION}{now}{view.where(table)} UNION ALL "
        f"SELECT {columns}{computed} FROM lake.{REMOVED}{table} "
        f"WHERE {_ORGANIZATION}{past}{view.where(REMOVED + table)})"
    )


def _at(table: str, view: View) -> tuple[str, str]:
    """Conditions on the current and on the removed rows of `table` that a moment shows."""
    since, until = view._since[0], view._until[0]
    # Predictions, and what belongs to one, go by another rule (see above).
    with_datapoint = (
        f"NOT {until} AND (datapoint, until) IN "
        f"(SELECT (id, until) FROM lake.{REMOVED}datapoints WHERE {_ORGANIZATION})"
    )
    if table in ("predictions", "feature_vectors"):
        return "", f" AND {with_datapoint}"
    past = f"{since} AND NOT {until}"
    if "predictions" not in TABLES[table].parents:
        return f" AND {since}", f" AND {past}"
    return (
        f" AND (prediction IS NOT NULL OR {since})",
        f" AND CASE WHEN prediction IS NULL THEN {past} ELSE {with_datapoint} END",
    )


def bind(sql: str, parameters: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
    """Parameters with those of `own` that the statement names: DuckDB refuses any other."""
    named = set(_PARAMETER.findall(sql)) & own.keys()
    return {**parameters, **{name: own[name] for name in named}} if named else parameters
