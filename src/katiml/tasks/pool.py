"""The tasks that this process runs: on threads, at most so many and so much memory at once."""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from katiml.errors import KatiMLError, LakeBusy
from katiml.store.scope import Scope, ScopedTransaction
from katiml.store.store import Store
from katiml.tasks import limits
from katiml.tasks import state as states
from katiml.tasks.bodies import body_of
from katiml.tasks.leases import HEARTBEAT_SECONDS, worker_name
from katiml.tasks.run import Done, Run, Stopped
from katiml.tasks.state import State

__all__ = [
    "MAX_ATTEMPTS",
    "Job",
    "finish_tasks",
    "has_room",
    "job_of",
    "release_tasks",
    "start",
    "stop",
]

MAX_ATTEMPTS = 4
_FIRST_PAUSE, _GROWTH = 2.0, 4.0
# How soon a change of the progress is in the lake, and a cancelled task noticed.
_BEAT_SECONDS = 1.0
# Nothing is wrong with the task: the same again may well succeed.
_ENDING = "the process that ran it is ending"
_PASSING = (LakeBusy, ConnectionError, TimeoutError)


@dataclass(eq=False)
class Job:
    """A task in the hands of this process."""

    scope: Scope
    state: State
    not_before: float = 0.0
    run: Run | None = None
    released: bool = False
    # Why it ended without its row saying so.
    fault: KatiMLError | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def running(self) -> State | None:
        """Its state while it runs, fresher than the lake knows; None before and afterwards."""
        run = self.run
        if run is None or run.stopped is not None:
            return None
        return replace(run.state, progress=run.share, message=run.message)


class _Pool:
    """Threads come with the first task and go with the last."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.jobs: dict[str, Job] = {}
        self.waiting: list[Job] = []
        self.running: list[Job] = []
        self.threads = 0
        self.workers, self.memory = 1, 0
        self.heart: threading.Thread | None = None

    def add(self, job: Job) -> Job:
        workers, memory = limits.workers(), limits.memory_limit()
        with self.changed:
            self.workers, self.memory = workers, memory
            known = self.jobs.setdefault(job.state.id, job)
            if known is not job:
                return known
            self.waiting.append(job)
            if self.threads < workers:
                self.threads += 1
                threading.Thread(target=self._work, name="katiml-task").start()
            if self.heart is None:
                self.heart = threading.Thread(target=self._beat, name="katiml-beat", daemon=True)
                self.heart.start()
            self.changed.notify_all()
        return job

    def _work(self) -> None:
        while True:
            with self.changed:
                job = self._next()
                if job is None:
                    self.threads -= 1
                    return
            again: float | None = None
            try:
                again = _execute(job)
            except Exception as failure:  # noqa: BLE001 - the thread has other tasks to do
                # Not even the failure could be written: who waits is told.
                job.fault = _as_error(failure)
            with self.changed:
                self.running.remove(job)
                job.run = None
                if again is not None and not job.released:
                    job.not_before = time.monotonic() + again
                    self.waiting.append(job)
                else:
                    self._drop(job)
                self.changed.notify_all()

    def _next(self) -> Job | None:
        """The first task that may run now; None when there is nothing left to wait for."""
        while self.waiting:
            now = time.monotonic()
            for job in self.waiting:
                if job.not_before <= now and self._fits(job):
                    self.waiting.remove(job)
                    self.running.append(job)
                    return job
            pause = min(job.not_before for job in self.waiting) - now
            self.changed.wait(pause if pause > 0 else None)
        return None

    def _fits(self, job: Job) -> bool:
        taken = sum(own.state.memory for own in self.running)
        return not self.running or taken + job.state.memory <= self.memory

    def _drop(self, job: Job) -> None:
        self.jobs.pop(job.state.id, None)
        job.ended.set()

    def drop_waiting(self, task_id: str) -> None:
        """Forget a task that has not begun."""
        with self.changed:
            for job in [job for job in self.waiting if job.state.id == task_id]:
                self.waiting.remove(job)
                self._drop(job)
            self.changed.notify_all()

    def of(self, store: Store) -> list[Job]:
        with self.changed:
            return [job for job in self.jobs.values() if job.scope.store is store]

    def _beat(self) -> None:
        last = time.monotonic()
        while True:
            time.sleep(_BEAT_SECONDS)
            with self.changed:
                if not self.jobs:
                    self.heart = None
                    return
                runs = [job.run for job in self.running if job.run is not None]
                waiting = list(self.waiting)
            # A beat that is missed is no harm; what stops the lake stops the task itself.
            for run in runs:
                with suppress(KatiMLError):
                    run.beat()
            if time.monotonic() - last > HEARTBEAT_SECONDS:
                last = time.monotonic()
                for job in waiting:
                    with suppress(KatiMLError):
                        _keep_waiting(job)


_pool = _Pool()


def _reset_after_fork() -> None:
    # Threads stay with the parent, and so do its tasks.
    global _pool  # noqa: PLW0603
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


def start(scope: Scope, state: State) -> Job:
    """Run a task that is in the lake, as soon as there is room."""
    return _pool.add(Job(scope, state))


def job_of(task_id: str) -> Job | None:
    """The task where it is in the hands of this process."""
    return _pool.jobs.get(task_id)


def has_room() -> bool:
    """Whether this process would begin another task at once."""
    with _pool.changed:
        return not _pool.waiting and len(_pool.running) < limits.workers()


def stop(task_id: str, why: str) -> None:
    """Let this process's run of a task notice at once that it was cancelled."""
    job = _pool.jobs.get(task_id)
    if job is not None and job.run is not None:
        job.run.stop(why)
    _pool.drop_waiting(task_id)


def finish_tasks(store: Store) -> None:
    """Wait for the tasks that this process runs on a lake."""
    for job in _pool.of(store):
        job.ended.wait()


def release_tasks(store: Store) -> None:
    """Give this process's tasks back to the lake, for whichever process comes next."""
    jobs = _pool.of(store)
    for job in jobs:
        job.released = True
        if job.run is not None:
            job.run.stop(_ENDING)
        else:
            _pool.drop_waiting(job.state.id)
            with suppress(KatiMLError):
                _unclaim(job)
    for job in jobs:
        job.ended.wait()


def _keep_waiting(job: Job) -> None:
    job.scope.transact(
        lambda transaction: states.keep_waiting(transaction, job.state.id, worker_name())
    )


def _unclaim(job: Job) -> None:
    job.scope.transact(lambda transaction: states.unclaim(transaction, job.state.id, worker_name()))


def _execute(job: Job) -> float | None:
    """One attempt; returns the pause before the next one where there is to be one."""
    scope = job.scope
    state = scope.transact(lambda transaction: states.claim(transaction, job.state))
    if state is None:
        return None
    if state.attempt > MAX_ATTEMPTS:
        gone = KatiMLError(
            f"the process that ran it ended early, {MAX_ATTEMPTS} times",
            hint="the log says how far it came; memory may have been too small",
        )
        scope.transact(lambda transaction: states.finish(transaction, state, error=_plain(gone)))
        return None
    job.state = state
    job.run = run = Run(scope, state)
    if job.released:
        run.stop(_ENDING)
    try:
        done = body_of(state.kind)(run)
        run.check()
        _conclude(run, done)
    except Stopped as why:
        run.log(str(why), "WARNING")
        _leave(job, run)
    except Exception as failure:  # noqa: BLE001 - a task's fault belongs into its row, not into a log
        return _fail(run, failure)
    return None


def _conclude(run: Run, done: Done) -> None:
    lines = run.take_lines()

    def write(transaction: ScopedTransaction) -> None:
        if not states.is_current(transaction, run.state):
            raise Stopped(f"task {run.state.id} was stopped, or goes on elsewhere")
        if done.write is not None:
            done.write(transaction)
        states.append_logs(transaction, run.state.id, lines)
        states.finish(transaction, run.state, result=done.result)

    run.scope.transact(write)
    if done.after is not None:
        with suppress(KatiMLError):
            done.after()


def _leave(job: Job, run: Run) -> None:
    lines = run.take_lines()

    def write(transaction: ScopedTransaction) -> None:
        # It may have been deleted, log and all.
        if states.is_there(transaction, run.state.id):
            states.append_logs(transaction, run.state.id, lines)
        if job.released:
            states.release(transaction, run.state)

    run.scope.transact(write)


def _fail(run: Run, failure: Exception) -> float | None:
    error = _as_error(failure)
    again = isinstance(failure, _PASSING) and run.state.attempt < MAX_ATTEMPTS
    pause = _FIRST_PAUSE * _GROWTH ** (run.state.attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311
    run.log(f"attempt {run.state.attempt} failed: {error}", "ERROR")
    if again:
        run.log(f"it is tried again in {pause:.1f} s")
    lines = run.take_lines()

    def write(transaction: ScopedTransaction) -> None:
        if states.is_there(transaction, run.state.id):
            states.append_logs(transaction, run.state.id, lines)
        if again:
            states.retry(transaction, run.state, _plain(error), pause)
        else:
            states.finish(transaction, run.state, error=_plain(error))

    run.scope.transact(write)
    return pause if again else None


def _as_error(failure: Exception) -> KatiMLError:
    if isinstance(failure, KatiMLError):
        return failure
    if isinstance(failure, MemoryError):
        return KatiMLError(
            "there was not enough memory",
            hint="select fewer datapoints, or run it on a larger machine",
        )
    if isinstance(failure, _PASSING):
        return KatiMLError(f"{type(failure).__name__}: {failure}")
    return KatiMLError(f"{type(failure).__name__}: {failure}", hint="please report this")


def _plain(error: KatiMLError) -> dict[str, Any]:
    return {"message": error.message, "code": error.code, "hint": error.hint}
