"""DENSITY: one datapoint for many that are nearly the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import Array, to_numpy
from katiml.miners.strategy import Inputs, Parameter, Picks, Progress, Run, Strategy
from katiml.vectors.distances import Points, rows_of

__all__ = ["Density", "most_covering"]

_PRODUCTS = 2**22


def most_covering(
    vectors: Array | Points,
    size: int,
    radius: float,
    reference: Any = None,
    *,
    metric: str = "cosine",
    progress: Progress | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """`size` of (N, D) vectors, each the one with the most others within `radius` that are not yet
    within `radius` of a pick or of (R, D) reference rows.

    (positions, how many each stands for, itself included). Nothing within `radius` of a pick or the
    reference is picked before all else is; then it comes in order and stands for 0. Compares all
    with all: N² products of D.

    >>> most_covering(np.array([[0.0], [0.1], [0.2], [5.0]]), 3, 0.5, metric="euclidean")
    (array([0, 3, 1]), array([3, 1, 0]))
    """
    points = vectors if isinstance(vectors, Points) else Points(vectors, metric)
    key = radius * radius if points.metric == "euclidean" else radius
    size = min(size, points.rows)
    covered = np.zeros(points.rows, bool)
    if reference is not None and len(reference):
        covered = _near(points, reference, key) > 0
    counts = _near(points, points.matrix, key, ~covered, progress)
    counts[covered] = -1
    positions, stands_for = np.empty(size, np.intp), np.zeros(size, np.int64)
    for number in range(size):
        position = int(counts.argmax())
        if counts[position] < 0:
            rest = np.flatnonzero(~np.isin(np.arange(points.rows), positions[:number]))
            positions[number:] = rest[: size - number]
            break
        positions[number], stands_for[number] = position, counts[position]
        row = rows_of(points.matrix, [position])
        new = np.flatnonzero((_near(points, row, key) > 0) & ~covered)
        covered[new] = True
        counts -= _near(points, rows_of(points.matrix, new), key)
        counts[covered] = -1
    return positions, stands_for


def _near(
    points: Points,
    others: Any,
    key: float,
    counted: NDArray[np.bool_] | None = None,
    progress: Progress | None = None,
) -> NDArray[np.int64]:
    """(N,) how many of the `others` (those `counted`) are within the key of each row."""
    counts = np.zeros(points.rows, np.int64)
    step = max(1, _PRODUCTS // min(points.block_rows, max(1, points.rows)))
    for first in range(0, len(others), step):
        last = min(first + step, len(others))
        vectors = to_numpy(others[first:last])
        if counted is not None:
            vectors = vectors[counted[first:last]]
        if len(vectors):
            queries = points.queries(vectors)
            for start, stop in points.blocks():
                counts[start:stop] += points.within(queries, vectors, key, start, stop).sum(axis=1)
        if progress is not None:
            progress(last, len(others))
    return counts


class Density(Strategy):
    """Thins out what is nearly the same: the densest places first, one datapoint for each.

    Greedy coverage as in ProbCover, with the radius at which datapoints count as near-duplicates;
    no two picks are within it. The score is how many datapoints a pick stands for. After another
    strategy (MIXED) it removes near-duplicates from what that chose.
    """

    name = "DENSITY"
    summary = "One for many near-duplicates, the densest places first."
    paper = "Yehuda et al., Active Learning Through a Covering Lens, NeurIPS 2022"
    needs = ("vectors",)
    uses = ("reference",)
    parameters = (
        Parameter(
            "radius",
            float,
            0.05,
            "up to which distance two datapoints are near-duplicates",
            0,
            1e12,
        ),
        Parameter("metric", str, "cosine", "how far is measured", choices=("cosine", "euclidean")),
    )

    def _pick(self, inputs: Inputs, size: int, run: Run) -> Picks:
        positions, stands_for = most_covering(
            inputs.vectors,
            size,
            self.settings["radius"],
            inputs.reference,
            metric=self.settings["metric"],
            progress=run.progress,
        )
        return Picks(positions, stands_for.astype(np.float64), {})
