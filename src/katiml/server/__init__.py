"""The lake over HTTP: `create_app` for any ASGI server, `serve` for `katiml serve`."""

from __future__ import annotations

from katiml.server.app import Settings, create_app
from katiml.server.run import serve

__all__ = ["Settings", "create_app", "serve"]
