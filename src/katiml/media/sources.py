"""From `metadata.uri` to an open file: the lake's own objects, http(s), object stores, and local
files where the caller may see them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

from katiml.errors import Forbidden, InvalidSource, KatiMLError, NotFound
from katiml.media.faults import (
    MediaForbidden,
    MediaMissing,
    MediaTooLarge,
    MediaUnreachable,
)

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = ["Access", "identity", "local_path", "opened"]

_ROOTS_HINT = "the operator can allow folders with KATIML_MEDIA_ROOTS=/data/images:/data/audio"


@dataclass(frozen=True)
class Access:
    """What may be read for a caller.

    `any_local_file` is for the person who runs the server, on this machine; everybody else sees the
    local files under `roots`, real paths without links. `allow_private` lets URLs be at private
    addresses.
    """

    any_local_file: bool = False
    roots: tuple[str, ...] = ()
    allow_private: bool = False


def local_path(location: str, access: Access) -> str | None:
    """The path of a local file that the caller may see; None where `location` is a URL.

    A relative path is looked for in each of the roots. Raises MediaForbidden, MediaMissing.

    >>> local_path("s3://bucket/1.jpg", Access()) is None
    True
    >>> local_path("/etc/passwd", Access())
    Traceback (most recent call last):
    katiml.media.faults.MediaForbidden: this server does not show local files outside of its media \
roots (the operator can allow folders with KATIML_MEDIA_ROOTS=/data/images:/data/audio)
    """
    scheme = urlsplit(location).scheme.lower() if "://" in location else ""
    if scheme not in ("", "file"):
        return None
    path = url2pathname(urlsplit(location).path) if scheme else os.path.expanduser(location)
    if "\0" in path:
        raise MediaMissing("the path has a NUL character")
    candidates = [path] if os.path.isabs(path) else [os.path.join(r, path) for r in access.roots]
    if not candidates:
        raise MediaForbidden("the path is relative, and this server has no roots", hint=_ROOTS_HINT)
    for candidate in candidates:
        real = os.path.realpath(candidate)
        # Whether a file outside of the roots exists is nobody's business either.
        if not (access.any_local_file or _below(real, access.roots)):
            raise MediaForbidden(
                "this server does not show local files outside of its media roots",
                hint=_ROOTS_HINT,
            )
        if os.path.isfile(real):
            return real
    raise MediaMissing(
        f"no file {path}", hint="it was moved or deleted, or lies on another machine"
    )


def _below(path: str, roots: tuple[str, ...]) -> bool:
    return any(os.path.commonpath([path, root]) == root for root in map(os.path.realpath, roots))


def identity(organization_id: str, location: str, access: Access) -> str:
    """A text that changes when what is at `location` is known to be another file."""
    path = local_path(location, access)
    if path is not None:
        state = os.stat(path)
        return f"{path}\0{state.st_mtime_ns}\0{state.st_size}"
    if location.startswith("object://"):
        return f"{organization_id}\0{location}"
    return f"{location}\0{access.allow_private}"


@contextmanager
def opened(
    scope: Scope, location: str, access: Access, max_bytes: int
) -> Iterator[tuple[BinaryIO, int | None]]:
    """A binary file, and its size where known.

    Raises MediaMissing, MediaForbidden, MediaUnreachable, and MediaTooLarge past `max_bytes`.
    """
    from katiml.ingest.locations import check_location, open_location

    path = local_path(location, access)
    try:
        checked = location
        if path is None:
            checked = check_location(location, trusted=False, allow_private=access.allow_private)
            opening = open_location(
                scope, checked, trusted=False, allow_private=access.allow_private
            )
        else:
            opening = _open_local(path)
        with opening as (file, size):
            if size is not None and size > max_bytes:
                raise MediaTooLarge(
                    f"the file has {size / 1e6:,.0f} MB, over the limit of {max_bytes / 1e6:,.0f}"
                )
            yield file, size
    except KatiMLError as error:
        raise _said(error) from error
    except OSError as error:
        raise MediaUnreachable(f"the file cannot be read: {error.strerror or error}") from error


_BY_STATUS = {401: MediaForbidden, 403: MediaForbidden, 404: MediaMissing, 410: MediaMissing}


def _said(error: KatiMLError) -> KatiMLError:
    """What went wrong with a location, as an error of media."""
    kind: type[KatiMLError] | None = None
    if type(error) is NotFound:
        kind = MediaMissing
    elif type(error) is Forbidden:
        kind = MediaForbidden
    elif isinstance(error, InvalidSource):
        kind = _BY_STATUS.get(error.details.get("status", 0), MediaUnreachable)
    return kind(error.message, hint=error.hint) if kind else error


@contextmanager
def _open_local(path: str) -> Iterator[tuple[BinaryIO, int | None]]:
    try:
        file = open(path, "rb")  # noqa: SIM115 - it is closed below
    except PermissionError as error:
        raise MediaForbidden("the operating system does not let this server read it") from error
    with file:
        yield file, os.fstat(file.fileno()).st_size
