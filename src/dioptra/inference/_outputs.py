"""What a model said of one batch -> predictions, as records hold them. NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml.errors import InvalidInput
from katiml.records.arrays import pool_embeddings

__all__ = ["MODEL_TYPES", "Outputs", "check_model_type", "half", "predictions_of", "to_array"]

MODEL_TYPES = (
    "CLASSIFICATION",
    "OBJECT_DETECTION",
    "INSTANCE_SEGMENTATION",
    "SEGMENTATION",
    "LANE_DETECTION",
    "COMPLETION",
)
Array = NDArray[Any]


@dataclass
class Outputs:
    """One batch. Arrays have the items as their first axis; logits of several passes the passes
    as their second. `items` are fields of the predictions, one dict each."""

    count: int
    logits: Array | None = None
    embeddings: dict[str, Array] = field(default_factory=dict)
    grad_embeddings: dict[str, Array] = field(default_factory=dict)
    items: Sequence[Mapping[str, Any]] | None = None


def check_model_type(model_type: str) -> str:
    """The task type of a model. Raises InvalidInput for an unknown one.

    >>> check_model_type("SEMANTIC_SEGMENTATION")
    'SEGMENTATION'
    """
    found = {"SEMANTIC_SEGMENTATION": "SEGMENTATION"}.get(model_type, model_type)
    if found not in MODEL_TYPES:
        raise InvalidInput(
            f"model_type is {model_type!r}", hint=f"it is one of {', '.join(MODEL_TYPES)}"
        )
    return found


def predictions_of(
    outputs: Outputs,
    common: Mapping[str, Any],
    *,
    channel_last: bool = False,
    passes: int = 0,
    pool: bool = True,
) -> list[dict[str, Any]]:
    """One prediction for each item: `common`, its own fields, and what there is of vectors.

    With `channel_last`, images of features come as height x width x channels. With `pool`, those
    above 5,000 values are pooled here as the lake would do it, which leaves less to send.

    >>> predictions_of(Outputs(1, logits=np.array([[0.5, 1.0]])), {"model_name": "m"})
    [{'model_name': 'm', 'logits': array([0.5, 1. ], dtype=float32)}]
    """
    found: list[dict[str, Any]] = [dict(common) for _ in range(outputs.count)]
    if outputs.logits is not None:
        logits = _logits(outputs.logits, common, passes, channel_last)
        for prediction, own in zip(found, logits, strict=True):
            prediction["logits"] = own
    for name in ("embeddings", "grad_embeddings"):
        layers = {
            layer: _vectors(array, layer, channel_last, pool)
            for layer, array in getattr(outputs, name).items()
        }
        if layers:
            for index, prediction in enumerate(found):
                prediction[name] = {layer: array[index] for layer, array in layers.items()}
    if outputs.items is not None:
        for prediction, item in zip(found, outputs.items, strict=True):
            prediction.update(item)
    return found


def half(array: Array) -> Array:
    """float16 where that holds the values, else float32: what the lake stores in the end."""
    with np.errstate(over="ignore"):
        small = array.astype(np.float16)
        if np.isinf(small).any():
            return array.astype(np.float32)
    return small


def to_array(value: Any) -> Array:
    """A tensor of any framework, wherever it lives, as a NumPy array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        # NumPy has no such type.
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    return np.asarray(value)


def _logits(array: Array, common: Mapping[str, Any], passes: int, channel_last: bool) -> Array:
    lead = 2 if passes else 1
    if array.ndim == lead:
        array = array[..., None]
    if channel_last and array.ndim == lead + 3:
        array = np.moveaxis(array, -1, lead)
    is_map = common.get("task_type") == "SEGMENTATION"
    if common.get("task_type") in ("CLASSIFICATION", "SEGMENTATION"):
        wanted = lead + (3 if is_map else 1)
        if array.ndim != wanted:
            shape = "classes x height x width" if is_map else "classes"
            raise InvalidInput(
                f"logits of shape {array.shape[lead:]} for an item of a"
                f" {common['task_type']} model, where {shape} is expected",
                hint="choose another logits_layer, or give a logits_transform",
            )
        _check_names(common.get("class_names") or (), array.shape[lead])
    # Of a few logits nothing is to be gained, of a map half its bytes.
    return half(array) if array.ndim > lead + 1 else array.astype(np.float32)


def _check_names(class_names: Sequence[str], classes: int) -> None:
    # One logit of a binary model may go with both names.
    if class_names and len(class_names) != classes and (classes, len(class_names)) != (1, 2):
        raise InvalidInput(
            f"class_names has {len(class_names)} names, the logits have {classes} classes",
            hint="one name for each logit, in their order",
        )


def _vectors(array: Array, layer: str, channel_last: bool, pool: bool) -> Array:
    if array.ndim == 1:
        array = array[:, None]
    if not 2 <= array.ndim <= 4:
        raise InvalidInput(
            f"layer {layer!r} gives {array.ndim - 1} dimensions for an item: {array.shape[1:]}",
            hint="embeddings have 1 to 3; a pooling layer behind it has fewer",
        )
    if channel_last and array.ndim == 4:
        array = np.moveaxis(array, -1, 1)
    return half(pool_embeddings(array) if pool else array)
