"""The shapes of answers, for the OpenAPI document: what typed clients are generated from."""

from __future__ import annotations

import json
from typing import Any

import msgspec

__all__ = ["add_answers"]


class _Answer(msgspec.Struct, rename="camel", kw_only=True):
    pass


class Counts(_Answer, kw_only=True):
    """Records of an upload."""

    read: int
    landed: int
    rejected: int


class Execution(_Answer, kw_only=True):
    """The state of an upload."""

    id: str
    status: str
    input: dict[str, Any]
    output: Counts | None
    error_message: str | None = None
    error: dict[str, Any] | None
    start_date: str | None
    stop_date: str | None
    duration_ms: int
    counts: Counts
    progress: float | None


class ApiKey(msgspec.Struct, kw_only=True):
    """An API key without its secret."""

    id: str
    name: str
    prefix: str
    created_at: str


class MadeApiKey(_Answer, kw_only=True):
    """An API key with its secret, shown once."""

    id: str
    name: str
    key: str


class BrowserSession(_Answer, kw_only=True):
    """Whether a browser is signed in, and whether it may be without a key."""

    signed_in: bool
    local: bool
    organization_id: str | None
    version: str
    may_be_local: bool


class Bucket(_Answer, kw_only=True):
    """A class, a tag or an interval, and how often it occurs."""

    bucket: str
    count: int
    low: float | None = None
    high: float | None = None
    task_type: str | None = None


class BucketCounts(_Answer, kw_only=True):
    """The buckets of a field; `total` says how many there are, of which some may be left out."""

    buckets: list[Bucket]
    total: int
    numeric: bool


class Previous(_Answer, kw_only=True):
    """Datapoints that had a value before; null: they had no such tag."""

    value: str | None
    datapoint_ids: list[str]


class TagChange(_Answer, kw_only=True):
    """How many datapoints were tagged, and what they had."""

    datapoints: int
    previous: list[Previous] | None


class DemoState(_Answer, kw_only=True):
    """How far loading the demo data is."""

    status: str
    step: str
    done: int
    total: int
    error: str | None


class Stored(_Answer, kw_only=True):
    """Where an uploaded file is, for `ingest`."""

    url: str


class TagRow(msgspec.Struct, kw_only=True):
    """A tag of a datapoint."""

    id: str
    datapoint: str
    name: str
    value: str


class _Classed(msgspec.Struct, kw_only=True):
    id: str
    datapoint: str
    class_name: str | None
    class_names: list[str] | None
    top: float | None
    left: float | None
    height: float | None
    width: float | None
    metrics: dict[str, Any] | None


class GroundTruthRow(_Classed, kw_only=True):
    """A ground truth without its mask."""

    task_type: str | None


class PredictionRow(_Classed, kw_only=True):
    """A prediction without its mask."""

    task_type: str | None
    model_name: str | None
    confidence: float | None
    confidences: list[float] | None


class BoxRow(_Classed, kw_only=True):
    """A box of a ground truth or prediction, without its mask."""

    groundtruth: str | None
    prediction: str | None
    confidence: float | None
    confidences: list[float] | None
    objectness: float | None
    coco_polygon: list[float] | None


class LaneRow(msgspec.Struct, kw_only=True):
    """A lane of a ground truth or prediction."""

    id: str
    datapoint: str
    groundtruth: str | None
    prediction: str | None
    coco_polyline: list[float] | None
    confidence: float | None
    classifications: list[dict[str, Any]] | None
    metrics: dict[str, Any] | None


class CompletionRow(msgspec.Struct, kw_only=True):
    """A text of a ground truth or prediction."""

    id: str
    datapoint: str
    groundtruth: str | None
    prediction: str | None
    text: str | None
    confidence: float | None
    metrics: dict[str, Any] | None


class Attachments(msgspec.Struct, kw_only=True):
    """What is attached to some datapoints."""

    tags: list[TagRow]
    groundtruths: list[GroundTruthRow]
    predictions: list[PredictionRow]
    bboxes: list[BoxRow]
    lanes: list[LaneRow]
    completions: list[CompletionRow]


_EXECUTION = "/api/ingestion/executions"
_ANSWERS: dict[tuple[str, str], Any] = {
    ("get", "/api/session"): BrowserSession,
    ("post", "/api/session"): BrowserSession,
    ("delete", "/api/session"): BrowserSession,
    ("get", "/api/demo"): DemoState,
    ("post", "/api/demo"): DemoState,
    ("post", "/api/datapoints/attachments"): Attachments,
    ("post", "/api/datapoints/distribution"): BucketCounts,
    ("post", "/api/datapoints/tag"): TagChange,
    ("post", "/api/datapoints/count"): int,
    ("post", "/api/datapoints/delete"): Any,
    ("get", "/api/api-key"): list[ApiKey],
    ("post", "/api/api-key"): MadeApiKey,
    ("get", _EXECUTION): list[Execution],
    ("get", _EXECUTION + "/{upload_id}"): Execution,
    ("post", _EXECUTION + "/{upload_id}/cancel"): Execution,
    ("post", "/api/ingestion/ingest"): Execution,
    ("post", "/api/ingestion/upload"): Stored,
    ("post", "/api/suggestions/get-keys-suggestions"): list[str],
    ("post", "/api/suggestions/get-values-suggestions"): list[Any],
    ("post", "/api/predictions/select-distinct-model-names"): list[str],
    ("post", "/api/predictions/select-distinct-metrics"): list[str],
    ("post", "/api/tags/select-distinct-names"): list[str],
    ("get", "/api/sql/tables"): dict[str, list[str]],
    ("post", "/api/sql"): list[dict[str, Any]],
}


def add_answers(document: dict[str, Any]) -> None:
    """Put the schemas of answers into an OpenAPI document.

    >>> document = {"paths": {"/api/demo": {"get": {}}}}
    >>> add_answers(document)
    >>> sorted(document["components"]["schemas"]["DemoState"]["properties"])
    ['done', 'error', 'status', 'step', 'total']
    """
    named = {key: kind for key, kind in _ANSWERS.items() if key[1] in document["paths"]}
    schemas, components = msgspec.json.schema_components(
        named.values(), ref_template="#/components/schemas/{name}"
    )
    document.setdefault("components", {}).setdefault("schemas", {}).update(components)
    for (method, path), schema in zip(named, schemas, strict=True):
        operation = document["paths"][path].get(method)
        if operation is not None:
            answer = operation.setdefault("responses", {}).setdefault("200", {})
            answer.setdefault("description", "The answer")
            answer["content"] = {"application/json": {"schema": schema}}


def main() -> None:
    """Print the OpenAPI document: `python -m katiml.server.published > web/openapi.json`."""
    import tempfile

    import katiml
    from katiml.server.app import create_app

    with tempfile.TemporaryDirectory() as folder, katiml.connect(folder) as lake:
        print(json.dumps(create_app(lake).openapi(), indent=1))


if __name__ == "__main__":
    main()
