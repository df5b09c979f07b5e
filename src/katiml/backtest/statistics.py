"""Means over seeds with intervals, areas under curves, and where curves reach a level."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = ["area_under", "first_reached", "interval", "student_t"]

Floats = NDArray[np.float64]


def student_t(share: float, degrees: int) -> float:
    """The value under which a share of Student's t distribution lies; up to 0.975 within 0.2 %.

    Exact for one and two degrees of freedom, otherwise the expansion of Fisher and Cornish (1960).

    >>> round(student_t(0.975, 9), 2), round(student_t(0.975, 1), 1)
    (2.26, 12.7)
    """
    if degrees == 1:
        return math.tan(math.pi * (share - 0.5))
    if degrees == 2:
        return (2 * share - 1) / math.sqrt(2 * share * (1 - share))
    z = NormalDist().inv_cdf(share)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return float(sum(term / degrees**power for power, term in enumerate(terms)))


def interval(values: Floats, share: float = 0.95) -> tuple[Floats, Floats, Floats]:
    """Mean of (seeds, …) values and the bounds between which the true mean lies, `share` of times.

    Student's t; with one seed the bounds are NaN.

    >>> mean, low, high = interval(np.array([[1.0], [2.0], [3.0]]))
    >>> mean.tolist(), low.round(2).tolist(), high.round(2).tolist()
    ([2.0], [-0.48], [4.48])
    """
    count = len(values)
    mean = values.mean(axis=0)
    if count < 2:
        unknown = np.full_like(mean, np.nan)
        return mean, unknown, unknown
    error = values.std(axis=0, ddof=1) / math.sqrt(count)
    half = student_t(0.5 + share / 2, count - 1) * error
    return mean, mean - half, mean + half


def area_under(counts: NDArray[np.intp], curves: Floats) -> Floats:
    """Area under (…, rounds) curves over numbers of labels, divided by their range: the mean score.

    >>> area_under(np.array([10, 20, 40]), np.array([0.5, 0.7, 0.7])).round(4).item()
    0.6667
    """
    if len(counts) == 1:
        return np.asarray(curves[..., 0])
    widths = np.diff(counts)
    areas = ((curves[..., 1:] + curves[..., :-1]) / 2 * widths).sum(axis=-1)
    return np.asarray(areas / (counts[-1] - counts[0]))


def first_reached(counts: NDArray[np.intp], curve: Floats, level: float) -> float:
    """How many labels a (rounds,) curve needs to reach a level, between rounds by a straight line.

    NaN where it never does.

    >>> first_reached(np.array([10, 20]), np.array([0.5, 0.7]), 0.6)
    15.0
    """
    reached = np.flatnonzero(curve >= level)
    if not len(reached):
        return math.nan
    place = int(reached[0])
    if place == 0:
        return float(counts[0])
    low, high = float(curve[place - 1]), float(curve[place])
    share = (level - low) / (high - low)
    return float(counts[place - 1] + share * (counts[place] - counts[place - 1]))
