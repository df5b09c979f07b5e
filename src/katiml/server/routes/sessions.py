"""`/api/session`: how a browser comes in without sending a key with every request."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

import katiml
from katiml.errors import Forbidden, Unauthorized
from katiml.keys import identify
from katiml.server.answers import json_response
from katiml.server.auth import WEB_HEADER, session_of
from katiml.server.bodies import SignIn, body, schema_of
from katiml.server.local import is_own_machine, same_origin
from katiml.server.sessions import LOCAL

__all__ = ["router"]

router = APIRouter(prefix="/api/session", tags=["sessions"])


def _state(request: Request, subject: str | None, organization_id: str | None) -> dict[str, Any]:
    return {
        "signedIn": subject is not None,
        "local": subject == LOCAL,
        "organizationId": organization_id,
        "version": katiml.__version__,
        "mayBeLocal": request.app.state.settings.local_sessions and is_own_machine(request),
    }


@router.get("", summary="Whether this browser is signed in; needs no key")
def session(request: Request) -> Response:
    found = session_of(request)
    if found is None:
        return _private(json_response(_state(request, None, None)))
    return _private(json_response(_state(request, found.subject, found.organization_id)))


@router.post(
    "",
    summary="Sign this browser in with an API key, or without one at the server's own machine",
    openapi_extra=schema_of(SignIn),
)
def sign_in(request: Request, wanted: Annotated[Any, Depends(body(SignIn))]) -> Response:
    if WEB_HEADER not in request.headers or not same_origin(request):
        raise Forbidden("only the web app signs in here", hint="programs send x-api-key")
    state = request.app.state
    if wanted.key is None:
        if not (state.settings.local_sessions and is_own_machine(request)):
            raise Unauthorized(
                "an API key is needed", hint="`katiml keys create NAME` on the server makes one"
            )
        subject, organization_id = LOCAL, state.lake.organization_id
    else:
        host = request.client.host if request.client else ""
        state.failures.check(host, cost=0.0)
        found = identify(state.lake.scope.store, wanted.key.strip())
        if found is None:
            state.failures.check(host)
            raise Unauthorized(
                "this API key is wrong or was deleted",
                hint="`katiml keys create NAME` on the server makes one",
            )
        subject, organization_id = found
    value, seconds = state.sessions.make(subject, organization_id)
    response = json_response(_state(request, subject, organization_id))
    response.set_cookie(
        state.sessions.cookie,
        value,
        max_age=seconds,
        httponly=True,
        samesite="strict",
        secure=_by_tls(request),
        path="/",
    )
    return _private(response)


@router.delete("", summary="Sign this browser out")
def sign_out(request: Request) -> Response:
    response = json_response(_state(request, None, None))
    response.delete_cookie(
        request.app.state.sessions.cookie,
        httponly=True,
        samesite="strict",
        secure=_by_tls(request),
        path="/",
    )
    return _private(response)


def _by_tls(request: Request) -> bool:
    # The proxy that ends TLS says so; a false claim only makes the cookie harder to send.
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))


def _private(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
