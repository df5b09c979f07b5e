"""Strategies that rank datapoints by one number each."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import to_numpy
from katiml.errors import InvalidInput
from katiml.miners.scores import AGGREGATES
from katiml.miners.strategy import Inputs, Parameter, Picks, Run, Strategy

__all__ = ["AGGREGATE", "Measured", "top"]

AGGREGATE = Parameter(
    "aggregate",
    str,
    "sum",
    "what the scores of an image's boxes, lanes or completions amount to: sum, mean or max",
    choices=AGGREGATES,
)


def top(values: NDArray[np.floating[Any]], size: int, *, highest: bool = True) -> NDArray[np.intp]:
    """Positions of the `size` highest (or lowest) of (N,) values, the first of equals first.

    NaN is never among them, so there may be fewer.

    >>> top(np.array([1.0, 3.0, np.nan, 3.0, 2.0]), 3).tolist()
    [1, 3, 4]
    """
    keys = -values if highest else values
    there = np.flatnonzero(~np.isnan(keys))
    if len(there) > size:
        bound = np.partition(keys[there], size - 1)[size - 1]
        there = there[keys[there] <= bound]
    chosen: NDArray[np.intp] = there[np.argsort(keys[there], kind="stable")][:size]
    return chosen


class Measured(Strategy):
    """Ranks by a number that the lake keeps, or that follows from probabilities.

    `needs` is ("metric:NAME",). In a lake one SQL statement does it; with arrays, `values` are
    taken as they are and otherwise `measure` computes them from the fields in `sources`.
    """

    sources: ClassVar[tuple[str, ...]] = ("probabilities",)
    # Whether a lake that does not keep the numbers can load the sources and compute them.
    computed: ClassVar[bool] = False
    parameters = (AGGREGATE,)

    @property
    def metric(self) -> str:
        """The NAME in "metric:NAME"."""
        return self.needs[0].partition(":")[2]

    @abstractmethod
    def measure(self, inputs: Inputs) -> Any:
        """(N,) numbers from the arrays that `sources` name."""

    def _require(self, inputs: Inputs) -> None:
        if inputs.values is None and all(getattr(inputs, name) is None for name in self.sources):
            raise InvalidInput(f"{self.name} needs values, or {' or '.join(self.sources)}")
        self._check_finite(inputs, self.sources)

    def _pick(self, inputs: Inputs, size: int, run: Run) -> Picks:  # noqa: ARG002
        found = self.measure(inputs) if inputs.values is None else inputs.values
        values = to_numpy(found).astype(np.float64)
        positions = top(values, size, highest=self.highest)
        if not len(positions):
            raise InvalidInput(
                f"{self.name}: no datapoint of the pool has a value for {self.metric}",
                hint="send predictions with logits or confidences, or metrics of that name",
            )
        return Picks(positions, values[positions], {})
