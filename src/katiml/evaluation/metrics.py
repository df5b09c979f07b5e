"""Counts of confusions -> accuracy, precision, recall, F1 and IoU. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from katiml.errors import TooLarge

__all__ = [
    "MAX_DENSE_CLASSES",
    "NOTHING",
    "Confusion",
    "averages",
    "by_class",
    "confusion_of",
    "wilson_interval",
]

# The index that stands for "no such object": a box that is not there, a missing prediction.
NOTHING = -1
# A square of more classes than this does not fit on any screen, and soon not in memory.
MAX_DENSE_CLASSES = 5_000
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Confusion:
    """How often each class was taken for which: one entry for each pair that occurs.

    `truth` and `predicted`, (N,), are indexes into `names`, or NOTHING; `count`, (N,), is how
    many datapoints, boxes or pixels.
    """

    names: list[str]
    truth: NDArray[np.intp]
    predicted: NDArray[np.intp]
    count: Counts

    @property
    def total(self) -> int:
        """Everything that was compared."""
        return int(self.count.sum())

    @property
    def correct(self) -> int:
        """What was given its own class."""
        return int(self.count[self.truth == self.predicted].sum())

    def matrix(self) -> Counts:
        """Counts by truth (rows) and prediction (columns), (C + 1, C + 1); the last is NOTHING.

        Raises TooLarge for more than 5,000 classes.

        >>> confusion_of(["cat", "dog"], ["cat", "cat"]).matrix().tolist()
        [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
        """
        size = len(self.names)
        if size > MAX_DENSE_CLASSES:
            raise TooLarge(
                f"a confusion matrix of {size:,} classes has {size**2:,} cells",
                hint="read `confusions`, which has only the cells that are not empty",
            )
        found = np.zeros((size + 1, size + 1), np.int64)
        np.add.at(found, (self.truth, self.predicted), self.count)
        return found


def confusion_of(
    truth: Sequence[str | None],
    predicted: Sequence[str | None],
    count: ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> Confusion:
    """A Confusion from pairs of class names; None means nothing. Equal pairs are added up.

    `names` fixes the classes and their order; otherwise all that occur, sorted.

    >>> found = confusion_of(["cat", "cat", "dog"], ["cat", None, "cat"])
    >>> found.names, found.count.tolist(), found.predicted.tolist()
    (['cat', 'dog'], [1, 1, 1], [-1, 0, 0])
    """
    if names is None:
        names = sorted({name for name in (*truth, *predicted) if name is not None})
    index: dict[str | None, int] = {name: place for place, name in enumerate(names)}
    index[None] = NOTHING
    pairs = np.array(
        [(index[a], index[b]) for a, b in zip(truth, predicted, strict=True)], np.intp
    ).reshape(-1, 2)
    counts = np.ones(len(pairs), np.int64) if count is None else np.asarray(count, np.int64)
    unique, where = np.unique(pairs, axis=0, return_inverse=True)
    summed = np.zeros(len(unique), np.int64)
    np.add.at(summed, where.reshape(-1), counts)
    return Confusion(list(names), unique[:, 0], unique[:, 1], summed)


def by_class(confusion: Confusion) -> dict[str, NDArray[Any]]:
    """Of each class, (C,): support, predicted, correct, precision, recall, f1, iou.

    `support` counts the truths of the class and `predicted` the predictions. A ratio of nothing
    by nothing is 0: the precision of a class that is never predicted, the recall of one that
    never occurs.

    >>> found = by_class(confusion_of(["cat", "cat", "dog"], ["cat", "dog", "dog"]))
    >>> found["precision"].tolist(), found["recall"].tolist(), found["iou"].tolist()
    ([1.0, 0.5], [0.5, 1.0], [0.5, 0.5])
    """
    size = len(confusion.names)
    hit = confusion.truth == confusion.predicted
    support = _summed(confusion.truth, confusion.count, size)
    predicted = _summed(confusion.predicted, confusion.count, size)
    correct = _summed(confusion.truth[hit], confusion.count[hit], size)
    return {
        "support": support,
        "predicted": predicted,
        "correct": correct,
        "precision": _ratio(correct, predicted),
        "recall": _ratio(correct, support),
        "f1": _ratio(2 * correct, support + predicted),
        "iou": _ratio(correct, support + predicted - correct),
    }


def averages(confusion: Confusion) -> dict[str, float]:
    """precision, recall, f1 and iou, each averaged in three ways.

    `macro` is the mean of the classes; `weighted` that mean weighted by support; `micro` is
    computed from the sums over all classes.

    >>> found = averages(confusion_of(["cat", "cat", "dog"], ["cat", "dog", "dog"]))
    >>> found["f1_macro"].__round__(4), found["f1_micro"].__round__(4)
    (0.6667, 0.6667)
    """
    classes = by_class(confusion)
    support, predicted = classes["support"], classes["predicted"]
    correct, truths, said = (
        float(classes[name].sum()) for name in ("correct", "support", "predicted")
    )
    micro = {
        "precision": correct / said if said else 0.0,
        "recall": correct / truths if truths else 0.0,
        "f1": 2 * correct / (truths + said) if truths + said else 0.0,
        "iou": correct / (truths + said - correct) if truths + said else 0.0,
    }
    present = (support > 0) | (predicted > 0)
    found: dict[str, float] = {}
    for name, pooled in micro.items():
        values = classes[name]
        found[f"{name}_macro"] = float(values[present].mean()) if present.any() else 0.0
        found[f"{name}_micro"] = pooled
        found[f"{name}_weighted"] = float((values * support).sum() / truths) if truths else 0.0
    return found


def wilson_interval(correct: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Between which shares the true one lies, 95 times of 100 (Wilson, 1927).

    >>> low, high = wilson_interval(90, 100)
    >>> round(low, 3), round(high, 3)
    (0.826, 0.945)
    """
    if not total:
        return 0.0, 1.0
    share = correct / total
    centre = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    low, high = (centre - half) / scale, (centre + half) / scale
    return 0.0 if correct == 0 else low, 1.0 if correct == total else high


def _summed(index: NDArray[np.intp], count: Counts, size: int) -> Counts:
    known = index != NOTHING
    summed = np.zeros(size, np.int64)
    np.add.at(summed, index[known], count[known])
    return summed


def _ratio(part: Counts, whole: Counts) -> Floats:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
