"""MISLABELED: labels that a model has good reason to doubt."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import to_numpy
from katiml.errors import InvalidInput
from katiml.miners.strategy import Inputs, Picks, Run, Strategy, names_of

__all__ = ["Mislabeled", "confident_joint", "confident_thresholds", "label_issues"]


def confident_thresholds(
    labels: NDArray[np.integer[Any]], probabilities: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """(C,) mean probability of each class where it is the label; infinite where it never is.

    >>> confident_thresholds(np.array([0, 0]), np.array([[0.9, 0.1], [0.7, 0.3]])).tolist()
    [0.8, inf]
    """
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    sums = np.bincount(labels, weights=own, minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def _confident_classes(
    labels: NDArray[np.integer[Any]], probabilities: NDArray[np.floating[Any]]
) -> NDArray[np.intp]:
    """(N,) the class at or above its threshold, the likeliest of all if several are; else -1.

    This is what the authors' cleanlab does; their paper takes the likeliest of the several.
    """
    thresholds = confident_thresholds(labels, probabilities)
    bold = probabilities >= thresholds - 1e-6
    count = bold.sum(axis=1)
    several = np.where(count > 1, probabilities.argmax(axis=1), bold.argmax(axis=1))
    return np.where(count > 0, several, -1)


def confident_joint(
    labels: NDArray[np.integer[Any]], probabilities: NDArray[np.floating[Any]]
) -> NDArray[np.int64]:
    """(C, C) how many datapoints with a label (rows) are confidently of a class (columns).

    Not calibrated. Northcutt, Jiang and Chuang, "Confident Learning", JAIR 70, 2021.

    >>> labels, probabilities = np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8]])
    >>> confident_joint(labels, probabilities).tolist()
    [[1, 1], [0, 1]]
    """
    classes = probabilities.shape[1]
    found = _confident_classes(labels, probabilities)
    sure = found >= 0
    flat = labels[sure].astype(np.int64) * classes + found[sure]
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def label_issues(
    labels: NDArray[np.integer[Any]], probabilities: NDArray[np.floating[Any]]
) -> NDArray[np.bool_]:
    """(N,) whether a label is off the diagonal of the confident joint: the model is confident of
    another class, for how confident it usually is of that one.

    >>> label_issues(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8]])).tolist()
    [False, True, False]
    """
    found = _confident_classes(labels, probabilities)
    issues: NDArray[np.bool_] = (found >= 0) & (found != labels)
    return issues


class Mislabeled(Strategy):
    """Ground truths that predictions speak against, by confident learning.

    Labels off the diagonal of the confident joint come first, then the others; among each the
    lowest probability of the given label. Predictions should come from a model that was not
    trained on the same labels (cross-validation). The score is 1 - p(label).
    """

    name = "MISLABELED"
    summary = "Labels to look at again: confident predictions speak against them."
    paper = "Northcutt, Jiang and Chuang, Confident Learning, JAIR 70, 2021"
    needs = ("probabilities", "labels")
    uses = ("class_names",)

    def _pick(self, inputs: Inputs, size: int, run: Run) -> Picks:  # noqa: ARG002
        given = to_numpy(inputs.labels)
        probabilities = to_numpy(inputs.probabilities).astype(np.float64)
        labelled = np.flatnonzero((given >= 0) & (given < probabilities.shape[1]))
        if not len(labelled):
            raise InvalidInput(
                "MISLABELED: no datapoint of the pool has a label that the model knows",
                hint="it compares ground truths with predictions of the same classes",
            )
        labels, own = given[labelled], probabilities[labelled]
        issues = label_issues(labels, own)
        doubts = 1.0 - own[np.arange(len(labels)), labels]
        order = np.lexsort((-doubts, ~issues))[:size]
        names = np.array(names_of(inputs.class_names, probabilities.shape[1]), dtype=object)
        return Picks(
            labelled[order],
            doubts[order],
            {
                "issue": issues[order],
                "label": names[labels[order]].tolist(),
                "suggested": names[own[order].argmax(axis=1)].tolist(),
            },
        )
