"""The HTTP API as an ASGI application."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import FastAPI

import katiml
from katiml.media import Media
from katiml.media.cache import Cache
from katiml.media.pictures import MAX_PIXELS
from katiml.server import errors, published
from katiml.server.bodies import BODIES
from katiml.server.demo import DemoLoading
from katiml.server.limits import MEGABYTE, BodyLimit, RateLimit
from katiml.server.routes import (
    analytics,
    datasets,
    demo,
    explore,
    history,
    ingestion,
    keys,
    media,
    metrics,
    miners,
    sessions,
    sql,
    suggestions,
    system,
    tables,
    tasks,
)
from katiml.server.routes.ingestion import UPLOAD_PATH
from katiml.server.sessions import Sessions
from katiml.server.webapp import WebApp

if TYPE_CHECKING:
    from katiml.lake import Lake

__all__ = ["Settings", "create_app"]

_WRONG_KEYS_PER_MINUTE = 60
_MEDIA_AT_ONCE = 8


@dataclass(frozen=True)
class Settings:
    """What an operator may choose. Bytes are those of a body after gzip is undone; a rate of 0
    means no limit. `local_sessions`: the person who runs the server needs no key at its machine.
    `media_roots` are the folders whose images everybody with a key may see. Without
    `cache_folder` thumbnails are kept as long as the process lives."""

    requests_per_minute: int = 1_000
    max_body_bytes: int = 50 * MEGABYTE
    max_upload_bytes: int = 100_000 * MEGABYTE
    allow_private_urls: bool = False
    local_sessions: bool = False
    media_roots: tuple[str, ...] = ()
    cache_folder: str | None = None
    max_image_pixels: int = MAX_PIXELS


def create_app(lake: Lake, settings: Settings = Settings()) -> FastAPI:  # frozen
    """The application that serves `lake`. It does not close the lake.

    >>> import katiml
    >>> with katiml.connect(getfixture("tmp_path")) as lake:
    ...     create_app(lake).title
    'KatiML'
    """
    app = FastAPI(
        title="KatiML",
        version=katiml.__version__,
        description="Every address but /health needs the header x-api-key."
        ' Errors look like {"error": {"message", "code", "hint", "details"}}.',
        redoc_url=None,
        responses=_error_responses(),
    )
    app.state.lake = lake
    app.state.settings = settings
    app.state.requests = RateLimit(settings.requests_per_minute)
    app.state.failures = RateLimit(_WRONG_KEYS_PER_MINUTE, "wrong keys in a minute")
    app.state.sessions = Sessions(lake.scope.store)
    app.state.demo = DemoLoading()
    app.state.media = Media(Cache(settings.cache_folder), settings.max_image_pixels)
    # A decoded image may take 0.3 GB: few at once.
    app.state.media_turns = asyncio.Semaphore(_MEDIA_AT_ONCE)
    errors.install(app)
    parts = (
        system, history, sessions, media, explore, tables, datasets, suggestions, analytics,
        metrics, ingestion, miners, tasks, keys, sql, demo,
    )  # fmt: skip
    for part in parts:
        app.include_router(part.router)
    app.router.default = WebApp()
    app.add_middleware(
        BodyLimit,
        limit=settings.max_body_bytes,
        exceptions={UPLOAD_PATH: settings.max_upload_bytes},
    )
    # The last one added is the outermost.
    app.add_middleware(errors.Guard)
    _publish_bodies(app)
    return app


def _error_responses() -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": "#/components/schemas/Error"}
    content = {"application/json": {"schema": schema}}
    return {"4XX": {"description": "What is wrong, and what to do", "content": content}}


def _publish_bodies(app: FastAPI) -> None:
    """Add the Structs of `bodies`, which FastAPI does not know, to the OpenAPI document."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = original()
            _, schemas = msgspec.json.schema_components(
                BODIES, ref_template="#/components/schemas/{name}"
            )
            components = document.setdefault("components", {}).setdefault("schemas", {})
            components.update(schemas)
            components["Error"] = _ERROR_SCHEMA
            published.add_answers(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


_ERROR_SCHEMA = {
    "title": "Error",
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "code", "hint", "details"],
            "properties": {
                "message": {"type": "string"},
                "code": {"type": "string"},
                "hint": {"type": ["string", "null"]},
                "details": {"type": "object"},
            },
        }
    },
}
