"""BALD: what passes of MC dropout disagree on most."""

from __future__ import annotations

from typing import Any

from katiml.miners import scores
from katiml.miners.measured import Measured
from katiml.miners.strategy import Inputs

__all__ = ["Bald"]


class Bald(Measured):
    """What passes of MC dropout disagree on most: each sure of another class."""

    name = "BALD"
    summary = "What passes of MC dropout disagree on most: each sure of another class."
    paper = "Houlsby et al., arXiv 1112.5745, 2011; Gal, Islam and Ghahramani, ICML 2017"
    needs = ("metric:bald",)
    sources = ("passes",)

    def measure(self, inputs: Inputs) -> Any:
        """(N,) BALD divided by ln C, as the lake keeps it."""
        return scores.bald(inputs.passes, normalized=True)
