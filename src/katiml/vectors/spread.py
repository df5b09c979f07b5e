"""The same searches over a matrix that is cut into parts, wherever the parts are.

What each part finds is decided in float64, so the whole finds what it would uncut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import to_numpy
from katiml.tasks.executors import Executor, Held, cut
from katiml.vectors.cover import Cover
from katiml.vectors.distances import Points, rows_of
from katiml.vectors.neighbors import nearest_keys

__all__ = ["SpreadCover", "spread_nearest_keys"]

Check = Callable[[], None]


class SpreadCover:
    """A `Cover` of (N, D) rows in parts: the centres so far, and the row farthest from them.

    >>> from katiml.tasks.executors import Local
    >>> with SpreadCover(np.array([[0.0], [1.0], [5.0]]), Local(2)) as cover:
    ...     cover.take(0)
    ...     cover.farthest()
    (25.0, 2)
    """

    def __init__(
        self,
        matrix: Any,
        executor: Executor,
        reference: Any = None,
        metric: str = "euclidean",
        check: Check | None = None,
    ) -> None:
        self._matrix = matrix
        self.rows = len(matrix)
        self.count = 0 if reference is None else len(reference)
        self._bounds = cut(self.rows, executor.width)
        given = None if reference is None else np.asarray(to_numpy(reference))
        parts = [(to_numpy(matrix[start:stop]), metric, given) for start, stop in self._bounds]
        self._held: Held = executor.hold(_Part, parts, check=check)
        self._found: list[tuple[float, int, int]] | None = None

    def __enter__(self) -> SpreadCover:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def take(self, position: int) -> None:
        """Make a row a centre that is not found again."""
        centre = rows_of(self._matrix, [position])
        told = [
            (centre, position - start if start <= position < stop else None)
            for start, stop in self._bounds
        ]
        self._found = self._held.tell(told, "take")
        self.count += 1

    def farthest(self) -> tuple[float, int]:
        """(key, position) of the row farthest from all centres, the first of equals."""
        key, number = self._best()
        return key, self._bounds[number][0] + self._all()[number][1]

    def nearest_of(self, position: int) -> int:  # noqa: ARG002 - as `Cover` is called
        """The number of the centre nearest to the row that `farthest` found; -1 before any."""
        _, number = self._best()
        return self._all()[number][2]

    def _best(self) -> tuple[float, int]:
        keys = [key for key, _, _ in self._all()]
        number = max(range(len(keys)), key=lambda part: (keys[part], -part))
        return keys[number], number

    def _all(self) -> list[tuple[float, int, int]]:
        if self._found is None:
            self._found = self._held.tell([()] * len(self._bounds), "best")
        return self._found


class _Part:
    def __init__(self, rows: NDArray[Any], metric: str, reference: NDArray[Any] | None) -> None:
        self._cover = Cover(Points(rows, metric), reference)

    def best(self) -> tuple[float, int, int]:
        key, position = self._cover.farthest()
        return key, position, self._cover.nearest_of(position)

    def take(self, centre: NDArray[Any], position: int | None) -> tuple[float, int, int]:
        if position is None:
            self._cover.add(centre)
        else:
            self._cover.take(position)
        return self.best()


def spread_nearest_keys(
    queries: Any,
    matrix: Any,
    k: int,
    executor: Executor,
    metric: str = "euclidean",
    check: Check | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """What `nearest_keys` finds: (Q, k) keys and (Q, k) positions, the nearest first.

    >>> from katiml.tasks.executors import Local
    >>> matrix = np.array([[0.0, 0.0], [0.0, 3.0]])
    >>> keys, positions = spread_nearest_keys([[0.0, 1.0]], matrix, 2, Local(2))
    >>> keys.tolist(), positions.tolist()
    ([[1.0, 4.0]], [[0, 1]])
    """
    asked = np.asarray(to_numpy(queries) if hasattr(queries, "shape") else queries)
    bounds = cut(len(matrix), executor.width)
    parts = [(asked, to_numpy(matrix[start:stop]), k, metric) for start, stop in bounds]
    found = executor.map(_nearest_in_part, parts, check=check)
    keys = np.concatenate([own for own, _ in found], axis=1)
    positions = np.concatenate(
        [own + start for (_, own), (start, _) in zip(found, bounds, strict=True)], axis=1
    )
    order = np.lexsort((positions, keys), axis=1)[:, :k]
    return np.take_along_axis(keys, order, 1), np.take_along_axis(positions, order, 1)


def _nearest_in_part(
    queries: NDArray[Any], rows: NDArray[Any], k: int, metric: str
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    return nearest_keys(queries, Points(rows, metric), k)
