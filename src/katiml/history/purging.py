"""Deleting datapoints for good: from the tables, their history, and the files below them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from katiml.errors import InvalidInput, LakeBusy, NotFound
from katiml.history.log import read_changes
from katiml.history.outcome import Outcome
from katiml.history.restoring import DELETED, checked_ids
from katiml.history.undoing import rehearse
from katiml.query.filters import Condition, compile_filters
from katiml.schema import RECORD_TABLES, REMOVED

if TYPE_CHECKING:
    from katiml.store import Scope, ScopedTransaction

__all__ = ["PURGED_TABLES", "Purge", "finish_purges", "purge"]

PURGED_TABLES = (*RECORD_TABLES, *(f"{REMOVED}{table}" for table in RECORD_TABLES))
_FILES = (*PURGED_TABLES, "rejected_records")
_OBJECT = "object://"
_ID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_URI = r'"uri"\s*:\s*"([^"]*)"'
_CHOSEN = "(SELECT CAST(id AS UUID) FROM purged)"


@dataclass
class Purge(Outcome):
    """What a purge took away for good. `removed` counts rows of now and of the past together."""

    datapoints: int = 0
    rejected_records: int = 0
    objects: int = 0
    change: int | None = None
    # Whether it is out of the lake's files too; if not, people were reading them.
    finished: bool = False
    # Copies of the lake, made before an upgrade, that still have it.
    copies: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """How many datapoints it is about."""
        done = "would purge" if self.dry_run else f"change {self.change} purged"
        return f"{done} {self.datapoints:,} datapoints"

    def as_dict(self) -> dict[str, Any]:
        """The outcome as plain values, for JSON."""
        return {
            "change": self.change,
            "datapoints": self.datapoints,
            "removed": self.removed,
            "rejected_records": self.rejected_records,
            "objects": self.objects,
            "finished": self.finished,
            "copies": self.copies,
            "dry_run": self.dry_run,
        }


def purge(
    scope: Scope,
    filters: Any = None,
    *,
    ids: Any = None,
    all: bool = False,
    dry_run: bool = False,
    author: str | None = None,
) -> Purge:
    """Delete datapoints for good, those that were deleted before among them.

    What they have and had, and datapoints made of them, goes with them; so do the texts of rejected
    records that name them, and uploaded files that they came in where the lake still has these.
    Versions of datasets go on counting them. Raises InvalidInput where neither filters nor ids nor
    `all` say which, NotFound for ids that are not there.

    >>> from katiml.store import open_store, Scope
    >>> with open_store(getfixture("tmp_path")) as store:
    ...     purge(Scope(store), all=True, dry_run=True).datapoints
    0
    """
    condition = compile_filters("datapoints", filters)
    wanted = None if ids is None else checked_ids(ids)
    if condition.always and wanted is None and not all:
        raise InvalidInput(
            "nothing says which datapoints are purged",
            hint="pass filters or ids, or all=True if everything is meant",
        )

    def work(transaction: ScopedTransaction) -> Purge:
        transaction.serialize("undo")
        chosen = _with_family(transaction, _chosen(transaction, condition, wanted))
        if not chosen.num_rows:
            return Purge()
        objects = _objects(transaction)
        # Until the files are rewritten and the objects deleted, the change says that they are not.
        summary = {"unfinished": True, "objects": objects}
        transaction.note("purge", author, summary=summary)
        result = Purge(change=transaction.change, datapoints=chosen.num_rows, objects=len(objects))
        result.rejected_records = _blank_rejected(transaction)
        for table in reversed(RECORD_TABLES):
            key = "id" if table == "datapoints" else "datapoint"
            rows = sum(
                transaction.delete(name, f"{key} IN {_CHOSEN}")
                for name in (table, f"{REMOVED}{table}")
            )
            result.add({}, {table: rows})
        graves = chosen.rename_columns(["datapoint", "row"])
        change = pa.array([transaction.change] * chosen.num_rows, pa.int64())
        transaction.append("tombstones", graves.append_column("change", change))
        return result

    result = rehearse(scope, work, dry_run=dry_run)
    if not isinstance(result, Purge):
        raise TypeError(result)
    if dry_run:
        result.change = None
    elif result.datapoints:
        with suppress(LakeBusy):
            result.copies = finish_purges(scope)
            result.finished = True
    return result


def finish_purges(scope: Scope) -> list[str]:
    """Take what was purged out of the lake's files and objects.

    A purge does so itself. One whose process ended too early is finished by the next one, or when
    the lake forgets. Returns copies of the lake that still have it. Raises LakeBusy.
    """
    unfinished = [
        change for change in read_changes(scope, "kind = 'purge'") if change.more.get("unfinished")
    ]
    if not unfinished:
        return []
    for change in unfinished:
        for id_ in change.more.get("objects", ()):
            scope.store.objects.delete(scope.organization_id, str(id_))
    copies = scope.store.erase(_FILES)
    numbers = [change.number for change in unfinished]
    scope.transact(
        lambda transaction: transaction.update(
            "changes",
            "summary = json_object('rows', summary->'rows')",
            "list_contains($numbers, number)",
            {"numbers": numbers},
        )
    )
    return copies


def _chosen(
    transaction: ScopedTransaction, condition: Condition, ids: list[str] | None
) -> pa.Table:
    """The datapoints that are meant, of now and deleted ones: `id` and `row`."""
    where, parameters = condition.sql, condition.parameters
    if ids is not None:
        transaction.stage("purged_ids", pa.table({"id": pa.array(ids, pa.string())}))
        where = f"{where} AND id IN (SELECT CAST(id AS UUID) FROM purged_ids)"
    sql = f'SELECT CAST(id AS VARCHAR) AS id, "row" FROM {{datapoints}} WHERE {where}'
    found = pa.concat_tables(
        [transaction.query(sql, parameters), transaction.query(sql, parameters, view=DELETED)]
    )
    missing = set(ids or ()) - set(found["id"].to_pylist()) if ids else set()
    if missing and condition.always:
        raise NotFound(
            f"there is no datapoint {min(missing)}, deleted or not"
            + (f", like {len(missing) - 1:,} more" if len(missing) > 1 else ""),
            details={"ids": sorted(missing)[:1000]},
        )
    return found


def _with_family(transaction: ScopedTransaction, chosen: pa.Table) -> pa.Table:
    """With all datapoints that were made of them; staged as `purged`."""
    while True:
        transaction.stage("purged", chosen.combine_chunks())
        made = " UNION ".join(
            f'SELECT CAST(id AS VARCHAR) AS id, "row" FROM {{{name}}} '
            f"WHERE parent_datapoint IN {_CHOSEN} AND id NOT IN {_CHOSEN}"
            for name in ("datapoints", f"{REMOVED}datapoints")
        )
        children = transaction.query(made)
        if not children.num_rows:
            return chosen.combine_chunks()
        chosen = pa.concat_tables([chosen, children])


def _objects(transaction: ScopedTransaction) -> list[str]:
    """Objects of the lake that hold what is purged, and nothing that others need."""
    own = " UNION ALL ".join(
        f"SELECT metadata->>'uri' AS uri FROM {{{name}}} WHERE id IN {_CHOSEN}"
        for name in ("datapoints", f"{REMOVED}datapoints")
    )
    others = " UNION ALL ".join(
        f"SELECT metadata->>'uri' AS uri FROM {{{name}}} WHERE id NOT IN {_CHOSEN}"
        for name in ("datapoints", f"{REMOVED}datapoints")
    )
    uris = transaction.query(
        f"SELECT DISTINCT uri FROM ({own}) WHERE starts_with(uri, '{_OBJECT}') "
        f"AND uri NOT IN (SELECT uri FROM ({others}) WHERE uri IS NOT NULL)"
    )["uri"].to_pylist()
    writers = " UNION ".join(
        f"SELECT since AS number FROM {{{name}}} "
        f"WHERE {'id' if name.endswith('datapoints') else 'datapoint'} IN {_CHOSEN}"
        for name in PURGED_TABLES
    )
    # What a finished upload was read from is kept where it did not succeed.
    sources = transaction.query(
        "SELECT DISTINCT unnest(CAST(sources->'$.sources[*].location' AS VARCHAR[])) AS uri "
        "FROM {uploads} WHERE status <> 'RUNNING' AND id IN "
        f"(SELECT upload FROM {{changes}} WHERE number IN ({writers}))"
    )["uri"].to_pylist()
    found = {uri for uri in [*uris, *sources] if uri.startswith(_OBJECT)}
    return sorted(uri.removeprefix(_OBJECT) for uri in found)


def _blank_rejected(transaction: ScopedTransaction) -> int:
    """Blank rejected records that name a purged datapoint, by its id or by where its file lies."""
    uris = " UNION ALL ".join(
        f"SELECT metadata->>'uri' AS uri FROM {{{name}}} WHERE id IN {_CHOSEN}"
        for name in ("datapoints", f"{REMOVED}datapoints")
    )
    named = (
        "SELECT id FROM (SELECT id, unnest(regexp_extract_all(lower(record), $purged_id)) AS named "
        "FROM {rejected_records}) WHERE named IN (SELECT id FROM purged) UNION "
        "SELECT id FROM (SELECT id, unnest(regexp_extract_all(record, $purged_uri, 1)) AS named "
        f"FROM {{rejected_records}}) WHERE named IN (SELECT uri FROM ({uris}) "
        "WHERE uri IS NOT NULL)"
    )
    found = transaction.query(
        f"SELECT CAST(id AS VARCHAR) AS id FROM ({named})", {"purged_id": _ID, "purged_uri": _URI}
    )
    if not found.num_rows:
        return 0
    transaction.stage("purged_records", found.combine_chunks())
    return transaction.update(
        "rejected_records",
        "record = '', path = '', reason = 'purged'",
        "id IN (SELECT CAST(id AS UUID) FROM purged_records)",
    )
