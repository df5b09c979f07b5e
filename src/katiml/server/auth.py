"""Who is asking: the `x-api-key` header -> an organization -> that organization's lake."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Security
from fastapi.security import APIKeyHeader
from starlette.requests import Request

from katiml.datasets.state import is_id
from katiml.errors import NotFound, Unauthorized
from katiml.keys import STRONG_LENGTH

if TYPE_CHECKING:
    from katiml.lake import Lake
    from katiml.store import Scope

__all__ = ["CallerLake", "caller_lake", "seen"]

_HINT = (
    "send the header x-api-key: <your key>; `katiml keys create` makes one,"
    " the client reads it from DIOPTRA_API_KEY"
)
_header = APIKeyHeader(
    name="x-api-key", auto_error=False, description="`katiml keys create` makes one"
)


def caller_lake(request: Request, key: Annotated[str | None, Security(_header)] = None) -> Lake:
    """The lake as the caller's organization sees it. Raises Unauthorized, TooManyRequests.

    Every route that touches data has its lake from here, and from nowhere else.
    """
    state = request.app.state
    host = request.client.host if request.client else ""
    if not key:
        state.failures.check(host)
        raise Unauthorized("no API key", hint=_HINT)
    # Counted before the lake is asked, so that a flood of requests stays cheap.
    state.requests.check(hashlib.sha256(key.encode("utf-8", "replace")).hexdigest())
    if len(key) < STRONG_LENGTH:
        # Such a key may have to be compared slowly: nobody is given that for nothing.
        state.failures.check(host, cost=0.0)
    owner = state.lake.keys.owner(key)
    if owner is None:
        state.failures.check(host)
        raise Unauthorized("this API key is wrong or was deleted", hint=_HINT)
    organization_id, name = owner
    lake: Lake = state.lake.for_organization(organization_id, author=name or "API key")
    return lake


CallerLake = Annotated["Lake", Depends(caller_lake)]


def seen(lake: Lake, wanted: Any) -> Scope:
    """What a request reads: the whole lake, or what its `datasetId` and `versionId` name."""
    for name in (wanted.dataset_id, wanted.version_id):
        if name is not None and not is_id(name):
            raise NotFound(
                f"no dataset or version {name[:100]!r}", hint="both are named by their whole ids"
            )
    return lake.datasets.scope(wanted.dataset_id, wanted.version_id)
