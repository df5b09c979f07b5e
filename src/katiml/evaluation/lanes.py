"""Which predicted lane is which true one: drawn as bands, overlapped, paired at least cost.

As the CULane benchmark does it (Pan et al., "Spatial As Deep", AAAI 2018): a smooth curve through a
lane's points is drawn as a band, and two lanes are the same where their bands overlap by half.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["bands", "curve", "least_cost_pairs", "matched_lanes", "overlaps"]

# Lanes are drawn on a canvas whose longer side has at most so many pixels, so thick.
_CANVAS = 256
_THICKNESS = 0.05
_STEPS = 8
# Between points as close as these, straight lines are smooth.
_DENSE = 200
_OVERLAP = 0.5

Floats = NDArray[np.float64]


def curve(points: Floats) -> Floats:
    """(M, 2) points of a natural cubic spline through (n, 2) points, along the chords' length.

    Points that repeat are dropped; fewer than three, or very many, are joined by straight lines.

    >>> bent = curve(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]]))
    >>> bent.shape, bent[0].tolist(), bent[-1].tolist()
    ((17, 2), [0.0, 0.0], [2.0, 0.0])
    """
    if not len(points):
        return points
    steps = np.hypot(*np.diff(points, axis=0).T)
    points = points[np.concatenate([[True], steps > 0])]
    steps = steps[steps > 0]
    count = len(points)
    if count < 3 or count > _DENSE:
        return points
    # Second derivatives m of the natural spline: a tridiagonal system.
    slopes = np.diff(points, axis=0) / steps[:, None]
    system = np.zeros((count, count))
    system[0, 0] = system[-1, -1] = 1.0
    inner = np.arange(1, count - 1)
    system[inner, inner - 1] = steps[:-1]
    system[inner, inner] = 2 * (steps[:-1] + steps[1:])
    system[inner, inner + 1] = steps[1:]
    right = np.zeros_like(points)
    right[1:-1] = 6 * np.diff(slopes, axis=0)
    m = np.linalg.solve(system, right)
    share = np.arange(_STEPS)[None, :, None] / _STEPS
    width = steps[:, None, None]
    low, high = points[:-1, None], points[1:, None]
    bend = (share**3 - share) * m[1:, None] + ((1 - share) ** 3 - (1 - share)) * m[:-1, None]
    smooth = low * (1 - share) + high * share + width**2 / 6 * bend
    return np.concatenate([smooth.reshape(-1, 2), points[-1:]])


def bands(lanes: Sequence[Floats], width: float, height: float) -> NDArray[np.bool_]:
    """(k, H x W) the pixels of each of k lanes, of (n, 2) points in an image of that size."""
    from PIL import Image, ImageDraw

    scale = min(1.0, _CANVAS / max(width, height, 1.0))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    thick = max(1, round(_THICKNESS * max(size)))
    drawn = np.zeros((len(lanes), size[0] * size[1]), bool)
    for own, lane in zip(drawn, lanes, strict=True):
        canvas = Image.new("1", size)
        # Far outside the canvas there is nothing to see, and numbers are too large to draw.
        line = np.clip(curve(lane) * scale, -10 * _CANVAS, 10 * _CANVAS)
        if len(line) > 1:
            pen = ImageDraw.Draw(canvas)
            pen.line([(x, y) for x, y in line.tolist()], fill=1, width=thick, joint="curve")
        own[:] = np.asarray(canvas).ravel()
    return drawn


def overlaps(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Floats:
    """(k, l) intersections over unions of (k, P) and (l, P) sets of pixels; 0 where both are empty.

    >>> overlaps(np.array([[True, True]]), np.array([[True, False], [False, False]])).tolist()
    [[0.5, 0.0]]
    """
    shared = first.astype(np.float32) @ second.T.astype(np.float32)
    union = first.sum(axis=1)[:, None] + second.sum(axis=1)[None, :] - shared
    return np.where(union > 0, shared / np.maximum(union, 1), 0.0).astype(np.float64)


def least_cost_pairs(cost: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pairs that cost least together, min(k, l) of a (k, l) matrix.

    Shortest augmenting paths (Jonker and Volgenant, Computing 38, 1987): O(k^2 l).

    >>> rows, columns = least_cost_pairs(np.array([[1.0, 2.0], [1.0, 5.0]]))
    >>> rows.tolist(), columns.tolist()
    ([0, 1], [1, 0])
    """
    if cost.shape[0] > cost.shape[1]:
        columns, rows = least_cost_pairs(cost.T)
        order = np.argsort(rows)
        return rows[order], columns[order]
    count, width = cost.shape
    # Column 0 stands for none; a row's potential u and a column's v keep reduced costs positive.
    u, v = np.zeros(count + 1), np.zeros(width + 1)
    owner = np.zeros(width + 1, np.intp)
    for row in range(1, count + 1):
        owner[0] = row
        column = 0
        shortest = np.full(width + 1, np.inf)
        before = np.zeros(width + 1, np.intp)
        done = np.zeros(width + 1, bool)
        while owner[column]:
            done[column] = True
            reduced = cost[owner[column] - 1] - u[owner[column]] - v[1:]
            shorter = ~done[1:] & (reduced < shortest[1:])
            shortest[1:][shorter] = reduced[shorter]
            before[1:][shorter] = column
            following = int(np.where(done, np.inf, shortest)[1:].argmin()) + 1
            step = shortest[following]
            u[owner[done]] += step
            v[done] -= step
            shortest[~done] -= step
            column = following
        while column:
            owner[column] = owner[before[column]]
            column = int(before[column])
    columns = np.flatnonzero(owner[1:])
    rows = owner[1:][columns] - 1
    order = np.argsort(rows)
    return rows[order], columns[order]


def matched_lanes(
    truths: Sequence[Floats], predicted: Sequence[Floats], width: float, height: float
) -> list[tuple[int, int]]:
    """(number of the true lane, number of the predicted one) of lanes that are the same.

    >>> line = np.array([[10.0, 0.0], [10.0, 100.0]])
    >>> matched_lanes([line], [line + 60, line + 1], 100, 100)
    [(0, 1)]
    """
    if not truths or not predicted:
        return []
    shared = overlaps(bands(truths, width, height), bands(predicted, width, height))
    rows, columns = least_cost_pairs(1 - shared)
    same = shared[rows, columns] >= _OVERLAP
    return list(zip(rows[same].tolist(), columns[same].tolist(), strict=True))
