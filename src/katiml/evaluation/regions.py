"""Boxes and masks as regions of an image, and how much of them is shared. Pure functions.

A mask is kept as its runs: the positions, column after column as COCO counts them, at which it
begins and ends. Runs of many masks lie in one `Runs`, so that nothing here loops over masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml.errors import TooLarge

__all__ = [
    "Runs",
    "box_intersections",
    "joined_runs",
    "mask_intersections",
    "rectangles",
    "runs_of_mask",
    "runs_of_polygons",
]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
# Polygons are drawn on a grid five times as fine, as COCO does.
_SCALE = 5.0
_MAX_POINTS = 50_000_000
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Runs:
    """N masks. `starts` and `ends` are positions of runs, all masks one after the other;
    `offsets`, (N + 1,), says where the runs of each begin; `size`, (N,), is height x width."""

    starts: Integers
    ends: Integers
    offsets: Integers
    size: Integers

    @property
    def areas(self) -> Integers:
        """The pixels of each mask, (N,)."""
        covered = np.concatenate([[0], np.cumsum(self.ends - self.starts)])
        areas: Integers = covered[self.offsets[1:]] - covered[self.offsets[:-1]]
        return areas

    def take(self, index: NDArray[np.intp]) -> Runs:
        """Some of the masks, in this order."""
        counts = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        places = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - self.offsets[index], counts)
        return Runs(self.starts[places], self.ends[places], offsets, self.size[index])

    def bounds(self, heights: Integers) -> Floats:
        """Boxes around the masks, (N, 4) top, left, height, width; 0 around nothing. A run over
        several columns is taken to touch the top and the bottom."""
        found = np.zeros((len(self.size), 4))
        counts = np.diff(self.offsets)
        some = np.flatnonzero(counts)
        if not len(some):
            return found
        height = np.repeat(heights, counts)
        left, right = self.starts // height, (self.ends - 1) // height
        top = np.where(left == right, self.starts % height, 0)
        bottom = np.where(left == right, (self.ends - 1) % height, height - 1)
        first = self.offsets[some]
        found[some, 0] = np.minimum.reduceat(top, first)
        found[some, 1] = np.minimum.reduceat(left, first)
        found[some, 2] = np.maximum.reduceat(bottom, first) + 1 - found[some, 0]
        found[some, 3] = np.maximum.reduceat(right, first) + 1 - found[some, 1]
        return found


def box_intersections(first: Floats, second: Floats) -> Floats:
    """The area that each pair of boxes shares, (N,); boxes are (N, 4) top, left, height, width.

    >>> box_intersections(np.array([[0.0, 0, 4, 4]]), np.array([[2.0, 2, 4, 4]])).tolist()
    [4.0]
    """
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:])
    sides = np.maximum(high - low, 0.0)
    shared: Floats = sides[:, 0] * sides[:, 1]
    return shared


def rectangles(boxes: Floats) -> list[Floats]:
    """Boxes, (N, 4) top, left, height, width, as polygons x, y, x, y ...

    >>> rectangles(np.array([[1.0, 2, 3, 4]]))[0].tolist()
    [2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]
    """
    top, left, height, width = boxes.T
    bottom, right = top + height, left + width
    return list(np.stack([left, top, right, top, right, bottom, left, bottom], axis=1))


def runs_of_mask(mask: NDArray[Any]) -> Runs:
    """One mask, (height, width), whatever is not 0 being inside.

    >>> runs = runs_of_mask(np.array([[0, 1], [1, 1]]))
    >>> runs.starts.tolist(), runs.ends.tolist(), runs.areas.tolist()
    ([1], [4], [3])
    """
    flat = np.zeros(mask.size + 2, np.int8)
    flat[1:-1] = (mask != 0).T.reshape(-1)
    steps = np.diff(flat)
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    return Runs(starts, ends, np.array([0, len(starts)]), np.array([mask.size]))


def joined_runs(parts: list[Runs]) -> Runs:
    """The masks of all parts, one after the other.

    >>> one = runs_of_mask(np.ones((2, 2)))
    >>> joined_runs([one, one]).areas.tolist()
    [4, 4]
    """
    before = np.cumsum([0, *(len(part.starts) for part in parts)])
    offsets = [part.offsets[1:] + start for part, start in zip(parts, before, strict=False)]
    return Runs(
        np.concatenate([np.zeros(0, np.int64), *(part.starts for part in parts)]),
        np.concatenate([np.zeros(0, np.int64), *(part.ends for part in parts)]),
        np.concatenate([np.zeros(1, np.int64), *offsets]),
        np.concatenate([np.zeros(0, np.int64), *(part.size for part in parts)]),
    )


def runs_of_polygons(polygons: list[Floats], heights: Integers, widths: Integers) -> Runs:
    """N polygons (flat x, y, x, y ...) as masks of images of `heights` x `widths` pixels, (N,).

    Exactly the pixels that COCO's rleFrPoly gives: the outline is drawn on a grid five times as
    fine, and pixels are filled column by column between its crossings. Raises TooLarge when an
    outline has more than 50 million points.

    >>> square = np.array([1.0, 1, 3, 1, 3, 3, 1, 3])
    >>> runs_of_polygons([square], np.array([4]), np.array([4])).areas.tolist()
    [4]
    """
    heights, widths = heights.astype(np.int64), widths.astype(np.int64)
    size = heights * widths
    lengths = np.array([len(polygon) // 2 for polygon in polygons], np.int64)
    if not lengths.sum():
        return Runs(*(np.zeros(0, np.int64),) * 2, np.zeros(len(polygons) + 1, np.int64), size)
    u, v, owner = _outline(polygons, lengths)
    x, y, owner = _crossings(u, v, owner, heights, widths)
    start = np.concatenate([[0], np.cumsum(size + 1)])
    toggles, times = np.unique(start[owner] + x * heights[owner] + y, return_counts=True)
    # Two crossings at one place undo each other.
    toggles = toggles[times % 2 == 1]
    owner = np.searchsorted(start, toggles, side="right") - 1
    # What is still open at the end of the image ends there.
    open_ended = np.flatnonzero(np.bincount(owner, minlength=len(polygons)) % 2 == 1)
    toggles = np.sort(np.concatenate([toggles, start[open_ended] + size[open_ended]]))
    owner = np.searchsorted(start, toggles, side="right") - 1
    toggles -= start[owner]
    offsets = np.searchsorted(owner[0::2], np.arange(len(polygons) + 1))
    return Runs(toggles[0::2], toggles[1::2], offsets, size)


def _outline(polygons: list[Floats], lengths: Integers) -> tuple[Integers, Integers, Integers]:
    """The points of the outlines on the finer grid: x, y, and whose they are."""
    points = np.concatenate(
        [polygon[: 2 * n] for polygon, n in zip(polygons, lengths, strict=True)]
    )
    fine = np.trunc(np.clip(_SCALE * points + 0.5, -(2.0**40), 2.0**40)).astype(np.int64)
    x0, y0 = fine[0::2], fine[1::2]
    owner = np.repeat(np.arange(len(polygons)), lengths)
    ends = np.cumsum(lengths)
    following = np.arange(1, len(x0) + 1)
    following[ends[lengths > 0] - 1] = (ends - lengths)[lengths > 0]
    x1, y1 = x0[following], y0[following]
    wide, high = np.abs(x1 - x0), np.abs(y1 - y0)
    longer = np.maximum(wide, high)
    if longer.sum() + len(longer) > _MAX_POINTS:
        raise TooLarge(
            f"the outlines of {len(polygons):,} polygons are {int(longer.sum()):,} points long",
            hint="polygons are in pixels; leave out those far outside their image",
        )
    flat = wide >= high
    flip = np.where(flat, x0 > x1, y0 > y1)
    xs, xe = np.where(flip, x1, x0), np.where(flip, x0, x1)
    ys, ye = np.where(flip, y1, y0), np.where(flip, y0, y1)
    slope = np.where(flat, ye - ys, xe - xs) / np.maximum(longer, 1)
    edge = np.repeat(np.arange(len(x0)), longer + 1)
    first = np.cumsum(longer + 1) - (longer + 1)
    step = np.arange(len(edge)) - first[edge]
    step = np.where(flip[edge], longer[edge] - step, step)
    # The slower coordinate is cut off after adding one half, as C does.
    slow = np.trunc(np.where(flat, ys, xs)[edge] + slope[edge] * step + 0.5).astype(np.int64)
    on_flat = flat[edge]
    u = np.where(on_flat, step + xs[edge], slow)
    v = np.where(on_flat, slow, step + ys[edge])
    return u, v, owner[edge]


def _crossings(
    u: Integers, v: Integers, owner: Integers, heights: Integers, widths: Integers
) -> tuple[Integers, Integers, Integers]:
    """Where the outlines cross the middle of a column of pixels: column, row, and whose."""
    moved = np.flatnonzero((np.diff(u) != 0) & (np.diff(owner) == 0)) + 1
    before, here, owner = u[moved - 1], u[moved], owner[moved]
    column = (np.where(here < before, here, here - 1) + 0.5) / _SCALE - 0.5
    inside = (np.floor(column) == column) & (column >= 0) & (column <= widths[owner] - 1)
    row = (np.minimum(v[moved], v[moved - 1])[inside] + 0.5) / _SCALE - 0.5
    owner = owner[inside]
    row = np.ceil(np.clip(row, 0, heights[owner]))
    return column[inside].astype(np.int64), row.astype(np.int64), owner


def mask_intersections(
    first: Runs, second: Runs, pairs: NDArray[np.intp], block: int = _BLOCK
) -> Integers:
    """The pixels that masks share, (P,); `pairs`, (P, 2), are indexes into `first` and `second`.

    >>> runs = joined_runs([runs_of_mask(np.eye(3)), runs_of_mask(np.ones((3, 3)))])
    >>> mask_intersections(runs, runs, np.array([[0, 0], [0, 1]])).tolist()
    [3, 3]
    """
    # All masks of `first` side by side on one line: how much of it is covered before a position
    # is one search, whatever the mask.
    widest = int(max(first.size.max(initial=0), second.size.max(initial=0))) + 1
    counts = np.diff(first.offsets)
    shift = np.repeat(np.arange(len(counts)), counts) * widest
    starts, ends = first.starts + shift, first.ends + shift
    covered = np.concatenate([[0], np.cumsum(ends - starts)])

    def before(position: Integers) -> Integers:
        run = np.searchsorted(starts, position, side="right") - 1
        last = np.minimum(position, ends[run]) - starts[run]
        return np.where(run >= 0, covered[run] + last, 0)

    shared = np.zeros(len(pairs), np.int64)
    if not len(starts):
        return shared
    lengths = np.diff(second.offsets)[pairs[:, 1]]
    total = np.concatenate([[0], np.cumsum(lengths)])
    cuts = np.searchsorted(total, np.arange(0, total[-1], block))
    cuts = np.unique(np.append(cuts, len(pairs)))
    for low, high in pairwise(cuts):
        own = lengths[low:high]
        pair = np.repeat(np.arange(low, high), own)
        within = np.arange(len(pair)) - np.repeat(total[low:high] - total[low], own)
        run = second.offsets[pairs[pair, 1]] + within
        away = pairs[pair, 0] * widest
        parts = before(second.ends[run] + away) - before(second.starts[run] + away)
        np.add.at(shared, pair, parts)
    return shared
