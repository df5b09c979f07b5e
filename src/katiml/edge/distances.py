"""Distances of one vector to a few others, in float64, as the lake's miners measure them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml.errors import InvalidInput

__all__ = ["METRICS", "Directions", "distances", "prepared"]

METRICS = ("euclidean", "cosine")
Floats = NDArray[np.float64]
# Vectors as a metric compares them: unit vectors under cosine, a zero vector staying zero.
Directions = Floats
_APART = np.sqrt(2.0)


def prepared(vectors: Any, metric: str) -> Floats:
    """(..., D) vectors as `distances` compares them, float64.

    >>> prepared([3.0, 4.0], "cosine").tolist()
    [0.6, 0.8]
    """
    if metric not in METRICS:
        raise InvalidInput(f"metric is {metric!r:.100}", hint=f"metrics: {', '.join(METRICS)}")
    values = np.asarray(vectors, np.float64)
    if metric == "euclidean":
        return values
    # The largest value first, so that squares neither overflow nor vanish.
    largest = np.abs(values).max(axis=-1, keepdims=True, initial=0.0)
    scaled = values / np.where(largest > 0, largest, 1.0)
    norms = np.sqrt((scaled * scaled).sum(axis=-1, keepdims=True))
    found: Floats = scaled / np.where(norms > 0, norms, 1.0)
    return found


def distances(vector: Floats, others: Floats, metric: str, *, chord: bool = False) -> Floats:
    """(n,) distances of a prepared (D,) vector to (n, D) prepared ones.

    "euclidean", or "cosine": 1 - cosine, where a zero vector is at 1 from every other one and at
    0 from another zero vector. With `chord` the straight line between unit vectors instead, for
    which, unlike 1 - cosine, the triangle inequality holds.

    >>> distances(np.array([1.0, 0.0]), np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), "cosine")
    array([0., 1., 1.])
    """
    difference = others - vector
    squares: Floats = np.einsum("ij,ij->i", difference, difference)
    if metric == "euclidean":
        return np.sqrt(squares)
    alone = others.any(axis=-1) != bool(vector.any())
    if chord:
        return np.where(alone, _APART, np.sqrt(squares))
    return np.where(alone, 1.0, 0.5 * squares)
