"""The rows of miners and of what their runs picked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from katiml.errors import NotFound
from katiml.miners.mine import Mined
from katiml.mining.configuration import Configuration
from katiml.mining.periods import parse_period
from katiml.store.ids import uuid7_strings
from katiml.store.scope import Scope, ScopedTransaction
from katiml.tasks import Task
from katiml.tasks.state import State

__all__ = [
    "Row",
    "delete_row",
    "drop_results",
    "insert_row",
    "list_rows",
    "read_results",
    "read_row",
    "set_task",
    "tasks_of",
    "update_row",
    "write_results",
]

_MOMENT = pa.timestamp("us", "UTC")
# Runs of one miner that are remembered.
_RUNS_KEPT = 100


@dataclass
class Row:
    """The row of one miner."""

    # What it is told; read as a Configuration only where that is needed, so that one of a strategy
    # that this version does not know can still be listed, edited and deleted.
    told: dict[str, Any]
    id: str = field(default_factory=lambda: uuid7_strings(1)[0])
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    updated_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    next_run_at: datetime | None = None
    # Its latest run.
    task: str | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Row:
        """What a row of `miners` holds."""
        return cls(
            orjson.loads(row["configuration"]),
            id=str(row["id"]),
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            next_run_at=row["next_run_at"],
            task=None if row["task"] is None else str(row["task"]),
        )

    def configure(self, configuration: Configuration) -> None:
        """Set what it is told; a schedule begins anew where it changed."""
        period = configuration.evaluation_period
        now = datetime.now(UTC)
        if period is None:
            self.next_run_at = None
        elif self.next_run_at is None or period != self.told.get("evaluation_period"):
            self.next_run_at = parse_period(period).after(now)
        self.told, self.updated_at = configuration.told(), now

    @property
    def configuration(self) -> Configuration:
        """What it is told, checked; raises InvalidInput."""
        return Configuration.of(self.told)

    def _columns(self) -> dict[str, tuple[Any, pa.DataType]]:
        return {
            "updated_at": (self.updated_at, _MOMENT),
            "display_name": (self.told["display_name"], pa.string()),
            "strategy": (self.told["strategy"], pa.string()),
            "size": (self.told["size"], pa.int64()),
            "configuration": (orjson.dumps(self.told).decode(), pa.string()),
            "evaluation_period": (self.told["evaluation_period"], pa.string()),
            "next_run_at": (self.next_run_at, _MOMENT),
            "task": (self.task, pa.string()),
        }


def insert_row(transaction: ScopedTransaction, row: Row) -> None:
    """Add the row of a new miner."""
    columns = {name: pa.array([value], kind) for name, (value, kind) in row._columns().items()}
    own = {"id": pa.array([row.id]), "created_at": pa.array([row.created_at], _MOMENT)}
    transaction.append("miners", pa.table({**own, **columns}))


def update_row(transaction: ScopedTransaction, row: Row) -> bool:
    """Write a miner as it is now; False where it was deleted."""
    columns = {name: value for name, (value, _) in row._columns().items()}
    return bool(
        transaction.update(
            "miners",
            ", ".join(f'"{name}" = ${name}' for name in columns),
            "id = $id::UUID",
            {**columns, "id": row.id},
        )
    )


def set_task(transaction: ScopedTransaction, miner_id: str, task_id: str) -> None:
    """Make a task the latest run of a miner."""
    transaction.update(
        "miners", "task = $task::UUID", "id = $id::UUID", {"id": miner_id, "task": task_id}
    )


def read_row(reader: Scope | ScopedTransaction, miner_id: str) -> Row:
    """The miner of that id; raises NotFound."""
    found = reader.query(
        "SELECT * FROM {miners} WHERE id = TRY_CAST($id AS UUID)", {"id": str(miner_id)}
    ).to_pylist()
    if not found:
        raise NotFound(f"no miner {str(miner_id)[:100]!r}", hint="lake.miners.list() shows them")
    return Row.of(found[0])


def list_rows(scope: Scope, limit: int | None = None) -> list[Row]:
    """The miners, the newest first."""
    found = scope.query(
        "SELECT * FROM {miners} ORDER BY created_at DESC, id DESC"
        + ("" if limit is None else " LIMIT $limit"),
        {} if limit is None else {"limit": limit},
    )
    return [Row.of(row) for row in found.to_pylist()]


def tasks_of(scope: Scope, rows: Sequence[Row]) -> dict[str, Task]:
    """The latest runs of some miners, by the id of the task, read at once."""
    ids = [row.task for row in rows if row.task is not None]
    if not ids:
        return {}
    found = scope.query(
        "SELECT * FROM {tasks} WHERE id IN (SELECT unnest(CAST($ids AS UUID[])))", {"ids": ids}
    )
    tasks = [Task(scope, State.of(row)) for row in found.to_pylist()]
    return {task.id: task for task in tasks}


def delete_row(transaction: ScopedTransaction, miner_id: str) -> bool:
    """Delete a miner, its runs with their logs, and what they picked; False where it is gone."""
    drop_results(transaction, miner_id)
    runs = "SELECT id FROM {tasks} WHERE subject = $id::UUID"
    transaction.delete("task_logs", f"task IN ({runs})", {"id": miner_id})
    transaction.delete("tasks", "subject = $id::UUID", {"id": miner_id})
    return bool(transaction.delete("miners", "id = $id::UUID", {"id": miner_id}))


def drop_results(transaction: ScopedTransaction, miner_id: str) -> None:
    """Forget what a miner picked."""
    transaction.delete("miner_results", "miner = $id::UUID", {"id": miner_id})


def write_results(
    transaction: ScopedTransaction, miner_id: str, task_id: str, mined: Mined
) -> None:
    """Replace what a miner picked, and forget its oldest runs."""
    drop_results(transaction, miner_id)
    number = len(mined)
    columns = {name: np.asarray(values).tolist() for name, values in mined.reasons.items()}
    reasons = [
        orjson.dumps(dict(zip(columns, row, strict=True)), default=str).decode()
        for row in zip(*columns.values(), strict=True)
    ]
    transaction.append(
        "miner_results",
        pa.table(
            {
                "miner": pa.array([miner_id] * number),
                "task": pa.array([task_id] * number),
                "rank": pa.array(np.arange(1, number + 1)),
                "datapoint": pa.array(mined.ids).cast(pa.string()),
                "score": pa.array(np.asarray(mined.scores, np.float64)),
                "reasons": pa.array(reasons, pa.string())
                if reasons
                else pa.nulls(number, pa.string()),
            }
        ),
    )
    old = "SELECT id FROM {tasks} WHERE subject = $id::UUID ORDER BY created_at DESC OFFSET $kept"
    parameters = {"id": miner_id, "kept": _RUNS_KEPT}
    transaction.delete("task_logs", f"task IN ({old})", parameters)
    transaction.delete("tasks", f"id IN ({old})", parameters)


def read_results(scope: Scope, miner_id: str, task_id: str) -> pa.Table:
    """What a run picked, the best first: datapoint, score, reasons (JSON)."""
    return scope.query(
        "SELECT CAST(datapoint AS VARCHAR) AS datapoint, score, reasons FROM {miner_results} "
        "WHERE miner = $miner::UUID AND task = $task::UUID ORDER BY rank",
        {"miner": miner_id, "task": task_id},
    )
