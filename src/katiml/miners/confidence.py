"""CONFIDENCE: the lowest confidence in the class that is predicted."""

from __future__ import annotations

from typing import Any

from katiml.miners import scores
from katiml.miners.measured import Measured
from katiml.miners.strategy import Inputs

__all__ = ["Confidence"]


class Confidence(Measured):
    """The lowest confidence in the class that is predicted."""

    name = "CONFIDENCE"
    summary = "The lowest confidence in the class that is predicted."
    paper = "Lewis and Gale, A Sequential Algorithm for Training Text Classifiers, SIGIR 1994"
    needs = ("metric:least_confidence",)

    def measure(self, inputs: Inputs) -> Any:
        """(N,) 1 - confidence."""
        return scores.least_confidence(inputs.probabilities)
