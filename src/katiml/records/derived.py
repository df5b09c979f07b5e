"""What follows from a model's outputs: confidences, entropies, masks, boxes. Pure functions.

All work in float64 and on a batch: leading axes are kept. Entropies are divided by their greatest
value, ln n, so they run from 0 (sure) to 1 (all classes alike). BALD is the part of the entropy on
which the passes of MC dropout disagree: the entropy of their mean less the mean of their entropies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Classification",
    "Segmentation",
    "box_from_mask",
    "boxes_from_polygons",
    "classification_from_confidences",
    "classification_from_logits",
    "classification_from_passes",
    "entropy",
    "mask_distribution",
    "segmentation_from_logits",
    "segmentation_from_passes",
    "softmax",
]

Floats = NDArray[np.float64]
_LEAST = 1e-10


@dataclass(frozen=True, slots=True)
class Classification:
    """N classifications over C classes; `variance` and `bald` need several passes."""

    confidences: Floats  # (N, C)
    confidence: Floats  # (N,), of the class chosen
    class_index: NDArray[np.intp]  # (N,), the class chosen
    entropy: Floats  # (N,)
    variance: Floats | None = None  # (N,), over the passes, mean of the classes
    bald: Floats | None = None  # (N,)


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Per-pixel classifications over C classes; `...` is the batch."""

    mask: NDArray[np.integer]  # (..., height, width), the class of each pixel
    confidences: Floats  # (..., C), mean of the pixels
    confidence: Floats  # (...), mean of `confidences`
    entropy: Floats  # (...), mean of the pixels
    pixel_entropy: Floats  # (..., height, width)
    variance: Floats | None = None  # (...), mean of the pixels
    pixel_variance: Floats | None = None  # (..., height, width), over the passes, mean of classes
    bald: Floats | None = None  # (...), mean of the pixels


def softmax(logits: ArrayLike, axis: int = -1) -> Floats:
    """Probabilities along `axis`; logits of any size, without overflow.

    >>> softmax([1000.0, 1000.0])
    array([0.5, 0.5])
    """
    values = np.array(logits, dtype=np.float64)
    values -= values.max(axis=axis, keepdims=True)
    np.exp(values, out=values)
    values /= values.sum(axis=axis, keepdims=True)
    return values


def entropy(probabilities: ArrayLike, axis: int = -1) -> Floats:
    """Entropy along `axis` divided by ln n; values are clipped to 1e-10 ... 1; one class gives 0.

    >>> entropy([[0.5, 0.5], [1.0, 0.0]]).round(6)
    array([1., 0.])
    """
    values = np.clip(np.asarray(probabilities, dtype=np.float64), _LEAST, 1.0)
    classes = values.shape[axis]
    if classes == 1:
        return np.zeros(np.delete(values.shape, axis))
    logarithms = np.log(values)
    logarithms *= values
    total: Floats = logarithms.sum(axis=axis) / -np.log(classes)
    return total


def classification_from_logits(logits: ArrayLike) -> Classification:
    """Classifications from (N, C) logits; a single logit speaks for the first of two classes.

    >>> classification_from_logits([[0.1]]).confidences.round(5)
    array([[0.52498, 0.47502]])
    """
    return classification_from_confidences(_class_probabilities(logits))


def classification_from_confidences(confidences: ArrayLike) -> Classification:
    """Classifications from (N, C) confidences, taken as they are.

    >>> classification_from_confidences([[0.1, 0.7, 0.2]]).class_index
    array([1])
    """
    values = np.asarray(confidences, dtype=np.float64)
    return Classification(values, values.max(axis=-1), values.argmax(axis=-1), entropy(values))


def classification_from_passes(logits: ArrayLike) -> Classification:
    """Classifications from (N, passes, C) logits of MC dropout.

    >>> classification_from_passes([[[9.0, 0.0], [0.0, 9.0]]]).bald.round(2)
    array([1.])
    """
    passes = _class_probabilities(logits)
    chosen = classification_from_confidences(passes.mean(axis=1))
    return Classification(
        chosen.confidences,
        chosen.confidence,
        chosen.class_index,
        chosen.entropy,
        variance=passes.var(axis=1).mean(axis=-1),
        bald=np.maximum(chosen.entropy - entropy(passes).mean(axis=1), 0.0),
    )


def _class_probabilities(logits: ArrayLike) -> Floats:
    values = np.asarray(logits, dtype=np.float64)
    if values.shape[-1] == 1:
        # sigmoid(x) is the softmax of (x, 0).
        values = np.concatenate([values, np.zeros_like(values)], axis=-1)
    return softmax(values)


def segmentation_from_logits(logits: ArrayLike) -> Segmentation:
    """Segmentations from (..., C, height, width) logits.

    >>> result = segmentation_from_logits(np.eye(3).reshape(3, 1, 3) * 9)
    >>> result.mask, result.confidences.round(3)
    (array([[0, 1, 2]], dtype=uint8), array([0.333, 0.333, 0.333]))
    """
    return _segmentation(softmax(logits, axis=-3))


def segmentation_from_passes(logits: ArrayLike) -> Segmentation:
    """Segmentations from (..., passes, C, height, width) logits of MC dropout.

    Takes as much memory as two passes, whatever their number.

    >>> result = segmentation_from_passes(np.zeros((4, 3, 2, 2)))
    >>> result.entropy.round(6), result.variance.round(6), result.mask.shape
    (np.float64(1.0), np.float64(0.0), (2, 2))
    """
    values = np.asarray(logits)
    passes = values.shape[-4]
    # Welford's running mean and sum of squared deviations.
    mean = softmax(values[..., 0, :, :, :], axis=-3)
    squares = np.zeros_like(mean)
    expected = entropy(mean, axis=-3)
    for index in range(1, passes):
        probabilities = softmax(values[..., index, :, :, :], axis=-3)
        expected += entropy(probabilities, axis=-3)
        deviation = probabilities - mean
        mean += deviation / (index + 1)
        deviation *= probabilities - mean
        squares += deviation
    pixel_variance = squares.mean(axis=-3) / passes
    result = _segmentation(mean)
    pixel_bald = np.maximum(result.pixel_entropy - expected / passes, 0.0)
    return Segmentation(
        result.mask,
        result.confidences,
        result.confidence,
        result.entropy,
        result.pixel_entropy,
        variance=pixel_variance.mean(axis=(-2, -1)),
        pixel_variance=pixel_variance,
        bald=pixel_bald.mean(axis=(-2, -1)),
    )


def _segmentation(probabilities: Floats) -> Segmentation:
    pixel_entropy = entropy(probabilities, axis=-3)
    confidences = probabilities.mean(axis=(-2, -1))
    most = np.min_scalar_type(probabilities.shape[-3] - 1)
    return Segmentation(
        probabilities.argmax(axis=-3).astype(most),
        confidences,
        confidences.mean(axis=-1),
        pixel_entropy.mean(axis=(-2, -1)),
        pixel_entropy,
    )


def mask_distribution(
    mask: NDArray[np.integer], class_names: Sequence[str] | None = None
) -> dict[str, int]:
    """How many pixels each class has; a value that names no class counts under its own text.

    >>> mask_distribution(np.array([[0, 0], [1, 7]]), ["road", "car"])
    {'road': 2, 'car': 1, '7': 1}
    """
    names = class_names or ()
    counts: dict[str, int] = {}
    for value, count in zip(*np.unique(mask, return_counts=True), strict=True):
        name = names[value] if 0 <= value < len(names) else str(value)
        counts[name] = counts.get(name, 0) + int(count)
    return counts


def boxes_from_polygons(polygons: Sequence[ArrayLike]) -> Floats:
    """(N, 4) top, left, height, width of the boxes around N flat polygons x, y, x, y ...

    >>> boxes_from_polygons([[1, 2, 5, 2, 5, 9], [0, 0, 1, 0, 1, 1, 0, 1]])
    array([[2., 1., 7., 4.],
           [0., 0., 1., 1.]])
    """
    if not len(polygons):
        return np.zeros((0, 4))
    arrays = [np.asarray(polygon, dtype=np.float64) for polygon in polygons]
    points = np.concatenate(arrays).reshape(-1, 2)
    starts = np.cumsum([0, *(len(polygon) // 2 for polygon in arrays[:-1])])
    least = np.minimum.reduceat(points, starts)
    most = np.maximum.reduceat(points, starts)
    return np.concatenate([least[:, ::-1], (most - least)[:, ::-1]], axis=1)


def box_from_mask(mask: NDArray[np.generic]) -> tuple[int, int, int, int] | None:
    """top, left, height, width of what is not 0 in a (height, width) mask; None if all is.

    Height and width count pixels: one pixel is 1 x 1.

    >>> box_from_mask(np.array([[0, 0, 0], [0, 1, 1]]))
    (1, 1, 1, 2)
    """
    rows = np.flatnonzero(np.any(mask, axis=1))
    columns = np.flatnonzero(np.any(mask, axis=0))
    if not len(rows):
        return None
    top, left = int(rows[0]), int(columns[0])
    return top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1
