"""Exact nearest neighbours: every row is looked at, and none is missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import Array, kth_smallest, namespace, to_numpy
from katiml.errors import InvalidInput
from katiml.vectors.distances import Points, Queries, distances_of_keys

__all__ = ["nearest", "nearest_keys"]

# Queries at a time, and numbers in one block of products.
_QUERIES = 1024
_PRODUCTS = 2**22
_DEVICE_PRODUCTS = 2**27

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]


def nearest(
    queries: Any,
    matrix: Array | Points,
    k: int = 1,
    metric: str = "euclidean",
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Floats, Positions]:
    """The `k` rows of `matrix` nearest to each query: ((Q, k) distances, (Q, k) positions).

    `queries` (Q, D) and `matrix` (N, D), float16 to float64, on disk or on a GPU; the memory taken
    beside them is bounded. Distances are float64, the nearest first, equal ones in the order of the
    rows. `metric` is "euclidean", "cosine" (1 - cosine; a zero vector is at 1 from every other) or
    "dot" (minus the inner product). With fewer than `k` rows there are as many columns as rows.
    Raises InvalidInput for another metric, k under 1 or widths that differ.

    >>> distances, positions = nearest([[0.0, 1.0]], np.array([[0.0, 0.0], [0.0, 3.0]]), k=2)
    >>> distances.tolist(), positions.tolist()
    ([[1.0, 2.0]], [[0, 1]])
    """
    points = matrix if isinstance(matrix, Points) else Points(matrix, metric)
    keys, positions = nearest_keys(queries, points, k, progress=progress)
    return distances_of_keys(keys, points.metric), positions


def nearest_keys(
    queries: Any,
    points: Points,
    k: int,
    *,
    apart: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Floats, Positions]:
    """The same with keys for distances; `apart` (Q,) names a row that each query leaves out."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InvalidInput(f"k is {k!r:.100}", hint="how many neighbours: a whole number from 1")
    if not hasattr(queries, "shape"):
        queries = np.asarray(queries, dtype=np.float64)
    left_out = None if apart is None else np.asarray(apart, np.intp)
    available = points.rows - (left_out is not None)
    k = min(int(k), max(available, 0))
    count = len(queries)
    keys = np.empty((count, k))
    positions = np.empty((count, k), np.intp)
    if k == 0:
        return keys, positions
    for start in range(0, count, _QUERIES):
        stop = min(start + _QUERIES, count)
        own = _Best(points, to_numpy(queries[start:stop]), k)
        own.search(None if left_out is None else left_out[start:stop])
        keys[start:stop], positions[start:stop] = own.keys, own.positions
        if progress is not None:
            progress(stop, count)
    return keys, positions


class _Best:
    """The nearest rows found so far to each of some queries."""

    def __init__(self, points: Points, queries: NDArray[Any], k: int) -> None:
        self.points = points
        self.vectors = queries
        self.k = k
        self.keys: Floats = np.full((len(queries), k), np.inf)
        self.positions: Positions = np.full((len(queries), k), np.iinfo(np.intp).max, np.intp)

    def search(self, apart: Positions | None) -> None:
        points = self.points
        prepared = points.queries(self.vectors)
        most = _PRODUCTS if points.xp is np else _DEVICE_PRODUCTS
        step = max(1, min(points.block_rows, most // len(self.vectors)))
        for start in range(0, points.rows, step):
            stop = min(start + step, points.rows)
            low = points.lower_keys(prepared, start, stop)
            if apart is not None:
                inside = np.flatnonzero((apart >= start) & (apart < stop))
                if len(inside):
                    # NaN is not below anything.
                    low[_on(low, apart[inside] - start), _on(low, inside)] = points.xp.nan
            self._take(low, prepared, start)

    def _take(self, low: Array, prepared: Queries, start: int) -> None:
        """Look at the rows of a block that may be nearer than the worst so far."""
        xp = namespace(low)
        worst = self.keys[:, -1]
        if not np.isfinite(worst).all():
            worst = np.minimum(worst, self._first_bounds(low, prepared))
        limits = self.points.rounded_up(worst - prepared.shift)
        rows, columns = (to_numpy(found) for found in xp.nonzero(low <= limits))
        self._merge(rows + start, columns)

    def _first_bounds(self, low: Array, prepared: Queries) -> Floats:
        """What the k-th nearest row of this block is not beyond, for each query."""
        if low.shape[0] < self.k:
            return np.full(len(self.vectors), np.inf)
        kth = kth_smallest(low, self.k)
        bounds = np.asarray(kth, np.float64) + prepared.shift + self.points.slack(prepared)
        return np.where(np.isnan(bounds), np.inf, bounds)

    def _merge(self, rows: Positions, columns: Positions) -> None:
        if not len(rows):
            return
        found = self.points.exact(rows, self.vectors[columns])
        keys = np.concatenate([self.keys.ravel(), found])
        positions = np.concatenate([self.positions.ravel(), rows])
        owners = np.concatenate([np.repeat(np.arange(len(self.keys)), self.k), columns])
        order = np.lexsort((positions, keys, owners))
        firsts = np.searchsorted(owners[order], np.arange(len(self.keys)))
        kept = order[(firsts[:, None] + np.arange(self.k)).ravel()]
        self.keys = keys[kept].reshape(-1, self.k)
        self.positions = positions[kept].reshape(-1, self.k)


def _on(array: Array, index: NDArray[Any]) -> Any:
    """An index for an array, where the array is."""
    xp = namespace(array)
    return index if xp is np else xp.asarray(index, device=array.device)
