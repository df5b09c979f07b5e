"""Waiting between tries: longer each time, never in step with others."""

from __future__ import annotations

import random
import time

from katiml.errors import LakeBusy
from katiml.store.failures import Lost, unreachable

__all__ = ["Pauses"]

# Conflicts end when the others have written; an unreachable server may not come back.
_CONFLICT_SECONDS = 600.0
_LOST_SECONDS = 60.0
_FIRST, _GROWTH, _LONGEST = 0.005, 1.7, 2.0


class Pauses:
    """The pauses of one operation on the lake at `place`.

    >>> Pauses("lake").pause(Lost("gone"))
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._begun = time.monotonic()
        self._next = _FIRST

    def pause(self, failure: Exception) -> None:
        """Wait before the next try; raises LakeBusy or StoreError when it has been long enough."""
        waited = time.monotonic() - self._begun
        if isinstance(failure, Lost) and waited > _LOST_SECONDS:
            raise unreachable(self._place, failure) from failure
        if waited > _CONFLICT_SECONDS:
            raise LakeBusy(
                f"others kept changing the same rows of the lake {self._place} "
                f"for {_CONFLICT_SECONDS:.0f} s: {failure}",
                hint="try again when fewer write at once",
            ) from failure
        time.sleep(self._next * random.uniform(0.5, 1.5))  # noqa: S311
        self._next = min(self._next * _GROWTH, _LONGEST)
