"""Every older spelling of a record -> the one of today, and a name for each field that is none.

| Sent | Read as |
|---|---|
| `"prediction.class_name": x`, at any depth | `"prediction": {"class_name": x}` |
| `prediction`, `groundtruth`: an object, a list or text | a list; text is a `class_name` |
| `image_metadata`, `video_metadata`, `audio_metadata`, `text_metadata` | `metadata` and `type` |
| `text` | also sets `type` to TEXT, whatever it was |
| `__time` | `timestamp` |
| `bottom`, `right` beside `top`, `left` | `height`, `width` |
| no `task_type` and no `id`, but a side of a box | OBJECT_DETECTION |
| ... but a segmentation class mask | SEGMENTATION |
| ... but a `class_name` | CLASSIFICATION |
| ... but `completions` | COMPLETION |
| `model_id` | `model_name` of the predictions that have none |
| `start`, `end`, `relevance` of an attachment | its `metrics` |
| tag values and class names that are numbers | their JSON text |
| `type`, `task_type`: null | not sent |

Columns that the lake itself writes (`created_at`, `datapoint`, ...) and fields of the event format
that no reader is left for (`model_type`, `benchmark_id`, ...) are passed over, so what was selected
can be sent again. Any other unknown field is refused: a silently dropped typo loses data.
"""

from __future__ import annotations

import difflib
import json
from typing import Any

import msgspec

from katiml.errors import InvalidRecord
from katiml.records.faults import within
from katiml.records.model import (
    BoundingBox,
    Classification,
    Completion,
    GroundTruth,
    Lane,
    Prediction,
    Record,
)

__all__ = ["normalise"]

_TYPED_METADATA = {f"{kind.lower()}_metadata": kind for kind in ("IMAGE", "VIDEO", "AUDIO", "TEXT")}
_METADATA = ("metadata", *_TYPED_METADATA)
# Their keys are the user's own: dots inside are part of a name.
_FREE = frozenset({"tags", "metrics", "embeddings", "grad_embeddings"})
_BOX_SIDES = ("top", "left", "bottom", "right", "height", "width")
_METRIC_FIELDS = ("start", "end", "relevance")
_PASSED_OVER: dict[type[Any], frozenset[str]] = {
    Record: frozenset(
        {"created_at", "updated_at", "row", "feature_vectors", "bboxes", "lanes", "completions"}
        | {"model_type", "dataset_id", "benchmark_id", "features", "mc_dropout"}
        | {"query_by_committee"}
    ),
    GroundTruth: frozenset(
        {"organization_id", "created_at", "datapoint", "encoded_resized_segmentation_class_mask"}
    ),
}
_PASSED_OVER[Prediction] = _PASSED_OVER[GroundTruth] | {
    "feature_vectors",
    "model_type",
    "mc_dropout",
    "query_by_committee",
}
_CHILD_COLUMNS = frozenset(
    {"organization_id", "created_at", "datapoint", "groundtruth", "prediction"}
)
_PASSED_OVER[BoundingBox] = _CHILD_COLUMNS | {"encoded_resized_segmentation_mask"}
_PASSED_OVER[Lane] = _PASSED_OVER[Completion] = _CHILD_COLUMNS
_PASSED_OVER[Classification] = frozenset()
_FIELDS = {kind: frozenset(kind.__struct_encode_fields__) for kind in _PASSED_OVER}
_CHILDREN: dict[str, type[msgspec.Struct]] = {
    "bboxes": BoundingBox,
    "lanes": Lane,
    "completions": Completion,
    "classifications": Classification,
}


def normalise(record: dict[str, Any]) -> dict[str, Any]:
    """A record in today's spelling; what was sent is not changed.

    Raises InvalidRecord with the path of a field that means nothing.

    >>> normalise({"image_metadata.uri": "s3://b/1.jpg", "tags.split": "train"})
    {'tags': {'split': 'train'}, 'metadata': {'uri': 's3://b/1.jpg'}, 'type': 'IMAGE'}
    >>> normalise({"groundtruth": "cat"})["groundtruths"]
    [{'class_name': 'cat', 'task_type': 'CLASSIFICATION'}]
    """
    result = _expand(record)
    _take_metadata(result)
    if "__time" in result:
        moment = result.pop("__time")
        result.setdefault("timestamp", moment)
    for singular, plural in (("groundtruth", "groundtruths"), ("prediction", "predictions")):
        _take_singular(result, singular, plural)
    model_id = result.pop("model_id", None)
    if isinstance(result.get("tags"), dict):
        result["tags"] = {name: _tag(name, value) for name, value in result["tags"].items()}
    for name, kind in (("groundtruths", GroundTruth), ("predictions", Prediction)):
        if result.get(name) is not None:
            items = _as_list(result[name])
            result[name] = [
                None if item is None else _attachment(item, kind, f"{name}[{index}]", model_id)
                for index, item in enumerate(items)
            ]
    return _known(result, Record)


def _expand(fields: dict[str, Any]) -> dict[str, Any]:
    """Dotted names as nested objects."""
    if not any("." in name for name in fields):
        return dict(fields)
    result = {
        # Copied, because dotted names may add to them.
        name: dict(value) if isinstance(value, dict) else value
        for name, value in fields.items()
        if "." not in name
    }
    for dotted, value in fields.items():
        head, dot, rest = dotted.partition(".")
        if not dot:
            continue
        steps = rest.split(".") if head in _METADATA else [rest]
        inner = result.setdefault(head, {})
        for step in steps[:-1]:
            if isinstance(inner, dict):
                inner = inner.setdefault(step, {})
        if not isinstance(inner, dict):
            raise InvalidRecord(f"{head!r} is also sent, and is no object", path=dotted)
        inner[steps[-1]] = value
    return result


def _take_metadata(result: dict[str, Any]) -> None:
    for name, kind in _TYPED_METADATA.items():
        if name not in result:
            continue
        typed = result.pop(name)
        if typed is None:
            continue
        beside = result.get("metadata") or {}
        if not isinstance(typed, dict) or not isinstance(beside, dict):
            raise InvalidRecord("metadata is an object", path=name)
        result["metadata"] = {**typed, **beside}
        if result.get("type") is None:
            result["type"] = kind


def _take_singular(result: dict[str, Any], singular: str, plural: str) -> None:
    if singular in result:
        items = _as_list(result.pop(singular))
        result[plural] = [*_as_list(result.get(plural)), *items]


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _attachment(
    item: Any, kind: type[msgspec.Struct], step: str, model_id: Any = None
) -> dict[str, Any]:
    if isinstance(item, str):
        item = {"class_name": item}
    if not isinstance(item, dict):
        raise InvalidRecord("an object is expected", path=step)
    try:
        result = _expand(item)
        if kind is Prediction:
            model_id = result.pop("model_id", None) or model_id
            if model_id is not None and not result.get("model_name"):
                result["model_name"] = str(model_id)
        if result.get("task_type") is None and result.get("id") is None:
            inferred = _infer_task_type(result)
            if inferred:
                result["task_type"] = inferred
        _take_metrics(result)
        return _fields(result, kind)
    except InvalidRecord as error:
        raise within(error, step) from None


def _take_metrics(result: dict[str, Any]) -> None:
    for name in _METRIC_FIELDS:
        if name in result:
            metrics = result.get("metrics")
            if metrics is not None and not isinstance(metrics, dict):
                raise InvalidRecord("metrics is an object", path="metrics")
            result["metrics"] = {**(metrics or {}), name: result.pop(name)}


def _infer_task_type(item: dict[str, Any]) -> str | None:
    present = {name for name, value in item.items() if value is not None}
    if present.intersection(_BOX_SIDES):
        return "OBJECT_DETECTION"
    if {"segmentation_class_mask", "encoded_segmentation_class_mask"} & present:
        return "SEGMENTATION"
    if "class_name" in present:
        return "CLASSIFICATION"
    return "COMPLETION" if "completions" in present else None


def _fields(result: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """What attachments and the things inside them have in common; changes `result`."""
    _take_corner(result, kind)
    if "class_name" in result:
        result["class_name"] = _label(result["class_name"])
    if isinstance(result.get("class_names"), list):
        result["class_names"] = [_label(name) for name in result["class_names"]]
    if isinstance(result.get("metrics"), dict):
        for name, value in result["metrics"].items():
            _check_metric(name, value)
    for name, child in _CHILDREN.items():
        items = result.get(name)
        if isinstance(items, list) and name in _FIELDS[kind]:
            result[name] = [
                None if item is None else _child(item, child, f"{name}[{index}]")
                for index, item in enumerate(items)
            ]
    return _known(result, kind)


def _child(item: Any, kind: type[msgspec.Struct], step: str) -> dict[str, Any]:
    if isinstance(item, str) and kind is Completion:
        item = {"text": item}
    if not isinstance(item, dict):
        raise InvalidRecord("an object is expected", path=step)
    try:
        return _fields(_expand(item), kind)
    except InvalidRecord as error:
        raise within(error, step) from None


def _take_corner(result: dict[str, Any], kind: type[msgspec.Struct]) -> None:
    if "top" not in _FIELDS[kind]:
        return
    for far, near, length in (("bottom", "top", "height"), ("right", "left", "width")):
        if far not in result:
            continue
        end, start = result.pop(far), result.get(near)
        if end is None or result.get(length) is not None:
            continue
        if not _is_number(end) or not _is_number(start):
            raise InvalidRecord(f"{far} needs {near}, both as numbers", path=far)
        result[length] = end - start


def _label(value: Any) -> Any:
    return str(value) if type(value) is int else value


def _tag(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise InvalidRecord(
        "a tag value is text, a number, true, false or null",
        path=f"tags.{name}",
        hint="nested values belong into metadata",
    )


def _check_metric(name: str, value: Any) -> None:
    values = value.values() if isinstance(value, dict) else (value,)
    if not all(item is None or _is_number(item) for item in values):
        raise InvalidRecord("a metric is a number", path=f"metrics.{name}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _known(result: dict[str, Any], kind: type[Any]) -> dict[str, Any]:
    fields = _FIELDS[kind]
    extra = result.keys() - fields
    for name in sorted(extra):
        if name not in _PASSED_OVER[kind]:
            close = difflib.get_close_matches(name, fields, n=1)
            known = ", ".join(sorted(fields))
            hint = f"did you mean {close[0]!r}?" if close else f"fields are: {known}"
            raise InvalidRecord(f"unknown field {name!r}", path=name, hint=hint)
    if extra:
        return {name: value for name, value in result.items() if name in fields}
    return result
