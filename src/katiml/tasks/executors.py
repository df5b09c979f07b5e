"""Where the parts of a large computation are done: on this machine's threads, or on a Ray cluster.

A computation that can be cut is written as a function of one part, or as an object that holds one
part and answers calls. What comes out does not depend on how it was cut or where it ran.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from types import TracebackType
from typing import Any, TypeVar

__all__ = [
    "Executor",
    "Held",
    "Local",
    "current",
    "cut",
    "executor_of_environment",
    "map_parts",
    "spread_over",
]

T = TypeVar("T")
_SMALLEST_PART = 4_096


class Held(ABC):
    """Objects that each hold a part, wherever they are."""

    @abstractmethod
    def tell(self, arguments: Sequence[Sequence[Any]], method: str) -> list[Any]:
        """Call a method that may change the objects, each with its own arguments.

        Returns what they answer, in the order of the parts.
        """

    @abstractmethod
    def close(self) -> None:
        """Let the objects go."""

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Executor(ABC):
    """Does parts of a computation. `check` is called now and then: what it raises ends the work."""

    name: str

    def __init__(self, check: Callable[[], None] | None = None) -> None:
        self._check = check or (lambda: None)

    @property
    @abstractmethod
    def width(self) -> int:
        """How many parts are worth making."""

    @abstractmethod
    def map(
        self,
        function: Callable[..., T],
        parts: Sequence[Sequence[Any]],
    ) -> list[T]:
        """`function(*part)` for each part, in the order of the parts."""

    @abstractmethod
    def hold(
        self,
        make: Callable[..., Any],
        parts: Sequence[Sequence[Any]],
    ) -> Held:
        """`make(*part)` for each part: objects that stay where they are, to be called."""


def cut(rows: int, parts: int) -> list[tuple[int, int]]:
    """Bounds that cut `rows` into at most so many parts of about the same size, none tiny.

    >>> cut(10_000, 2), cut(10, 8), cut(0, 3)
    ([(0, 5000), (5000, 10000)], [(0, 10)], [(0, 0)])
    """
    number = max(1, min(parts, rows // _SMALLEST_PART))
    edges = [rows * part // number for part in range(number + 1)]
    return list(pairwise(edges))


def executor_of_environment(check: Callable[[], None] | None = None) -> Executor | None:
    """The Ray cluster of `KATIML_RAY_ADDRESS`; None without one: the work is not cut.

    Raises MissingExtra where Ray is not installed, ClusterUnreachable where no cluster answers.
    """
    address = os.environ.get("KATIML_RAY_ADDRESS", "").strip()
    if not address:
        return None
    from katiml.tasks.ray import Ray

    return Ray(address, check)


_current: ContextVar[Executor | None] = ContextVar("katiml_executor", default=None)


@contextmanager
def spread_over(executor: Executor | None) -> Iterator[None]:
    """Within the block, computations of this thread that can be cut are, and done there.

    >>> with spread_over(Local(2)):
    ...     current().name
    'local'
    """
    token = _current.set(executor)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Executor | None:
    """Where parts are done in this thread now; None: computations are not cut."""
    return _current.get()


def map_parts(function: Callable[..., T], parts: Sequence[Sequence[Any]]) -> Iterable[T]:
    """`function(*part)` for each part, in order: spread where the work is, otherwise one by one.

    >>> list(map_parts(max, [(1, 2), (4, 3)]))
    [2, 4]
    """
    executor = current()
    if executor is None:
        return (function(*part) for part in parts)
    return executor.map(function, parts)


class Local(Executor):
    """This machine's threads.

    >>> Local(2).map(lambda low, high: sum(range(low, high)), [(0, 3), (3, 5)])
    [3, 7]
    """

    name = "local"

    def __init__(self, threads: int | None = None, check: Callable[[], None] | None = None) -> None:
        super().__init__(check)
        self._threads = threads or os.cpu_count() or 1

    @property
    def width(self) -> int:
        return self._threads

    def map(
        self,
        function: Callable[..., T],
        parts: Sequence[Sequence[Any]],
    ) -> list[T]:
        self._check()
        with ThreadPoolExecutor(self._threads, "katiml-part") as threads:
            results = []
            futures = [threads.submit(function, *part) for part in parts]
            try:
                for future in futures:
                    results.append(future.result())
                    self._check()
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise
            return results

    def hold(
        self,
        make: Callable[..., Any],
        parts: Sequence[Sequence[Any]],
    ) -> Held:
        return _Here([make(*part) for part in parts], self._check)


class _Here(Held):
    def __init__(self, objects: list[Any], check: Callable[[], None]) -> None:
        self._objects = objects
        self._check = check

    def tell(self, arguments: Sequence[Sequence[Any]], method: str) -> list[Any]:
        self._check()
        return [
            getattr(own, method)(*given)
            for own, given in zip(self._objects, arguments, strict=True)
        ]

    def close(self) -> None:
        self._objects.clear()
