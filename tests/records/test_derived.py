"""Derived metrics against the original's asserted values and against plain loops."""

from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from katiml.records.derived import (
    box_from_mask,
    boxes_from_polygons,
    classification_from_confidences,
    classification_from_logits,
    classification_from_passes,
    entropy,
    mask_distribution,
    segmentation_from_logits,
    segmentation_from_passes,
    softmax,
)

LOGITS = st.floats(-50, 50, width=32)
close = pytest.approx


def batches(dimensions, *, classes_axis):
    def at_least_two_classes(shape):
        return shape[classes_axis] >= 2

    return (
        hnp.array_shapes(min_dims=dimensions, max_dims=dimensions, max_side=4)
        .filter(at_least_two_classes)
        .flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=LOGITS))
    )


def naive_softmax(values):
    exponentials = [exp(value - max(values)) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def naive_entropy(probabilities):
    clipped = [min(max(value, 1e-10), 1) for value in probabilities]
    return -sum(value * log(value) for value in clipped) / log(len(clipped))


def test_a_single_logit_speaks_for_the_first_class():
    result = classification_from_logits([[0.1]])
    assert result.confidences[0].tolist() == close([0.52498, 0.47502], abs=1e-5)
    assert result.confidence[0] == close(0.52498, abs=1e-5)
    assert result.class_index[0] == 0
    assert result.entropy[0] == close(0.99820, abs=1e-5)
    assert classification_from_logits([[-3.0]]).class_index[0] == 1


def test_three_logits():
    result = classification_from_logits([[0.1, 0.2, 0.8]])
    assert result.confidences[0].tolist() == close([0.24278, 0.26832, 0.48890], abs=1e-5)
    assert result.class_index[0] == 2
    assert result.entropy[0] == close(0.95259, abs=1e-5)


@given(batches(2, classes_axis=1))
def test_classification_is_what_a_loop_computes(logits):
    result = classification_from_logits(logits)
    for index, row in enumerate(logits.tolist()):
        expected = naive_softmax(row)
        assert result.confidences[index].tolist() == close(expected)
        assert result.confidence[index] == close(max(expected))
        assert expected[result.class_index[index]] == close(max(expected))
        assert result.entropy[index] == close(naive_entropy(expected), abs=1e-9)
    assert result.variance is None
    assert result.bald is None


@given(batches(3, classes_axis=2))
def test_mc_dropout_is_what_a_loop_computes(logits):
    result = classification_from_passes(logits)
    for index, passes in enumerate(logits.tolist()):
        probabilities = [naive_softmax(row) for row in passes]
        classes = list(zip(*probabilities, strict=True))
        mean = [sum(values) / len(values) for values in classes]
        spread = [
            sum((value - middle) ** 2 for value in values) / len(values)
            for values, middle in zip(classes, mean, strict=True)
        ]
        inner = sum(naive_entropy(row) for row in probabilities) / len(probabilities)
        assert result.confidences[index].tolist() == close(mean)
        assert result.entropy[index] == close(naive_entropy(mean), abs=1e-9)
        assert result.variance[index] == close(sum(spread) / len(spread), abs=1e-12)
        assert result.bald[index] == close(max(naive_entropy(mean) - inner, 0), abs=1e-9)


def test_passes_of_a_single_logit():
    result = classification_from_passes([[[0.1], [0.1]]])
    assert result.confidences[0].tolist() == close([0.52498, 0.47502], abs=1e-5)
    assert result.variance[0] == 0


@pytest.mark.parametrize("size", [1e4, 1e38, 1e300])
def test_extreme_logits_stay_finite(size):
    result = classification_from_logits([[size, -size, 0.0], [size, size, size]])
    assert result.confidences.tolist() == [close([1, 0, 0]), close([1 / 3] * 3)]
    assert result.entropy.tolist() == close([0, 1], abs=1e-6)
    assert softmax(np.array([[6e4], [6e4]], np.float16), axis=0).tolist() == [[0.5], [0.5]]


def test_one_class_has_no_entropy():
    assert entropy([[1.0], [0.3]]).tolist() == [0, 0]
    assert classification_from_confidences([[0.9]]).entropy.tolist() == [0]
    assert segmentation_from_logits(np.zeros((1, 2, 3))).entropy == 0


def test_confidences_are_taken_as_they_are():
    result = classification_from_confidences([[0.2, 0.7], [0.9, 0.8]])
    assert result.confidence.tolist() == [0.7, 0.9]
    assert result.class_index.tolist() == [1, 0]
    assert result.entropy[0] == close(naive_entropy([0.2, 0.7]))


def street(*, low=5.0, high=8.0):
    """19 classes, 10 x 10 pixels, all of class 10 but columns 2 and 3 of class 5."""
    logits = np.zeros((19, 10, 10))
    logits[10] = high
    logits[:, :, 2:4] = 0
    logits[5, :, 2:4] = low
    return logits


STREET_MASK = np.where(np.isin(np.arange(10), (2, 3)), 5, 10) * np.ones((10, 1), int)


def test_a_segmentation():
    result = segmentation_from_logits(street())
    assert (result.mask == STREET_MASK).all()
    assert result.mask.dtype == np.uint8
    road, car = naive_softmax([8] + [0] * 18), naive_softmax([5] + [0] * 18)
    assert result.confidences[10] == close(0.8 * road[0] + 0.2 * car[1])
    assert result.confidences[5] == close(0.8 * road[1] + 0.2 * car[0])
    assert result.confidence == close(result.confidences.mean())
    assert len(result.confidences) == 19
    assert result.pixel_entropy[0, 0] == close(naive_entropy(road))
    assert result.pixel_entropy[9, 3] == close(naive_entropy(car))
    assert result.entropy == close(0.8 * naive_entropy(road) + 0.2 * naive_entropy(car))
    assert result.variance is None


def test_a_segmentation_with_passes():
    result = segmentation_from_passes(np.stack([street(), street(low=2.0), street(high=4.0)]))
    assert (result.mask == STREET_MASK).all()
    assert 0 < result.variance < 1
    assert 0 < result.bald < result.entropy < 1
    assert result.pixel_variance.shape == result.pixel_entropy.shape == (10, 10)


@given(batches(4, classes_axis=1))
def test_segmentation_is_classification_of_each_pixel(logits):
    result = segmentation_from_logits(logits)
    pixels = np.moveaxis(logits, 1, -1)
    each = classification_from_logits(pixels.reshape(-1, pixels.shape[-1]))
    assert (result.mask.ravel() == each.class_index).all()
    assert result.pixel_entropy.ravel().tolist() == close(each.entropy.tolist())
    expected = each.confidences.reshape(pixels.shape).mean(axis=(1, 2))
    assert result.confidences.tolist() == [close(row) for row in expected.tolist()]
    assert result.entropy.shape == result.confidence.shape == (len(logits),)


@given(batches(4, classes_axis=1))
def test_segmentation_with_passes_is_mc_dropout_of_each_pixel(logits):
    result = segmentation_from_passes(logits)
    pixels = np.moveaxis(logits, (0, 1), (-2, -1))
    each = classification_from_passes(pixels.reshape(-1, *pixels.shape[-2:]))
    assert result.pixel_entropy.ravel().tolist() == close(each.entropy.tolist(), abs=1e-9)
    assert result.pixel_variance.ravel().tolist() == close(each.variance.tolist(), abs=1e-12)
    assert result.variance == close(each.variance.mean(), abs=1e-12)
    assert result.bald == close(each.bald.mean(), abs=1e-9)
    batch = segmentation_from_passes(logits[None])
    assert batch.pixel_variance.shape == (1, *result.pixel_variance.shape)


def test_inputs_are_not_changed():
    logits = street()
    before = logits.copy()
    segmentation_from_passes(logits[None])
    classification_from_logits(logits[:, 0])
    assert (logits == before).all()


def test_many_classes_fit_the_mask():
    assert segmentation_from_logits(np.zeros((300, 1, 1))).mask.dtype == np.uint16


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], {"a": 1, "b": 2, "5": 1, "-1": 2}),
        (["a", "a"], {"a": 3, "5": 1, "-1": 2}),
        (None, {"0": 1, "1": 2, "5": 1, "-1": 2}),
    ],
)
def test_the_distribution_of_a_mask(names, expected):
    mask = np.array([[0, 1, 1], [5, -1, -1]], dtype=np.int16)
    assert mask_distribution(mask, names) == expected


def test_boxes_around_polygons():
    assert boxes_from_polygons([]).shape == (0, 4)
    boxes = boxes_from_polygons([[10, 1, 14, 3, 12, 9], [0, 0, 2, 0, 2, 5, 0, 5], [3] * 6])
    assert boxes.tolist() == [[1, 10, 8, 4], [0, 0, 5, 2], [3, 3, 0, 0]]


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, 1)))
def test_the_box_around_a_mask_holds_all_of_it_and_no_more(mask):
    box = box_from_mask(mask)
    if box is None:
        assert not mask.any()
        return
    top, left, height, width = box
    inside = mask[top : top + height, left : left + width]
    assert inside.sum() == mask.sum()
    assert inside.shape == (height, width)
    assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
