"""CORESET: greedy k-center, after which no datapoint is far from a labelled one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import Array
from katiml.miners.strategy import Inputs, Parameter, Picks, Run, Strategy, names_of
from katiml.vectors.cover import Cover
from katiml.vectors.distances import Points, distances_of_keys

__all__ = ["METRIC", "Coreset", "k_center"]

METRIC = Parameter(
    "metric", str, "euclidean", "how far is measured", choices=("euclidean", "cosine")
)


def k_center(
    vectors: Array | Points,
    size: int,
    reference: Any = None,
    *,
    metric: str = "euclidean",
    first: int = 0,
    run: Run | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.int64]]:
    """`size` rows of (N, D) vectors, each the farthest from those before it and the reference.

    (positions, their distances when they were picked, the centre they were nearest to). Centres
    count the R rows of `reference` first and then the picks. Without a reference the row `first`
    begins, with distance NaN and centre -1. Equal distances go to the first row. The largest
    distance that is left is at most twice the smallest possible (Gonzalez, 1985).

    >>> positions, distances, _ = k_center(np.array([[0.0], [1.0], [9.0], [5.0]]), 3)
    >>> positions.tolist(), distances.tolist()
    ([0, 2, 3], [nan, 9.0, 4.0])
    """
    points = vectors if isinstance(vectors, Points) else Points(vectors, metric)
    size = min(size, points.rows)
    cover = Cover(points, reference)
    positions = np.empty(size, np.intp)
    keys = np.empty(size)
    centres = np.empty(size, np.int64)
    for number in range(size):
        key, position = cover.farthest()
        if cover.count == 0:
            key, position = float("nan"), first
        positions[number], keys[number] = position, key
        centres[number] = cover.nearest_of(position)
        cover.take(position)
        if run is not None:
            run.done(number + 1, size)
    return positions, distances_of_keys(keys, points.metric), centres


class Coreset(Strategy):
    """Greedy k-center: the datapoints that leave no other one far from what is labelled.

    The score is the distance to the nearest of the reference and the picks before; NaN for the
    first pick without a reference, which the seed chooses.
    """

    name = "CORESET"
    summary = "Spread over the pool: each pick is the farthest from all that is labelled or picked."
    paper = "Sener and Savarese, Active Learning for CNNs: A Core-Set Approach, ICLR 2018"
    needs = ("vectors",)
    uses = ("reference",)
    parameters = (METRIC,)

    def _pick(self, inputs: Inputs, size: int, run: Run) -> Picks:
        positions, distances, centres = k_center(
            inputs.vectors,
            size,
            inputs.reference,
            metric=self.settings["metric"],
            first=int(run.random.integers(len(inputs))),
            run=run,
        )
        given = 0 if inputs.reference is None else len(inputs.reference)
        names = names_of(inputs.reference_ids, given) + names_of(inputs.take(positions).ids, size)
        return Picks(
            positions,
            distances,
            {"nearest": [None if number < 0 else names[number] for number in centres.tolist()]},
        )
