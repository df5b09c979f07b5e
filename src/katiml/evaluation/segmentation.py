"""Class masks against their ground truths, pixel by pixel, in bounded memory."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from katiml.evaluation.boxes import resized
from katiml.evaluation.metrics import Confusion, confusion_of
from katiml.records.arrays import decode

if TYPE_CHECKING:
    from katiml.evaluation.selection import Selected

__all__ = ["Pixels", "count_pixels", "list_mistakes", "pixel_confusion"]

Mask = NDArray[np.integer[Any]]
# Encoded masks of one block; decoded they take some ten times as much.
_BLOCK_BYTES = 32 << 20
_BLOCK_ROWS = 256
_Cells = dict[tuple[str | None, str | None], int]


@dataclass(frozen=True)
class Pixels:
    """Confusions in pixels, and how many pixels were left out."""

    confusion: Confusion
    ignored: int


def count_pixels(
    selected: Selected,
    ignore_classes: Sequence[str] = (),
    on_images: Callable[[int], None] | None = None,
) -> Pixels:
    """How many pixels of each class were taken for which, over the whole selection.

    A prediction of another size is resized to its ground truth. Pixels whose true class is in
    `ignore_classes`, or whose value has no name among the `class_names` of the ground truth, are
    left out.
    """
    total: _Cells = {}
    ignored = 0
    for seen, (_, cells, left_out) in enumerate(_read_cells(selected, ignore_classes), 1):
        ignored += left_out
        for pair, count in cells.items():
            total[pair] = total.get(pair, 0) + count
        if on_images:
            on_images(seen)
    truth, predicted = [pair[0] for pair in total], [pair[1] for pair in total]
    return Pixels(confusion_of(truth, predicted, list(total.values())), ignored)


def list_mistakes(
    selected: Selected,
    truth: str | None,
    predicted: str | None,
    limit: int,
    ignore_classes: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Datapoints with the most pixels in one cell of the confusion matrix, that is most first."""
    kept: list[tuple[int, str, dict[str, Any]]] = []
    for datapoint, cells, _ in _read_cells(selected, ignore_classes):
        total = sum(cells.values())
        for (a, b), count in cells.items():
            if truth not in (None, a) or predicted not in (None, b):
                continue
            if a == b and (truth is None or predicted is None):
                continue
            entry = {
                "datapoint": datapoint,
                "truth": a,
                "predicted": b,
                "pixels": count,
                "share": count / total,
            }
            kept.append((-count, datapoint, entry))
        if len(kept) > 2 * limit + 1_000:
            kept = heapq.nsmallest(limit, kept, key=lambda item: item[:2])
    return [entry for *_, entry in heapq.nsmallest(limit, kept, key=lambda item: item[:2])]


def pixel_confusion(
    truth: Mask,
    predicted: Mask | None,
    truth_names: Sequence[str] | None = None,
    predicted_names: Sequence[str] | None = None,
    ignore_classes: Sequence[str] = (),
) -> tuple[_Cells, int]:
    """{(true class, predicted class): pixels} of two (height, width) masks, and pixels left out.

    Where only one of them has names of classes, they hold for both.

    >>> pixel_confusion(np.array([[0, 1], [1, 9]]), np.array([[0, 0], [1, 1]]), ["sky", "sea"])
    ({('sky', 'sky'): 1, ('sea', 'sky'): 1, ('sea', 'sea'): 1}, 1)
    """
    truth_names, predicted_names = truth_names or predicted_names, predicted_names or truth_names
    values, truth_codes = np.unique(truth, return_inverse=True)
    names = [_named(value, truth_names) for value in values.tolist()]
    left_out = [name is None or name in ignore_classes for name in names]
    if predicted is None:
        said: list[str | None] = [None]
        codes = np.zeros(truth.size, np.intp)
    else:
        other, codes = np.unique(resized(predicted, *truth.shape), return_inverse=True)
        said = [_named(value, predicted_names) or str(value) for value in other.tolist()]
    pairs = truth_codes.reshape(-1) * len(said) + codes.reshape(-1)
    counts = np.bincount(pairs, minlength=len(names) * len(said)).reshape(len(names), len(said))
    cells: _Cells = {}
    for row, column in np.argwhere(counts).tolist():
        if not left_out[row]:
            pair = (names[row], said[column])
            cells[pair] = cells.get(pair, 0) + int(counts[row, column])
    return cells, int(counts[left_out].sum())


def _named(value: int, names: Sequence[str] | None) -> str | None:
    """The name of a value; without any names, its own text."""
    if not names:
        return str(value)
    return names[value] if 0 <= value < len(names) else None


def _read_cells(
    selected: Selected, ignore_classes: Sequence[str]
) -> Iterator[tuple[str, _Cells, int]]:
    for row in _read_masks(selected):
        truth = _mask(row["truth_mask"])
        said = None if row["said_mask"] is None else _mask(row["said_mask"])
        cells, ignored = pixel_confusion(
            truth, said, row["truth_names"], row["said_names"], ignore_classes
        )
        yield row["datapoint"], cells, ignored


def _mask(text: str) -> Mask:
    found: Mask = np.atleast_2d(np.squeeze(decode(text)))
    return found


def _read_masks(selected: Selected) -> Iterator[dict[str, Any]]:
    """Masks and class names of each datapoint: ids first, then blocks of so many bytes."""
    size = "strlen(encoded_segmentation_class_mask) AS bytes"
    pairs = selected.scope.query(
        selected.with_pairs(size, size) + "SELECT truths.id AS truth, said.id AS said, "
        "truths.bytes + coalesce(said.bytes, 0) AS bytes FROM truths "
        "LEFT JOIN said ON said.datapoint = truths.datapoint WHERE truths.bytes IS NOT NULL "
        "AND truths.datapoint IN (SELECT datapoint FROM used) ORDER BY truths.id",
        selected.parameters,
    )
    block = np.cumsum(pairs["bytes"].to_numpy()) // _BLOCK_BYTES
    start = 0
    while start < pairs.num_rows:
        end = min(int(np.searchsorted(block, block[start], side="right")), start + _BLOCK_ROWS)
        chunk = pairs.slice(start, end - start)
        found = selected.scope.query(
            "SELECT CAST(truths.datapoint AS VARCHAR) AS datapoint, "
            "truths.encoded_segmentation_class_mask AS truth_mask, "
            "truths.class_names AS truth_names, "
            "said.encoded_segmentation_class_mask AS said_mask, said.class_names AS said_names "
            "FROM (SELECT unnest($truths) AS truth, unnest($said) AS said) AS chosen "
            "JOIN {groundtruths} AS truths ON truths.id = CAST(chosen.truth AS UUID) "
            "LEFT JOIN {predictions} AS said ON said.id = CAST(chosen.said AS UUID) "
            "ORDER BY truths.id",
            {"truths": chunk["truth"].to_pylist(), "said": chunk["said"].to_pylist()},
        )
        yield from found.to_pylist()
        start = end
