"""The media of a lake's datapoints: thumbnails that are kept, and files to play."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from katiml.errors import NotFound
from katiml.media.cache import Cache
from katiml.media.faults import MediaBroken, MediaMissing, MediaTooLarge
from katiml.media.pictures import MAX_PIXELS, Picture, Region, kind_of, thumbnail
from katiml.media.sources import Access, identity, opened

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = ["SIZES", "Media"]

# Thumbnails come in these sizes, so that few are made.
SIZES = (128, 256, 512, 1024, 2048, 4096)
_IMAGE_BYTES = 256_000_000
_PLAYED_BYTES = 2_000_000_000
_DOWNLOADED_BYTES = 200_000_000
_HEAD_BYTES = 64


class Media:
    """Thumbnails and files of datapoints, in a `cache`; of images up to `max_pixels`."""

    def __init__(self, cache: Cache, max_pixels: int = MAX_PIXELS) -> None:
        self._cache = cache
        self._max_pixels = max_pixels

    def thumbnail(self, scope: Scope, datapoint_id: str, size: int, access: Access) -> Picture:
        """The image of a datapoint, cut to its `normalized_roi`, as large as the next of `SIZES`.

        Raises NotFound and the errors of `katiml.media`.
        """
        metadata = _metadata(scope, datapoint_id)
        location, region = _location(metadata), Region.of(metadata.get("normalized_roi"))
        size = next((known for known in SIZES if known >= size), SIZES[-1])
        file_id = identity(scope.organization_id, location, access)
        key = f"thumbnail\0{size}\0{region}\0{file_id}"
        kept = self._cache.get(key)
        if kept is not None:
            head, _, data = kept.partition(b"\n")
            media_type, width, height = head.decode().split()
            return Picture(data, media_type, int(width), int(height))
        with opened(scope, location, access, _IMAGE_BYTES) as (file, _):
            made = thumbnail(_seekable(file, _IMAGE_BYTES), size, region, self._max_pixels)
        head = f"{made.media_type} {made.width} {made.height}\n".encode()
        self._cache.put(key, head + made.data)
        return made

    @contextmanager
    def file(
        self, scope: Scope, datapoint_id: str, access: Access
    ) -> Iterator[tuple[BinaryIO, int, str]]:
        """The file of a datapoint to be read anywhere in it: (file, size, media type).

        What comes by http is downloaded once. Raises NotFound, the errors of `katiml.media`, and
        MediaBroken for what a browser should not be given.
        """
        location = _location(_metadata(scope, datapoint_id))
        with self._whole(scope, location, access) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            media_type = kind_of(file.read(_HEAD_BYTES))
            if media_type is None:
                raise MediaBroken("the file is no image, audio or video that a browser plays")
            file.seek(0)
            yield file, size, media_type

    @contextmanager
    def _whole(self, scope: Scope, location: str, access: Access) -> Iterator[BinaryIO]:
        if not location.lower().startswith(("http://", "https://")):
            with opened(scope, location, access, _PLAYED_BYTES) as (file, _):
                yield file
            return
        key = f"file\0{identity(scope.organization_id, location, access)}"
        path = self._cache.path(key)
        if self._cache.get(key) is None:
            with opened(scope, location, access, _DOWNLOADED_BYTES) as (file, _):
                self._cache.put(key, _read(file, _DOWNLOADED_BYTES))
        try:
            with open(path, "rb") as kept:
                yield kept
        except FileNotFoundError as error:
            raise MediaMissing("the download could not be kept; is the disk full?") from error


def _metadata(scope: Scope, datapoint_id: str) -> dict[str, Any]:
    rows = scope.query(
        "SELECT metadata FROM {datapoints} WHERE id = TRY_CAST($id AS UUID)", {"id": datapoint_id}
    )
    if not rows.num_rows:
        raise NotFound(f"no datapoint {datapoint_id!r}")
    found = orjson.loads(rows["metadata"][0].as_py() or b"{}")
    return found if isinstance(found, dict) else {}


def _location(metadata: dict[str, Any]) -> str:
    location = metadata.get("uri")
    if not isinstance(location, str) or not location.strip():
        raise MediaMissing("this datapoint has no metadata.uri")
    return location.strip()


def _seekable(file: BinaryIO, limit: int) -> BinaryIO:
    return file if getattr(file, "seekable", bool)() else io.BytesIO(_read(file, limit))


def _read(file: BinaryIO, limit: int) -> bytes:
    data = file.read(limit + 1)
    if len(data) > limit:
        raise MediaTooLarge(f"the file has more than {limit / 1e6:,.0f} MB")
    return data
