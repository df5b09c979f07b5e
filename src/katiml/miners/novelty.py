"""NOVELTY: what lies where the reference is thin, for how dense it is nearby."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import Array
from katiml.errors import InvalidInput
from katiml.miners.coreset import METRIC
from katiml.miners.measured import top
from katiml.miners.strategy import Inputs, Parameter, Picks, Progress, Run, Strategy, names_of
from katiml.vectors.distances import Points, distances_of_keys
from katiml.vectors.neighbors import nearest, nearest_keys

__all__ = ["Novelty", "novelty", "own_distances"]

# As scikit-learn's LOF: what keeps a ratio finite where the reference repeats itself.
_LEAST = 1e-10


def own_distances(reference: Array | Points, k: int, metric: str = "euclidean") -> NDArray[Any]:
    """(R,) mean distance of each reference row to its `k` nearest others.

    >>> own_distances(np.array([[0.0], [1.0], [3.0]]), 1).tolist()
    [1.0, 1.0, 2.0]
    """
    points = reference if isinstance(reference, Points) else Points(reference, metric)
    keys, _ = nearest_keys(points.matrix, points, k, apart=np.arange(points.rows))
    return np.asarray(distances_of_keys(keys, points.metric).mean(axis=1))


def novelty(
    vectors: Array,
    reference: Array | Points,
    k: int = 5,
    *,
    metric: str = "euclidean",
    own: NDArray[np.float64] | None = None,
    progress: Progress | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """How novel each of (N, D) vectors is beside (R, D) reference rows, and its nearest row.

    The mean distance to the `k` nearest rows, over the mean distance of those rows to their own `k`
    nearest: about 1 inside the reference, more where it has nothing alike. `own` are
    `own_distances(reference, k)`, if they are known. R must be at least 2.

    >>> scores, rows = novelty(np.array([[0.5], [9.0]]), np.array([[0.0], [1.0], [2.0]]), k=1)
    >>> scores.round(3).tolist(), rows.tolist()
    ([0.5, 7.0], [0, 2])
    """
    points = reference if isinstance(reference, Points) else Points(reference, metric)
    if points.rows < 2:
        raise InvalidInput(
            f"novelty beside a reference of {points.rows} is not defined",
            hint="widen the filters of the reference: it needs at least 2 vectors",
        )
    k = min(k, points.rows - 1)
    thin = own_distances(points, k) if own is None else own
    distances, rows = nearest(vectors, points, k, progress=progress)
    around = thin[rows].mean(axis=1)
    return (distances.mean(axis=1) + _LEAST) / (around + _LEAST), rows[:, 0]


class Novelty(Strategy):
    """The highest ratio of a datapoint's distance from the reference to how far the reference
    lies apart there: areas of low training density."""

    name = "NOVELTY"
    summary = "Where the reference is thin: far from it for how dense it is nearby."
    paper = "Tax and Duin, Data Description in Subspaces, ICPR 2000 (nearest-neighbour description)"
    needs = ("vectors", "reference")
    parameters = (
        METRIC,
        Parameter("neighbors", int, 5, "how many neighbours distances are taken over", 1, 1000),
    )

    def _pick(self, inputs: Inputs, size: int, run: Run) -> Picks:
        scores, rows = novelty(
            inputs.vectors,
            inputs.reference,
            self.settings["neighbors"],
            metric=self.settings["metric"],
            progress=run.progress,
        )
        positions = top(scores, size)
        names = names_of(inputs.reference_ids, len(inputs.reference))
        nearby = [names[row] for row in rows[positions].tolist()]
        return Picks(positions, scores[positions], {"nearest": nearby})
