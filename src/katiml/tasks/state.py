"""The durable state of a task: a row of `tasks`, and every change of it.

A task is claimed by one process at a time. Whatever that process writes afterwards is fenced: it
counts only while the row still says STARTED by this worker in this attempt. So a task that was
cancelled, or that another process took over, writes nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa

from katiml.errors import InvalidInput, NotFound
from katiml.store.ids import uuid7, uuid7_strings
from katiml.store.scope import Scope, ScopedTransaction
from katiml.tasks.leases import worker_name

__all__ = [
    "CURRENT",
    "FAILURE",
    "FINISHED",
    "PENDING",
    "RETRY",
    "REVOKED",
    "STARTED",
    "SUCCESS",
    "LogLine",
    "State",
    "append_logs",
    "as_plain",
    "claim",
    "fence",
    "finish",
    "insert",
    "is_current",
    "is_there",
    "keep_waiting",
    "list_states",
    "read_logs",
    "read_state",
    "release",
    "retry",
    "revoke",
    "touch",
    "unclaim",
]

PENDING, STARTED, RETRY = "PENDING", "STARTED", "RETRY"
SUCCESS, FAILURE, REVOKED = "SUCCESS", "FAILURE", "REVOKED"
FINISHED = (SUCCESS, FAILURE, REVOKED)
_WAITING = (PENDING, RETRY)


@dataclass
class State:
    """The row of one task."""

    kind: str
    id: str = field(default_factory=lambda: uuid7_strings(1)[0])
    # What it is about, such as a miner.
    subject: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    status: str = PENDING
    worker: str | None = None
    attempt: int = 0
    memory: int = 0
    progress: float | None = None
    message: str | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    # When it may begin: later than now while it waits to be tried again.
    run_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_at: datetime | None = None
    updated_at: datetime | None = None
    finished_at: datetime | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> State:
        """The state that a row of `tasks` holds."""
        values = {name: row[name] for name in _PLAIN}
        for name in _JSON:
            values[name] = orjson.loads(row[name]) if row[name] else None
        values["arguments"] = values["arguments"] or {}
        values["id"] = str(row["id"])
        values["subject"] = None if row["subject"] is None else str(row["subject"])
        return cls(**values)

    @property
    def is_finished(self) -> bool:
        """Whether nothing changes any more."""
        return self.status in FINISHED


_MOMENT = pa.timestamp("us", "UTC")
_PLAIN = {
    "kind": pa.string(),
    "status": pa.string(),
    "worker": pa.string(),
    "attempt": pa.int32(),
    "memory": pa.int64(),
    "progress": pa.float64(),
    "message": pa.string(),
    "created_at": _MOMENT,
    "run_at": _MOMENT,
    "started_at": _MOMENT,
    "updated_at": _MOMENT,
    "finished_at": _MOMENT,
}
_JSON = ("arguments", "result", "error")


@dataclass(frozen=True)
class LogLine:
    """One line of a task's log."""

    created_at: datetime
    level: str
    message: str


def insert(transaction: ScopedTransaction, state: State) -> None:
    """Add the row of a new task."""
    columns = {name: pa.array([getattr(state, name)], kind) for name, kind in _PLAIN.items()}
    for name in _JSON:
        columns[name] = pa.array([_json(getattr(state, name))], pa.string())
    columns["updated_at"] = pa.array([state.created_at], _MOMENT)
    ids = {"id": pa.array([state.id]), "subject": pa.array([state.subject], pa.string())}
    transaction.append("tasks", pa.table({**ids, **columns}))


def read_state(scope: Scope, task_id: str) -> State:
    """The state in the lake; raises NotFound."""
    rows = scope.query(
        "SELECT * FROM {tasks} WHERE id = TRY_CAST($id AS UUID)", {"id": str(task_id)}
    ).to_pylist()
    if not rows:
        raise NotFound(f"no task {str(task_id)[:100]!r}", hint="lake.tasks.list() shows them")
    return State.of(rows[0])


def list_states(
    scope: Scope,
    *,
    kind: str | None = None,
    subject: str | None = None,
    statuses: Sequence[str] = (),
    limit: int | None = None,
) -> list[State]:
    """The latest tasks, the newest first."""
    conditions = ["true"]
    parameters: dict[str, Any] = {}
    if kind is not None:
        conditions.append("kind = $kind")
        parameters["kind"] = kind
    if subject is not None:
        conditions.append("subject = TRY_CAST($subject AS UUID)")
        parameters["subject"] = subject
    if statuses:
        conditions.append("list_contains($statuses, status)")
        parameters["statuses"] = list(statuses)
    if limit is not None:
        parameters["limit"] = limit
    rows = scope.query(
        f"SELECT * FROM {{tasks}} WHERE {' AND '.join(conditions)} "
        f"ORDER BY created_at DESC, id DESC{'' if limit is None else ' LIMIT $limit'}",
        parameters,
    )
    return [State.of(row) for row in rows.to_pylist()]


# -- changes -----------------------------------------------------------------------------------

_FENCE = "id = $id::UUID AND status = 'STARTED' AND worker = $worker AND attempt = $attempt"
CURRENT = f"SELECT 1 FROM {{tasks}} WHERE {_FENCE}"


def fence(state: State) -> dict[str, Any]:
    """The parameters of CURRENT, a query with one row while the task is this attempt's."""
    return {"id": state.id, "worker": state.worker, "attempt": state.attempt}


def claim(transaction: ScopedTransaction, seen: State) -> State | None:
    """Start a task as this process's next attempt; None where it is not as it was seen any more."""
    rows = transaction.query(
        "SELECT * FROM {tasks} WHERE id = $id::UUID", {"id": seen.id}
    ).to_pylist()
    state = State.of(rows[0]) if rows else None
    if state is None or state.is_finished:
        return None
    # Waiting, it is for whoever comes first; started, only for who saw that its process is gone.
    if state.status == STARTED and (state.worker, state.attempt) != (seen.worker, seen.attempt):
        return None
    state.status, state.worker, state.attempt = STARTED, worker_name(), state.attempt + 1
    state.started_at = state.updated_at = datetime.now(UTC)
    state.error, state.progress = None, None
    transaction.update(
        "tasks",
        "status = $status, worker = $worker, attempt = $attempt, started_at = $now, "
        "updated_at = now(), error = NULL, progress = NULL, message = NULL",
        "id = $id::UUID",
        {**fence(state), "status": STARTED, "now": state.started_at},
    )
    return state


def is_current(transaction: ScopedTransaction, state: State) -> bool:
    """Whether the task is still this attempt's."""
    found = transaction.query(CURRENT, fence(state))
    return bool(found.num_rows)


def is_there(transaction: ScopedTransaction, task_id: str) -> bool:
    """Whether the task has not been deleted."""
    found = transaction.query("SELECT 1 FROM {tasks} WHERE id = $id::UUID", {"id": task_id})
    return bool(found.num_rows)


def touch(
    transaction: ScopedTransaction, state: State, progress: float | None, message: str | None
) -> bool:
    """Let the heart of a running task beat; False where it is not this attempt's any more."""
    return bool(
        transaction.update(
            "tasks",
            "updated_at = now(), progress = $progress, message = $message",
            _FENCE,
            {**fence(state), "progress": progress, "message": message},
        )
    )


def keep_waiting(transaction: ScopedTransaction, task_id: str, worker: str) -> None:
    """Let the heart of a task beat that waits in this process."""
    transaction.update(
        "tasks",
        "updated_at = now()",
        "id = $id::UUID AND worker = $worker AND list_contains($waiting, status)",
        {"id": task_id, "worker": worker, "waiting": list(_WAITING)},
    )


def unclaim(transaction: ScopedTransaction, task_id: str, worker: str) -> None:
    """Let any process start a task that waits in this one."""
    transaction.update(
        "tasks",
        "worker = NULL",
        "id = $id::UUID AND worker = $worker AND list_contains($waiting, status)",
        {"id": task_id, "worker": worker, "waiting": list(_WAITING)},
    )


def finish(
    transaction: ScopedTransaction,
    state: State,
    *,
    result: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
) -> bool:
    """Write the last state, FAILURE where there is an error; False: not this attempt's any more."""
    return bool(
        transaction.update(
            "tasks",
            "status = $final, worker = NULL, finished_at = now(), updated_at = now(), "
            "result = $result, error = $error, progress = CASE WHEN $error IS NULL THEN 1.0 "
            "ELSE progress END",
            _FENCE,
            {
                **fence(state),
                "final": FAILURE if error else SUCCESS,
                "result": _json(result),
                "error": _json(error),
            },
        )
    )


def retry(
    transaction: ScopedTransaction, state: State, error: dict[str, Any], pause: float
) -> bool:
    """Have it tried again in `pause` seconds; False where it is not this attempt's any more."""
    return bool(
        transaction.update(
            "tasks",
            "status = 'RETRY', updated_at = now(), run_at = $run_at, error = $error",
            _FENCE,
            {
                **fence(state),
                "run_at": datetime.now(UTC) + timedelta(seconds=pause),
                "error": _json(error),
            },
        )
    )


def release(transaction: ScopedTransaction, state: State) -> bool:
    """Give a running task back, for any process to start; the attempt does not count."""
    return bool(
        transaction.update(
            "tasks",
            "status = 'PENDING', worker = NULL, attempt = attempt - 1, run_at = now(), "
            "progress = NULL, message = NULL",
            _FENCE,
            fence(state),
        )
    )


def revoke(transaction: ScopedTransaction, task_id: str, reason: str) -> bool:
    """Cancel a task; False where it had come to its end."""
    return bool(
        transaction.update(
            "tasks",
            "status = 'REVOKED', worker = NULL, finished_at = now(), error = $error",
            "id = $id::UUID AND NOT list_contains($finished, status)",
            {
                "id": task_id,
                "error": _json({"message": reason, "code": "cancelled", "hint": None}),
                "finished": list(FINISHED),
            },
        )
    )


def append_logs(transaction: ScopedTransaction, task_id: str, lines: Sequence[LogLine]) -> None:
    """Add lines to a task's log."""
    if lines:
        transaction.append(
            "task_logs",
            pa.table(
                {
                    "id": uuid7(len(lines)),
                    "task": pa.array([task_id] * len(lines)),
                    "created_at": pa.array([line.created_at for line in lines], _MOMENT),
                    "level": pa.array([line.level for line in lines]),
                    "message": pa.array([line.message for line in lines]),
                }
            ),
        )


def read_logs(scope: Scope, task_id: str) -> pa.Table:
    """The lines of a task's log in their order: created_at, level, message."""
    return scope.query(
        "SELECT created_at, level, message FROM {task_logs} "
        "WHERE task = TRY_CAST($id AS UUID) ORDER BY created_at, id",
        {"id": task_id},
    )


def as_plain(told: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as they will be read back from the lake; what is no JSON (dates, ids) becomes text.

    Raises InvalidInput.

    >>> as_plain({"ids": {3}, "size": 2})
    {'ids': [3], 'size': 2}
    """
    try:
        text = orjson.dumps(dict(told), default=_listed, option=orjson.OPT_SERIALIZE_NUMPY)
        plain: dict[str, Any] = orjson.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"this is no JSON: {error}") from None
    return plain


def _listed(value: Any) -> Any:
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _json(value: Any) -> str | None:
    return (
        None if value is None else orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    )
