"""WEIGHTED_ENTROPY: entropy in which some classes count more."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import namespace, to_numpy
from katiml.errors import InvalidInput
from katiml.miners import scores
from katiml.miners.measured import Measured
from katiml.miners.strategy import Inputs

__all__ = ["WeightedEntropy", "rarity_weights"]


def rarity_weights(probabilities: Any) -> NDArray[np.float64]:
    """(C,) weights 1 / (C x share): the share of each class in the mean of (N, C) probabilities.

    Classes alike in number weigh 1 each; a class that is never predicted weighs as much as one
    that has half a datapoint.

    >>> rarity_weights([[0.75, 0.25], [0.75, 0.25]]).round(3).tolist()
    [0.667, 2.0]
    """
    values = np.asarray(probabilities, dtype=np.float64)
    count, classes = values.shape
    shares = np.maximum(values.mean(axis=0), 0.5 / count)
    weights: NDArray[np.float64] = 1.0 / (classes * shares)
    return weights


class WeightedEntropy(Measured):
    """The highest entropy with each class weighted, by default by its rarity.

    The original ranks by the `metrics.weighted_entropy` that the client sends and does not say
    what the weights are; where there is none, they are 1 / (C x share of the class in the pool).
    """

    name = "WEIGHTED_ENTROPY"
    summary = "The highest entropy with rare classes counting more."
    paper = "Guiaşu, Weighted Entropy, Reports on Mathematical Physics 2, 1971"
    needs = ("metric:weighted_entropy",)
    uses = ("class_weights",)
    computed = True

    def measure(self, inputs: Inputs) -> Any:
        """(N,) weighted entropies, in nats."""
        weights = inputs.class_weights
        if weights is None:
            weights = rarity_weights(to_numpy(inputs.probabilities))
        if len(weights) != inputs.probabilities.shape[-1]:
            raise InvalidInput(
                f"{len(weights)} class weights for {inputs.probabilities.shape[-1]} classes"
            )
        xp = namespace(inputs.probabilities)
        if xp is not np:
            weights = xp.asarray(weights, dtype=inputs.probabilities.dtype)
        return scores.weighted_entropy(inputs.probabilities, weights)
