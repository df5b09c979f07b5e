"""VARIANCE: what passes of MC dropout spread over most."""

from __future__ import annotations

from typing import Any

from katiml.miners import scores
from katiml.miners.measured import Measured
from katiml.miners.strategy import Inputs

__all__ = ["Variance"]


class Variance(Measured):
    """The highest variance over passes of MC dropout."""

    name = "VARIANCE"
    summary = "The highest variance over passes of MC dropout."
    paper = "Gal and Ghahramani, Dropout as a Bayesian Approximation, ICML 2016"
    needs = ("metric:variance",)
    sources = ("passes",)

    def measure(self, inputs: Inputs) -> Any:
        """(N,) variances, mean of the classes."""
        return scores.variance(inputs.passes)
