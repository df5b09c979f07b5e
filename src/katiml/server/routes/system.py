"""`/` and `/health`: no key needed, nothing of anybody's data shown."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

import katiml
from katiml.errors import KatiMLError
from katiml.server.answers import json_response

__all__ = ["router"]

router = APIRouter()

_HOME = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>KatiML</title></head>
<body style="font-family: system-ui; max-width: 40rem; margin: 4rem auto; line-height: 1.6">
<h1>KatiML {katiml.__version__}</h1>
<p>This server answers programs. The web app is not built yet.</p>
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


@router.get("/", include_in_schema=False)
def home() -> HTMLResponse:
    return HTMLResponse(_HOME)


@router.get("/health", tags=["system"], summary="Whether the lake answers; needs no key")
def health(request: Request) -> Response:
    try:
        request.app.state.lake.scope.store.query("SELECT 1 FROM lake.settings LIMIT 1")
    except KatiMLError as error:
        found = {"status": "error", "version": katiml.__version__, "lake": error.code}
        return json_response(found, status=503)
    return json_response({"status": "ok", "version": katiml.__version__, "lake": "ok"})
