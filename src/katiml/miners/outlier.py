"""OUTLIER: what lies thinner than its own neighbourhood does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import Array
from katiml.miners.coreset import METRIC
from katiml.miners.measured import top
from katiml.miners.strategy import Inputs, Parameter, Picks, Progress, Run, Strategy
from katiml.vectors.distances import Points, distances_of_keys
from katiml.vectors.neighbors import nearest_keys

__all__ = ["Outlier", "local_outlier_factor"]

_LEAST = 1e-10  # as scikit-learn


def local_outlier_factor(
    vectors: Array | Points,
    neighbors: int = 20,
    *,
    metric: str = "euclidean",
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """(N,) local outlier factors of (N, D) vectors: about 1 inside a cluster, more outside.

    Compares all with all: N² products of D. A single vector gives 1. Breunig, Kriegel, Ng and
    Sander, "LOF: Identifying Density-Based Local Outliers", SIGMOD 2000.

    >>> factors = local_outlier_factor(np.array([[0.0], [0.1], [0.2], [0.3], [9.0]]), 2)
    >>> int(factors.argmax()), bool(factors[:4].max() < 1.5)
    (4, True)
    """
    points = vectors if isinstance(vectors, Points) else Points(vectors, metric)
    if points.rows == 1:
        return np.ones(1)
    k = min(neighbors, points.rows - 1)
    keys, rows = nearest_keys(
        points.matrix, points, k, apart=np.arange(points.rows), progress=progress
    )
    distances = distances_of_keys(keys, points.metric)
    reach = np.maximum(distances, distances[:, -1][rows])
    density = 1.0 / (reach.mean(axis=1) + _LEAST)
    factors: NDArray[np.float64] = density[rows].mean(axis=1) / density
    return factors


class Outlier(Strategy):
    """The highest local outlier factor inside the selection, which is best filtered to what should
    look alike: one class, one camera, one customer."""

    name = "OUTLIER"
    summary = "What stands apart from its own neighbourhood, by the local outlier factor."
    paper = "Breunig, Kriegel, Ng and Sander, LOF, SIGMOD 2000"
    needs = ("vectors",)
    parameters = (
        METRIC,
        Parameter("neighbors", int, 20, "how many neighbours make a neighbourhood", 1, 1000),
    )

    def _pick(self, inputs: Inputs, size: int, run: Run) -> Picks:
        factors = local_outlier_factor(
            inputs.vectors,
            self.settings["neighbors"],
            metric=self.settings["metric"],
            progress=run.progress,
        )
        positions = top(factors, size)
        return Picks(positions, factors[positions], {})
