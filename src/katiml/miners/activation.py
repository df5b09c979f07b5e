"""ACTIVATION: what hardly moves the model's units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import Array, to_numpy
from katiml.miners import scores
from katiml.miners.measured import top
from katiml.miners.strategy import Inputs, Picks, Run, Strategy

__all__ = ["Activation", "usual_activation"]

_VALUES = 2**22


def usual_activation(reference: Array) -> NDArray[np.float64]:
    """(D,) mean absolute activation of each unit over (R, D) vectors.

    >>> usual_activation(np.array([[1.0, -2.0], [3.0, 0.0]])).tolist()
    [2.0, 1.0]
    """
    total = np.zeros(reference.shape[1])
    for block in _blocks(reference):
        total += np.abs(block).sum(axis=0, dtype=np.float64)
    return total / max(1, len(reference))


class Activation(Strategy):
    """The lowest total activation: inputs to which hardly any unit responds are unlike the
    training data.

    The original ranks by "activation", lowest first, and does not define it. Here it is the mean
    of |x| over the units of a layer (or of the logits); with a reference each unit counts in parts
    of its mean over the reference, so that strong units do not drown the others.
    """

    name = "ACTIVATION"
    summary = "The lowest activation of a layer: inputs that hardly move the model."
    paper = (
        "Dhamija, Günther and Boult, Reducing Network Agnostophobia, NeurIPS 2018 "
        "(unknown inputs have small feature magnitudes)"
    )
    needs = ("vectors",)
    uses = ("reference",)
    highest = False

    def _pick(self, inputs: Inputs, size: int, run: Run) -> Picks:
        reference = inputs.reference
        usual = None if reference is None or not len(reference) else usual_activation(reference)
        values = _by_block(inputs.vectors, lambda rows: scores.activation(rows, usual), run)
        positions = top(values, size, highest=False)
        return Picks(positions, values[positions], {})


def _blocks(vectors: Array) -> Any:
    step = max(1, _VALUES // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        yield to_numpy(vectors[start : start + step])


def _by_block(vectors: Array, measure: Callable[[Any], Any], run: Run) -> NDArray[np.float64]:
    values = np.empty(len(vectors))
    done = 0
    for block in _blocks(vectors):
        values[done : done + len(block)] = measure(block)
        done += len(block)
        run.done(done, len(vectors))
    return values
