"""A `Cover` of a matrix that is cut into parts, wherever the parts are.

What each part finds is decided in float64, so the parts together find what the whole would.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import Array, namespace, to_numpy
from katiml.tasks.executors import Executor, Held, current, cut
from katiml.vectors.cover import Cover
from katiml.vectors.distances import Points, rows_of

__all__ = ["SpreadCover", "cover_of"]

Positions = NDArray[np.intp]


@contextmanager
def cover_of(
    vectors: Array | Points, reference: Any = None, *, metric: str = "euclidean"
) -> Iterator[Cover | SpreadCover]:
    """A cover of (N, D) rows: in parts where the work is spread, otherwise in this process.

    >>> with cover_of(np.array([[0.0], [1.0], [5.0]]), [[0.0]]) as cover:
    ...     cover.farthest()
    (25.0, 2)
    """
    executor = current()
    matrix = vectors.matrix if isinstance(vectors, Points) else vectors
    if executor is None or namespace(matrix) is not np:
        points = vectors if isinstance(vectors, Points) else Points(vectors, metric)
        yield Cover(points, None if reference is None else _array(reference))
        return
    used = vectors.metric if isinstance(vectors, Points) else metric
    with SpreadCover(matrix, executor, reference, used) as cover:
        yield cover


class SpreadCover:
    """A `Cover` in parts: the centres so far, and the row farthest from them.

    >>> from katiml.tasks.executors import Local
    >>> with SpreadCover(np.array([[0.0], [1.0], [5.0]]), Local(2)) as cover:
    ...     cover.take(0)
    ...     cover.farthest()
    (25.0, 2)
    """

    def __init__(
        self, matrix: Any, executor: Executor, reference: Any = None, metric: str = "euclidean"
    ) -> None:
        given = None if reference is None else to_numpy(_array(reference))
        self.rows = len(matrix)
        self.count = 0 if given is None else len(given)
        self._matrix = matrix
        self._bounds = cut(self.rows, executor.width)
        parts = [(np.asarray(matrix[start:stop]), metric, given) for start, stop in self._bounds]
        self._held: Held = executor.hold(_Part, parts)
        # What each part found last: key, position in the part, number of the nearest centre.
        self._found: list[tuple[float, int, int]] | None = None
        self._nearest: dict[int, int] = {}

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
        if self._found is None:
            self._found = self._held.tell([()] * len(self._bounds), "best")
        keys = [key for key, _, _ in self._found]
        part = keys.index(max(keys))
        key, own, nearest = self._found[part]
        position = self._bounds[part][0] + own
        self._nearest = {position: nearest}
        return key, position

    def ranked(self, size: int, *, highest: bool) -> tuple[Positions, NDArray[np.float64]]:
        """(positions, keys) of the `size` farthest rows, or nearest, the first of equals first."""
        found = self._held.tell([(size, highest)] * len(self._bounds), "ranked")
        starts = [start for start, _ in self._bounds]
        positions = np.concatenate(
            [own + start for (own, _, _), start in zip(found, starts, strict=True)]
        )
        keys = np.concatenate([keys for _, keys, _ in found])
        nearest = np.concatenate([numbers for _, _, numbers in found])
        order = np.lexsort((positions, -keys if highest else keys))[:size]
        self._nearest = dict(zip(positions[order].tolist(), nearest[order].tolist(), strict=True))
        return positions[order], keys[order]

    def nearest_of(self, position: int) -> int:
        """The number of the centre nearest to a row that was found; -1 before any."""
        return self._nearest.get(position, -1)


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

    def ranked(
        self, size: int, highest: bool
    ) -> tuple[Positions, NDArray[np.float64], NDArray[np.int64]]:
        positions, keys = self._cover.ranked(size, highest=highest)
        nearest = [self._cover.nearest_of(int(position)) for position in positions]
        return positions, keys, np.array(nearest, np.int64)


def _array(reference: Any) -> Any:
    return reference if hasattr(reference, "shape") else np.asarray(reference, np.float64)
