"""The built web app: its page, its files, or how to build it."""

from __future__ import annotations

import mimetypes
import re
import secrets
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

import katiml

__all__ = ["STATIC", "WebApp", "page"]

STATIC = Path(__file__).parent / "static"
# Addresses of the API, of its description, and of what is asked by programs.
_NOT_PAGES = re.compile(r"/(api|events|health|docs|openapi\.json)(/|\Z)")
_NONCE = "__NONCE__"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; font-src 'self'; connect-src 'self'; "
    "worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_UNBUILT = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>KatiML</title></head>
<body>
<h1>KatiML {katiml.__version__}</h1>
<p>This server answers programs. Its web app was not built: packages from PyPI have it; in a
checkout of the source it takes Node.js 20 or later and</p>
<pre>make web</pre>
<p>and then a reload of this page.</p>
<ul>
<li><a href="/docs">The HTTP API</a>, to read and to try
(<a href="/openapi.json">as OpenAPI</a>)</li>
<li><a href="/health">Whether the lake is well</a></li>
</ul>
<p>From Python:</p>
<pre>import os
os.environ["DIOPTRA_APP_ENDPOINT"] = "http://…"   # the address of this page
os.environ["DIOPTRA_API_KEY"] = "…"               # `katiml keys create NAME` makes one

from dioptra.lake.utils import select_datapoints
select_datapoints([], limit=10)</pre>
</body></html>
"""


def page(folder: Path = STATIC) -> Response:
    """The web app's one page, never cached; where it was not built, how to build it."""
    nonce = secrets.token_urlsafe(16)
    headers = {
        **_HEADERS,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": _POLICY.format(nonce=nonce),
    }
    try:
        html = (folder / "index.html").read_text("utf-8").replace(_NONCE, nonce)
    except FileNotFoundError:
        html = _UNBUILT
    return HTMLResponse(html, headers=headers)


class WebApp:
    """ASGI: what no other route takes. Files of the build, the page for addresses without an
    extension, and 404 for everything else."""

    def __init__(self, folder: Path = STATIC) -> None:
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise HTTPException(404)
        response: ASGIApp = self._answer(Request(scope))
        await response(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        path = request.url.path
        if request.method not in ("GET", "HEAD") or _NOT_PAGES.match(path):
            raise HTTPException(404)
        if "." not in path.rpartition("/")[2]:
            return page(self._folder)
        found = (self._folder / path.lstrip("/")).resolve()
        if not found.is_relative_to(self._folder.resolve()) or not found.is_file():
            raise HTTPException(404)
        # The names of assets hold their hash.
        kept = "public, max-age=31536000, immutable"
        caching = kept if path.startswith("/assets/") else "no-cache"
        headers = {**_HEADERS, "Cache-Control": caching}
        packed = found.with_name(f"{found.name}.gz")
        if not packed.is_file():
            return FileResponse(found, headers=headers)
        headers["Vary"] = "Accept-Encoding"
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return FileResponse(found, headers=headers)
        media_type = mimetypes.guess_type(found.name)[0]
        headers["Content-Encoding"] = "gzip"
        return FileResponse(packed, headers=headers, media_type=media_type)
