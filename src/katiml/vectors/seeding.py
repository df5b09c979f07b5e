"""k-means++: rows drawn far apart, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import Array, namespace, to_numpy

__all__ = [
    "Plain",
    "Spread",
    "from_products",
    "k_means_plus_plus",
    "products_with",
    "squared_norms",
]

_VALUES = 2**23


class Spread(Protocol):
    """Rows that k-means++ can be run on."""

    squares: NDArray[np.float64]  # (N,) squared norms

    def squared_distances(self, position: int) -> NDArray[np.float64]:
        """(N,) squared distances of all rows to one of them."""


class Plain:
    """(N, G) vectors as they are, such as stored gradient embeddings."""

    def __init__(self, vectors: Array) -> None:
        self.vectors = vectors
        self.squares = squared_norms(vectors)

    def squared_distances(self, position: int) -> NDArray[np.float64]:
        """(N,) squared distances of all vectors to one of them."""
        return from_products(self.squares, products_with(self.vectors, position), position)


def k_means_plus_plus(
    rows: Spread,
    size: int,
    random: np.random.Generator,
    *,
    first: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.intp]]:
    """`size` rows: `first`, or the one of the largest norm, then each with a chance proportional
    to its squared distance to the nearest before it.

    (positions, those squared distances when picked, which pick was nearest); the first has its
    squared norm and -1. When all that is left is at distance 0, the first rows come. Arthur and
    Vassilvitskii, "k-means++", SODA 2007.

    >>> rows = Plain(np.array([[0.0], [5.0], [5.0]]))
    >>> k_means_plus_plus(rows, 3, np.random.default_rng(0))[0].tolist()
    [1, 0, 2]
    """
    count = len(rows.squares)
    size = min(size, count)
    positions = np.empty(size, np.intp)
    distances = np.empty(size)
    owners = np.empty(size, np.intp)
    least = np.full(count, np.inf)
    nearest = np.full(count, -1, np.intp)
    left = np.ones(count, bool)
    for number in range(size):
        if number == 0:
            position = int(rows.squares.argmax()) if first is None else first
            distances[0] = rows.squares[position]
        else:
            position = _drawn(least, left, random)
            distances[number] = least[position]
        positions[number], owners[number] = position, nearest[position]
        left[position] = False
        found = rows.squared_distances(position)
        nearer = np.flatnonzero(found < least)
        least[nearer] = found[nearer]
        nearest[nearer] = number
        least[position] = 0.0
        if progress is not None:
            progress(number + 1, size)
    return positions, distances, owners


def _drawn(least: NDArray[np.float64], left: NDArray[np.bool_], random: np.random.Generator) -> int:
    sums = np.cumsum(least)
    draw = random.random()
    if sums[-1] <= 0:
        return int(left.argmax())
    return int(np.searchsorted(sums, draw * sums[-1], side="right").clip(0, len(sums) - 1))


def _wide(rows: Array) -> Array:
    """Rows in a type that sums of products are good in."""
    xp = namespace(rows)
    return rows if rows.dtype in (xp.float32, xp.float64) else xp.astype(rows, xp.float32)


def _blocks(matrix: Array) -> Any:
    step = max(1, _VALUES // max(1, matrix.shape[1]))
    for start in range(0, len(matrix), step):
        yield start, min(start + step, len(matrix))


def squared_norms(matrix: Array) -> NDArray[np.float64]:
    """(N,) squared norms of (N, D) rows."""
    xp = namespace(matrix)
    squares = np.empty(len(matrix))
    for start, stop in _blocks(matrix):
        block = _wide(matrix[start:stop])
        squares[start:stop] = to_numpy(xp.sum(block * block, axis=1))
    return squares


def products_with(matrix: Array, position: int) -> NDArray[np.float64]:
    """(N,) inner products of all (N, D) rows with the one at `position`."""
    xp = namespace(matrix)
    row = _wide(matrix[position])
    products = np.empty(len(matrix))
    for start, stop in _blocks(matrix):
        products[start:stop] = to_numpy(xp.matmul(_wide(matrix[start:stop]), row))
    return products


def from_products(
    squares: NDArray[np.float64], products: NDArray[np.float64], position: int
) -> NDArray[np.float64]:
    """Squared distances, in the place of inner products with one row."""
    products *= -2.0
    products += squares
    products += squares[position]
    np.maximum(products, 0.0, out=products)
    products[position] = 0.0
    return products
