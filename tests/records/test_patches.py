"""One datapoint cut into patches."""

import json

import numpy as np
import pytest

from katiml.errors import InvalidRecord
from katiml.records import parse_objects
from katiml.records.patches import split


def parsed(rows, columns, **fields):
    result = parse_objects(
        [
            {
                "type": "IMAGE",
                "_preprocessor": {"type": "patch_sample", "size": [rows, columns]},
                **fields,
            }
        ]
    )
    assert not result.rejected, result.rejected
    return result.records[0]


def rois(patches):
    return [json.loads(bytes(patch.metadata))["normalized_roi"] for patch in patches]


def test_a_record_without_preprocessor_has_no_patches():
    assert split(parse_objects([{"type": "IMAGE"}]).records[0]) == []


def test_patches_tile_the_parent():
    record = parsed(2, 3, metadata={"uri": "s3://b/1.jpg"}, tags={"split": "train"}, timestamp=0)
    patches = split(record)
    assert [(roi["top"], roi["left"]) for roi in rois(patches)] == [
        (row / 2, pytest.approx(column / 3)) for row in range(2) for column in range(3)
    ]
    for patch, roi in zip(patches, rois(patches), strict=True):
        assert (roi["height"], roi["width"]) == (1 / 2, 1 / 3)
        assert json.loads(bytes(patch.metadata))["uri"] == "s3://b/1.jpg"
        assert (patch.type, patch.tags, patch.timestamp) == ("IMAGE", record.tags, record.timestamp)
        assert not patch.id
        assert not patch.preprocessor


def test_patches_of_a_patch_lie_inside_of_it():
    whole = {"top": 0.5, "left": 0.0, "height": 0.5, "width": 0.2}
    patches = split(parsed(1, 2, metadata={"normalized_roi": whole}))
    assert rois(patches)[1] == {"top": 0.5, "left": 0.1, "height": 0.5, "width": 0.1}


def test_masks_are_cut_so_that_every_pixel_is_kept():
    mask = np.arange(35).reshape(5, 7)
    patches = split(
        parsed(2, 3, groundtruth={"segmentation_class_mask": mask, "class_names": ["a", "b"]})
    )
    cells = [patch.groundtruths[0].segmentation_class_mask for patch in patches]
    assert (np.block([cells[:3], cells[3:]]) == mask).all()
    assert patches[0].groundtruths[0].class_names == ["a", "b"]
    assert patches[0].groundtruths[0].task_type == "SEGMENTATION"


def test_vectors_are_cut_to_one_size_about_the_centre():
    logits = np.arange(2 * 5 * 7.0).reshape(2, 5, 7)
    record = parsed(
        2,
        2,
        prediction={
            "task_type": "SEGMENTATION",
            "model_name": "m",
            "logits": np.stack([logits, logits]),
            "embeddings": {"a": logits, "flat": [1, 2]},
            "grad_embeddings": [1, 2],
        },
    )
    patches = split(record)
    predictions = [patch.predictions[0] for patch in patches]
    assert {prediction.logits.shape for prediction in predictions} == {(2, 2, 2, 3)}
    assert [list(prediction.embeddings) for prediction in predictions] == [["a"]] * 4
    assert (predictions[0].embeddings["a"] == logits[:, 0:2, 0:3]).all()
    assert (predictions[3].embeddings["a"] == logits[:, 2:4, 3:6]).all()
    assert predictions[0].model_name == "m"
    assert all(prediction.embeddings["a"].flags.c_contiguous for prediction in predictions)


def test_what_has_no_place_stays_with_the_whole():
    patches = split(parsed(1, 2, groundtruth="cat", prediction={"class_name": "dog"}))
    assert not any(patch.groundtruths or patch.predictions for patch in patches)


def test_more_patches_than_pixels_are_refused():
    with pytest.raises(InvalidRecord, match="1 x 2 cannot be cut into 1 x 3") as error:
        split(parsed(1, 3, groundtruth={"segmentation_class_mask": [[0, 1]]}))
    assert error.value.path == "groundtruths[0].segmentation_class_mask"
