"""RANDOM: every datapoint is as likely as every other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from katiml.miners.strategy import Inputs, Picks, Run, Strategy

__all__ = ["Random", "sample"]


def sample(count: int, size: int, random: np.random.Generator) -> NDArray[np.intp]:
    """`size` of the positions 0…count-1, without repeating one, in random order.

    >>> sorted(sample(3, 3, np.random.default_rng(0)).tolist())
    [0, 1, 2]
    """
    return random.permutation(count)[:size]


class Random(Strategy):
    """A uniform sample: what every other strategy has to beat."""

    name = "RANDOM"
    summary = "A uniform sample, the same for the same seed."
    paper = "Fan, Muller and Rezucha, Development of Sampling Plans, JASA 57, 1962"

    def _pick(self, inputs: Inputs, size: int, run: Run) -> Picks:
        positions = sample(len(inputs), size, run.random)
        chance = size / len(inputs)
        return Picks(positions, np.full(size, chance), {})
