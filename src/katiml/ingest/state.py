"""The durable state of an upload: a row of `uploads`, written together with its batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import orjson
import pyarrow as pa

from katiml.errors import Conflict, KatiMLError, NotFound
from katiml.ingest.batch import Batch, Outcome, apply
from katiml.records import Rejected
from katiml.store.ids import uuid7
from katiml.store.scope import Scope, ScopedTransaction

__all__ = [
    "ABORTED",
    "FAILED",
    "FINISHED",
    "RUNNING",
    "SUCCEEDED",
    "Source",
    "State",
    "abort",
    "check_running",
    "counted",
    "insert",
    "read_state",
    "same_key",
    "update",
    "write_batch",
    "write_rejected",
]

RUNNING, SUCCEEDED, FAILED, ABORTED = "RUNNING", "SUCCEEDED", "FAILED", "ABORTED"
FINISHED = (SUCCEEDED, FAILED, ABORTED)


@dataclass(frozen=True)
class Source:
    """One file or URL. `first` and `last` count lines from 0; the line `last` is not read."""

    location: str
    first: int = 0
    last: int | None = None
    trusted: bool = True
    allow_private: bool = False


@dataclass
class State:
    """The row of `uploads` of one upload."""

    id: str
    status: str = RUNNING
    sources: list[Source] = field(default_factory=list)
    idempotency_key: str | None = None
    worker: str | None = None
    # How far it is: the source being read, and the last line of it that was.
    source_number: int = 0
    source_position: int = 0
    records_read: int = 0
    records_landed: int = 0
    records_rejected: int = 0
    bytes_read: int = 0
    bytes_total: int | None = None
    error: dict[str, Any] | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_at: datetime | None = None
    finished_at: datetime | None = None

    def row(self) -> dict[str, Any]:
        """The columns that change."""
        position = {
            "sources": [vars(source) for source in self.sources],
            "number": self.source_number,
        }
        return {
            "status": self.status,
            "sources": orjson.dumps(position).decode(),
            "worker": self.worker,
            "source_position": self.source_position,
            "records_read": self.records_read,
            "records_landed": self.records_landed,
            "records_rejected": self.records_rejected,
            "bytes_read": self.bytes_read,
            "bytes_total": self.bytes_total,
            "error": orjson.dumps(self.error).decode() if self.error else None,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "updated_at": datetime.now(UTC),
        }

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> State:
        """The state that a row of `uploads` holds."""
        position = orjson.loads(row["sources"] or "{}")
        plain = (
            "id status idempotency_key worker source_position records_read records_landed "
            "records_rejected bytes_read bytes_total created_at started_at finished_at"
        )
        return cls(
            **{name: row[name] for name in plain.split()},
            sources=[Source(**source) for source in position.get("sources", [])],
            source_number=position.get("number", 0),
            error=orjson.loads(row["error"]) if row["error"] else None,
        )

    def finish(self, error: KatiMLError | None = None) -> None:
        """Set the final status: FAILED where nothing landed of what was sent, or on an error."""
        self.finished_at = datetime.now(UTC)
        self.worker = None
        if error is not None:
            self.error = {
                "message": f"{error.message}; {self.records_landed:,} records landed before",
                "code": error.code,
                "hint": error.hint,
            }
        elif self.records_rejected and not self.records_landed:
            self.error = {
                "message": f"all {self.records_rejected:,} records were rejected",
                "code": "invalid_record",
                "hint": "upload.rejected says why, record by record",
            }
        self.status = FAILED if self.error else SUCCEEDED


_COLUMN_TYPES = {
    "status": pa.string(),
    "sources": pa.string(),
    "worker": pa.string(),
    "idempotency_key": pa.string(),
    "error": pa.string(),
    "source_position": pa.int64(),
    "records_read": pa.int64(),
    "records_landed": pa.int64(),
    "records_rejected": pa.int64(),
    "bytes_read": pa.int64(),
    "bytes_total": pa.int64(),
    "created_at": pa.timestamp("us", "UTC"),
    "started_at": pa.timestamp("us", "UTC"),
    "finished_at": pa.timestamp("us", "UTC"),
    "updated_at": pa.timestamp("us", "UTC"),
}


def insert(transaction: ScopedTransaction, state: State) -> None:
    """Add the row of a new upload."""
    row = {
        **state.row(),
        "created_at": state.created_at,
        "idempotency_key": state.idempotency_key,
    }
    columns = {name: pa.array([value], _COLUMN_TYPES[name]) for name, value in row.items()}
    transaction.append("uploads", pa.table({"id": pa.array([state.id]), **columns}))


def update(transaction: ScopedTransaction, state: State) -> None:
    """Write the state as it is now."""
    row = state.row()
    transaction.update(
        "uploads",
        ", ".join(f'"{name}" = ${name}' for name in row),
        "id = $id::UUID",
        {**row, "id": state.id},
    )


def write_rejected(
    transaction: ScopedTransaction,
    upload: str,
    source: str,
    rejected: list[Rejected],
    text_of: Callable[[int], str],
) -> None:
    """Keep rejected records with where they stood and why; `text_of(line)` is what was sent."""
    if not rejected:
        return
    rejected = sorted(rejected, key=attrgetter("line"))
    transaction.append(
        "rejected_records",
        pa.table(
            {
                "id": uuid7(len(rejected)),
                "upload": pa.array([upload] * len(rejected)),
                "source": pa.array([source] * len(rejected)),
                "line": pa.array([item.line for item in rejected], pa.int64()),
                "path": pa.array([item.path for item in rejected]),
                "reason": pa.array([item.reason for item in rejected]),
                "record": pa.array([item.record or text_of(item.line) for item in rejected]),
            }
        ),
    )


def read_state(scope: Scope, upload_id: str) -> State:
    """The state in the lake; raises NotFound."""
    rows = scope.query(
        "SELECT * FROM {uploads} WHERE id = TRY_CAST($id AS UUID)", {"id": str(upload_id)}
    ).to_pylist()
    if not rows:
        raise NotFound(f"no upload {str(upload_id)[:100]!r}", hint="lake.uploads.list() shows them")
    return State.of(rows[0])


def abort(scope: Scope, upload_id: str) -> None:
    """Stop an upload that is running; what has landed stays."""
    error = orjson.dumps({"message": "cancelled", "code": "cancelled", "hint": None}).decode()
    scope.transact(
        lambda transaction: transaction.update(
            "uploads",
            "status = $aborted, finished_at = now(), worker = NULL, error = $error",
            "id = $id::UUID AND status = $running",
            {"aborted": ABORTED, "running": RUNNING, "error": error, "id": upload_id},
        )
    )


def check_running(transaction: ScopedTransaction, state: State) -> None:
    """Raises Conflict where the upload was stopped meanwhile, or taken over."""
    rows = transaction.query(
        "SELECT status, worker FROM {uploads} WHERE id = $id::UUID", {"id": state.id}
    ).to_pylist()
    if rows != [{"status": RUNNING, "worker": state.worker}]:
        raise Conflict(f"upload {state.id} was stopped, or goes on elsewhere")


def same_key(transaction: ScopedTransaction, state: State) -> State | None:
    """The upload that came first with this key. Two that come at once conflict, and one waits."""
    if state.idempotency_key is None:
        return None
    transaction.serialize("uploads")
    rows = transaction.query(
        "SELECT * FROM {uploads} WHERE idempotency_key = $key ORDER BY created_at LIMIT 1",
        {"key": state.idempotency_key},
    ).to_pylist()
    return State.of(rows[0]) if rows else None


def counted(state: State, read: int, outcome: Outcome) -> State:
    """A copy with a batch's counts added, since a transaction may run twice."""
    written = State(**vars(state))
    written.records_read += read
    written.records_landed += outcome.landed
    written.records_rejected += len(outcome.rejected)
    return written


def write_batch(
    scope: Scope,
    batch: Batch,
    state: State,
    write: Callable[[ScopedTransaction, Outcome], State],
    *,
    check_key: bool = False,
) -> tuple[State | None, State]:
    """One transaction: the batch and the state after it. First comes an earlier upload's state."""
    wanted = batch.new_datapoints
    first_row = scope.reserve_rows(wanted) if wanted else 0

    def work(transaction: ScopedTransaction) -> tuple[State | None, State]:
        known = same_key(transaction, state) if check_key else None
        if known is not None:
            return known, state
        transaction.note("ingest", upload=state.id)
        return None, write(transaction, apply(transaction, batch, first_row))

    return scope.transact(work)
