"""What a caller adds or removes (ids, a DataFrame, filters) -> the row numbers of datapoints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pyarrow as pa
from pyroaring import BitMap

from katiml.datasets.sets import Reader
from katiml.errors import InvalidInput, NotFound
from katiml.query.fields import shown
from katiml.query.filters import Condition, compile_filters
from katiml.store.bitmaps import from_rows
from katiml.store.scope import ScopedTransaction
from katiml.store.views import inside

__all__ = ["Picked", "gone_rows", "picked", "picked_rows"]

# How many unknown ids an error lists.
_LISTED = 20
_STAGED = "katiml_members"


@dataclass(frozen=True)
class Picked:
    """Checked input: ids, or a condition on datapoints."""

    ids: pa.Array | None
    condition: Condition


def picked(ids: Any, filters: Any, all: bool) -> Picked:
    """Check what was passed. Raises InvalidInput and InvalidFilter.

    >>> picked(["0190a000-0000-7000-8000-000000000000"], None, False).ids.to_pylist()
    ['0190a000-0000-7000-8000-000000000000']
    """
    if (ids is not None) + (filters is not None) + bool(all) != 1:
        raise InvalidInput(
            "datapoints are named in one way", hint="pass ids, or filters=…, or all=True"
        )
    if ids is not None:
        return Picked(_id_texts(ids), Condition("TRUE", {}))
    condition = compile_filters("datapoints", filters)
    if condition.always and not all:
        raise InvalidInput("no filters would take every datapoint", hint="pass all=True")
    return Picked(None, condition)


def _id_texts(ids: Any) -> pa.Array:
    if hasattr(ids, "columns"):
        if "id" not in ids.columns:
            names = ", ".join(map(str, ids.columns))
            raise InvalidInput(
                f"the frame has no column 'id', but {names or 'none at all'}",
                hint="pass what lake.datapoints.select(...) returns, or a list of ids",
            )
        ids = ids["id"]
    for method in ("to_pylist", "tolist"):
        if hasattr(ids, method):
            ids = getattr(ids, method)()
            break
    if isinstance(ids, str | UUID):
        ids = [ids]
    if isinstance(ids, dict) or not isinstance(ids, Iterable):
        raise InvalidInput(
            f"ids are {shown(ids)}", hint="pass a list of ids, or filters={...} by its name"
        )
    listed = [str(one) if isinstance(one, UUID) else one for one in ids]
    for index, one in enumerate(listed):
        if not isinstance(one, str):
            raise InvalidInput(f"ids[{index}] is {shown(one)}, not a text", hint="ids are UUIDs")
    try:
        return pa.array(listed, pa.large_string())
    except (pa.ArrowException, UnicodeError):
        raise InvalidInput("an id is no valid Unicode", hint="ids are UUIDs") from None


def picked_rows(
    transaction: ScopedTransaction, wanted: Picked, *, deleted_too: bool = False
) -> BitMap:
    """The rows of the datapoints picked. Raises NotFound, naming the ids that are not there.

    `deleted_too` knows datapoints that were deleted as well.
    """
    if wanted.ids is None:
        found = transaction.query(
            f"SELECT row FROM {{datapoints}} WHERE {wanted.condition.sql}",
            wanted.condition.parameters,
        )
        return from_rows(found.column(0))
    if not len(wanted.ids):
        return BitMap()
    transaction.stage(_STAGED, pa.table({"id": wanted.ids}))
    tables = ["datapoints", "removed_datapoints"] if deleted_too else ["datapoints"]
    rows = transaction.query(
        " UNION ".join(
            f"SELECT row FROM {{{table}}} WHERE id IN (SELECT TRY_CAST(id AS UUID) FROM {_STAGED})"
            for table in tables
        )
    )
    result = from_rows(rows.column(0))
    if len(result) < len(wanted.ids):
        _refuse_unknown(transaction, len(wanted.ids), deleted_too=deleted_too)
    return result


def _refuse_unknown(transaction: ScopedTransaction, total: int, *, deleted_too: bool) -> None:
    known = "SELECT id FROM {datapoints}"
    if deleted_too:
        known += (
            " UNION ALL SELECT id FROM {removed_datapoints}"
            " UNION ALL SELECT datapoint FROM {tombstones}"
        )
    unknown = transaction.query(
        f"SELECT id, count(*) OVER () AS count FROM (SELECT DISTINCT id FROM {_STAGED}) "
        f"WHERE TRY_CAST(id AS UUID) IS NULL OR TRY_CAST(id AS UUID) NOT IN ({known}) "
        f"ORDER BY id LIMIT {_LISTED}"
    ).to_pydict()
    if not unknown["id"]:
        return  # some were named twice
    count = unknown["count"][0]
    names = ", ".join(shown(one) for one in unknown["id"][:3])
    raise NotFound(
        f"{count:,} of {total:,} ids name no datapoint of this lake: {names}"
        f"{' …' if count > 3 else ''}; nothing was changed",
        hint="leave them out; details['unknown'] lists them",
        details={"unknown": unknown["id"], "count": count},
    )


def gone_rows(reader: Reader, members: BitMap) -> BitMap:
    """Those of `members` that are not in the lake any more."""
    # Simple statements, because most often nothing was deleted, and a commit waits for this.
    once = reader.query(
        "SELECT row FROM {removed_datapoints} UNION ALL SELECT row FROM {tombstones}"
    )
    suspects = from_rows(once.column(0)) & members
    if not suspects:
        return suspects
    among, parameters = inside("row", suspects, "suspects")
    there = reader.query(f"SELECT row FROM {{datapoints}} WHERE {among}", parameters)
    return suspects - from_rows(there.column(0))
