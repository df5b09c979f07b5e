"""Submitting tasks, taking over those whose process is gone, and handles to look at them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from katiml.errors import Conflict, InvalidInput, KatiMLError
from katiml.store.scope import Scope, ScopedTransaction
from katiml.store.store import Store
from katiml.tasks import limits, pool
from katiml.tasks import state as states
from katiml.tasks.bodies import body_of, is_known
from katiml.tasks.leases import is_abandoned, is_own, worker_name
from katiml.tasks.state import FAILURE, FINISHED, PENDING, RETRY, REVOKED, STARTED, State

__all__ = ["Task", "Tasks", "adopt", "resume_tasks", "submit", "with_work"]

# A task that waits in a busy process for this long is started by another one with room.
_PATIENCE_SECONDS = 5.0
STATUSES = (PENDING, STARTED, RETRY, *FINISHED)


class Task:
    """Work in the background, as its row in the lake tells.

    >>> import katiml, tempfile
    >>> from katiml.tasks import Done, register
    >>> register("sum", lambda run: Done({"sum": sum(run.arguments["numbers"])}))
    >>> with tempfile.TemporaryDirectory() as folder, katiml.connect(folder) as lake:
    ...     task = lake.tasks.submit("sum", {"numbers": [1, 2]}).wait()
    ...     task.status, task.result
    ('SUCCESS', {'sum': 3})
    """

    def __init__(self, scope: Scope, state: State) -> None:
        self._scope = scope
        self._state = state
        self.id = state.id
        self.kind = state.kind
        self.subject = state.subject

    def __repr__(self) -> str:
        state = self._state
        share = "" if state.progress is None else f" {state.progress:.0%}"
        return f"<Task {self.id} {self.kind}: {state.status}{share}>"

    def refresh(self) -> State:
        """The state as it is now."""
        if not self._state.is_finished:
            job = pool.job_of(self.id)
            here = None if job is None else job.running
            # What this process runs it knows best.
            self._state = here or states.read_state(self._scope, self.id)
        return self._state

    @property
    def seen(self) -> State:
        """The state as it was read last."""
        return self._state

    @property
    def status(self) -> str:
        """PENDING, STARTED, RETRY, SUCCESS, FAILURE or REVOKED."""
        return self.refresh().status

    @property
    def progress(self) -> float | None:
        """The share that is done, 0 to 1; None while it is not known."""
        return self.refresh().progress

    @property
    def result(self) -> dict[str, Any] | None:
        """What it came to, where the status is SUCCESS."""
        return self.refresh().result

    @property
    def error(self) -> dict[str, Any] | None:
        """What went wrong where the status is FAILURE, REVOKED or RETRY: message, code, hint."""
        return self.refresh().error

    @property
    def duration(self) -> float:
        """Seconds from its beginning to its end, or to now; 0 where it has not begun."""
        state = self.refresh()
        if state.started_at is None:
            return 0.0
        return ((state.finished_at or datetime.now(UTC)) - state.started_at).total_seconds()

    @property
    def logs(self) -> Any:
        """A DataFrame of the lines of its log: created_at, level, message."""
        return states.read_logs(self._scope, self.id).to_pandas()

    def log_lines(self) -> list[dict[str, Any]]:
        """The same lines as dicts."""
        lines: list[dict[str, Any]] = states.read_logs(self._scope, self.id).to_pylist()
        return lines

    def wait(
        self, timeout: float | None = None, *, on_progress: Callable[[Task], None] | None = None
    ) -> Task:
        """Return when the task has come to its end, whatever its status.

        Raises TimeoutError after `timeout` seconds; the task itself goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.01
        while not self.refresh().is_finished:
            if on_progress:
                on_progress(self)
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"task {self.id} has not come to its end within {timeout} s")
            job = pool.job_of(self.id)
            if job is None:
                adopt(self._scope, self._state)
                time.sleep(pause)
            elif job.ended.wait(pause) and job.fault is not None:
                raise job.fault
            pause = min(pause * 1.5, 0.5)
        if on_progress:
            on_progress(self)
        return self

    def check(self) -> Task:
        """Itself; raises what went wrong where the status is FAILURE or REVOKED."""
        state = self.refresh()
        if state.status in (FAILURE, REVOKED):
            error = state.error or {}
            message = str(error.get("message") or state.status)
            if state.status == REVOKED:
                raise Conflict(f"task {self.id} was stopped: {message}", hint="run it again")
            raise KatiMLError.named(error.get("code"), message, hint=error.get("hint"))
        return self

    def cancel(self, reason: str = "cancelled") -> Task:
        """Stop it: REVOKED, unless it had come to its end. What it computed is dropped."""
        self._scope.transact(lambda transaction: states.revoke(transaction, self.id, reason))
        pool.stop(self.id, reason)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Everything about it as plain values."""
        state = self.refresh()
        names = (
            "id kind subject arguments status attempt memory progress message result error "
            "created_at started_at finished_at"
        )
        return {**{name: getattr(state, name) for name in names.split()}, "duration": self.duration}


class Tasks:
    """The tasks of one organization: `submit`, `get`, `list`, `resume`."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def submit(
        self,
        kind: str,
        arguments: dict[str, Any] | None = None,
        *,
        subject: str | None = None,
        memory: int = 0,
    ) -> Task:
        """Have a task run in the background; see `katiml.tasks.submit`."""
        return submit(
            self._scope,
            State(kind, subject=subject, arguments=states.as_plain(arguments or {}), memory=memory),
        )

    def get(self, task_id: str) -> Task:
        """The task of that id; raises NotFound."""
        return Task(self._scope, states.read_state(self._scope, task_id))

    def list(
        self, limit: int = 100, *, kind: str | None = None, status: str | None = None
    ) -> list[Task]:
        """The latest tasks, the newest first."""
        if status is not None and status not in STATUSES:
            raise InvalidInput(f"status is {status!r}", hint=f"statuses are: {', '.join(STATUSES)}")
        found = states.list_states(
            self._scope, kind=kind, statuses=[status] if status else [], limit=limit
        )
        return [Task(self._scope, state) for state in found]

    def resume(self) -> int:
        """Take over the tasks whose process is gone; returns how many."""
        return resume_tasks(self._scope)


def submit(
    scope: Scope, state: State, also: Callable[[ScopedTransaction], None] | None = None
) -> Task:
    """Put a task into the lake, together with what `also` writes, and run it when there is room.

    Raises InvalidInput for an unknown kind or wrong limits, TooLarge where it could never run here.
    """
    body_of(state.kind)
    limits.workers()
    limits.check_memory(state.memory, f"this {state.kind}")
    state.worker = worker_name()

    def work(transaction: ScopedTransaction) -> None:
        states.insert(transaction, state)
        if also is not None:
            also(transaction)

    scope.transact(work)
    pool.start(scope, state)
    return Task(scope, state)


def adopt(scope: Scope, seen: State, *, patience: float | None = None) -> bool:
    """Go on with a task whose process is gone; with `patience`, also with one that has waited so
    many seconds elsewhere."""
    if seen.is_finished or pool.job_of(seen.id) is not None or not is_known(seen.kind):
        return False
    if seen.status in (PENDING, RETRY):
        late = (datetime.now(UTC) - seen.run_at).total_seconds()
        impatient = patience is not None and late > patience
        free = impatient or seen.worker is None or _is_gone(scope, seen)
        if late < 0 or not free:
            return False
    elif not _is_gone(scope, seen):
        return False
    pool.start(scope, seen)
    return True


def resume_tasks(scope: Scope, *, steal: bool = False) -> int:
    """Take over the tasks whose process is gone; returns how many.

    With `steal`, also what waits in other processes while this one has room.
    """
    found = states.list_states(scope, statuses=(PENDING, STARTED, RETRY))
    patience = _PATIENCE_SECONDS if steal else None
    return sum(
        adopt(scope, state, patience=patience if pool.has_room() else None)
        for state in reversed(found)
    )


def with_work(store: Store) -> list[str]:
    """The organizations of a lake with tasks that have not come to their end."""
    found = store.query(
        "SELECT DISTINCT organization_id FROM lake.tasks "
        "WHERE status IN ('PENDING', 'STARTED', 'RETRY') ORDER BY organization_id"
    )
    names: list[str] = found.column("organization_id").to_pylist()
    return names


def _is_gone(scope: Scope, state: State) -> bool:
    if is_own(state.worker):
        # This process would know: it was another one of the same name, before a restart.
        return pool.job_of(state.id) is None
    return is_abandoned(scope, "tasks", state.id, state.worker)
