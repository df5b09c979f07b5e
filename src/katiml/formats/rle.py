"""Masks as runs, as COCO keeps them: column by column, beginning with the zeros."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml.errors import InvalidInput

__all__ = ["decode_rle", "encode_rle", "fill_polygons"]

_MAX_PIXELS = 1 << 28


def encode_rle(mask: NDArray[Any]) -> dict[str, Any]:
    """A (height, width) mask as {"size", "counts"}.

    >>> encode_rle(np.array([[0, 1], [1, 1]]))
    {'size': [2, 2], 'counts': [1, 3]}
    """
    flat = np.asarray(mask).astype(bool).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False)) if flat.size else np.zeros(0, np.int64)
    bounds = np.concatenate([[0], edges, [flat.size]])
    return {"size": list(mask.shape), "counts": np.diff(bounds).astype(int).tolist()}


def decode_rle(value: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The mask of {"size", "counts"}, the counts a list or compressed text. Raises InvalidInput.

    >>> decode_rle({"size": [2, 2], "counts": [1, 3]}).tolist()
    [[0, 1], [1, 1]]
    """
    size, counts = value.get("size"), value.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) for n in size)):
        raise InvalidInput(f"size of a mask is {size!r}", hint="[height, width]")
    height, width = size
    if height < 1 or width < 1 or height * width > _MAX_PIXELS:
        raise InvalidInput(f"a mask of {height} x {width} pixels")
    runs = _counts_of(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, Sequence) or not all(isinstance(run, int) and run >= 0 for run in runs):
        raise InvalidInput("counts of a mask are not whole numbers from 0")
    if sum(runs) != height * width:
        raise InvalidInput(f"counts of a mask make {sum(runs)} pixels, its size {height * width}")
    values = np.arange(len(runs)) % 2
    flat = np.repeat(values.astype(np.uint8), np.asarray(runs, dtype=np.int64))
    return np.ascontiguousarray(flat.reshape((height, width), order="F"))


def _counts_of(text: str) -> list[int]:
    """COCO's compression: 5 bits a character, and from the third on differences to the last but
    one."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise InvalidInput("counts of a mask are no compressed runs")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts


def fill_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> NDArray[Any]:
    """The mask that polygons (flat x, y, x, y ...) cover."""
    from PIL import Image, ImageDraw

    image = Image.new("1", (width, height))
    draw = ImageDraw.Draw(image)
    for polygon in polygons:
        draw.polygon(list(polygon), fill=1)
    return np.asarray(image).astype(np.uint8)
