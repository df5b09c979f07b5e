"""What datapoints point at, for a browser: thumbnails, files to play, masks as PNG."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from katiml.errors import InvalidInput
from katiml.media.masks import mask_of, uncertainty_of
from katiml.server.auth import CallerAccess, CallerLake

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["media"])

_PIECE_BYTES = 1 << 18
# The address carries a version (`?v=`), so what it answers stays; without one it is asked again.
_KEPT = "private, max-age=31536000, immutable"
_ASKED = "private, no-cache"
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}
Size = Annotated[int, Query(ge=16, le=4096, description="pixels, of the longer side")]
Version = Annotated[str, Query(max_length=100, description="anything; makes the answer keepable")]
_IMAGE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "An image",
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.get(
    "/datapoints/{datapoint_id}/thumbnail",
    summary="The image of a datapoint, cut to its normalized_roi and made small",
    responses=_IMAGE,
)
async def thumbnail(
    request: Request,
    lake: CallerLake,
    access: CallerAccess,
    datapoint_id: str,
    size: Size = 256,
    v: Version = "",
) -> Response:
    media = request.app.state.media
    work = partial(media.thumbnail, lake.scope, datapoint_id, size, access)
    made = await _in_turn(request, work)
    if made is None:
        return Response(status_code=499)
    return Response(
        made.data,
        media_type=made.media_type,
        headers={
            **_SAFE,
            "Cache-Control": _KEPT if v else _ASKED,
            "X-Image-Size": f"{made.width}x{made.height}",
        },
    )


@router.get(
    "/datapoints/{datapoint_id}/media",
    summary="The file of a datapoint, whole or a range of it, to look at or play",
    responses=_IMAGE,
)
def file(request: Request, lake: CallerLake, access: CallerAccess, datapoint_id: str) -> Response:
    media = request.app.state.media
    stack = ExitStack()
    with ExitStack() as opening:
        found, size, media_type = opening.enter_context(
            media.file(lake.scope, datapoint_id, access)
        )
        start, end = _range(request.headers.get("range", ""), size)
        found.seek(start)
        stack = opening.pop_all()
    partial_answer = (start, end) != (0, size)
    headers = {
        **_SAFE,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=600",
        "Content-Length": str(end - start),
    }
    if partial_answer:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return StreamingResponse(
        _pieces(found, end - start, stack),
        status_code=206 if partial_answer else 200,
        media_type=media_type,
        headers=headers,
    )


@router.get(
    "/{table}/{row_id}/mask",
    summary="The mask of a ground truth or prediction as a grey PNG: class index + 1, or the place"
    " of the box",
    responses=_IMAGE,
)
async def mask(
    request: Request, lake: CallerLake, table: str, row_id: str, size: Size = 512, v: Version = ""
) -> Response:
    if table not in ("groundtruths", "predictions"):
        raise InvalidInput(
            f"{table[:100]!r} have no masks", hint="groundtruths and predictions have"
        )
    return await _png(request, partial(mask_of, lake.scope, table, row_id, size), v)


@router.get(
    "/predictions/{prediction_id}/uncertainty",
    summary="The entropy of each pixel of a segmentation as a grey PNG",
    responses=_IMAGE,
)
async def uncertainty(
    request: Request, lake: CallerLake, prediction_id: str, size: Size = 512, v: Version = ""
) -> Response:
    return await _png(request, partial(uncertainty_of, lake.scope, prediction_id, size), v)


async def _png(request: Request, make: Callable[[], bytes], v: str) -> Response:
    data = await _in_turn(request, make)
    headers = {**_SAFE, "Cache-Control": _KEPT if v else _ASKED}
    return Response(data or b"", media_type="image/png", headers=headers)


async def _in_turn(request: Request, work: Callable[[], Any]) -> Any:
    """Run in one of a few threads; None where nobody waits for it any more, as in a grid that was
    scrolled past."""
    async with request.app.state.media_turns:
        # The first message is the empty body; the second says whether the browser has gone.
        if await request.is_disconnected() or await request.is_disconnected():
            return None
        return await asyncio.to_thread(work)


def _range(header: str, size: int) -> tuple[int, int]:
    """The bytes a `Range` header asks for; the whole for none, and for what is not understood."""
    unit, _, wanted = header.partition("=")
    first, dash, last = wanted.strip().partition("-")
    if unit.strip() != "bytes" or not dash or not size:
        return 0, size
    if first.isdecimal() and (last.isdecimal() or not last):
        start = int(first)
        end = min(int(last) + 1, size) if last else size
        return (start, end) if start < end else (0, size)
    if not first and last.isdecimal() and int(last):
        return max(0, size - int(last)), size
    return 0, size


def _pieces(file: BinaryIO, left: int, stack: ExitStack) -> Iterator[bytes]:
    with stack:
        while left > 0:
            piece = file.read(min(left, _PIECE_BYTES))
            if not piece:
                raise OSError("the file became shorter while it was sent")
            left -= len(piece)
            yield piece
