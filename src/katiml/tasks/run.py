"""One attempt at a task, as its body sees it: arguments, progress, log, fenced writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from katiml.store.scope import Scope, ScopedTransaction
from katiml.tasks import state as states
from katiml.tasks.leases import HEARTBEAT_SECONDS
from katiml.tasks.state import LogLine, State

__all__ = ["Done", "Run", "Stopped"]

T = TypeVar("T")
_MAX_LOG_LINES = 1_000
_MAX_TEXT = 2_000


class Stopped(Exception):
    """The task is not this attempt's any more: it was cancelled, or goes on elsewhere."""


@dataclass(frozen=True)
class Done:
    """What a body returns: its result, what is to be written together with SUCCESS, and what is to
    be done after that, which no failure of undoes it."""

    result: dict[str, Any]
    write: Callable[[ScopedTransaction], None] | None = None
    after: Callable[[], None] | None = None


class Run:
    """One attempt at a task. Its body calls `progress` or `check` often: both raise Stopped."""

    def __init__(self, scope: Scope, state: State) -> None:
        self.scope = scope
        self.state = state
        self.share: float | None = None
        self.message: str | None = None
        self._why: str | None = None
        self._lock = threading.Lock()
        self._lines: list[LogLine] = []
        self._logged = 0
        self._written: tuple[float | None, str | None] = (None, None)
        self._beat_at = time.monotonic()

    @property
    def arguments(self) -> dict[str, Any]:
        """What the task was submitted with."""
        return self.state.arguments

    @property
    def stopped(self) -> str | None:
        """Why the body should stop, if it should."""
        return self._why

    def stop(self, why: str) -> None:
        """Make the next `check` raise."""
        self._why = self._why or why

    def check(self) -> None:
        """Raises Stopped where the task was cancelled, or goes on elsewhere."""
        if self._why is not None:
            raise Stopped(self._why)

    def progress(self, share: float | None, message: str | None = None) -> None:
        """Say how far the work is, 0 to 1, and with what it is busy; raises Stopped."""
        self.share = None if share is None else min(max(float(share), 0.0), 1.0)
        if message is not None:
            self.message = message[:_MAX_TEXT]
        self.check()

    def part(self, low: float, high: float) -> Callable[[float], None]:
        """A function that takes the progress of one part of the work, 0 to 1; it raises Stopped.

        The part lies between the shares `low` and `high` of the whole.
        """
        return lambda share: self.progress(low + (high - low) * share)

    def log(self, message: str, level: str = "INFO") -> None:
        """Add a line to the task's log; of one attempt the first thousand are kept."""
        with self._lock:
            self._logged += 1
            if self._logged <= _MAX_LOG_LINES:
                self._lines.append(LogLine(datetime.now(UTC), level, message[:_MAX_TEXT]))

    def transact(self, work: Callable[[ScopedTransaction], T]) -> T:
        """Run `work` in one transaction that counts only while the task is this attempt's.

        Raises Stopped.
        """

        def fenced(transaction: ScopedTransaction) -> T:
            if not states.is_current(transaction, self.state):
                raise Stopped(f"task {self.state.id} was stopped, or goes on elsewhere")
            return work(transaction)

        self.check()
        return self.scope.transact(fenced)

    def take_lines(self) -> list[LogLine]:
        """The lines of the log that are not in the lake yet."""
        with self._lock:
            lines, self._lines = self._lines, []
        return lines

    def beat(self) -> None:
        """Write progress and log where they changed, show that this process lives, and notice
        where the task is not its any more."""
        now = (self.share, self.message)
        due = time.monotonic() - self._beat_at > HEARTBEAT_SECONDS
        if not (due or now != self._written or self._lines):
            current = self.scope.query(states.CURRENT, states.fence(self.state)).num_rows == 1
        else:
            lines = self.take_lines()

            def write(transaction: ScopedTransaction) -> bool:
                current = states.touch(transaction, self.state, *now)
                if current:
                    states.append_logs(transaction, self.state.id, lines)
                return current

            current = self.scope.transact(write)
            if not current:
                self._lines[:0] = lines
            self._written, self._beat_at = now, time.monotonic()
        if not current:
            self.stop(f"task {self.state.id} was stopped, or goes on elsewhere")
