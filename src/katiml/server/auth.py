"""Who is asking: the `x-api-key` header or a browser's session -> an organization -> its lake."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Security
from fastapi.security import APIKeyHeader
from starlette.requests import Request

from katiml.datasets.state import is_id
from katiml.errors import Forbidden, NotFound, Unauthorized
from katiml.keys import STRONG_LENGTH, organization_of
from katiml.media import Access
from katiml.server.local import is_own_machine, same_origin
from katiml.server.sessions import LOCAL, Session

if TYPE_CHECKING:
    from katiml.lake import Lake
    from katiml.store import Scope

__all__ = [
    "WEB_HEADER",
    "CallerAccess",
    "CallerLake",
    "caller_access",
    "caller_lake",
    "seen",
    "session_of",
]

# A page elsewhere cannot send it without being asked first, which this server never allows.
WEB_HEADER = "x-katiml-web"
_HINT = (
    "send the header x-api-key: <your key>; `katiml keys create` makes one,"
    " the client reads it from DIOPTRA_API_KEY"
)
_READING = ("GET", "HEAD", "OPTIONS")
# A page full of thumbnails is one look, not a hundred requests.
_UNCOUNTED = ("/thumbnail", "/media", "/mask", "/uncertainty")
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
        session = session_of(request)
        if session is not None:
            return _lake_of_session(request, session)
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


def caller_access(request: Request) -> Access:
    """Which media the caller may see: those of this machine only whoever runs the server, in a
    browser at it."""
    settings = request.app.state.settings
    session = None if request.headers.get("x-api-key") else session_of(request)
    return Access(
        any_local_file=session is not None and session.subject == LOCAL,
        roots=settings.media_roots,
        allow_private=settings.allow_private_urls,
    )


def session_of(request: Request) -> Session | None:
    """The session that the request's cookie is for, if it still holds."""
    state = request.app.state
    value = request.cookies.get(state.sessions.cookie) if request.cookies else None
    session = state.sessions.read(value) if value else None
    if session is None:
        return None
    if session.subject == LOCAL:
        # A cookie that was carried elsewhere opens nothing.
        allowed = state.settings.local_sessions and is_own_machine(request)
        return session if allowed else None
    found = organization_of(state.lake.scope.store, session.subject)
    return session if found == session.organization_id else None


def _lake_of_session(request: Request, session: Session) -> Lake:
    if request.method not in _READING and not (
        WEB_HEADER in request.headers and same_origin(request)
    ):
        raise Forbidden(
            "a request with a session's cookie came from somewhere else than the web app",
            hint="programs send x-api-key",
        )
    state = request.app.state
    if session.subject != LOCAL and not request.url.path.endswith(_UNCOUNTED):
        state.requests.check(f"session {session.subject}")
    lake: Lake = state.lake.for_organization(session.organization_id)
    if session.subject == LOCAL:
        return lake
    named: Lake = lake.for_organization(
        session.organization_id, author=lake.keys.named(session.subject)
    )
    return named


CallerLake = Annotated["Lake", Depends(caller_lake)]
CallerAccess = Annotated[Access, Depends(caller_access)]


def seen(lake: Lake, wanted: Any) -> Scope:
    """What a request reads: the whole lake, or what its `datasetId` and `versionId` name."""
    for name in (wanted.dataset_id, wanted.version_id):
        if name is not None and not is_id(name):
            raise NotFound(
                f"no dataset or version {name[:100]!r}", hint="both are named by their whole ids"
            )
    return lake.datasets.scope(wanted.dataset_id, wanted.version_id)
