"""How unsure a model is, from its probabilities. Pure functions; NumPy is all they need.

The last axis is the classes and leading axes are kept. All scores are higher where the model is
less sure, so that what an image's boxes add up to means something. NumPy arrays and lists are
computed in float64; torch and CuPy arrays stay where they are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from katiml._arrays import Array, as_floats

__all__ = [
    "AGGREGATES",
    "activation",
    "aggregate",
    "bald",
    "consensus_divergence",
    "entropy",
    "least_confidence",
    "margin",
    "variance",
    "vote_entropy",
    "weighted_entropy",
]

AGGREGATES = ("sum", "mean", "max")
_LEAST = 1e-10  # as katiml.records.derived, whose values are the lake's metrics.entropy


def entropy(probabilities: Array, *, normalized: bool = False) -> Array:
    """Shannon entropy -Σ p ln p of (..., C) probabilities: 0 (sure) to ln C (all alike).

    `normalized` divides by ln C and clips p to 1e-10 ... 1, which is what the lake keeps as
    `metrics.entropy`; a single class then gives 0. Shannon, "A Mathematical Theory of
    Communication", 1948; for choosing labels: Settles, "Active Learning Literature Survey", 2009.

    >>> entropy([[0.5, 0.5], [1.0, 0.0]]).round(4).tolist()
    [0.6931, 0.0]
    """
    xp, values = as_floats(probabilities)
    classes = values.shape[-1]
    if normalized and classes == 1:
        return xp.zeros_like(values[..., 0])
    least = _LEAST if normalized else float(xp.finfo(values.dtype).tiny)
    clipped = xp.clip(values, least, 1.0) if normalized else values
    terms = clipped * xp.log(xp.clip(clipped, least, None))
    total = 0.0 - xp.sum(terms, axis=-1)
    return total / math.log(classes) if normalized else total


def least_confidence(probabilities: Array) -> Array:
    """1 - max p of (..., C) probabilities: 0 (sure) to 1 - 1/C.

    Lewis and Gale, "A Sequential Algorithm for Training Text Classifiers", SIGIR 1994.

    >>> least_confidence([0.1, 0.7, 0.2]).round(6).item()
    0.3
    """
    xp, values = as_floats(probabilities)
    return 1.0 - xp.max(values, axis=-1)


def margin(probabilities: Array) -> Array:
    """1 - (p(1) - p(2)), the two largest of (..., C) probabilities: 0 (sure) to 1 (a draw).

    A single class gives 0. Scheffer, Decomain and Wrobel, "Active Hidden Markov Models for
    Information Extraction", IDA 2001.

    >>> margin([0.1, 0.7, 0.2]).round(6).item()
    0.5
    """
    xp, values = as_floats(probabilities)
    if values.shape[-1] == 1:
        return xp.zeros_like(values[..., 0])
    ordered = np.partition(values, -2, axis=-1) if xp is np else xp.sort(values, axis=-1)
    return 1.0 - (ordered[..., -1] - ordered[..., -2])


def variance(passes: Array) -> Array:
    """Mean over the classes of the variance over the passes of (..., T, C) probabilities.

    The passes are those of MC dropout (Gal and Ghahramani, ICML 2016) or of an ensemble;
    identical ones give 0.

    >>> variance([[1.0, 0.0], [0.0, 1.0]]).item()
    0.25
    """
    xp, values = as_floats(passes)
    return xp.mean(xp.var(values, axis=-2), axis=-1)


def bald(passes: Array, *, normalized: bool = False) -> Array:
    """H(mean p) - mean H(p) of (..., T, C) probabilities: what the passes disagree on; at least 0.

    `normalized` divides by ln C, as the lake's `metrics.bald`. Houlsby et al., "Bayesian Active
    Learning for Classification and Preference Learning", arXiv 1112.5745; with MC dropout Gal,
    Islam and Ghahramani, ICML 2017.

    >>> bald([[1.0, 0.0], [0.0, 1.0]]).round(4).item()
    0.6931
    """
    xp, values = as_floats(passes)
    together = entropy(xp.mean(values, axis=-2), normalized=normalized)
    alone = xp.mean(entropy(values, normalized=normalized), axis=-1)
    return xp.clip(together - alone, 0.0, None)


def weighted_entropy(probabilities: Array, weights: Array) -> Array:
    """Entropy of (..., C) probabilities, each class's share times its weight: -Σ w p ln p.

    `weights` (C,), not negative; ones give `entropy`. Guiaşu, "Weighted Entropy", Reports on
    Mathematical Physics 2, 1971.

    >>> weighted_entropy([0.5, 0.5], [2.0, 0.0]).round(4).item()
    0.6931
    """
    xp, values = as_floats(probabilities)
    least = float(xp.finfo(values.dtype).tiny)
    return 0.0 - xp.sum(
        xp.asarray(weights) * values * xp.log(xp.clip(values, least, None)), axis=-1
    )


def vote_entropy(committee: Array) -> Array:
    """Entropy of the classes that M models vote for, from (M, ..., C) probabilities; 0 to ln M.

    Dagan and Engelson, "Committee-Based Sampling for Training Probabilistic Classifiers",
    ICML 1995. A draw inside one model is a vote for the first of its classes.

    >>> vote_entropy([[[0.9, 0.1]], [[0.2, 0.8]]]).round(4).tolist()
    [0.6931]
    """
    xp, values = as_floats(committee)
    votes = xp.argmax(values, axis=-1)
    shares = [
        xp.mean(xp.astype(votes == index, values.dtype), axis=0)
        if xp is not np
        else np.mean(votes == index, axis=0)
        for index in range(values.shape[-1])
    ]
    return entropy(xp.stack(shares, axis=-1))


def consensus_divergence(committee: Array) -> Array:
    """Mean Kullback-Leibler divergence of M models from their mean, (M, ..., C); at least 0.

    McCallum and Nigam, "Employing EM and Pool-Based Active Learning for Text Classification",
    ICML 1998. A class that a model rules out adds nothing.

    >>> consensus_divergence([[[0.9, 0.1]], [[0.1, 0.9]]]).round(4).tolist()
    [0.3681]
    """
    xp, values = as_floats(committee)
    least = float(xp.finfo(values.dtype).tiny)
    consensus = xp.mean(values, axis=0)
    gain = xp.log(xp.clip(values, least, None)) - xp.log(xp.clip(consensus, least, None))
    return xp.clip(xp.mean(xp.sum(values * gain, axis=-1), axis=0), 0.0, None)


def activation(vectors: Array, usual: Any = None) -> Array:
    """Mean absolute activation of (..., D) vectors; low where hardly any unit responds.

    With `usual` (D,), what each unit's absolute activation usually is, the mean of the ratios
    |x| / usual, over units that respond at all (usual > 0): 1 is as usual.

    >>> activation([[1.0, -1.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0]]).tolist()
    [1.0, 0.0]
    >>> activation([[1.0, -3.0]], usual=[2.0, 2.0]).tolist()
    [1.0]
    """
    xp, values = as_floats(vectors)
    if usual is None:
        return xp.mean(xp.abs(values), axis=-1)
    scale = np.asarray(usual, dtype=np.float64)
    responds = scale > 0
    weights = np.where(responds, 1.0 / np.where(responds, scale, 1.0), 0.0)
    weights /= max(1, int(responds.sum()))
    if xp is np:
        return np.abs(values) @ weights
    return xp.matmul(xp.abs(values), xp.asarray(weights, dtype=values.dtype, device=values.device))


def aggregate(
    values: Any, owners: Any, count: int, how: str = "sum"
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What the scores of children (boxes, lanes, completions) amount to for their datapoints.

    `values` (K,) and `owners` (K,), the position 0…count-1 each belongs to; `how` is "sum", "mean"
    or "max". (count,) float64; NaN for a datapoint without children. Sums favour crowded images,
    which did best in Brust, Käding and Denzler, "Active Learning for Deep Object Detection", 2018.

    >>> aggregate([0.5, 0.25, 1.0], [0, 0, 2], 3).tolist()
    [0.75, nan, 1.0]
    """
    numbers = np.asarray(values, dtype=np.float64)
    places = np.asarray(owners, dtype=np.intp)
    children = np.bincount(places, minlength=count)
    if how == "max":
        result = np.full(count, -np.inf)
        np.maximum.at(result, places, numbers)
    else:
        result = np.bincount(places, weights=numbers, minlength=count)
        if how == "mean":
            result = result / np.maximum(children, 1)
    return np.where(children > 0, result, np.nan)
