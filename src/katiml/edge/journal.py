"""A log of entries in one folder that survives power loss: checksummed, appended, synced.

A segment is a file of entries, each a header (magic, kind, number, length, checksum of the body,
checksum of the header) and a body. What a crash left half-written at the end is cut off; a damaged
entry in the middle is skipped and counted, and the next whole one is looked for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from katiml.errors import Conflict, InvalidInput, StorageFull, StoreError

__all__ = ["MAX_ENTRY_BYTES", "Entry", "Journal", "sync_folder"]

MAX_ENTRY_BYTES = 64 << 20
_MAGIC = b"KMS1"
_HEADER = struct.Struct("<4sB3xQII")
_CHECK = struct.Struct("<I")
_HEAD_BYTES = _HEADER.size + _CHECK.size
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}


@dataclass(frozen=True)
class Entry:
    """Where an entry is: its segment, the offset of its body there, its length and checksum."""

    kind: int
    number: int
    segment: int
    offset: int
    length: int
    check: int


class Journal:
    """The segments of one folder, held by one process at a time.

    Raises Conflict where another process holds it, StorageFull where no space is left.
    """

    def __init__(self, folder: str | os.PathLike[str], *, segment_bytes: int, sync: bool) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock: int | None = _lock(self.folder / "lock")
        self._segment_bytes = segment_bytes
        self._sync = sync
        self._file: int | None = None
        self.sizes: dict[int, int] = {
            int(path.stem): path.stat().st_size
            for path in sorted(self.folder.glob("*.spool"))
            if path.stem.isdigit()
        }
        self.damaged = 0

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(self.sizes.values())

    @property
    def newest(self) -> int:
        """The segment that is written to; 0 before the first."""
        return max(self.sizes, default=0)

    def close(self) -> None:
        """Let the folder go."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def path(self, segment: int) -> Path:
        """The file of a segment."""
        return self.folder / f"{segment:010d}.spool"

    # -- reading -----------------------------------------------------------------------------

    def replay(self) -> Iterator[tuple[Entry, bytes]]:
        """All whole entries with their bodies, in the order in which they were written.

        Cuts off what is half-written at the end. To be read to its end before the first append.
        """
        for segment in sorted(self.sizes):
            end = 0
            with open(self.path(segment), "rb") as file:
                data = file.read()
            for entry, body in self._entries(segment, data):
                end = entry.offset + entry.length
                yield entry, body
            if end == len(data):
                continue
            if segment == self.newest:
                with open(self.path(segment), "r+b") as file:
                    file.truncate(end)
                    os.fsync(file.fileno())
                self.sizes[segment] = end
            else:
                self.damaged += 1

    def _entries(self, segment: int, data: bytes) -> Iterator[tuple[Entry, bytes]]:
        place, gap = 0, data[: len(_MAGIC)] != _MAGIC
        while (place := data.find(_MAGIC, place)) >= 0:
            entry = _entry_at(segment, data, place)
            if entry is None:
                gap, place = True, place + 1
                continue
            end = entry.offset + entry.length
            body = data[entry.offset : end]
            if len(body) < entry.length:
                return
            place = end
            if zlib.crc32(body) != entry.check:
                gap = True
                continue
            # A gap before a whole entry is damage; at the end it is what a crash left.
            self.damaged += gap
            gap = data[place : place + len(_MAGIC)] != _MAGIC
            yield entry, body

    def read(self, entry: Entry) -> bytes | None:
        """The body of an entry; None where it is damaged."""
        with open(self.path(entry.segment), "rb") as file:
            file.seek(entry.offset)
            body = file.read(entry.length)
        return body if len(body) == entry.length and zlib.crc32(body) == entry.check else None

    # -- writing -----------------------------------------------------------------------------

    def append(self, kind: int, number: int, body: bytes) -> Entry:
        """Write one entry; when this returns it survives power loss."""
        if len(body) > MAX_ENTRY_BYTES:
            raise InvalidInput(
                f"a record of {len(body):,} bytes", hint=f"up to {MAX_ENTRY_BYTES:,} are kept"
            )
        if self._lock is None:
            raise InvalidInput("the spool is closed", hint="open it again")
        check = zlib.crc32(body)
        header = _HEADER.pack(_MAGIC, kind, number, len(body), check)
        data = header + _CHECK.pack(zlib.crc32(header)) + body
        file, segment = self._writable()
        start = self.sizes[segment]
        try:
            _write(file, data)
            if self._sync:
                os.fsync(file)
        except OSError as error:
            # Nothing is known of what reached the disk: only what was there before counts.
            os.close(file)
            self._file = None
            with contextlib.suppress(OSError):
                os.truncate(self.path(segment), start)
            if error.errno in _FULL:
                raise StorageFull(
                    f"no space left for the spool {self.folder}",
                    hint="upload it, or give it a smaller max_bytes",
                ) from error
            raise StoreError(f"the spool {self.folder} cannot be written: {error}") from error
        self.sizes[segment] = start + len(data)
        return Entry(kind, number, segment, start + _HEAD_BYTES, len(body), check)

    def remove(self, segment: int) -> None:
        """Delete a segment that is not written to any more."""
        self.path(segment).unlink(missing_ok=True)
        del self.sizes[segment]

    def _writable(self) -> tuple[int, int]:
        segment = self.newest
        full = segment == 0 or self.sizes[segment] >= self._segment_bytes
        if full and self._file is not None:
            os.close(self._file)
            self._file = None
        if self._file is None:
            segment += full
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            try:
                self._file = os.open(self.path(segment), flags, 0o600)
            except OSError as error:
                kind = StorageFull if error.errno in _FULL else StoreError
                raise kind(f"the spool {self.folder} cannot be written: {error}") from error
            self.sizes.setdefault(segment, 0)
            if self._sync:
                sync_folder(self.folder)
        return self._file, segment


def _entry_at(segment: int, data: bytes, place: int) -> Entry | None:
    header = data[place : place + _HEADER.size]
    check = data[place + _HEADER.size : place + _HEAD_BYTES]
    if len(check) < _CHECK.size or zlib.crc32(header) != _CHECK.unpack(check)[0]:
        return None
    _, kind, number, length, body_check = _HEADER.unpack(header)
    return Entry(kind, number, segment, place + _HEAD_BYTES, length, body_check)


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def sync_folder(folder: Path) -> None:
    """Make names of new files survive power loss, where the system can."""
    with contextlib.suppress(OSError):
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _lock(path: Path) -> int:
    """Hold a file for this process; the system lets it go however the process ends."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise Conflict(
            f"another process uses the spool {path.parent}",
            hint="one process writes to a spool; give each its own folder",
        ) from error
    return file
