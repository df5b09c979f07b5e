"""What all miners of the SDK share: run, look, fetch results, reset, delete."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from dioptra import _progress
from dioptra.lake.utils import query_dioptra_app
from katiml.errors import KatiMLError

__all__ = ["BaseMiner", "selection"]

_FAILED = ("FAILURE", "REVOKED")
# A run that says nothing new for this long is taken to be stuck.
_STUCK_SECONDS = 3600.0
_LONGEST_PAUSE = 60.0


class BaseMiner:
    """A miner in the lake: `miner_id` and `miner_name`. Make one of its subclasses.

    >>> from dioptra.lake.utils import upload_to_lake, wait_for_upload
    >>> from dioptra.miners import RandomMiner
    >>> upload = wait_for_upload(upload_to_lake([{"type": "TEXT", "text": "one"}]))
    Uploaded 1 records to the lake. ...
    >>> miner = RandomMiner(display_name="any", size=1, select_filters=[])
    >>> miner.get_status()
    'PENDING'
    >>> miner.run()
    >>> len(miner.get_results())
    1
    """

    strategy: ClassVar[str | None] = None

    def __init__(self) -> None:
        self.miner_id: str | None = None
        self.miner_name: str | None = None

    def __repr__(self) -> str:
        return f"Miner with uuid {self.miner_id} and name {self.miner_name}"

    def get_status(self) -> str:
        """The status of its last run: PENDING (before the first too), STARTED, RETRY, SUCCESS,
        FAILURE or REVOKED."""
        status: str = self._inspect()["task"]["status"]
        return status

    def get_config(self) -> dict[str, Any]:
        """What it is told, and the state of its last run."""
        found: dict[str, Any] = query_dioptra_app("GET", f"/api/tasks/miners/{self._id()}")
        return found

    def get_results(self, retry_on_empty_success: bool = True) -> list[str]:
        """The ids of the datapoints it picked, the best first. Waits for a run under way.

        Raises RuntimeError, saying why, where the run failed or was cancelled, where there was
        none, and where one says nothing new for an hour. `retry_on_empty_success` is accepted for
        older code and changes nothing.
        """
        del retry_on_empty_success
        pause, still, seen = 0.05, 0.0, None
        with _progress.bar(f"mining {self.miner_name}", 1.0) as reached:
            while True:
                task = self._inspect()["task"]
                if task["id"] is None:
                    raise RuntimeError(f"{self!r} has not been run: call run() first")
                if task["status"] == "SUCCESS":
                    return list(task["result"])
                if task["status"] in _FAILED:
                    error = task["error"] or {}
                    hint = f" ({error['hint']})" if error.get("hint") else ""
                    raise RuntimeError(f"Miner failed: {error.get('message')}{hint}")
                moved = (task["status"], task["progress"], task["message"])
                still = 0.0 if moved != seen else still + pause
                seen = moved
                if still > _STUCK_SECONDS:
                    raise RuntimeError(f"{self!r} has not moved for {_STUCK_SECONDS:.0f} s")
                reached(task["progress"] or 0.0)
                time.sleep(pause)
                pause = min(1.5 * pause, _LONGEST_PAUSE)

    def run(self) -> None:
        """Have it run in the background; a run under way is joined."""
        query_dioptra_app("POST", "/api/tasks/miner/run", json={"miner_id": self._id()})

    def reset(self) -> None:
        """Forget what it picked; a run under way is stopped."""
        query_dioptra_app("POST", "/api/tasks/miner/reset", json={"miner_id": self._id()})

    def delete(self) -> None:
        """Delete it."""
        query_dioptra_app("POST", "/api/tasks/miners/delete", json={"miner_id": self._id()})

    def _create(self, display_name: str, size: int, told: Mapping[str, Any]) -> None:
        """Keep it in the lake. Raises InvalidInput, saying what is wrong."""
        body = {
            "display_name": display_name,
            "strategy": self.strategy,
            "size": size,
            **{name: value for name, value in told.items() if value is not None},
        }
        self.miner_id = query_dioptra_app("POST", "/api/tasks/miners", json=body)["miner_id"]
        self.miner_name = display_name

    def _inspect(self) -> dict[str, Any]:
        found: dict[str, Any] = query_dioptra_app("GET", f"/api/tasks/miners/inspect/{self._id()}")
        return found

    def _id(self) -> str:
        if self.miner_id is None:
            raise KatiMLError(
                "this miner is not in the lake", hint="make one of the classes of dioptra.miners"
            )
        return self.miner_id


def selection(
    filters: Sequence[Any] | None,
    limit: int | None,
    order_by: str | None,
    desc: bool | None,
    **more: str | None,
) -> dict[str, Any] | None:
    """Which datapoints, as the API takes it; None where nothing is said.

    >>> selection([], 3, None, None)
    {'filters': [], 'limit': 3}
    """
    chosen = {"limit": limit, "order_by": order_by, "desc": desc, **more}
    told = {name: value for name, value in chosen.items() if value is not None}
    if filters is None and not told:
        return None
    return {"filters": list(filters or []), **told}
