"""What clients send: one Struct a kind of request, checked and bounded when it is decoded.

Names are those of the original client (`selectColumns`, `orderBy`); a name that is not listed
is refused, so that a typing mistake is not silently a wider answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from katiml.errors import InvalidInput

__all__ = [
    "BODIES",
    "Buckets",
    "Checkout",
    "Commit",
    "Count",
    "DatapointIds",
    "DatasetName",
    "Delete",
    "DiffOf",
    "Distinct",
    "Distribution",
    "Evaluate",
    "EventIds",
    "Filters",
    "Ingest",
    "KeySuggestions",
    "Members",
    "MergeOf",
    "Miner",
    "MinerId",
    "Mistakes",
    "ModelNames",
    "NewApiKey",
    "NewRetention",
    "Projection",
    "Purge",
    "Restore",
    "RestoreDraft",
    "Select",
    "SignIn",
    "Sql",
    "Tag",
    "Undo",
    "ValueSuggestions",
    "VectorIds",
    "VersionTag",
    "body",
    "of_datapoints",
    "schema_of",
    "wrong_body",
]

Body = TypeVar("Body", bound=msgspec.Struct)

_LARGEST = 2**63 - 1
Filters = Annotated[
    list[Any],
    Meta(
        max_length=10_000,
        description="Filters {left, op, right}, all of which must hold, or the groups"
        ' {"any": […]}, {"all": […]}, {"not": …}, {"exists": table, "where": […]}',
        examples=[[{"left": "tags.name", "op": "=", "right": "source"}]],
        extra_json_schema={"items": {"type": "object", "additionalProperties": True}},
    ),
]
_Limit = Annotated[int, Meta(ge=0, le=_LARGEST)]
_Text = Annotated[str, Meta(max_length=100_000)]
_Name = Annotated[str, Meta(max_length=1_000)]
_Ids = Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=2_000_000)]


class _Body(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    pass


class _Seen(_Body):
    """`datasetId` narrows to the members of a dataset, as they are now; `versionId` to those of a
    version, as they were."""

    dataset_id: _Name | None = None
    version_id: _Name | None = None


class _Page(_Seen):
    filters: Filters | None = None
    order_by: _Name | None = None
    desc: bool | None = None
    limit: _Limit | None = None
    offset: _Limit | None = None


class Select(_Page):
    """Rows of one table. `after` is the id of a row: what follows it, as a page that nothing
    shifts."""

    select_columns: Annotated[list[_Name], Meta(max_length=1_000)] | None = None
    after: _Text | None = None


class Delete(_Page):
    """`returning` is "rows" (what was deleted) or "counts" (rows deleted, by table); with counts,
    empty filters need `all`."""

    returning: Annotated[str, Meta(pattern="^(rows|counts)$")] | None = None
    all: bool | None = None


class Count(_Seen):
    """How many rows match."""

    filters: Filters | None = None


class VectorIds(_Page):
    """Vectors of the datapoints that match."""

    type: _Name | None = None
    model_name: _Name | None = None


class EventIds(_Body):
    """Datapoints by the `request_id` they were sent with."""

    event_uuids: _Ids


class DatasetName(_Body):
    """A new dataset, or with `getOrCreate` the oldest one of that name; with `uuid` another name
    for that one."""

    display_name: _Name
    uuid: _Name | None = None
    get_or_create: bool | None = None


class _Edit(_Body):
    """`revision` is the one last seen: where the dataset has another now, 409."""

    author: _Name | None = None
    revision: _Limit | None = None


class Members(_Edit):
    """One of: ids, filters of datapoints, or `all`."""

    datapoint_ids: _Ids | None = None
    filters: Filters | None = None
    all: bool | None = None


class Commit(_Edit, kw_only=True):
    """`allowEmpty` false refuses a commit without changes."""

    message: _Text
    allow_empty: bool | None = None


class Checkout(_Edit):
    """`force` false refuses where there are uncommitted changes."""

    force: bool | None = None


class RestoreDraft(_Edit):
    """A draft by its number, by default the latest."""

    draft: _Limit | None = None
    force: bool | None = None


class MergeOf(_Edit, kw_only=True):
    """Versions by id, tag or HEAD; `ours` is by default the head."""

    theirs: _Name
    ours: _Name | None = None
    message: _Text | None = None


class VersionTag(_Body):
    """A name for a version, by default for the head; `force` moves a name that is taken."""

    name: _Name
    version: _Name | None = None
    force: bool | None = None


class DiffOf(_Body):
    """Ids of versions, of one dataset or two; the id of an uncommitted version serves too."""

    before: _Name
    after: _Name
    ids: bool | None = None
    distributions: bool | None = None


class DatapointIds(_Body):
    """Attachments of these datapoints."""

    datapoint_ids: _Ids


class Distinct(_Seen):
    """Distinct values among the attachments of the datapoints that match."""

    datapoint_filters: Filters | None = None
    limit: _Limit | None = None
    offset: _Limit | None = None


class ModelNames(Distinct):
    """`filters` are those of the predictions themselves."""

    filters: Filters | None = None


class KeySuggestions(_Seen):
    """Fields that begin like `key`."""

    key: _Name = ""


class ValueSuggestions(_Seen, kw_only=True):
    """Values of the field `key` that begin like `value`."""

    key: _Name
    value: _Text | int | float | bool | None = None


class Distribution(_Seen):
    """Datapoints by class, tag or interval of a metric."""

    filters: Filters | None = None
    model_name: _Name | None = None


class Buckets(_Seen, kw_only=True):
    """How often each class, tag or interval of a field occurs among the datapoints that match."""

    field: _Name
    filters: Filters | None = None
    model_name: _Name | None = None
    bins: Annotated[int, Meta(ge=1, le=1_000)] = 20
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100


class Tag(_Body):
    """A tag for the datapoints that match; `value` null takes it away. Without filters `all` has to
    be true."""

    name: _Name
    value: Annotated[str, Meta(max_length=100_000)] | None = None
    filters: Filters | None = None
    all: bool | None = None


class SignIn(_Body):
    """An API key, or nothing: then the session is that of the person who runs the server."""

    key: Annotated[str, Meta(max_length=1_000)] | None = None


_Share = Annotated[float, Meta(ge=0, le=1)]


class Evaluate(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A model against the ground truths of the datapoints that match. Boxes of at least
    `min_confidence` that overlap by `iou_threshold` are taken to be the same; `count_missing`
    counts datapoints without a prediction as wrong."""

    model_name: _Name
    datapoint_filters: Filters | None = None
    dataset_id: _Name | None = None
    version_id: _Name | None = None
    task_type: _Name | None = None
    iou_threshold: _Share | None = None
    min_confidence: _Share | None = None
    ignore_classes: Annotated[list[_Name], Meta(max_length=10_000)] | None = None
    count_missing: bool | None = None


class Mistakes(Evaluate):
    """One cell of the confusion matrix; without `truth` or `predicted`, all mistakes of its row or
    column. `(none)` is what is not there."""

    truth: _Name | None = None
    predicted: _Name | None = None
    limit: Annotated[int, Meta(ge=0, le=10_000)] | None = None


class Projection(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Vectors as points of a plane. `algorithm_name` is UMAP, TSNE or PCA; with `dataset_ids`, of
    the members of these datasets. `background` answers at once with the task."""

    embeddings_name: Annotated[str | None, Meta(description="model:layer")] = None
    algorithm_name: _Name = "UMAP"
    datapoint_filters: Filters | None = None
    dataset_id: _Name | None = None
    dataset_ids: Annotated[list[_Name], Meta(max_length=100)] | None = None
    embeddings_field: _Name = "embeddings"
    limit: _Limit | None = None
    order_by: _Name | None = None
    desc: bool | None = None
    seed: _Limit = 0
    skip_caching: bool = False
    background: bool = False


class Ingest(_Body):
    """One of: `records`, committed when the answer comes; `url`, with the lines `offset` to
    `limit` of it, or `urls`, read in the background."""

    records: list[Any] | None = None
    url: _Text | None = None
    urls: Annotated[list[_Text], Meta(max_length=10_000)] | None = None
    offset: _Limit | None = None
    limit: _Limit | None = None


class MinerSelect(msgspec.Struct, kw_only=True):
    """Which datapoints: those that pass `filters`, the first `limit` of them by `order_by`; of the
    members of a dataset or version, but for those of another dataset."""

    filters: Filters | None = None
    limit: _Limit | None = None
    order_by: _Name | None = None
    desc: bool | None = None
    dataset_id: _Name | None = None
    version_id: _Name | None = None
    exclude_dataset_id: _Name | None = None


class Miner(msgspec.Struct, kw_only=True):
    """What to mine. With `_id` an existing miner is told something else: what is left out stays.
    More names are parameters of the strategy, such as `metric`; `/api/tasks/miners/strategies` has
    them all."""

    strategy: _Name
    size: Annotated[int, Meta(ge=1)]
    id: Annotated[str | None, Meta(description="of an existing miner")] = msgspec.field(
        name="_id", default=None
    )
    display_name: _Name | None = None
    select: MinerSelect | None = None
    select_reference: MinerSelect | None = None
    model_name: _Name | list[_Name] | None = None
    embeddings_field: (
        Annotated[str, Meta(pattern="^(embeddings|grad_embeddings|logits)$")] | None
    ) = None
    seed: Annotated[int, Meta(ge=0)] | None = None
    skip_caching: bool | None = None
    evaluation_period: Annotated[str, Meta(description="ISO 8601, such as P1D")] | None = None


class MinerId(msgspec.Struct, forbid_unknown_fields=True):
    """Which miner."""

    miner_id: _Name


class NewApiKey(_Body):
    """A name to tell keys apart."""

    name: _Name = ""


class Undo(_Body):
    """`change`: the number of a change, or the id of an upload for all of it; by default whatever
    was last. With `dryRun` the answer says what would happen, and nothing does."""

    change: Annotated[int, Meta(ge=0, le=_LARGEST)] | _Name | None = None
    dry_run: bool | None = None


class Restore(_Body):
    """Deleted datapoints: by filters that see them as they were, by id, by the change that deleted
    them, or all."""

    filters: Filters | None = None
    ids: _Ids | None = None
    change: Annotated[int, Meta(ge=0, le=_LARGEST)] | None = None
    all: bool | None = None
    dry_run: bool | None = None


class Purge(_Body):
    """Datapoints, deleted or not: by filters, by id, or all."""

    filters: Filters | None = None
    ids: _Ids | None = None
    all: bool | None = None
    dry_run: bool | None = None


class NewRetention(_Body):
    """An ISO 8601 duration such as P90D, or "forever"; null for what is usual."""

    retention: _Name | None = None


class Sql(_Body):
    """One read-only statement."""

    query: _Text


BODIES: list[type[msgspec.Struct]] = [
    Ingest,
    Select,
    Delete,
    Count,
    VectorIds,
    EventIds,
    DatapointIds,
    Distinct,
    ModelNames,
    KeySuggestions,
    ValueSuggestions,
    Distribution,
    Miner,
    MinerId,
    Buckets,
    Tag,
    SignIn,
    Evaluate,
    Mistakes,
    NewApiKey,
    Projection,
    Sql,
    DatasetName,
    Members,
    Commit,
    Checkout,
    RestoreDraft,
    MergeOf,
    VersionTag,
    DiffOf,
    Undo,
    Restore,
    Purge,
    NewRetention,
]


def decode(data: bytes, model: type[Body]) -> Body:
    """One body; nothing at all is the same as `{}`.

    >>> decode(b'{"limit": 3}', Select).limit
    3
    """
    try:
        return msgspec.json.decode(data or b"{}", type=model)
    except msgspec.ValidationError as error:
        names = ", ".join(field.encode_name for field in msgspec.structs.fields(model))
        raise wrong_body(f"wrong body: {error}", f"the body may have: {names}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(
            f"the body is not JSON: {error}", hint='send a JSON object, such as {"filters": []}'
        ) from None


def body(model: type[Body]) -> Callable[[Request], Any]:
    """A dependency that reads the request's body as `model`."""

    async def read(request: Request) -> Body:
        data = await request.body()
        # A list of a million ids takes a second to decode: never on the event loop.
        if len(data) < 100_000:
            return decode(data, model)
        return await run_in_threadpool(decode, data, model)

    return read


def schema_of(model: type[msgspec.Struct]) -> dict[str, Any]:
    """`openapi_extra` of a route that takes `model`."""
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"content": {"application/json": {"schema": reference}}}}


def of_datapoints(filters: list[Any] | None) -> list[Any]:
    """Filters of datapoints, as filters of their attachments.

    >>> of_datapoints([{"left": "type", "op": "=", "right": "IMAGE"}])
    [{'exists': 'datapoints', 'where': [{'left': 'type', 'op': '=', 'right': 'IMAGE'}]}]
    """
    return [{"exists": "datapoints", "where": filters}] if filters else []


def wrong_body(message: str, hint: str) -> InvalidInput:
    """The error for JSON that is not what an address takes."""
    error = InvalidInput(message, hint=hint)
    error.status = 422
    return error
