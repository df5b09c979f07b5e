"""Which detection finds which true object: COCO's greedy matching, for many images at once.

Pure functions. Detections are taken by falling confidence; each takes the free object that it
overlaps most. Nothing loops over boxes: the r-th detections of all images are matched together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Objects", "Pairs", "assign", "overlapping_pairs", "ranks"]

Floats = NDArray[np.float64]
Indexes = NDArray[np.intp]
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Objects:
    """N boxes or masks of some images: `image`, `label` (indexes), `area` in pixels, and of
    detections the `score`, of true objects whether they are a `crowd`; each (N,)."""

    image: Indexes
    label: Indexes
    area: Floats
    score: Floats
    crowd: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.image)

    def take(self, index: NDArray[Any]) -> Objects:
        """Some of them."""
        return Objects(
            self.image[index],
            self.label[index],
            self.area[index],
            self.score[index],
            self.crowd[index],
        )


@dataclass(frozen=True)
class Pairs:
    """Detections and true objects that overlap: indexes and their IoU, each (P,)."""

    detection: Indexes
    truth: Indexes
    iou: Floats


def ranks(group: Indexes, score: Floats) -> Indexes:
    """The place of each detection among those of its group, from 0, by falling score; (N,).

    Equal scores keep their order.

    >>> ranks(np.array([0, 0, 1, 0]), np.array([0.5, 0.9, 0.1, 0.5])).tolist()
    [1, 0, 0, 2]
    """
    order = np.lexsort((-score, group))
    ordered = group[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    lengths = np.diff(np.append(first, len(ordered)))
    found = np.empty(len(group), np.intp)
    found[order] = np.arange(len(group)) - np.repeat(first, lengths)
    return found


def overlapping_pairs(
    detections: Objects,
    truths: Objects,
    shared: Callable[[Indexes, Indexes], NDArray[Any]],
    least: float,
    *,
    within_labels: bool,
    block: int = _BLOCK,
) -> Pairs:
    """Pairs of one image (and one label) whose IoU is at least `least`.

    `shared` gives the area that detections and truths, by index, have in common. With a crowd,
    it is divided by the detection's area instead of the union.
    """
    count = 1 + max(detections.label.max(initial=0), truths.label.max(initial=0))
    key = detections.image * count + detections.label if within_labels else detections.image
    other = truths.image * count + truths.label if within_labels else truths.image
    parts = [
        _overlapping(detections, truths, shared, least, *pairs)
        for pairs in _equal_keys(key, other, block)
    ]
    return Pairs(
        np.concatenate([np.zeros(0, np.intp), *(part.detection for part in parts)]),
        np.concatenate([np.zeros(0, np.intp), *(part.truth for part in parts)]),
        np.concatenate([np.zeros(0), *(part.iou for part in parts)]),
    )


def _equal_keys(key: Indexes, other: Indexes, block: int) -> Iterator[tuple[Indexes, Indexes]]:
    """All pairs of indexes with equal keys, about `block` at a time."""
    order = np.argsort(other, kind="stable")
    ordered = other[order]
    low = np.searchsorted(ordered, key, side="left")
    many = np.searchsorted(ordered, key, side="right") - low
    total = np.concatenate([[0], np.cumsum(many)])
    start = 0
    while start < len(key):
        end = max(start + 1, int(np.searchsorted(total, total[start] + block, side="right")) - 1)
        own = many[start:end]
        first = np.repeat(np.arange(start, end), own)
        place = np.arange(len(first)) - np.repeat(total[start:end] - total[start], own)
        yield first, order[low[first] + place]
        start = end


def _overlapping(
    detections: Objects,
    truths: Objects,
    shared: Callable[[Indexes, Indexes], NDArray[Any]],
    least: float,
    detection: Indexes,
    truth: Indexes,
) -> Pairs:
    common = np.asarray(shared(detection, truth), np.float64)
    touching = common > 0
    detection, truth, common = detection[touching], truth[touching], common[touching]
    own, theirs = detections.area[detection], truths.area[truth]
    whole = np.where(truths.crowd[truth], own, own + theirs - common)
    iou = common / whole
    kept = iou >= min(least, 1 - 1e-10)
    return Pairs(detection[kept], truth[kept], iou[kept])


def assign(
    pairs: Pairs,
    rank: Indexes,
    crowd: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
    thresholds: Floats,
) -> Indexes:
    """The true object that each detection is matched to, or -1; (detections, thresholds).

    `rank`, (detections,), is the order in which detections choose among the objects they may
    have; `crowd` and `ignored`, (truths,), say which objects may be had many times, and which
    are only had when no other is left.

    >>> pairs = Pairs(np.array([0, 1]), np.array([0, 0]), np.array([0.6, 0.9]))
    >>> free = np.array([False])
    >>> assign(pairs, np.array([0, 1]), free, free, np.array([0.5, 0.75])).tolist()
    [[0, -1], [-1, 0]]
    """
    matched = np.full((len(rank), len(thresholds)), -1, np.intp)
    taken = np.zeros((len(crowd), len(thresholds)), np.bool_)
    # Of the pairs of a detection the last that is possible is the best: among equals the later
    # object, as in COCO.
    order = np.lexsort(
        (pairs.truth, pairs.iou, ~ignored[pairs.truth], pairs.detection, rank[pairs.detection])
    )
    detection, truth = pairs.detection[order], pairs.truth[order]
    reached = pairs.iou[order, None] >= np.minimum(thresholds, 1 - 1e-10)
    bounds = np.searchsorted(rank[detection], np.arange(rank.max(initial=-1) + 2))
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if low == high:
            continue
        mine, theirs = detection[low:high], truth[low:high]
        possible = reached[low:high] & (crowd[theirs, None] | ~taken[theirs])
        place = np.where(possible, np.arange(high - low)[:, None], -1)
        first = np.flatnonzero(np.diff(mine, prepend=-1))
        best = np.maximum.reduceat(place, first, axis=0)
        chosen = np.where(best >= 0, theirs[best], -1)
        matched[mine[first]] = chosen
        row, column = np.nonzero(chosen >= 0)
        taken[chosen[row, column], column] = True
    return matched
