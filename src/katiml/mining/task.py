"""The body of a miner's run, and what begins one."""

from __future__ import annotations

import time
from typing import Any

from katiml.errors import InvalidInput
from katiml.miners.estimate import estimate
from katiml.miners.measured import Measured
from katiml.miners.mine import Mined, Request, mine
from katiml.miners.registry import strategy_class
from katiml.mining.configuration import Configuration
from katiml.mining.explain import explained, lake_state
from katiml.mining.rows import read_row, set_task, write_results
from katiml.store.scope import Scope, ScopedTransaction
from katiml.tasks import Done, Run, Task, submit
from katiml.tasks.executors import executor_of_environment, spread_over
from katiml.tasks.state import FINISHED, State

__all__ = ["KIND", "begin", "checked", "memory_of", "run_miner"]

KIND = "miner"


class _Active(Exception):
    """The miner has a run that has not come to its end."""


def begin(scope: Scope, miner_id: str, memory: int) -> Task:
    """Have a miner run in the background; the run that is under way where there is one.

    Raises NotFound, and TooLarge where it could never run in this process.
    """
    row = read_row(scope, miner_id)
    state = State(
        KIND,
        subject=miner_id,
        arguments={"configuration": row.configuration.told()},
        memory=memory,
    )

    def also(transaction: ScopedTransaction) -> None:
        active = _active(transaction, miner_id)
        if active is not None:
            raise _Active(active)
        set_task(transaction, miner_id, state.id)

    try:
        return submit(scope, state, also)
    except _Active as active:
        from katiml.tasks import Tasks

        return Tasks(scope).get(str(active))


def _active(transaction: ScopedTransaction, miner_id: str) -> str | None:
    task = read_row(transaction, miner_id).task
    found = transaction.query(
        "SELECT 1 FROM {tasks} WHERE id = TRY_CAST($id AS UUID) "
        "AND NOT list_contains($finished, status)",
        {"id": task, "finished": list(FINISHED)},
    )
    return task if found.num_rows else None


def run_miner(run: Run) -> Done:
    """Pick, and write what was picked together with SUCCESS."""
    began = time.monotonic()
    configuration = Configuration.of(run.arguments["configuration"])
    request = configuration.request
    state = lake_state(run.scope)
    run.log(f"{request.strategy}: picking {request.size:,}")

    def progress(done: int, total: int) -> None:
        run.progress(done / total if total else None, f"{done:,} of {total:,}")

    executor = executor_of_environment(run.check)
    with spread_over(executor):
        mined = checked(request, mine(run.scope, request, progress=progress))
    more: dict[str, Any] = {
        "executor": "local" if executor is None else executor.name,
        "seconds": round(time.monotonic() - began, 3),
    }
    if lake_state(run.scope) != state:
        run.log("the lake was changed during the run", "WARNING")
        more["changed_meanwhile"] = True
    miner_id = str(run.state.subject)
    run.log(f"picked {len(mined):,} in {more['seconds']} s")

    def write(transaction: ScopedTransaction) -> None:
        write_results(transaction, miner_id, run.state.id, mined)

    explanation = explained(configuration, mined, state, more)
    return Done({"size": len(mined), "explanation": explanation}, write)


def memory_of(scope: Scope, request: Request) -> int:
    """About how many bytes a run takes; 0 where it will fail for another reason."""
    if issubclass(strategy_class(request.strategy), Measured):
        # One statement ranks them: the database bounds its own memory.
        return 0
    try:
        return estimate(scope, request).bytes
    except InvalidInput:
        return 0


def checked(request: Request, mined: Mined) -> Mined:
    """What was picked; raises InvalidInput where there were fewer to pick from than were wanted."""
    if len(mined) < request.size:
        raise InvalidInput(
            f"size is {request.size:,}, and {request.strategy} can choose from"
            f" {len(mined):,} datapoints only",
            hint=f"ask for {len(mined):,} or fewer, or widen the selection; "
            "lake.miners.estimate says which datapoints are left out, and why",
        )
    return mined
