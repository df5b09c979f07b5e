"""Average precision and recall as COCO defines them (https://cocodataset.org/#detection-eval).

IoU thresholds 0.50, 0.55 ... 0.95, precision read at 101 recalls, at most 100 detections of a
class in an image, areas up to 32², 96² and beyond. Equal to pycocotools.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml.evaluation.matching import Objects, Pairs, assign, ranks

__all__ = ["AREAS", "MAX_DETECTIONS", "THRESHOLDS", "Matches", "matches_of", "summarize"]

Floats = NDArray[np.float64]
THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
MAX_DETECTIONS = 100
_RECALLS = np.linspace(0.0, 1.0, 101)
# The thresholds of one detection and area as the bits of one number.
_BITS = 1 << np.arange(len(THRESHOLDS), dtype=np.uint16)


@dataclass(frozen=True)
class Matches:
    """What is kept of detections that were matched, 29 bytes each.

    `label`, `score` and `rank`, (N,); `hit` and `ignored`, (N, 4), hold a bit for each threshold,
    by area. `objects`, (4, C), counts the true objects of each class.
    """

    label: NDArray[np.int32]
    score: Floats
    rank: NDArray[np.uint8]
    hit: NDArray[np.uint16]
    ignored: NDArray[np.uint16]
    objects: NDArray[np.int64]

    @classmethod
    def joined(cls, parts: Sequence[Matches], classes: int) -> Matches:
        """Those of several groups of images; the order of images decides between equal scores."""
        empty = cls(
            np.zeros(0, np.int32),
            np.zeros(0),
            np.zeros(0, np.uint8),
            np.zeros((0, len(AREAS)), np.uint16),
            np.zeros((0, len(AREAS)), np.uint16),
            np.zeros((len(AREAS), classes), np.int64),
        )
        every = [empty, *parts]
        columns = {
            name: np.concatenate([getattr(part, name) for part in every])
            for name in ("label", "score", "rank", "hit", "ignored")
        }
        return cls(**columns, objects=np.sum([part.objects for part in every], axis=0))


def matches_of(detections: Objects, truths: Objects, pairs: Pairs, classes: int) -> Matches:
    """Match the detections of some images with the true objects of their class.

    `pairs` are those within labels with an IoU of at least 0.5. Detections past the first 100 of
    a class in an image are left out.
    """
    group = detections.image * classes + detections.label
    rank = ranks(group, detections.score)
    kept = np.flatnonzero(rank < MAX_DETECTIONS)
    place = np.full(len(detections), -1, np.intp)
    place[kept] = np.arange(len(kept))
    usable = place[pairs.detection] >= 0
    pairs = Pairs(place[pairs.detection[usable]], pairs.truth[usable], pairs.iou[usable])
    # By image and class, as they are ranked: the order that decides between equal scores.
    order = np.lexsort((rank[kept], group[kept]))
    own = detections.take(kept)
    hits, ignores, objects = [], [], []
    for low, high in AREAS.values():
        ignored = truths.crowd | (truths.area < low) | (truths.area > high)
        matched = assign(pairs, rank[kept], truths.crowd, ignored, THRESHOLDS)
        hit = matched >= 0
        outside = (own.area < low) | (own.area > high)
        skipped = np.where(hit, ignored[matched] if len(ignored) else False, outside[:, None])
        hits.append(hit @ _BITS)
        ignores.append(skipped @ _BITS)
        objects.append(np.bincount(truths.label[~ignored], minlength=classes))
    return Matches(
        own.label[order].astype(np.int32),
        own.score[order],
        rank[kept][order].astype(np.uint8),
        np.stack(hits, axis=1).astype(np.uint16)[order],
        np.stack(ignores, axis=1).astype(np.uint16)[order],
        np.stack(objects).astype(np.int64),
    )


def summarize(matches: Matches) -> tuple[dict[str, float], dict[str, Floats]]:
    """The averages of COCO's summary, and average precision by class.

    The first holds map, map_50, map_75, map_small, map_medium, map_large, and mar_1, mar_10,
    mar_100, mar_small, mar_medium, mar_large; NaN where no class has an object of that size. The
    second holds ap, ap_50, ap_75 and ar_100 of each class, (C,); NaN without objects.
    """
    classes = matches.objects.shape[1]
    order = np.argsort(matches.label, kind="stable")
    bounds = np.searchsorted(matches.label[order], np.arange(classes + 1))
    areas = {area: np.full((classes, len(THRESHOLDS)), np.nan) for area in AREAS}
    recalls = {name: np.full((classes, len(THRESHOLDS)), np.nan) for name in (*AREAS, "1", "10")}
    for label in range(classes):
        own = order[bounds[label] : bounds[label + 1]]
        own = own[np.argsort(-matches.score[own], kind="stable")]
        for index, area in enumerate(AREAS):
            count = int(matches.objects[index, label])
            if count == 0:
                continue
            hit, ignored = _bits(matches.hit[own, index]), _bits(matches.ignored[own, index])
            areas[area][label], recalls[area][label] = _average_precision(hit, ignored, count)
            if area == "all":
                for most in (1, 10):
                    among = matches.rank[own] < most
                    found = (hit & ~ignored)[:, among].sum(axis=1)
                    recalls[str(most)][label] = found / count
    overall = {
        "map": _mean(areas["all"]),
        "map_50": _mean(areas["all"][:, 0]),
        "map_75": _mean(areas["all"][:, 5]),
        **{f"map_{area}": _mean(areas[area]) for area in ("small", "medium", "large")},
        "mar_1": _mean(recalls["1"]),
        "mar_10": _mean(recalls["10"]),
        "mar_100": _mean(recalls["all"]),
        **{f"mar_{area}": _mean(recalls[area]) for area in ("small", "medium", "large")},
    }
    by_class = {
        "ap": areas["all"].mean(axis=1),
        "ap_50": areas["all"][:, 0],
        "ap_75": areas["all"][:, 5],
        "ar_100": recalls["all"].mean(axis=1),
    }
    return overall, by_class


def _bits(numbers: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """(N,) -> (thresholds, N)."""
    set_bits: NDArray[np.bool_] = (numbers & _BITS[:, None]) != 0
    return set_bits


def _average_precision(
    hit: NDArray[np.bool_], ignored: NDArray[np.bool_], count: int
) -> tuple[Floats, Floats]:
    """Average precision and greatest recall at each threshold, of detections by falling score."""
    right = np.cumsum(hit & ~ignored, axis=1, dtype=np.float64)
    wrong = np.cumsum(~hit & ~ignored, axis=1, dtype=np.float64)
    if not right.shape[1]:
        return np.zeros(len(hit)), np.zeros(len(hit))
    recall = right / count
    precision = right / (wrong + right + np.spacing(1))
    # The best precision at this recall or a greater one.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    averages = np.zeros(len(hit))
    for index, (reached, best) in enumerate(zip(recall, precision, strict=True)):
        place = np.searchsorted(reached, _RECALLS, side="left")
        read: NDArray[Any] = np.where(place < len(best), best[np.minimum(place, len(best) - 1)], 0)
        averages[index] = read.mean()
    return averages, recall[:, -1]


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
