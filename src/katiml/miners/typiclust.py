"""TYPICLUST: the most typical of each part of the pool, for the first labels of all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import Array, to_numpy
from katiml.miners.strategy import Inputs, Parameter, Picks, Run, Strategy
from katiml.vectors.distances import Points, distances_of_keys, rows_of
from katiml.vectors.kmeans import assign, k_means
from katiml.vectors.neighbors import nearest_keys

__all__ = ["TypiClust", "most_typical", "typicality"]

_LEAST = 1e-7  # keeps the typicality of repeated vectors finite


def typicality(vectors: Array, neighbors: int = 20) -> NDArray[np.float64]:
    """(N,) 1 / mean distance of each of (N, D) vectors to its nearest others; 1 where it is alone.

    >>> typicality(np.array([[0.0], [1.0], [3.0]]), 1).round(3).tolist()
    [1.0, 1.0, 0.5]
    """
    if len(vectors) == 1:
        return np.ones(1)
    points = Points(vectors)
    keys, _ = nearest_keys(vectors, points, neighbors, apart=np.arange(len(vectors)))
    distances = distances_of_keys(keys, points.metric)
    return np.asarray(distances.shape[1] / (distances.sum(axis=1) + _LEAST))


def most_typical(
    vectors: Array,
    clusters: NDArray[np.integer],
    labelled: NDArray[np.integer],
    size: int,
    neighbors: int = 20,
    run: Run | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """(positions, typicalities) of the most typical of (N, D) vectors in the clusters that have the
    fewest labels, the largest of those first.

    `clusters` (N,) are the clusters of the vectors and `labelled` those of what has a label; each
    pick is one more label in its cluster.

    >>> vectors = np.array([[0.0], [1.0], [2.0], [8.0], [9.0]])
    >>> most_typical(vectors, np.array([0, 0, 0, 1, 1]), np.array([], int), 2, 2)[0].tolist()
    [1, 3]
    """
    count = int(max(clusters.max(initial=-1), labelled.max(initial=-1))) + 1
    sizes = np.bincount(clusters, minlength=count)
    labels = np.bincount(labelled, minlength=count)
    left = sizes.copy()
    # Of each cluster that was visited: its members and how typical they are, the most first.
    known: dict[int, tuple[NDArray[np.intp], NDArray[np.float64]]] = {}
    positions, scores = np.empty(size, np.intp), np.empty(size)
    for number in range(size):
        open_ones = np.flatnonzero(left)
        order = np.lexsort((open_ones, -sizes[open_ones], labels[open_ones]))
        cluster = int(open_ones[order[0]])
        if cluster not in known:
            members = np.flatnonzero(clusters == cluster)
            values = typicality(rows_of(vectors, members), neighbors)
            ranks = np.argsort(-values, kind="stable")
            known[cluster] = members[ranks], values[ranks]
        used = sizes[cluster] - left[cluster]
        positions[number] = known[cluster][0][used]
        scores[number] = known[cluster][1][used]
        left[cluster] -= 1
        labels[cluster] += 1
        if run is not None:
            run.done(number + 1, size)
    return positions, scores


class TypiClust(Strategy):
    """Typical datapoints of many clusters: the best start when there are few labels or none.

    k-means makes as many clusters as there will be labels (`max_clusters` at most); from the
    largest without a label comes the datapoint with the nearest neighbours. The score is its
    typicality, 1 / mean distance to them. The published method drops clusters of under 5; here they
    come last.
    """

    name = "TYPICLUST"
    summary = "The most typical of many clusters: for the first labels."
    paper = "Hacohen, Dekel and Weinshall, Active Learning on a Budget, ICML 2022"
    needs = ("vectors",)
    uses = ("reference",)
    parameters = (
        Parameter("neighbors", int, 20, "how many neighbours typicality is taken over", 1, 1000),
        Parameter("max_clusters", int, 500, "the most clusters", 1, 10_000),
    )

    def _pick(self, inputs: Inputs, size: int, run: Run) -> Picks:
        reference = inputs.reference
        known = np.zeros((0, inputs.vectors.shape[1])) if reference is None else reference
        wanted = min(
            len(known) + size, self.settings["max_clusters"], len(known) + len(inputs.vectors)
        )
        centres = k_means([inputs.vectors, known], wanted, run.random)
        clusters = assign(to_numpy(inputs.vectors), centres)
        positions, scores = most_typical(
            inputs.vectors,
            clusters,
            assign(to_numpy(known), centres),
            size,
            self.settings["neighbors"],
            run,
        )
        own = clusters[positions]
        sizes = np.bincount(clusters, minlength=len(centres))[own]
        return Picks(positions, scores, {"cluster": own, "cluster_size": sizes})
