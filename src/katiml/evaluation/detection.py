"""Boxes and instances against their ground truths: COCO's averages, and confusions."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from katiml.evaluation.boxes import Images, read_images
from katiml.evaluation.coco import Matches, matches_of, summarize
from katiml.evaluation.matching import Pairs, assign, ranks
from katiml.evaluation.metrics import NOTHING, Confusion

if TYPE_CHECKING:
    from katiml.evaluation.selection import Selected

__all__ = ["Detections", "evaluate_detections", "found_and_missed", "list_mistakes"]

# More boxes of one image than this are no answer; they are left out, the least confident first.
_MAX_BOXES = 1_000
_LOWEST = 0.5


@dataclass(frozen=True)
class Detections:
    """What an evaluation of boxes or instances found."""

    confusion: Confusion
    overall: dict[str, float]
    by_class: dict[str, NDArray[np.float64]]


def evaluate_detections(
    selected: Selected,
    iou_threshold: float,
    min_confidence: float,
    on_images: Callable[[int], None] | None = None,
) -> Detections:
    """Average precision over all boxes; confusions over those of at least `min_confidence`."""
    names: list[str] = []
    parts: list[Matches] = []
    cells: dict[tuple[int, int], int] = {}
    seen = 0
    for images in read_images(selected):
        names = images.names
        pairs = images.pairs(min(iou_threshold, _LOWEST), within_labels=False)
        same = images.detections.label[pairs.detection] == images.truths.label[pairs.truth]
        matched = matches_of(
            images.detections, images.truths, _some(pairs, same), len(images.names)
        )
        parts.append(matched)
        truth, predicted, _ = found_and_missed(images, pairs, iou_threshold, min_confidence)
        pair, count = np.unique(np.stack([truth, predicted], axis=1), axis=0, return_counts=True)
        for (a, b), number in zip(pair.tolist(), count.tolist(), strict=True):
            cells[a, b] = cells.get((a, b), 0) + number
        seen += len(images.datapoints)
        if on_images:
            on_images(seen)
    overall, by_class = summarize(
        Matches.joined([_widened(m, len(names)) for m in parts], len(names))
    )
    order = np.argsort(np.array(names)) if names else np.zeros(0, np.intp)
    place = np.append(np.argsort(order), NOTHING)
    keys = np.array(list(cells), np.intp).reshape(-1, 2)
    confusion = Confusion(
        [names[index] for index in order],
        place[keys[:, 0]],
        place[keys[:, 1]],
        np.array(list(cells.values()), np.int64),
    )
    return Detections(confusion, overall, {name: by_class[name][order] for name in by_class})


def _some(pairs: Pairs, which: NDArray[Any]) -> Pairs:
    return Pairs(pairs.detection[which], pairs.truth[which], pairs.iou[which])


def _widened(matches: Matches, classes: int) -> Matches:
    """The same with a count of 0 for classes that were met later."""
    missing = classes - matches.objects.shape[1]
    objects = np.pad(matches.objects, ((0, 0), (0, missing)))
    return Matches(
        matches.label, matches.score, matches.rank, matches.hit, matches.ignored, objects
    )


def found_and_missed(
    images: Images, pairs: Pairs, iou_threshold: float, min_confidence: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Class found and class predicted of each box, NOTHING where there is none; and which box.

    Boxes are matched within their class first, by falling confidence; what is left on both sides
    is then matched whatever its class. Crowds are neither found nor missed.
    """
    detections, truths = images.detections, images.truths
    sure = detections.score >= min_confidence
    order = ranks(images.detections.image, np.where(sure, detections.score, -np.inf))
    sure &= order < _MAX_BOXES
    least = min(iou_threshold, 1 - 1e-10)
    pairs = _some(pairs, sure[pairs.detection] & (pairs.iou >= least))
    same = detections.label[pairs.detection] == truths.label[pairs.truth]
    thresholds = np.array([iou_threshold])
    first = assign(_some(pairs, same), order, truths.crowd, truths.crowd, thresholds)[:, 0]
    open_truth = ~truths.crowd
    open_truth[first[first >= 0]] = False
    left = (first[pairs.detection] < 0) & open_truth[pairs.truth]
    none = np.zeros(len(truths), np.bool_)
    second = assign(_some(pairs, left), order, none, none, thresholds)[:, 0]
    match = np.where(first >= 0, first, second)
    # A detection of a crowd counts neither way.
    crowd = np.zeros(len(detections), np.bool_)
    crowd[match >= 0] = truths.crowd[match[match >= 0]]
    counted = np.flatnonzero(sure & ~crowd)
    open_truth[second[second >= 0]] = False
    missed = np.flatnonzero(open_truth)
    own = match[counted]
    truth = np.full(len(counted), NOTHING, np.intp)
    truth[own >= 0] = truths.label[own[own >= 0]]
    return (
        np.concatenate([truth, truths.label[missed]]),
        np.concatenate([detections.label[counted], np.full(len(missed), NOTHING)]),
        np.concatenate([counted, missed + len(detections)]),
    )


def list_mistakes(
    selected: Selected,
    truth: str | None,
    predicted: str | None,
    limit: int,
    iou_threshold: float,
    min_confidence: float,
    nothing: str,
) -> list[dict[str, Any]]:
    """Boxes of one cell of the confusion matrix: the most confident first, then what was missed,
    the largest first. Without `truth` or `predicted`, of all cells of that column or row where
    they differ; `nothing` is the name of what is not there."""
    kept: list[tuple[float, float, str, dict[str, Any]]] = []
    for images in read_images(selected):
        pairs = images.pairs(iou_threshold, within_labels=False)
        found, said, which = found_and_missed(images, pairs, iou_threshold, min_confidence)
        index = {name: place for place, name in enumerate(images.names)} | {nothing: NOTHING}
        wanted = np.ones(len(which), np.bool_)
        if truth is not None:
            wanted &= found == index.get(truth, -2)
        if predicted is not None:
            wanted &= said == index.get(predicted, -2)
        if truth is None or predicted is None:
            wanted &= found != said
        names = [*images.names, nothing]
        count = len(images.detections)
        for a, b, box in zip(found[wanted], said[wanted], which[wanted].tolist(), strict=True):
            detected = box < count
            own = images.detections if detected else images.truths
            place = box if detected else box - count
            confidence = float(own.score[place]) if detected else None
            entry = {
                "datapoint": images.datapoints[own.image[place]],
                "truth": names[a],
                "predicted": names[b],
                "confidence": confidence,
                "bbox": images.ids[box],
                **dict(zip(("top", "left", "height", "width"), images.boxes[box], strict=True)),
            }
            sort = (-1.0 if confidence is None else confidence, float(own.area[place]))
            kept.append((*sort, images.ids[box], entry))
        kept = heapq.nsmallest(limit, kept, key=lambda item: (-item[0], -item[1], item[2]))
    return [entry for *_, entry in kept]
