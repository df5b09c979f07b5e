"""A record on the device -> the number or the vector by which a strategy judges it.

The same as the lake derives from the same record when it is ingested: logits as float32, computed
in float64; embeddings pooled and as float16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml.edge.encode import decode_array
from katiml.errors import InvalidRecord
from katiml.miners import scores
from katiml.records import derived
from katiml.records.arrays import pool_embedding, to_float16_or_float32

__all__ = ["METRICS", "number_of", "vector_of"]

# Strategy -> the name of its number, as in `metrics` of the lake.
METRICS = {
    "ENTROPY": "entropy",
    "MARGIN": "margin",
    "CONFIDENCE": "least_confidence",
    "VARIANCE": "variance",
    "BALD": "bald",
}
Prediction = Mapping[str, Any]


def number_of(
    record: Mapping[str, Any], metric: str, model_name: str | None = None, aggregate: str = "sum"
) -> float:
    """The `metric` of a record's prediction, or of its boxes, lanes and completions together.

    `metric` is entropy, margin, least_confidence, variance or bald. Without `model_name` the record
    has one prediction. Raises InvalidRecord where the number does not follow from the prediction.

    >>> said = {"task_type": "CLASSIFICATION", "model_name": "net", "logits": [0.0, 0.0]}
    >>> number_of({"predictions": [said]}, "entropy")
    1.0
    """
    prediction = _prediction(record, model_name)[0]
    number = _own(prediction, metric)
    if number is None:
        parts = [
            value for child in _children(prediction) if (value := _of(*child, metric)) is not None
        ]
        found = scores.aggregate(parts, [0] * len(parts), 1, aggregate)
        number = float(found[0]) if parts else None
    if number is None:
        raise InvalidRecord(
            f"no {metric} follows from this prediction",
            path="predictions",
            hint="it needs logits or confidences (several passes for variance and bald), or "
            f"metrics.{metric}",
        )
    if not np.isfinite(number):
        raise InvalidRecord(f"{metric} is {number}", path="predictions")
    return number


def vector_of(
    record: Mapping[str, Any], model_name: str | None = None, field: str = "embeddings"
) -> NDArray[np.float64]:
    """The (D,) embedding `model:layer` (or the logits of `model`) as the lake keeps it.

    Without a layer the prediction has one embedding. Raises InvalidRecord where there is none.

    >>> said = {"model_name": "net", "embeddings": {"pool": [0.1, 2.0]}}
    >>> vector_of({"predictions": [said]}, "net:pool").tolist()
    [0.0999755859375, 2.0]
    """
    prediction, layer = _prediction(record, model_name)
    values = prediction.get(field)
    if isinstance(values, Mapping):
        names = [name for name, value in values.items() if value is not None]
        if layer is None and len(names) == 1:
            layer = names[0]
        if layer not in names:
            raise InvalidRecord(
                f"no {field} of a layer {layer!r}" if layer else f"several {field}",
                path=f"predictions.{field}",
                hint=f"layers here: {', '.join(map(repr, names)) or 'none'}; name 'model:layer'",
            )
        values = values[layer]
    if values is None:
        raise InvalidRecord(f"the prediction has no {field}", path=f"predictions.{field}")
    array = _array(values, field)
    if field != "logits":
        return _kept(pool_embedding(array))
    # Logits of several passes become their mean.
    passes = to_float16_or_float32(array)
    flat = passes.mean(axis=0, dtype=np.float32) if array.ndim == 2 else passes.reshape(-1)
    return np.asarray(flat, np.float64)


def _kept(array: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """An embedding as it comes out of the lake."""
    return np.asarray(to_float16_or_float32(array), np.float64)


def _prediction(record: Mapping[str, Any], model_name: str | None) -> tuple[Prediction, str | None]:
    """The prediction of that model, and the layer that `model:layer` names."""
    found = record.get("predictions", record.get("prediction"))
    predictions = [found] if isinstance(found, Mapping) else found
    if not isinstance(predictions, Sequence) or not all(
        isinstance(item, Mapping) for item in predictions
    ):
        raise InvalidRecord("the record has no predictions", path="predictions")
    names = [str(item.get("model_name") or "") for item in predictions]
    if model_name is None and len(predictions) == 1:
        return predictions[0], None
    for name, item in zip(names, predictions, strict=True):
        if model_name == name:
            return item, None
        if model_name is not None and model_name.startswith(f"{name}:"):
            return item, model_name[len(name) + 1 :]
    raise InvalidRecord(
        f"no prediction of the model {model_name!r}" if model_name else "not one prediction",
        path="predictions",
        hint=f"models here: {', '.join(map(repr, names)) or 'none'}",
    )


def _array(value: Any, field: str) -> NDArray[np.float64]:
    """Numbers as the lake reads them: float32, then float64 for arithmetic."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    try:
        array = decode_array(value) if isinstance(value, str) else np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise ValueError(f"an array of {array.dtype}")
    except (ValueError, TypeError) as error:
        raise InvalidRecord(f"{error}", path=f"predictions.{field}") from None
    if array.size == 0 or not np.isfinite(array).all():
        what = "is empty" if array.size == 0 else "holds NaN or infinity"
        raise InvalidRecord(f"{field} {what}", path=f"predictions.{field}")
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    return (narrow if np.isfinite(narrow).all() else array).astype(np.float64)


def _own(prediction: Prediction, metric: str) -> float | None:
    """What was sent as a metric wins, then what logits imply, then confidences."""
    stated = _stated(prediction, metric)
    if stated is not None:
        return stated
    if prediction.get("logits") is not None:
        logits = _array(prediction["logits"], "logits")
        return _from_logits(logits, prediction, metric)
    return _from_confidences(prediction, metric)


def _stated(item: Mapping[str, Any], metric: str) -> float | None:
    value = (item.get("metrics") or {}).get(metric)
    return None if value is None else float(value)


def _from_logits(logits: NDArray[np.float64], prediction: Prediction, metric: str) -> float | None:
    found: derived.Classification | derived.Segmentation
    if logits.ndim == 1:
        found = derived.classification_from_logits(logits[None])
    elif logits.ndim == 2:
        found = derived.classification_from_passes(logits[None])
    elif logits.ndim == 3:
        found = derived.segmentation_from_logits(logits)
    elif logits.ndim == 4:
        found = derived.segmentation_from_passes(logits)
    else:
        raise InvalidRecord(f"logits of {logits.ndim} dimensions", path="predictions.logits")
    if metric in ("margin", "least_confidence"):
        # Confidences that were sent stay as they are in the lake.
        sent = {
            "confidences": np.reshape(found.confidences, -1),
            "confidence": float(np.reshape(found.confidence, -1)[0]),
            **{
                name: prediction[name]
                for name in ("confidences", "confidence")
                if prediction.get(name) is not None
            },
        }
        return _from_confidences(sent, metric)
    value = getattr(found, metric)
    return None if value is None else float(np.reshape(value, -1)[0])


def _from_confidences(item: Mapping[str, Any], metric: str) -> float | None:
    confidences, confidence = item.get("confidences"), item.get("confidence")
    values = None
    if confidences is not None and len(confidences):
        values = np.asarray(confidences, np.float64)
    if metric == "least_confidence":
        if confidence is None and values is not None:
            confidence = values.max()
        return None if confidence is None else 1.0 - float(confidence)
    if values is None:
        return None
    if metric == "entropy":
        return float(derived.entropy(values))
    if metric == "margin" and len(values) > 1:
        return float(scores.margin(values))
    return None


def _children(prediction: Prediction) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in ("bboxes", "lanes", "completions"):
        for child in prediction.get(name) or ():
            if isinstance(child, Mapping):
                yield name, child


def _of(kind: str, child: Mapping[str, Any], metric: str) -> float | None:
    """The number of one box, lane or completion."""
    stated = _stated(child, metric)
    if stated is not None:
        return stated
    if kind == "lanes" and metric == "entropy":
        parts = [
            value
            for item in child.get("classifications") or ()
            if (value := _stated(item, metric)) is not None
            or (value := _from_confidences(item, metric)) is not None
        ]
        return sum(parts) if parts else None
    return _from_confidences(child, metric)
