"""How far rows are from the nearest of a growing set of centres: greedy k-center's state."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import Array, to_numpy
from katiml.vectors.distances import Points, Queries, exact_keys, rows_of

__all__ = ["Cover"]

# Centres that are compared with all rows in one product.
_TOGETHER = 256

Positions = NDArray[np.intp]


class Cover:
    """How far each of N rows is from the nearest of the centres so far; finds the farthest.

    A distance is an upper bound in the type of the products until its row is about to be found;
    then float64 decides, so that the same rows are found whatever made the products. Takes 21
    bytes a row. Parts of a matrix with a Cover each find what the whole would: `add` every centre
    to all of them and take the farthest that they find.

    >>> cover = Cover(Points(np.array([[0.0], [1.0], [5.0]])))
    >>> cover.add([[0.0]])
    >>> cover.farthest()
    (25.0, 2)
    """

    def __init__(self, points: Points, reference: Any = None) -> None:
        xp, rows = points.xp, points.rows
        self.points = points
        self._where = {} if xp is np else {"device": points.matrix.device}
        # Upper bounds of keys, or keys rounded up where `exact`; minus infinity for rows taken.
        self.keys = xp.full(rows, xp.inf, dtype=points.dtype, **self._where)
        self.exact = xp.zeros(rows, dtype=xp.bool, **self._where)
        self.nearest = xp.full(rows, -1, dtype=xp.int64, **self._where)
        self._true = np.full(rows, -np.inf)  # keys where `exact`
        self._reference = np.zeros((0, points.width)) if reference is None else reference
        self._added = np.zeros((0, points.width))
        self.count = 0
        self._slack = 0.0
        self._buffer: Any = None
        for start in range(0, len(self._reference), _TOGETHER):
            self._compare(to_numpy(self._reference[start : start + _TOGETHER]))

    def add(self, vectors: Any) -> None:
        """(k, D) more centres; they are numbered in the order they come, the reference first."""
        given = np.asarray(to_numpy(vectors))
        used = self.count - len(self._reference)
        if used + len(given) > len(self._added):
            grown = np.zeros((2 * used + len(given), self.points.width), given.dtype)
            grown[:used] = self._added[:used]
            self._added = grown
        self._added[used : used + len(given)] = given
        for start in range(0, len(given), _TOGETHER):
            self._compare(given[start : start + _TOGETHER])

    def take(self, position: int) -> None:
        """Make a row a centre that is not found again."""
        self.keys[position] = -self.points.xp.inf
        self._true[position] = -np.inf
        self.exact[position] = True
        self.add(rows_of(self.points.matrix, [position]))

    def farthest(self) -> tuple[float, int]:
        """(key, position) of the row farthest from all centres, the first of equals.

        The key is infinite where there is no centre yet, minus infinite where all rows are taken.
        """
        xp = self.points.xp
        if self.count == 0:
            return float("inf"), int(xp.argmax(self.keys))
        while True:
            position = int(xp.argmax(self.keys))
            if not bool(self.exact[position]):
                self._decide(np.array([position]))
            # Whatever may be as far as this row now turns out to be.
            rivals = xp.nonzero(self.keys >= self.keys[position])[0]
            unsure = rivals[~self.exact[rivals]]
            if not unsure.shape[0]:
                rows = to_numpy(rivals)
                found = int(rows[np.argmax(self._true[rows])])
                return float(self._true[found]), found
            self._decide(to_numpy(unsure))

    def ranked(self, size: int, *, highest: bool) -> tuple[Positions, NDArray[np.float64]]:
        """(positions, keys) of the `size` farthest rows, or nearest, the first of equals first."""
        xp = self.points.xp
        size = min(size, self.points.rows)
        least = self.keys - xp.where(self.exact, 0.0, self._slack)
        if highest:
            bound = xp.sort(least)[self.points.rows - size]
            rows = xp.nonzero(self.keys >= bound)[0]
        else:
            bound = xp.sort(self.keys)[size - 1]
            rows = xp.nonzero(least <= bound)[0]
        self._decide(to_numpy(rows[~self.exact[rows]]))
        found = to_numpy(rows)
        keys = self._true[found]
        order = np.argsort(-keys if highest else keys, kind="stable")[:size]
        return found[order], keys[order]

    def nearest_of(self, position: int) -> int:
        """The number of the centre nearest to a row that `farthest` found; -1 before any."""
        return int(self.nearest[position])

    def _decide(self, rows: Positions) -> None:
        """Replace bounds by keys."""
        if len(rows):
            nearest = self._centres(to_numpy(self.nearest[self._index(rows)]))
            self._set(rows, self.points.exact(rows, nearest))

    def _centres(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """(n, D) the centres of these numbers."""
        given = len(self._reference)
        if not given or (numbers >= given).all():
            return self._added[numbers - given]
        result = np.empty((len(numbers), self.points.width))
        old = numbers < given
        result[old] = rows_of(self._reference, numbers[old])
        result[~old] = self._added[numbers[~old] - given]
        return result

    def _compare(self, centres: NDArray[Any]) -> None:
        queries = self.points.queries(centres)
        slack = self.points.slack(queries)
        self._slack = max(self._slack, float(slack.max()))
        first, self.count = self.count, self.count + len(centres)
        for start, stop in self.points.blocks():
            out = self._products(stop - start, len(centres))
            low = self.points.lower_keys(queries, start, stop, out=out)
            self._take_up(low, queries, start, first, centres)

    def _products(self, rows: int, columns: int) -> Any:
        """Where products go: new memory would cost as much as they do."""
        if self.points.xp is not np:
            return None
        if self._buffer is None or self._buffer.shape[1] != columns:
            size = min(self.points.block_rows, self.points.rows)
            self._buffer = np.empty((size, columns), self.points.dtype)
        return self._buffer[:rows]

    def _take_up(
        self, low: Array, queries: Queries, start: int, first: int, centres: NDArray[Any]
    ) -> None:
        """Note the rows of a block to which one of the new centres is, or may be, the nearest."""
        xp = self.points.xp
        known = self.keys[start : start + low.shape[0]]
        slack = self.points.slack(queries)
        if len(centres) == 1:
            shift = float(queries.shift[0])
            rows = xp.nonzero(low[:, 0] < known - shift)[0]
            best, which = low[rows, 0] + shift, xp.zeros_like(rows)
            second = xp.full_like(best, xp.inf)
            margin = float(slack[0])
        else:
            low += self._moved(queries.shift)
            rows = xp.nonzero(xp.min(low, axis=1) < known)[0]
            low = low[rows]
            which = xp.argmin(low, axis=1)
            everyone = xp.arange(low.shape[0], **self._where)
            best = low[everyone, which]
            low[everyone, which] = xp.inf
            second = xp.min(low, axis=1)
            margin = self._moved(slack)[which]
        if not rows.shape[0]:
            return
        bounds = best + margin
        rows = rows + start
        least = self.keys[rows] - xp.where(self.exact[rows], 0.0, self._slack)
        surely = (bounds < least) & (bounds < second)
        taken = rows[surely]
        self.keys[taken] = bounds[surely]
        self.exact[taken] = False
        self.nearest[taken] = which[surely] + first
        if taken.shape[0] < rows.shape[0]:
            self._settle(to_numpy(rows[~surely]), first, centres)

    def _settle(self, rows: Positions, first: int, centres: NDArray[Any]) -> None:
        """Compare rows with all new centres and with the nearest old one, in float64."""
        numbers = to_numpy(self.nearest[self._index(rows)])
        keys = np.full(len(rows), np.inf)
        old = numbers >= 0
        keys[old] = self.points.exact(rows[old], self._centres(numbers[old]))
        own = rows_of(self.points.matrix, rows)
        for offset, centre in enumerate(centres):
            new = exact_keys(own, centre, self.points.metric)
            numbers = np.where(new < keys, first + offset, numbers)
            keys = np.minimum(keys, new)
        self._set(rows, keys)
        self.nearest[self._index(rows)] = self._moved(numbers, self.points.xp.int64)

    def _set(self, rows: Positions, keys: NDArray[np.float64]) -> None:
        """These rows' keys are known."""
        index = self._index(rows)
        self._true[rows] = keys
        self.keys[index] = self.points.rounded_up(keys)
        self.exact[index] = True

    def _index(self, rows: Positions) -> Any:
        return rows if self.points.xp is np else self._moved(rows, self.points.xp.int64)

    def _moved(self, values: Any, dtype: Any = None) -> Array:
        """An array where the matrix is."""
        xp = self.points.xp
        return xp.asarray(values, dtype=dtype or self.points.dtype, **self._where)
