"""NEAREST_NEIGHBORS: more of what the reference shows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import Array
from katiml.miners.coreset import METRIC
from katiml.miners.strategy import Inputs, Picks, Run, Strategy, names_of
from katiml.vectors.cover import Cover
from katiml.vectors.distances import Points, distances_of_keys

__all__ = ["NearestNeighbors", "by_distance"]


def by_distance(
    vectors: Array | Points,
    reference: Any,
    size: int,
    *,
    metric: str = "euclidean",
    highest: bool = False,
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.int64]]:
    """The `size` rows of (N, D) vectors nearest to (R, D) reference rows, or farthest from them.

    (positions, distances to the nearest reference row, which one that is); exact, the first of
    equals first.

    >>> positions, distances, rows = by_distance(np.array([[0.0], [4.0], [9.0]]), [[5.0], [0.0]], 2)
    >>> positions.tolist(), distances.tolist(), rows.tolist()
    ([0, 1], [0.0, 1.0], [1, 0])
    """
    points = vectors if isinstance(vectors, Points) else Points(vectors, metric)
    given = reference if hasattr(reference, "shape") else np.asarray(reference, np.float64)
    cover = Cover(points, given)
    positions, keys = cover.ranked(size, highest=highest)
    rows = np.array([cover.nearest_of(int(position)) for position in positions], np.int64)
    return positions, distances_of_keys(keys, points.metric), rows


class NearestNeighbors(Strategy):
    """The datapoints most like the reference: edge cases, or what users complained of.

    The score is the distance to the nearest datapoint of the reference.
    """

    name = "NEAREST_NEIGHBORS"
    summary = "The nearest to a reference: more of an edge case."
    paper = "Fix and Hodges, Discriminatory Analysis, USAF School of Aviation Medicine, 1951"
    needs = ("vectors", "reference")
    parameters = (METRIC,)
    highest = False

    def _pick(self, inputs: Inputs, size: int, run: Run) -> Picks:  # noqa: ARG002
        positions, distances, rows = by_distance(
            inputs.vectors,
            inputs.reference,
            size,
            metric=self.settings["metric"],
            highest=self.highest,
        )
        names = names_of(inputs.reference_ids, len(inputs.reference))
        return Picks(positions, distances, {"nearest": [names[row] for row in rows.tolist()]})
