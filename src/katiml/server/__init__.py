"""The lake over HTTP: `create_app` for any ASGI server, `serve` for `katiml serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from katiml.server.app import Settings, create_app
    from katiml.server.run import serve

__all__ = ["Settings", "create_app", "serve"]


def __getattr__(name: str) -> Any:
    # The web framework takes 0.3 s to import: not before it is needed.
    if name in ("Settings", "create_app"):
        from katiml.server import app

        return getattr(app, name)
    if name == "serve":
        from katiml.server.run import serve

        return serve
    raise AttributeError(f"module 'katiml.server' has no attribute {name!r}")
