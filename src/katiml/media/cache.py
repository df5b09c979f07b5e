"""Files that were made once, kept in a folder that stays under a size."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable
from threading import Lock

__all__ = ["Cache"]

_SCANNED_EVERY = 0.05  # of the limit, written since the last look
_KEPT = 0.8


class Cache:
    """Bytes by key. The oldest that nobody asked for go once `limit` bytes are passed.

    Several processes may share a folder; without one it is a folder of this process alone.

    >>> cache = Cache(getfixture("tmp_path") / "cache")
    >>> cache.put("key", b"value")
    >>> cache.get("key"), cache.get("other")
    (b'value', None)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        limit: int = 2_000_000_000,
        max_age: float = 7 * 86_400.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if folder is None:
            folder = tempfile.mkdtemp(prefix="katiml-cache-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.folder = os.fspath(folder)
        self._limit = limit
        self._max_age = max_age
        self._clock = clock
        self._written = 0
        self._lock = Lock()

    def path(self, key: str) -> str:
        """Where the bytes of `key` are, or would be."""
        name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return os.path.join(self.folder, name[:2], name[2:])

    def get(self, key: str) -> bytes | None:
        """The bytes of `key`, unless they are gone or too old."""
        path = self.path(key)
        try:
            with open(path, "rb") as file:
                # Being read keeps a file (its time of access); being old does not.
                if self._clock() - os.fstat(file.fileno()).st_mtime > self._max_age:
                    return None
                return file.read()
        except OSError:
            return None

    def put(self, key: str, data: bytes) -> None:
        """Keep `data`. A folder that cannot be written costs time and nothing else."""
        path = self.path(key)
        unfinished = f"{path}.{secrets.token_hex(4)}"
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with open(unfinished, "xb") as file:
                file.write(data)
            os.replace(unfinished, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
            return
        with self._lock:
            self._written += len(data)
            if self._written < self._limit * _SCANNED_EVERY:
                return
            self._written = 0
        self._make_room()

    def _make_room(self) -> None:
        found = []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    state = os.stat(path)
                    found.append((max(state.st_atime, state.st_mtime), state.st_size, path))
        total = sum(size for _, size, _ in found)
        if total <= self._limit:
            return
        for _, size, path in sorted(found):
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size
            if total <= self._limit * _KEPT:
                return
