"""Average precision and masks equal pycocotools, on random boxes and polygons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katiml.errors import TooLarge
from katiml.evaluation.coco import Matches, matches_of, summarize
from katiml.evaluation.matching import Objects, Pairs, assign, overlapping_pairs, ranks
from katiml.evaluation.regions import (
    box_intersections,
    joined_runs,
    mask_intersections,
    rectangles,
    runs_of_mask,
    runs_of_polygons,
)
from tests.evaluation.references import (
    HEIGHT,
    SUMMARY,
    WIDTH,
    Box,
    coco_reference,
    drawn,
    random_boxes,
)

CLASSES = 4


def _objects(boxes: list[Box], areas: Any) -> Objects:
    return Objects(
        np.array([box.image for box in boxes]),
        np.array([box.label for box in boxes]),
        np.asarray(areas, np.float64),
        np.array([box.score for box in boxes]),
        np.array([box.crowd for box in boxes]),
    )


def _summarized(truths: list[Box], found: list[Box], *, masks: bool, parts: int) -> Any:
    """The same through our functions, in several groups of images."""
    matches = []
    for part in range(parts):
        own = [box for box in truths if box.image % parts == part]
        mine = [box for box in found if box.image % parts == part]
        if masks:
            runs = [
                runs_of_polygons(
                    [np.array(box.polygon) for box in boxes],
                    np.full(len(boxes), HEIGHT),
                    np.full(len(boxes), WIDTH),
                )
                for boxes in (mine, own)
            ]
            objects = [_objects(b, r.areas) for b, r in zip((mine, own), runs, strict=True)]

            def shared(a: Any, b: Any, runs: Any = runs) -> Any:
                return mask_intersections(*runs, np.stack([a, b], axis=1))
        else:
            sides = [
                np.array([box.sides for box in boxes]).reshape(-1, 4)[:, [1, 0, 3, 2]]
                for boxes in (mine, own)
            ]
            objects = [
                _objects(b, s[:, 2] * s[:, 3]) for b, s in zip((mine, own), sides, strict=True)
            ]

            def shared(a: Any, b: Any, sides: Any = sides) -> Any:
                return box_intersections(sides[0][a], sides[1][b])

        pairs = overlapping_pairs(*objects, shared, 0.5, within_labels=True, block=50)
        matches.append(matches_of(*objects, pairs, CLASSES))
    return summarize(Matches.joined(matches, CLASSES))


@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
@pytest.mark.parametrize("seed", range(4))
def test_average_precision_and_recall_equal_pycocotools(seed: int, masks: bool) -> None:
    truths, found = random_boxes(seed)
    expected, expected_by_class = coco_reference(truths, found, masks=masks)
    overall, by_class = _summarized(truths, found, masks=masks, parts=1)
    assert list(overall) == SUMMARY
    np.testing.assert_allclose(list(overall.values()), list(expected.values()), atol=1e-12)
    np.testing.assert_allclose(by_class["ap"], expected_by_class, atol=1e-12)


def test_images_may_come_in_parts() -> None:
    # Scores have six decimals here: equal ones are ordered by image, so their order would count.
    truths, found = random_boxes(2)
    whole, parts = (_summarized(truths, found, masks=False, parts=n)[0] for n in (1, 3))
    np.testing.assert_allclose(list(parts.values()), list(whole.values()), atol=1e-12)


def test_more_than_a_hundred_detections_of_an_image_are_cut_off_as_in_coco() -> None:
    random = np.random.default_rng(5)
    truths = [Box(0, 0, [float(10 * n % 150), float(10 * (n // 15)), 8.0, 8.0]) for n in range(120)]
    found = [
        Box(0, 0, [x + 1, y, w, h], float(random.random()))
        for box in truths
        for x, y, w, h in [box.sides] * 2
    ]
    expected, _ = coco_reference(truths, found, masks=False)
    overall, _ = _summarized(truths, found, masks=False, parts=1)
    np.testing.assert_allclose(list(overall.values()), list(expected.values()), atol=1e-12)
    assert overall["mar_100"] < 0.9


def test_a_class_without_detections_counts_as_nothing_found() -> None:
    truths = [Box(0, 0, [1.0, 1, 20, 20]), Box(0, 1, [50.0, 50, 20, 20])]
    overall, by_class = _summarized(
        truths, [Box(0, 0, [1.0, 1, 20, 20], 0.3)], masks=False, parts=1
    )
    assert overall["map"] == pytest.approx(0.5)
    assert by_class["ap"][:2].tolist() == pytest.approx([1.0, 0.0])
    assert np.isnan(by_class["ap"][2:]).all()


# -- masks -----------------------------------------------------------------------------------

_coordinate = st.one_of(
    st.integers(-20, 60).map(float),
    st.floats(-20, 60, allow_nan=False, width=32),
    st.integers(-40, 120).map(lambda n: n / 2),
)
_polygon = st.lists(_coordinate, min_size=6, max_size=24).map(lambda p: p[: len(p) // 2 * 2])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(_polygon, st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6)
)
def test_polygons_are_filled_as_coco_fills_them(cases: list[tuple[list[float], int, int]]) -> None:
    polygons, heights, widths = zip(*cases, strict=True)
    runs = runs_of_polygons([np.array(p) for p in polygons], np.array(heights), np.array(widths))
    for index, (polygon, height, width) in enumerate(cases):
        expected = drawn(polygon, height, width)
        filled = np.zeros(height * width, np.uint8)
        own = slice(runs.offsets[index], runs.offsets[index + 1])
        for start, end in zip(runs.starts[own], runs.ends[own], strict=True):
            filled[start:end] = 1
        assert np.array_equal(filled.reshape(width, height).T, expected)
        again = runs_of_mask(expected)
        assert again.starts.tolist() == runs.starts[own].tolist()
        assert again.areas[0] == runs.areas[index] == expected.sum()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400))
def test_shared_pixels_are_those_of_the_bitmaps(seed: int, block: int) -> None:
    random = np.random.default_rng(seed)
    shape = (int(random.integers(1, 12)), int(random.integers(1, 12)))
    masks = [random.random(shape) < random.random() for _ in range(5)]
    runs = joined_runs([runs_of_mask(mask) for mask in masks])
    pairs = np.array([(a, b) for a in range(5) for b in range(5)])
    expected = [int((masks[a] & masks[b]).sum()) for a, b in pairs]
    assert mask_intersections(runs, runs, pairs, block).tolist() == expected
    bounds = runs.bounds(np.full(5, shape[0]))
    for (top, left, height, width), mask in zip(bounds.astype(int), masks, strict=True):
        assert mask[top : top + height, left : left + width].sum() == mask.sum()


def test_masks_are_reordered_as_asked() -> None:
    runs = joined_runs([runs_of_mask(np.eye(n)) for n in (2, 3, 4)])
    assert runs.take(np.array([2, 0, 2])).areas.tolist() == [4, 2, 4]


def test_an_outline_as_long_as_the_moon_is_refused() -> None:
    far = np.array([0.0, 0, 1e12, 0, 1e12, 1e12])
    with pytest.raises(TooLarge, match="points long"):
        runs_of_polygons([far], np.array([10]), np.array([10]))


def test_rectangles_cover_their_boxes() -> None:
    boxes = np.array([[2.0, 3, 5, 7], [0.0, 0, 1, 1]])
    runs = runs_of_polygons(rectangles(boxes), np.full(2, 20), np.full(2, 20))
    assert runs.areas.tolist() == [35, 1]
    assert runs.bounds(np.full(2, 20)).tolist() == boxes.tolist()


# -- matching --------------------------------------------------------------------------------


def _greedy(pairs: Pairs, rank: Any, crowd: Any, ignored: Any, threshold: float) -> list[int]:
    """The same, one detection at a time."""
    matched = [-1] * len(rank)
    taken: set[int] = set()
    for detection in np.argsort(rank, kind="stable").tolist():
        options = [
            (not ignored[truth], iou, truth)
            for own, truth, iou in zip(
                pairs.detection.tolist(), pairs.truth.tolist(), pairs.iou.tolist(), strict=True
            )
            if own == detection and iou >= threshold and (crowd[truth] or truth not in taken)
        ]
        if options:
            matched[detection] = max(options)[2]
            taken.add(matched[detection])
    return matched


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_matching_at_once_is_matching_one_by_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    detections, truths = int(random.integers(1, 9)), int(random.integers(1, 7))
    every = np.array([(d, t) for d in range(detections) for t in range(truths)])
    chosen = every[random.random(len(every)) < 0.6].reshape(-1, 2)
    pairs = Pairs(chosen[:, 0], chosen[:, 1], random.integers(0, 5, len(chosen)) / 4)
    rank = random.permutation(detections)
    crowd, ignored = random.random(truths) < 0.3, random.random(truths) < 0.3
    thresholds = np.array([0.25, 0.5, 0.75])
    found = assign(pairs, rank, crowd, ignored, thresholds)
    for column, threshold in enumerate(thresholds):
        assert found[:, column].tolist() == _greedy(pairs, rank, crowd, ignored, threshold)


def test_ranks_of_no_detections() -> None:
    assert ranks(np.zeros(0, np.intp), np.zeros(0)).tolist() == []
