"""MARGIN: the smallest lead of the likeliest class over the second."""

from __future__ import annotations

from typing import Any

from katiml.miners import scores
from katiml.miners.measured import Measured
from katiml.miners.strategy import Inputs

__all__ = ["Margin"]


class Margin(Measured):
    """The smallest lead of the likeliest class over the second likeliest."""

    name = "MARGIN"
    summary = "The smallest lead of the likeliest class over the second likeliest."
    paper = "Scheffer, Decomain and Wrobel, Active Hidden Markov Models, IDA 2001"
    needs = ("metric:margin",)

    def measure(self, inputs: Inputs) -> Any:
        """(N,) 1 - lead."""
        return scores.margin(inputs.probabilities)
