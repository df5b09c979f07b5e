"""One shape for every error: `{"error": {"message", "code", "hint", "details"}}`."""

from __future__ import annotations

import logging
import secrets
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from katiml.errors import KatiMLError

__all__ = ["Guard", "answer_error", "error_response", "install"]

_log = logging.getLogger("katiml.server")
_CODES = {404: "not_found", 405: "method_not_allowed", 422: "invalid_input"}
_HINTS = {
    404: "GET /docs lists the addresses of this API",
    405: "GET /docs lists the methods of each address",
}


def error_response(
    status: int,
    message: str,
    *,
    code: str,
    hint: str | None = None,
    details: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """The one error body.

    >>> error_response(404, "no such thing", code="not_found").body
    b'{"error":{"message":"no such thing","code":"not_found","hint":null,"details":{}}}'
    """
    body = {"message": message, "code": code, "hint": hint, "details": details or {}}
    return Response(
        orjson.dumps({"error": body}, default=str, option=orjson.OPT_NON_STR_KEYS),
        status_code=status,
        media_type="application/json",
        headers=headers,
    )


def answer_error(request: Request, error: KatiMLError) -> Response:
    """What a client sees of an error that KatiML raised on purpose."""
    headers = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "ApiKey"
    if "retry_after" in error.details:
        headers["Retry-After"] = str(error.details["retry_after"])
    if error.status >= 500:
        _log.error("%s %s: %s", request.method, request.url.path, error)
    return error_response(
        error.status,
        error.message,
        code=error.code,
        hint=error.hint,
        details=error.details,
        headers=headers,
    )


def install(app: FastAPI) -> None:
    """Give `app` the handlers that make every error the same shape."""

    async def expected(request: Request, error: Any) -> Response:
        return answer_error(request, error)

    async def by_framework(_: Request, error: Any) -> Response:
        return error_response(
            error.status_code,
            str(error.detail),
            code=_CODES.get(error.status_code, "invalid_input"),
            hint=_HINTS.get(error.status_code),
            headers=dict(error.headers or {}),
        )

    async def invalid(_: Request, error: Any) -> Response:
        wrong = [
            {"path": ".".join(map(str, one["loc"])), "reason": one["msg"]} for one in error.errors()
        ]
        message = "; ".join(f"{one['path']}: {one['reason']}" for one in wrong[:3])
        return error_response(
            422, message, code="invalid_input", hint="GET /docs", details={"wrong": wrong[:20]}
        )

    app.add_exception_handler(KatiMLError, expected)
    app.add_exception_handler(HTTPException, by_framework)
    app.add_exception_handler(RequestValidationError, invalid)


class Guard:
    """ASGI middleware, outermost: a mistake of ours is a 500 with an id for the log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except ClientDisconnect:
            return
        except Exception:
            identity = secrets.token_hex(6)
            _log.exception("error %s: %s %s", identity, scope["method"], scope["path"])
            if started:
                # The answer is under way: a cut connection is the only way to say that it is not
                # whole.
                raise
            response = error_response(
                500,
                f"this server made a mistake; its log explains error {identity}",
                code="internal_error",
                hint="try again; if it stays, report it with the lines of the log",
                details={"id": identity},
            )
            await response(scope, receive, send)
