"""ENTROPY: what the model is least sure of, over all classes."""

from __future__ import annotations

from typing import Any

from katiml.miners import scores
from katiml.miners.measured import Measured
from katiml.miners.strategy import Inputs

__all__ = ["Entropy"]


class Entropy(Measured):
    """The highest entropy of the predicted classes: where the model is least sure."""

    name = "ENTROPY"
    summary = "The highest entropy of the predicted classes: where the model is least sure."
    paper = "Settles, Active Learning Literature Survey, 2009"
    needs = ("metric:entropy",)

    def measure(self, inputs: Inputs) -> Any:
        """(N,) entropies divided by ln C, as the lake keeps them."""
        return scores.entropy(inputs.probabilities, normalized=True)
