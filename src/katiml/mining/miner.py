"""A miner: what to mine, kept in the lake, to be run now, again, or on a schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from katiml.errors import Conflict
from katiml.miners.estimate import Estimate, estimate
from katiml.mining.configuration import Configuration
from katiml.mining.picked import Picked
from katiml.mining.rows import (
    Row,
    delete_row,
    drop_results,
    read_results,
    read_row,
    update_row,
)
from katiml.mining.run import request_of
from katiml.mining.task import begin
from katiml.store.scope import Scope, ScopedTransaction
from katiml.tasks import Task, Tasks
from katiml.tasks.follow import follow
from katiml.tasks.state import PENDING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Miner"]


class Miner:
    """What to mine, kept in the lake. Made by `lake.miners.create`.

    >>> import katiml
    >>> lake = katiml.connect(getfixture("tmp_path"))
    >>> _ = lake.ingest([{"type": "TEXT", "text": str(number)} for number in range(9)])
    >>> miner = lake.miners.create("RANDOM", 2, display_name="to label")
    >>> miner.status, miner.run().status, len(miner.results())
    ('PENDING', 'SUCCESS', 2)
    """

    def __init__(self, scope: Scope, row: Row, task: Task | None = None) -> None:
        self._scope = scope
        self._row = row
        self._task = task
        self.id = row.id

    def __repr__(self) -> str:
        return f"<Miner {self.id} {self.display_name!r}: {self.strategy} {self.size:,}>"

    @property
    def seen(self) -> Row:
        """Its row as it was read last."""
        return self._row

    @property
    def display_name(self) -> str:
        """The name a person gave it."""
        name: str = self._row.told["display_name"]
        return name

    @property
    def strategy(self) -> str:
        """The name of its strategy, such as CORESET."""
        strategy: str = self._row.told["strategy"]
        return strategy

    @property
    def size(self) -> int:
        """How many datapoints it is to pick."""
        size: int = self._row.told["size"]
        return size

    @property
    def configuration(self) -> dict[str, Any]:
        """All that it is told, under the names that HTTP uses too."""
        return dict(self._row.told)

    @property
    def created_at(self) -> datetime:
        """When it was made."""
        return self._row.created_at

    @property
    def evaluation_period(self) -> str | None:
        """How often it runs by itself, an ISO 8601 duration."""
        period: str | None = self._row.told["evaluation_period"]
        return period

    @property
    def next_run_at(self) -> datetime | None:
        """When it runs by itself next, where `katiml serve` runs; None without a schedule."""
        return self._read().next_run_at

    @property
    def task(self) -> Task | None:
        """Its latest run; None before the first, and after a reset."""
        self._read()
        return self.seen_task

    @property
    def seen_task(self) -> Task | None:
        """Its latest run as far as its row, as it was read last, tells."""
        task_id = self._row.task
        if task_id is None:
            self._task = None
        elif self._task is None or self._task.id != task_id:
            self._task = Tasks(self._scope).get(task_id)
        return self._task

    @property
    def status(self) -> str:
        """That of its latest run: PENDING (before the first too), STARTED, RETRY, SUCCESS, FAILURE
        or REVOKED."""
        task = self.task
        return PENDING if task is None else task.status

    @property
    def error(self) -> dict[str, Any] | None:
        """What went wrong in its latest run: message, code, hint."""
        task = self.task
        return None if task is None else task.error

    def estimate(self) -> Estimate:
        """What a run would take: how many vectors, how many are missing and why, how much memory.

        Raises InvalidInput where a run would come to nothing, with what there is instead.
        """
        return estimate(self._scope, request_of(self._scope, self._read().configuration))

    def run(
        self,
        *,
        wait: bool = True,
        timeout: float | None = None,
        on_progress: Callable[[Task], None] | None = None,
    ) -> Miner:
        """Run it, and return when it is done; with `wait=False` at once.

        A run that is under way is joined. On a terminal a bar shows how far it is; Ctrl-C stops the
        run. Raises what made the run fail, Conflict where it was cancelled, TimeoutError after
        `timeout` seconds (the run goes on), TooLarge where it needs more memory than there is.
        """
        self._task = begin(self._scope, self.id)
        self._row.task = self._task.id
        return self.wait(timeout, on_progress=on_progress) if wait else self

    def wait(
        self, timeout: float | None = None, *, on_progress: Callable[[Task], None] | None = None
    ) -> Miner:
        """Return when the run under way is done; raises as `run` does."""
        task = self.task
        if task is None:
            raise self._not_run()
        follow(task, self.display_name, timeout, on_progress=on_progress).check()
        return self

    def cancel(self) -> Miner:
        """Stop the run under way: REVOKED."""
        task = self.task
        if task is not None:
            task.cancel()
        return self

    @property
    def picked(self) -> Picked:
        """What its latest run picked. Waits for a run under way.

        Raises Conflict before the first run, and what made the run fail.
        """
        task = self.wait().task
        if task is None:
            raise self._not_run()
        state = task.refresh()
        rows = read_results(self._scope, self.id, task.id)
        return Picked.of(self._scope, rows, (state.result or {})["explanation"])

    def results(self, fields: Sequence[str] | str | None = None) -> pd.DataFrame:
        """What its latest run picked, the best first: rank, id, score, reasons, and any `fields` of
        the datapoints. Waits for a run under way; raises as `picked` does."""
        return self.picked.to_pandas(fields)

    def reset(self) -> Miner:
        """Forget its runs' results, and stop one that is under way."""
        return self._stop_and(lambda _: None)

    def edit(self, **told: Any) -> Miner:
        """Tell it something else, under the names of `configuration`, and reset it.

        What is not named stays. Raises InvalidInput and InvalidFilter.
        """
        configuration = Configuration.edited(self._read().told, told)
        return self._stop_and(lambda row: row.configure(configuration))

    def schedule(self, evaluation_period: str | None) -> Miner:
        """Have it run by itself every so often, where `katiml serve` runs; None ends that.

        `evaluation_period` is an ISO 8601 duration of a minute or more, such as PT30M or P1D. Its
        results stay. Raises InvalidInput.
        """
        configuration = Configuration.edited(
            self._read().told, {"evaluation_period": evaluation_period}
        )

        def work(transaction: ScopedTransaction) -> Row:
            row = read_row(transaction, self.id)
            row.configure(configuration)
            update_row(transaction, row)
            return row

        self._row = self._scope.transact(work)
        return self

    def delete(self) -> None:
        """Delete it with its results; a run under way is stopped."""
        self.cancel()
        self._scope.transact(lambda transaction: delete_row(transaction, self.id))

    def to_dict(self) -> dict[str, Any]:
        """Everything about it but its results, as plain values."""
        task = self.task
        return {
            "id": self.id,
            "created_at": self.created_at,
            "next_run_at": self._row.next_run_at,
            **self.configuration,
            "status": PENDING if task is None else task.status,
            "task": None if task is None else task.to_dict(),
        }

    def _read(self) -> Row:
        self._row = read_row(self._scope, self.id)
        return self._row

    def _not_run(self) -> Conflict:
        return Conflict(f"miner {self.id} has not been run", hint="run it first: miner.run()")

    def _stop_and(self, change: Callable[[Row], None]) -> Miner:
        self.cancel()

        def work(transaction: ScopedTransaction) -> Row:
            row = read_row(transaction, self.id)
            change(row)
            row.task = None
            drop_results(transaction, self.id)
            update_row(transaction, row)
            return row

        self._row, self._task = self._scope.transact(work), None
        return self
