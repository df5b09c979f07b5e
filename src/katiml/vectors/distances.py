"""Distances from many rows to a few, fast and then exactly.

Matrix products in float32 say which rows can matter, with a bound on their error; float64 then
decides among those. So the same rows come out whatever the size of the blocks and whether NumPy,
torch or CuPy, a CPU or a GPU did the products.

A metric's *key* orders as its distance does: the squared distance for "euclidean"; 1 - cosine for
"cosine", where a zero vector is at 1 from every other one and at 0 from another zero vector; minus
the inner product for "dot".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import Array, namespace, to_numpy
from katiml.errors import InvalidInput

__all__ = ["METRICS", "Points", "Queries", "distances_of_keys", "exact_keys", "rows_of"]

METRICS = ("euclidean", "cosine", "dot")

# Rows at a time: their products stay in the cache, and a call is long against its overhead.
_BLOCK_VALUES = 2**24
_BLOCK_ROWS = 2**16
_DEVICE_VALUES = 2**29
# Rows that are widened to float64 at a time.
_EXACT_VALUES = 2**23


def exact_keys(rows: Any, others: Any, metric: str) -> NDArray[np.float64]:
    """(n,) keys between (n, D) rows and (n, D) or (D,) others, pair by pair, in float64.

    >>> exact_keys([[3.0, 4.0], [0.0, 0.0]], [0.0, 0.0], "euclidean").tolist()
    [25.0, 0.0]
    >>> exact_keys([[3.0, 4.0], [0.0, 0.0]], [0.0, 0.0], "cosine").tolist()
    [1.0, 0.0]
    """
    left, right = np.asarray(rows), np.asarray(others)
    result = np.empty(len(left))
    step = max(1, _EXACT_VALUES // max(1, left.shape[1]))
    for start in range(0, len(left), step):
        a = left[start : start + step].astype(np.float64)
        b = right.astype(np.float64) if right.ndim == 1 else right[start : start + step]
        result[start : start + step] = _keys(a, np.asarray(b, np.float64), metric)
    return result


def _keys(a: NDArray[np.float64], b: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
    if metric == "dot":
        return np.asarray(-(a * b).sum(axis=-1))
    if metric == "cosine":
        a, b = _directions(a), _directions(b)
        # A zero vector beside another one: half of 1 squared would be 0.5.
        alone = a.any(axis=-1) != b.any(axis=-1)
        difference = a - b
        return np.where(alone, 1.0, 0.5 * (difference * difference).sum(axis=-1))
    difference = a - b
    return np.asarray((difference * difference).sum(axis=-1))


def _directions(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    # The largest value first, so that squares neither overflow nor vanish.
    largest = np.abs(rows).max(axis=-1, keepdims=True, initial=0.0)
    scaled = rows / np.where(largest > 0, largest, 1.0)
    norms = np.sqrt((scaled * scaled).sum(axis=-1, keepdims=True))
    return np.asarray(scaled / np.where(norms > 0, norms, 1.0))


def distances_of_keys(keys: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
    """What is told to users: the distance itself where the key is its square.

    >>> distances_of_keys(np.array([25.0]), "euclidean").tolist()
    [5.0]
    """
    return np.sqrt(keys) if metric == "euclidean" else keys


def _too_large() -> InvalidInput:
    return InvalidInput("vectors hold values too large to be compared", hint="scale them down")


def rows_of(matrix: Array, positions: Any) -> NDArray[Any]:
    """Some rows of a matrix, in main memory."""
    xp = namespace(matrix)
    if xp is np:
        return np.asarray(matrix[np.asarray(positions)])
    index = xp.asarray(to_numpy(positions), device=matrix.device)
    return to_numpy(xp.take(matrix, index, axis=0))


class Queries:
    """A few rows as a `Points` compares itself with them.

    `columns` (D, k) are what products are made with, `shift` (k,) what a lower bound has besides
    the product, `errors` (k,) their part in its error, `zero` (k,) which are 0 under cosine.
    """

    def __init__(self, columns: Array, shift: Any, errors: Any, zero: NDArray[np.bool_]) -> None:
        self.columns = columns
        self.shift = shift
        self.errors = errors
        self.zero = zero


class Points:
    """(N, D) rows, ready to be compared: with norms, in blocks, and with bounds on errors.

    `matrix` may be NumPy's (memory-mapped too), torch's or CuPy's; products are made in float64
    where it is float64, otherwise in float32. Takes N numbers beside the matrix.

    >>> points = Points(np.array([[0.0, 0.0], [3.0, 4.0]]))
    >>> queries = points.queries([[0.0, 0.0]])
    >>> low = points.lower_keys(queries, 0, 2) + queries.shift
    >>> bool(low[1, 0] <= 25.0 <= low[1, 0] + points.slack(queries)[0])
    True
    """

    def __init__(
        self, matrix: Array, metric: str = "euclidean", *, block_rows: int | None = None
    ) -> None:
        if metric not in METRICS:
            raise InvalidInput(f"metric is {metric!r:.100}", hint=f"metrics: {', '.join(METRICS)}")
        if matrix.ndim != 2:
            raise InvalidInput(f"vectors have {matrix.ndim} dimensions, not 2: rows and values")
        self.matrix = matrix
        self.metric = metric
        self.xp = namespace(matrix)
        self.rows, self.width = int(matrix.shape[0]), int(matrix.shape[1])
        self.block_rows = block_rows or self._fitting()
        self._use(self.xp.float64 if matrix.dtype == self.xp.float64 else self.xp.float32)
        if not self._measure() and self.dtype == self.xp.float32:
            self._use(self.xp.float64)
            self._measure()

    def _fitting(self) -> int:
        """Rows in a block: few beside a processor's cache, many where each call costs a launch."""
        if self.xp is np:
            return max(1, min(_BLOCK_ROWS, _BLOCK_VALUES // max(1, self.width)))
        return max(1, _DEVICE_VALUES // max(1, self.width))

    def _use(self, dtype: Any) -> None:
        self.dtype = dtype
        self._unit = float(self.xp.finfo(dtype).eps)
        self._largest = float(self.xp.finfo(dtype).max) / 16
        # What a sum of products errs by, in parts of the product of two norms.
        self._error = 2 * self._unit * (math.sqrt(self.width) + 16)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """The first row of each block and the one behind its last."""
        for start in range(0, self.rows, self.block_rows):
            yield start, min(start + self.block_rows, self.rows)

    def block(self, start: int, stop: int) -> Array:
        """Rows in the type that products are made in."""
        rows = self.matrix[start:stop]
        return rows if rows.dtype == self.dtype else self.xp.astype(rows, self.dtype)

    def _measure(self) -> bool:
        """The norms, about the mean of the first rows: less is lost where all lie far from 0.

        False where the squares of a row are too large or too small for this type.
        """
        xp, rows = self.xp, self.rows
        where = {} if xp is np else {"device": self.matrix.device}
        self._offset = xp.zeros(rows, dtype=self.dtype, **where)
        self._scale: Any = None
        self._centre: Any = None
        if self.metric == "euclidean" and rows:
            self._centre = xp.mean(self.block(0, min(rows, 4096)), axis=0)
        for start, stop in self.blocks():
            block = self.block(start, stop)
            if self._centre is not None:
                block = block - self._centre
            with np.errstate(over="ignore"):
                self._offset[start:stop] = xp.sum(block * block, axis=-1)
        largest = float(xp.max(self._offset)) if rows else 0.0
        if not largest < self._largest:
            if self.dtype == xp.float64:
                raise _too_large()
            return False
        if self.metric == "cosine":
            norms = xp.sqrt(self._offset)
            self._scale = xp.where(norms > 0, 1 / xp.where(norms > 0, norms, 1.0), 0.0)
            self._row_error = self._error
            # Squares of small values lose digits or vanish.
            faint = to_numpy(xp.nonzero(self._offset < 1e-30)[0])
            return not rows_of(self.matrix, faint).any()
        middle = np.zeros(1) if self._centre is None else to_numpy(self._centre).astype(np.float64)
        centre = math.fsum(value * value for value in middle.tolist())
        if not centre < self._largest:
            raise _too_large()
        spread = float(xp.mean(self._offset)) if rows else 0.0
        # ‖x‖‖c‖ <= (balance ‖x‖² + ‖c‖² / balance) / 2, a sum of what rows and queries bring.
        self._balance = math.sqrt(spread / (spread + centre)) if spread > 0 else 1.0
        part = self._error * self._balance
        own = part * 2 * (self._offset + centre) + 8 * self._unit * self._offset
        self._row_error = float(xp.max(own)) if rows else 0.0
        self._offset = self._offset - own if self.metric == "euclidean" else -own
        return True

    def queries(self, others: Any) -> Queries:
        """(k, D) rows to compare with."""
        given = np.asarray(to_numpy(others))
        if given.ndim != 2 or given.shape[1] != self.width:
            raise InvalidInput(
                f"vectors of {self.width} values are compared with ones of shape {given.shape}"
            )
        values = given.astype(np.float64)
        with np.errstate(over="ignore"):
            norms = (values * values).sum(axis=1)
        if not (norms < self._largest).all():
            raise _too_large()
        zero = np.zeros(len(values), bool)
        if self.metric == "cosine":
            values = -_directions(values)
            zero = norms == 0
            shift, errors = np.full(len(values), 1.0 - self._row_error), np.zeros(len(values))
        elif self.metric == "dot":
            errors = self._error * norms / self._balance
            values, shift = -values, -errors
        else:
            centre = to_numpy(self._centre).astype(np.float64)
            values = values - centre
            norms = (values * values).sum(axis=1)
            keys = norms + 2 * (values @ centre)
            # The rounding of the query itself, and of sums with its norm.
            errors = self._error * norms / self._balance + 8 * self._unit * np.abs(keys)
            values, shift = -2 * values, keys - errors
        columns = np.ascontiguousarray(values.T)
        if self.xp is np:
            return Queries(columns.astype(self.dtype), shift, errors, zero)
        device = self.matrix.device
        moved = self.xp.asarray(columns, dtype=self.dtype, device=device)
        return Queries(moved, shift, errors, zero)

    def slack(self, queries: Queries) -> NDArray[np.float64]:
        """(k,) how far a true key can lie above its lower bound."""
        return np.asarray(2 * (self._row_error + queries.errors))

    def lower_keys(self, queries: Queries, start: int, stop: int, *, out: Any = None) -> Array:
        """(stop - start, k): with `queries.shift` added, bounds that true keys are not below."""
        xp = self.xp
        block = self.block(start, stop)
        if out is None:
            products = xp.matmul(block, queries.columns)
        else:
            products = xp.matmul(block, queries.columns, out=out)
        if self._scale is None:
            products += self._offset[start:stop, None]
            return products
        products *= self._scale[start:stop, None]
        if queries.zero.any():
            beside = xp.where(self._scale[start:stop] == 0, -1.0, 0.0)
            for column in np.flatnonzero(queries.zero).tolist():
                products[:, column] = beside
        return products

    def within(
        self, queries: Queries, others: NDArray[Any], key: float, start: int, stop: int
    ) -> NDArray[np.bool_]:
        """(stop - start, k) whether rows are within a key of the (k, D) others; exact."""
        low = self.lower_keys(queries, start, stop)
        near = to_numpy(low <= self.rounded_up(key - queries.shift))
        rows, columns = np.nonzero(near)
        if self.xp is np:
            values = low[rows, columns].astype(np.float64)
        else:
            index = (self.xp.asarray(part, device=low.device) for part in (rows, columns))
            values = to_numpy(low[tuple(index)]).astype(np.float64)
        # What is not within for sure is looked at again.
        unsure = values + queries.shift[columns] + self.slack(queries)[columns] > key
        rows, columns = rows[unsure], columns[unsure]
        near[rows, columns] = self.exact(rows + start, others[columns]) <= key
        return near

    def rounded_up(self, keys: NDArray[np.float64]) -> Array:
        """Keys in the type of the products, where the matrix is; none is below what it was."""
        rounded: NDArray[Any] = keys
        if self.dtype != self.xp.float64:
            with np.errstate(over="ignore"):
                rounded = keys.astype(np.float32)
                above = np.nextafter(rounded, np.float32(np.inf))
                rounded = np.where(rounded < keys, above, rounded)
        return rounded if self.xp is np else self.xp.asarray(rounded, device=self.matrix.device)

    def exact(self, positions: Any, others: NDArray[Any]) -> NDArray[np.float64]:
        """(n,) exact keys of the rows at (n,) positions to (n, D) or (D,) others."""
        return exact_keys(rows_of(self.matrix, positions), others, self.metric)
