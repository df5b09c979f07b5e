"""Uploaded files and other blobs of a lake, addressed by id inside one organization."""

from __future__ import annotations

import os
import re
import shutil
from typing import IO, Any, BinaryIO

from katiml.errors import InvalidInput, NotFound
from katiml.store.failures import translated
from katiml.store.ids import uuid7_strings

__all__ = ["Objects"]

_PART = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_COPY_BYTES = 1 << 20


class Objects:
    """The blobs of a lake under `root`, a local folder or a URL fsspec knows.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     objects = Objects(folder)
    ...     id = objects.put("default", b"three")
    ...     with objects.open("default", id) as file:
    ...         objects.size("default", id), file.read()
    (5, b'three')
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._opened: Any = None

    def put(self, organization_id: str, content: bytes | IO[bytes]) -> str:
        """Store bytes or a binary stream durably; returns the new object's id."""
        object_id = uuid7_strings(1)[0]
        path = self._path(organization_id, object_id)
        with translated(self.root):
            if self._local:
                _put_local(path, content)
            else:
                with self._filesystem().open(path, "wb") as file:
                    _copy(content, file)
        return object_id

    def open(self, organization_id: str, object_id: str) -> BinaryIO:
        """The object as a readable binary file; NotFound where this organization has none."""
        path = self._path(organization_id, object_id)
        with translated(self.root):
            try:
                if self._local:
                    return open(path, "rb")
                file: BinaryIO = self._filesystem().open(path, "rb")
            except FileNotFoundError as error:
                raise _missing(object_id) from error
            return file

    def size(self, organization_id: str, object_id: str) -> int:
        """How many bytes the object has."""
        path = self._path(organization_id, object_id)
        with translated(self.root):
            try:
                if self._local:
                    return os.path.getsize(path)
                return int(self._filesystem().size(path))
            except FileNotFoundError as error:
                raise _missing(object_id) from error

    def delete(self, organization_id: str, object_id: str) -> None:
        """Remove the object; one that is already gone is no error."""
        path = self._path(organization_id, object_id)
        with translated(self.root):
            try:
                if self._local:
                    os.unlink(path)
                else:
                    self._filesystem().rm_file(path)
            except FileNotFoundError:
                pass

    @property
    def _local(self) -> bool:
        return "://" not in self.root

    def _path(self, organization_id: str, object_id: str) -> str:
        # Both become parts of a path: whatever could climb out of the folder is refused.
        if not _PART.match(organization_id):
            raise InvalidInput(f"organization id {organization_id!r} is not valid")
        if not _PART.match(object_id):
            raise NotFound(f"no object {object_id!r}")
        return f"{self.root.rstrip('/')}/{organization_id}/{object_id}"

    def _filesystem(self) -> Any:
        import fsspec

        from katiml.store.extras import cloud_extra

        with cloud_extra():
            if self._opened is None:
                # fsspec keeps file systems for ever, with the keys and address of their first use.
                self._opened = fsspec.core.url_to_fs(self.root, skip_instance_cache=True)[0]
            return self._opened


def _missing(object_id: str) -> NotFound:
    return NotFound(f"no object {object_id!r}", hint="it was deleted, or never stored here")


def _copy(content: bytes | IO[bytes], file: Any) -> None:
    if isinstance(content, bytes | bytearray | memoryview):
        file.write(content)
    else:
        shutil.copyfileobj(content, file, _COPY_BYTES)


def _put_local(path: str, content: bytes | IO[bytes]) -> None:
    """Write beside, then rename: the name exists only with all its bytes on disk."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    unfinished = f"{path}.unfinished"
    try:
        with open(unfinished, "xb") as file:
            _copy(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        if os.path.exists(unfinished):
            os.unlink(unfinished)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
