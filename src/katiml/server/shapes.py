"""Miners and tasks as HTTP shows them. (Imported by the SDK too: it needs no web framework.)"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from katiml.tasks.state import PENDING, SUCCESS

if TYPE_CHECKING:
    from katiml.mining import Miner
    from katiml.tasks import Task

__all__ = ["as_miner", "as_task", "moment"]

_NO_RUN = {
    "id": None,
    "status": PENDING,
    "progress": None,
    "message": None,
    "result": None,
    "result_size": None,
    "started_at": None,
    "done_at": None,
    "error": None,
}


def as_miner(miner: Miner, *, results: bool = False) -> dict[str, Any]:
    """A miner under the names that clients know, with its latest run as `task`.

    With `results`, where the run was a success, `task.result` lists the ids that were picked, and
    `task.explanation` says what the choice rests on.

    >>> import katiml
    >>> lake = katiml.connect(getfixture("tmp_path"))
    >>> _ = lake.ingest([{"type": "TEXT", "text": "one"}])
    >>> miner = lake.miners.create("RANDOM", 1)
    >>> as_miner(miner)["task"]["status"], as_miner(miner.run())["task"]["result_size"]
    ('PENDING', 1)
    """
    task = miner.seen_task
    shown: dict[str, Any] = dict(_NO_RUN) if task is None else _run(task)
    if results and task is not None and shown["status"] == SUCCESS:
        picked = miner.picked
        shown["result"], shown["explanation"] = picked.ids, picked.explanation
    return {
        "_id": miner.id,
        **miner.configuration,
        "created_at": moment(miner.created_at),
        "next_run_at": moment(miner.seen.next_run_at),
        "task": shown,
    }


def as_task(task: Task, *, whole: bool = True) -> dict[str, Any]:
    """A task as plain JSON; `whole` with what it was told and came to, which may be long."""
    return {
        name: moment(value) if isinstance(value, datetime) else value
        for name, value in task.to_dict().items()
        if whole or name not in ("arguments", "result")
    }


def _run(task: Task) -> dict[str, Any]:
    state = task.refresh()
    result = state.result or {}
    return {
        "id": state.id,
        "status": state.status,
        "progress": state.progress,
        "message": state.message,
        "result": None,
        "result_size": result.get("size"),
        "started_at": moment(state.started_at),
        "done_at": moment(state.finished_at),
        "error": state.error,
    }


def moment(value: datetime | None) -> str | None:
    """A moment in milliseconds, with Z.

    >>> from datetime import UTC
    >>> moment(datetime(2024, 1, 2, tzinfo=UTC)), moment(None)
    ('2024-01-02T00:00:00.000Z', None)
    """
    if value is None:
        return None
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
