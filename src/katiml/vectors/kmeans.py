"""k-means: clusters of rows, in bounded memory and the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import to_numpy
from katiml.vectors.distances import Points, rows_of
from katiml.vectors.neighbors import nearest_keys
from katiml.vectors.seeding import Plain, k_means_plus_plus

__all__ = ["assign", "k_means"]

# Rows a cluster that centres are learned from, as faiss has it: more hardly move them.
_ROWS_A_CLUSTER = 256
_ITERATIONS = 25


def k_means(
    matrices: Sequence[Any], clusters: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """(K, D) centres of the rows of all `matrices` (each (N, D)), by Lloyd's iterations.

    They begin as k-means++ draws them. K is `clusters`, or the number of different rows among those
    looked at, if that is less. Lloyd, "Least Squares Quantization in PCM", 1982.

    >>> centres = k_means([np.array([[0.0], [0.2], [9.0], [9.2]])], 2, np.random.default_rng(0))
    >>> sorted(centres[:, 0].round(1).tolist())
    [0.1, 9.1]
    """
    rows = _sample(matrices, clusters * _ROWS_A_CLUSTER, random)
    points = Points(rows)
    centres = _first_centres(points, clusters, random)
    labels = np.full(len(rows), -1, np.intp)
    for _ in range(_ITERATIONS):
        found = assign(rows, centres)
        if np.array_equal(found, labels):
            break
        labels = found
        centres = _means(rows, labels, centres)
    return centres


def assign(matrix: Any, centres: NDArray[np.float64]) -> NDArray[np.intp]:
    """(N,) which of (K, D) centres each of (N, D) rows is nearest to, the first of equals."""
    _, labels = nearest_keys(matrix, Points(centres.astype(np.float32)), 1)
    return labels[:, 0]


def _sample(matrices: Sequence[Any], most: int, random: np.random.Generator) -> NDArray[np.float32]:
    lengths = [len(matrix) for matrix in matrices]
    total = sum(lengths)
    chosen = np.arange(total) if total <= most else np.sort(random.permutation(total)[:most])
    parts, start = [], 0
    for matrix, length in zip(matrices, lengths, strict=True):
        own = chosen[(chosen >= start) & (chosen < start + length)] - start
        whole = len(own) == length
        parts.append(to_numpy(matrix) if whole else rows_of(matrix, own))
        start += length
    return np.concatenate(parts).astype(np.float32, copy=False)


def _first_centres(
    points: Points, clusters: int, random: np.random.Generator
) -> NDArray[np.float64]:
    positions, distances, _ = k_means_plus_plus(
        Plain(points.matrix), clusters, random, first=int(random.integers(points.rows))
    )
    kept = positions[np.concatenate([[True], distances[1:] > 0])]
    return rows_of(points.matrix, kept).astype(np.float64)


def _means(
    rows: NDArray[np.float32], labels: NDArray[np.intp], centres: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The mean of each cluster; an empty one keeps its centre."""
    counts = np.bincount(labels, minlength=len(centres))
    order = np.argsort(labels, kind="stable")
    full = np.flatnonzero(counts)
    starts = np.cumsum(counts[full]) - counts[full]
    sums = np.add.reduceat(rows[order].astype(np.float64), starts, axis=0)
    result = centres.copy()
    result[full] = sums / counts[full, None]
    return result
