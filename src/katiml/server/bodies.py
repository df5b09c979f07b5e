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

from katiml.errors import InvalidInput, KatiMLError

__all__ = [
    "BODIES",
    "Checkout",
    "Commit",
    "Count",
    "DatapointIds",
    "DatasetName",
    "Delete",
    "DiffOf",
    "Distinct",
    "Distribution",
    "EventIds",
    "Filters",
    "Ingest",
    "KeySuggestions",
    "Members",
    "MergeOf",
    "ModelNames",
    "NewApiKey",
    "NewRetention",
    "NotBuilt",
    "Purge",
    "Restore",
    "RestoreDraft",
    "Select",
    "Sql",
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
        extra_json_schema={"items": {"type": "object"}},
    ),
]
_Limit = Annotated[int, Meta(ge=0, le=_LARGEST)]
_Text = Annotated[str, Meta(max_length=100_000)]
_Name = Annotated[str, Meta(max_length=1_000)]
_Ids = Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=2_000_000)]


class NotBuilt(KatiMLError):
    """The address is known, its part of KatiML is not there yet."""

    status = 501


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


class Ingest(_Body):
    """One of: `records`, committed when the answer comes; `url`, with the lines `offset` to
    `limit` of it, or `urls`, read in the background."""

    records: list[Any] | None = None
    url: _Text | None = None
    urls: Annotated[list[_Text], Meta(max_length=10_000)] | None = None
    offset: _Limit | None = None
    limit: _Limit | None = None


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
    NewApiKey,
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
