"""Files from afar, kept on this disk: by content, whole or not at all, within a size limit."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

__all__ = ["DEFAULT_BYTES", "FileCache"]

DEFAULT_BYTES = 20 << 30
# After an eviction there is room for a while, so that not every new file walks the folder.
_KEPT = 0.9


class FileCache:
    """Content under its SHA-256, names beside it that say which content is theirs.

    Any number of threads and processes may share the folder: files are written beside and renamed.
    What is read is checked against its hash, so a damaged file is fetched again. Past `max_bytes`
    what was not used for longest goes. Where the disk is full, nothing is kept and all still works.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = FileCache(folder)
    ...     cache.get("s3://bucket/a", lambda: b"fetched"), cache.get("s3://bucket/a", lambda: b"")
    (b'fetched', b'fetched')
    """

    def __init__(self, folder: str | os.PathLike[str], max_bytes: int = DEFAULT_BYTES) -> None:
        self.folder = Path(folder).expanduser()
        self.max_bytes = max_bytes
        self._known_bytes: int | None = None
        self._warned = False

    def get(self, name: str, fetch: Callable[[], bytes]) -> bytes:
        """The content of `name`, fetched where it is not here or damaged."""
        pointer = self._path("names", hashlib.sha256(name.encode()).hexdigest())
        content = self._read(pointer)
        if content is None:
            content = fetch()
            self._keep(pointer, content)
        return content

    def holds(self, name: str) -> bool:
        """Whether the content of `name` is here and whole."""
        pointer = self._path("names", hashlib.sha256(name.encode()).hexdigest())
        return self._read(pointer) is not None

    def _path(self, kind: str, digest: str) -> Path:
        return self.folder / kind / digest[:2] / digest

    def _read(self, pointer: Path) -> bytes | None:
        try:
            digest = pointer.read_text("ascii")
            if len(digest) != 64 or not digest.isalnum():
                return None
            path = self._path("content", digest)
            content = path.read_bytes()
        except (OSError, ValueError):
            return None
        if hashlib.sha256(content).hexdigest() != digest:
            return None
        # What is old is told by this: access times are often not kept.
        with contextlib.suppress(OSError):
            os.utime(path)
        return content

    def _keep(self, pointer: Path, content: bytes) -> None:
        if len(content) > self.max_bytes:
            return
        digest = hashlib.sha256(content).hexdigest()
        try:
            self._make_room(len(content))
            _write(self._path("content", digest), content)
            _write(pointer, digest.encode())
        except OSError as error:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"nothing more is cached in {self.folder}: {error.strerror or error}",
                    stacklevel=4,
                )

    def _make_room(self, size: int) -> None:
        if self._known_bytes is None:
            self._known_bytes = sum(found[1] for found in self._contents())
        self._known_bytes += size
        if self._known_bytes <= self.max_bytes:
            return
        # Other processes write too: count again before anything goes.
        contents = sorted(self._contents())
        total = sum(found[1] for found in contents) + size
        for _, own, path in contents:
            if total <= self.max_bytes * _KEPT:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= own
        self._known_bytes = total

    def _contents(self) -> list[tuple[int, int, Path]]:
        found = []
        for path in (self.folder / "content").glob("*/*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        return found


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=".unfinished")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise
