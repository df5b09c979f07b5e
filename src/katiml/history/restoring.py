"""Putting deleted datapoints back, chosen by filters, ids or the change that deleted them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from katiml.errors import InvalidInput, NotFound
from katiml.history.outcome import Outcome
from katiml.history.records import touch
from katiml.history.undoing import rehearse
from katiml.query.fields import shown
from katiml.query.filters import Condition, compile_filters
from katiml.query.values import as_uuid
from katiml.schema import RECORD_TABLES
from katiml.store.views import Deleted

if TYPE_CHECKING:
    from katiml.store import Scope, ScopedTransaction

__all__ = ["DELETED", "checked_ids", "restore"]

DELETED = Deleted()
_NO_PARENT = "the datapoint they were made from is deleted: restore that, and they come with it"


def restore(
    scope: Scope,
    filters: Any = None,
    *,
    ids: Any = None,
    change: int | None = None,
    all: bool = False,
    dry_run: bool = False,
    author: str | None = None,
) -> Outcome:
    """Put deleted datapoints back, with all that was deleted with them, and what was made of them.

    `filters` are those of a select, and see the datapoints as they were when they were deleted;
    `ids` and `change` narrow further. Raises InvalidInput where none of them is given and `all` is
    not True, NotFound where one of `ids` is not a deleted datapoint.

    >>> from katiml.store import open_store, Scope
    >>> with open_store(getfixture("tmp_path")) as store:
    ...     restore(Scope(store), all=True, dry_run=True).restored
    {}
    """
    condition = compile_filters("datapoints", filters)
    wanted = None if ids is None else checked_ids(ids)
    if change is not None and (isinstance(change, bool) or not isinstance(change, int)):
        raise InvalidInput(f"change is {shown(change)}", hint="pass the number of a change")
    if condition.always and wanted is None and change is None and not all:
        raise InvalidInput(
            "nothing says which datapoints come back",
            hint="pass filters, ids or change, or all=True if all deleted ones are meant",
        )

    def work(transaction: ScopedTransaction) -> Outcome:
        transaction.serialize("undo")
        transaction.note("restore", author)
        chosen = _chosen(transaction, condition, wanted, change)
        outcome = Outcome()
        chosen = _with_family(transaction, chosen, outcome)
        transaction.stage("restored", chosen)
        for table in RECORD_TABLES:
            key = "id" if table == "datapoints" else "datapoint"
            rows = transaction.restore(
                table, f"({key}, until) IN (SELECT (CAST(id AS UUID), until) FROM restored)"
            )
            outcome.add({table: rows}, {})
        if chosen.num_rows:
            touch(transaction)
        return outcome

    return rehearse(scope, work, dry_run=dry_run)


def checked_ids(ids: Any) -> list[str]:
    """Ids of datapoints as canonical texts: one, a list, or a DataFrame's column.

    >>> checked_ids("0190A000-0000-7000-8000-000000000000")
    ['0190a000-0000-7000-8000-000000000000']
    """
    values: Sequence[Any] = [ids] if isinstance(ids, str) else list(_plain(ids))
    result = []
    for value in values:
        id_ = as_uuid(value if isinstance(value, str) else str(value))
        if id_ is None:
            raise InvalidInput(
                f"{shown(value)} is not the id of a datapoint",
                hint="pass one, or a list of them",
            )
        result.append(id_)
    return result


def _plain(ids: Any) -> Any:
    if hasattr(ids, "columns") and "id" in ids.columns:
        ids = ids["id"]
    for name in ("to_pylist", "tolist"):
        if hasattr(ids, name):
            return getattr(ids, name)()
    if not isinstance(ids, list | tuple | set | frozenset):
        raise InvalidInput(f"ids is {shown(ids)}", hint="pass one id, or a list of them")
    return ids


def _chosen(
    transaction: ScopedTransaction,
    condition: Condition,
    ids: list[str] | None,
    change: int | None,
) -> pa.Table:
    """The deleted datapoints that are meant: `id` and the change that deleted each."""
    where, parameters = [condition.sql], dict(condition.parameters)
    if ids is not None:
        transaction.stage("restored_ids", pa.table({"id": pa.array(ids, pa.string())}))
        where.append("id IN (SELECT CAST(id AS UUID) FROM restored_ids)")
    if change is not None:
        where.append("until = $restored_change")
        parameters["restored_change"] = change
    found = transaction.query(
        f"SELECT CAST(id AS VARCHAR) AS id, until FROM {{datapoints}} WHERE {' AND '.join(where)}",
        parameters,
        view=DELETED,
    )
    missing = set(ids or ()) - set(found["id"].to_pylist()) if ids else set()
    if missing and condition.always and change is None:
        raise NotFound(
            f"{min(missing)} is not a deleted datapoint"
            + (f", like {len(missing) - 1:,} more" if len(missing) > 1 else ""),
            hint="it is there, was purged, or never was; lake.deleted.select() shows which are",
            details={"ids": sorted(missing)[:1000]},
        )
    return found


def _with_family(transaction: ScopedTransaction, chosen: pa.Table, outcome: Outcome) -> pa.Table:
    """With datapoints made of the chosen ones; without those whose own source stays deleted."""
    while chosen.num_rows:
        transaction.stage("restored", chosen)
        found = "id IN (SELECT CAST(id AS UUID) FROM restored)"
        made = transaction.query(
            "SELECT CAST(id AS VARCHAR) AS id, until FROM {datapoints} WHERE "
            "(parent_datapoint, until) IN (SELECT (CAST(id AS UUID), until) FROM restored) "
            f"AND NOT {found}",
            view=DELETED,
        )
        if not made.num_rows:
            break
        chosen = pa.concat_tables([chosen, made])
    while chosen.num_rows:
        transaction.stage("restored", chosen)
        lonely = transaction.query(
            "SELECT CAST(id AS VARCHAR) AS id FROM {datapoints} "
            "WHERE id IN (SELECT CAST(id AS UUID) FROM restored) "
            "AND parent_datapoint NOT IN (SELECT CAST(id AS UUID) FROM restored) "
            "AND parent_datapoint IN (SELECT id FROM {datapoints})",
            view=DELETED,
        )
        if not lonely.num_rows:
            break
        outcome.skip("datapoints", lonely.num_rows, _NO_PARENT)
        chosen = chosen.filter(pc.invert(pc.is_in(chosen["id"], lonely["id"])))
    return chosen.combine_chunks()
