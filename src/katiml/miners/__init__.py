"""Miners: what to label next, and why.

Each strategy is a pure function on arrays and a thin class with a wire name:

>>> import numpy as np
>>> from katiml.miners import Inputs, get_strategy
>>> inputs = Inputs(ids=["a", "b", "c"], probabilities=np.array([[1, 0], [0.5, 0.5], [0.8, 0.2]]))
>>> picks = get_strategy("ENTROPY").pick(inputs, size=2, seed=0)
>>> picks.positions.tolist(), picks.scores.round(3).tolist()
([1, 2], [1.0, 0.722])

A strategy says what it `needs` (and `uses`, where it is there): fields of `Inputs`, or
"metric:NAME", one number a datapoint that a lake ranks by a single statement.
"""

from __future__ import annotations

from katiml.miners.registry import STRATEGIES, get_strategy, strategy_class
from katiml.miners.strategy import Inputs, Parameter, Picks, Strategy

__all__ = [
    "STRATEGIES",
    "Inputs",
    "Parameter",
    "Picks",
    "Strategy",
    "get_strategy",
    "strategy_class",
]
