"""EMBEDDING_DISTANCE: what is least like anything in the reference."""

from __future__ import annotations

from katiml.miners.nearest_neighbors import NearestNeighbors

__all__ = ["EmbeddingDistance"]


class EmbeddingDistance(NearestNeighbors):
    """The datapoints farthest from the training set.

    The score is the distance to the nearest datapoint of the reference. How dense the reference is
    there does not count, and picks may be alike: see NOVELTY and CORESET.
    """

    name = "EMBEDDING_DISTANCE"
    summary = "The farthest from a reference: what training has not seen."
    paper = "Knorr and Ng, Algorithms for Mining Distance-Based Outliers, VLDB 1998"
    highest = True
