"""What one record holds, as typed structures.

A field that was not sent is `msgspec.UNSET`; `null` is None. The two differ: on an update an absent
field keeps its value and a null one loses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

__all__ = [
    "MAX_NAME",
    "MAX_TAG_VALUE",
    "MAX_TEXT",
    "NO_METADATA",
    "BoundingBox",
    "Classification",
    "Completion",
    "GroundTruth",
    "Lane",
    "Prediction",
    "Record",
]

MAX_NAME = 1_000
MAX_TAG_VALUE = 100_000
MAX_TEXT = 100_000_000

# msgspec has no union with Raw, so "not sent" is this one object while a line is decoded; parsing
# then puts UNSET or None in its place.
NO_METADATA = msgspec.Raw()

Name = Annotated[str, Meta(max_length=MAX_NAME)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
TagValue = Annotated[str, Meta(max_length=MAX_TAG_VALUE)]
DatapointType = Literal["IMAGE", "VIDEO", "AUDIO", "TEXT"]
TaskType = Literal[
    "CLASSIFICATION",
    "OBJECT_DETECTION",
    "INSTANCE_SEGMENTATION",
    "SEGMENTATION",
    "SEMANTIC_SEGMENTATION",
    "LANE_DETECTION",
    "COMPLETION",
    "NER",
]
Metrics = dict[Name, float | dict[Name, float] | None]

# What a reader of a parsed record sees (left) is narrower than what a line may hold (right): null
# entries of lists are dropped while parsing.
if TYPE_CHECKING:
    Metadata = msgspec.Raw | UnsetType | None
    BoundingBoxes = list["BoundingBox"]
    Classifications = list["Classification"]
    Lanes = list["Lane"]
    Completions = list["Completion"]
    GroundTruths = list["GroundTruth"]
    Predictions = list["Prediction"]
else:
    Metadata = msgspec.Raw
    BoundingBoxes = list["BoundingBox | None"]
    Classifications = list["Classification | None"]
    Lanes = list["Lane | None"]
    Completions = list["Completion | None"]
    GroundTruths = list["GroundTruth | None"]
    Predictions = list["Prediction | None"]


class BoundingBox(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One box or instance. Pixels from the top left corner; `segmentation_mask` is 2-D."""

    id: str | UnsetType | None = UNSET
    top: float | UnsetType | None = UNSET
    left: float | UnsetType | None = UNSET
    height: float | UnsetType | None = UNSET
    width: float | UnsetType | None = UNSET
    coco_polygon: list[float] | UnsetType | None = UNSET
    segmentation_mask: Any = UNSET
    encoded_segmentation_mask: Any = UNSET
    class_name: Name | UnsetType | None = UNSET
    class_names: list[Name] | UnsetType | None = UNSET
    confidence: float | UnsetType | None = UNSET
    confidences: list[float] | UnsetType | None = UNSET
    objectness: float | UnsetType | None = UNSET
    metrics: Metrics | UnsetType | None = UNSET


class Classification(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One classification of a lane: `name` says of what (`colour`, `type`)."""

    name: Name | UnsetType | None = UNSET
    class_name: Name | UnsetType | None = UNSET
    class_names: list[Name] | UnsetType | None = UNSET
    confidence: float | UnsetType | None = UNSET
    confidences: list[float] | UnsetType | None = UNSET
    metrics: Metrics | UnsetType | None = UNSET


class Lane(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One lane: `coco_polyline` is flat x, y, x, y ... in pixels."""

    id: str | UnsetType | None = UNSET
    coco_polyline: list[float] | UnsetType | None = UNSET
    confidence: float | UnsetType | None = UNSET
    classifications: Classifications | UnsetType | None = UNSET
    metrics: Metrics | UnsetType | None = UNSET


class Completion(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One text a model or a person gave for a datapoint."""

    id: str | UnsetType | None = UNSET
    text: Text | UnsetType | None = UNSET
    confidence: float | UnsetType | None = UNSET
    metrics: Metrics | UnsetType | None = UNSET


class GroundTruth(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """What is true of a datapoint for one task type."""

    id: str | UnsetType | None = UNSET
    task_type: TaskType | UnsetType | None = UNSET
    class_name: Name | UnsetType | None = UNSET
    class_names: list[Name] | UnsetType | None = UNSET
    top: float | UnsetType | None = UNSET
    left: float | UnsetType | None = UNSET
    height: float | UnsetType | None = UNSET
    width: float | UnsetType | None = UNSET
    segmentation_class_mask: Any = UNSET
    encoded_segmentation_class_mask: Any = UNSET
    bboxes: BoundingBoxes | UnsetType | None = UNSET
    lanes: Lanes | UnsetType | None = UNSET
    completions: Completions | UnsetType | None = UNSET
    metrics: Metrics | UnsetType | None = UNSET


class Prediction(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """What one model said of a datapoint for one task type.

    `logits`: (classes,), (passes, classes), (classes, height, width) or
    (passes, classes, height, width). `embeddings`, `grad_embeddings`: {layer: 1-, 2- or 3-D array}
    (3-D is channels, height, width); a bare array is kept under the layer "".
    """

    id: str | UnsetType | None = UNSET
    task_type: TaskType | UnsetType | None = UNSET
    model_name: Name | UnsetType | None = UNSET
    class_name: Name | UnsetType | None = UNSET
    class_names: list[Name] | UnsetType | None = UNSET
    confidence: float | UnsetType | None = UNSET
    confidences: list[float] | UnsetType | None = UNSET
    top: float | UnsetType | None = UNSET
    left: float | UnsetType | None = UNSET
    height: float | UnsetType | None = UNSET
    width: float | UnsetType | None = UNSET
    logits: Any = UNSET
    encoded_logits: Any = UNSET
    embeddings: Any = UNSET
    grad_embeddings: Any = UNSET
    segmentation_class_mask: Any = UNSET
    encoded_segmentation_class_mask: Any = UNSET
    bboxes: BoundingBoxes | UnsetType | None = UNSET
    lanes: Lanes | UnsetType | None = UNSET
    completions: Completions | UnsetType | None = UNSET
    metrics: Metrics | UnsetType | None = UNSET


class Record(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One datapoint with its tags, ground truths and predictions.

    After parsing: `timestamp` is a UTC datetime, `gps_coordinates` {"lat", "long"} in degrees,
    `metadata` the text of a JSON object without nulls, ids lower-case UUIDs with dashes.

    >>> Record(type="IMAGE", tags={"split": "train"}).tags
    {'split': 'train'}
    """

    id: str | UnsetType | None = UNSET
    organization_id: Name | UnsetType | None = UNSET
    type: DatapointType | UnsetType | None = UNSET
    metadata: Metadata = NO_METADATA
    text: Text | UnsetType | None = UNSET
    timestamp: Any = UNSET
    gps_coordinates: dict[str, float] | UnsetType | None = UNSET
    parent_datapoint: str | UnsetType | None = UNSET
    request_id: Name | UnsetType | None = UNSET
    tags: dict[Name, TagValue | None] | UnsetType | None = UNSET
    groundtruths: GroundTruths | UnsetType | None = UNSET
    predictions: Predictions | UnsetType | None = UNSET
    preprocessor: dict[str, Any] | UnsetType | None = msgspec.field(
        default=UNSET, name="_preprocessor"
    )
