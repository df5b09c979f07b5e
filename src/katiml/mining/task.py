"""The body of a miner's run, and what begins one."""

from __future__ import annotations

import time

from katiml.mining.configuration import Configuration
from katiml.mining.explain import lake_state
from katiml.mining.rows import read_row, set_task, write_results
from katiml.mining.run import memory_of, run_configuration
from katiml.store.scope import Scope, ScopedTransaction
from katiml.tasks import Done, Run, Task, Tasks, submit
from katiml.tasks.state import FINISHED, State

__all__ = ["KIND", "begin", "run_miner"]

KIND = "miner"


class _Active(Exception):
    """The miner has a run that has not come to its end."""


def begin(scope: Scope, miner_id: str) -> Task:
    """Have a miner run in the background; the run that is under way where there is one.

    Raises NotFound, and TooLarge where it could never run in this process.
    """
    row = read_row(scope, miner_id)
    memory = memory_of(scope, row.configuration)
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
    run.log(f"{request.strategy}: picking {request.size:,}")

    def progress(done: int, total: int) -> None:
        run.progress(done / total if total else None, f"{done:,} of {total:,}")

    mined, explanation = run_configuration(
        run.scope, configuration, progress=progress, check=run.check
    )
    seconds = round(time.monotonic() - began, 3)
    if lake_state(run.scope) != explanation["lake_state"]:
        run.log("the lake was changed during the run", "WARNING")
        explanation["changed_meanwhile"] = True
    miner_id = str(run.state.subject)
    run.log(f"picked {len(mined):,} in {seconds} s")

    def write(transaction: ScopedTransaction) -> None:
        write_results(transaction, miner_id, run.state.id, mined)

    return Done({"size": len(mined), "explanation": explanation}, write)
