"""Which datapoints something is about: filters, an order and a limit."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyroaring import BitMap

from katiml.query.fields import Parameters
from katiml.query.filters import Condition, compile_filters
from katiml.query.ordering import parse_order, whole_number
from katiml.query.select import picking
from katiml.store.views import inside

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = ["Chosen", "Select", "datapoint_ids", "id_array"]

_MARK = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Chosen:
    """SQL of the ids of the datapoints; `everything` where no row is left out."""

    sql: str
    parameters: dict[str, Any]
    everything: bool

    @property
    def tables(self) -> set[str]:
        """The tables that say which datapoints these are."""
        return set(_MARK.findall(self.sql))

    def within(self, column: str = "datapoint") -> str:
        """The condition under which a row with this column belongs to one of them."""
        return "TRUE" if self.everything else f"{column} IN ({self.sql})"


@dataclass(frozen=True)
class Select:
    """Datapoints that pass `filters`; the first `limit` of them by `order_by`; but for `without`.

    With `members` only those whose row number is among them, with `excluded` none of those, before
    any limit.

    >>> Select(limit=2).chosen().sql
    'SELECT id FROM {datapoints} ORDER BY "created_at" ASC, "id" ASC LIMIT 2'
    """

    filters: Any = None
    limit: int | None = None
    order_by: str | None = None
    desc: bool | None = None
    without: Select | None = None
    members: BitMap | None = None
    excluded: BitMap | None = None

    def chosen(self, prefix: str = "p") -> Chosen:
        """The SQL; parameters begin with `prefix`. Raises InvalidFilter and InvalidInput."""
        own = self._own(prefix)
        if self.without is None:
            return own
        other = self.without.chosen(f"{prefix}w")
        sql = f"SELECT id FROM ({own.sql}) WHERE id NOT IN ({other.sql})"
        return Chosen(sql, {**own.parameters, **other.parameters}, everything=False)

    def _own(self, prefix: str) -> Chosen:
        condition = self._condition(prefix)
        parameters = Parameters(f"{prefix}o")
        order = parse_order("datapoints", self.order_by, self.desc, parameters)
        limit = whole_number("limit", self.limit)
        if limit is None:
            where = "" if condition.always else f" WHERE {condition.sql}"
            sql = f"SELECT id FROM {{datapoints}}{where}"
            return Chosen(sql, condition.parameters, condition.always)
        sql = f"SELECT id {picking(condition.sql, 'datapoints', order, limit, 0)}"
        return Chosen(sql, {**condition.parameters, **parameters.values}, everything=False)

    def _condition(self, prefix: str) -> Condition:
        condition = compile_filters("datapoints", self.filters, prefix)
        parts, parameters = [condition.sql], dict(condition.parameters)
        for negation, numbers, name in (("", self.members, "m"), ("NOT ", self.excluded, "e")):
            if numbers is not None:
                sql, values = inside('"row"', numbers, f"{prefix}{name}")
                parts.append(f"{negation}{sql}")
                parameters |= values
        if len(parts) == 1:
            return condition
        return Condition(" AND ".join(f"({part})" for part in parts), parameters)

    def fixed(self, scope: Scope) -> Select:
        """The same for statement after statement: a random choice is made here, once."""
        without = None if self.without is None else self.without.fixed(scope)
        limit = whole_number("limit", self.limit)
        order = parse_order("datapoints", self.order_by, self.desc, Parameters("o"))
        if limit is None or not order.random:
            return replace(self, without=without)
        alone = replace(self, without=None)
        return replace(Select.of(datapoint_ids(scope, alone)), without=without)

    def told(self) -> dict[str, Any]:
        """The fields that were given, as HTTP's `select` has them."""
        names = ("filters", "limit", "order_by", "desc")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @classmethod
    def of(cls, ids: NDArray[np.bytes_]) -> Select:
        """The datapoints of these ids."""
        return cls({"left": "id", "op": "in", "right": [str(name, "ascii") for name in ids]})


def datapoint_ids(scope: Scope, select: Select) -> NDArray[np.bytes_]:
    """(N,) ids of 36 ASCII characters, sorted."""
    chosen = select.chosen()
    found = scope.query(f"SELECT CAST(id AS VARCHAR) AS id FROM ({chosen.sql})", chosen.parameters)
    return np.sort(id_array(found.column("id")))


def id_array(ids: pa.ChunkedArray | pa.Array) -> NDArray[np.bytes_]:
    """UUIDs as text in Arrow -> (N,) NumPy `S36`, without making Python strings.

    >>> id_array(pa.array(["0190b3d8-7c1e-7000-8000-000000000001"])).dtype
    dtype('S36')
    """
    chunks = ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]
    parts = [_characters(chunk) for chunk in chunks if len(chunk)]
    return np.concatenate(parts) if parts else np.zeros(0, "S36")


def _characters(texts: pa.Array) -> NDArray[np.bytes_]:
    if not pa.types.is_string(texts.type):
        texts = texts.cast(pa.string())
    _, offsets, data = texts.buffers()
    first = int(np.frombuffer(offsets, np.int32, 1, texts.offset * 4)[0])
    return np.frombuffer(data, "S36", len(texts), first)
