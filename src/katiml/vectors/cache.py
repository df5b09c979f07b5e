"""Arrays kept on disk as memory-mapped files, by key and state.

A key holds one state: a newer one takes its place. `KATIML_CACHE` says where (by default `cache/`
in a lake's folder, or `~/.cache/katiml` for other lakes) and `KATIML_CACHE_LIMIT` how much (20GB):
what was used longest ago goes first.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import orjson

from katiml.errors import InvalidInput, StorageFull

__all__ = ["Cache", "Draft", "cache_folder"]

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?\s*\Z", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def cache_folder(lake_url: str) -> Path:
    """Where the arrays of this lake are kept; not made yet."""
    told = os.environ.get("KATIML_CACHE")
    if told:
        base = Path(told).expanduser()
    elif ":" not in lake_url or Path(lake_url).is_dir():
        return Path(lake_url) / "cache"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "katiml"
    return base / hashlib.sha256(lake_url.encode()).hexdigest()[:16]


class Draft:
    """Arrays being written; readable under their key once the block that opened it ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """A memory-mapped array of zeros to fill. Raises StorageFull."""
        path = self.folder / f"{name}.npy"
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
        # Without its space taken now, a full disk would end the process at some later write.
        if array.nbytes and hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                try:
                    os.posix_fallocate(file.fileno(), 0, array.offset + array.nbytes)
                except OSError as error:
                    raise StorageFull(
                        f"no space for {array.nbytes:,} bytes in {self.folder.parent}",
                        hint="free some, or name another folder in KATIML_CACHE",
                    ) from error
        return array

    def save(self, name: str, array: Any) -> None:
        """Write an array at once."""
        np.save(self.folder / f"{name}.npy", array, allow_pickle=False)

    def describe(self, facts: Mapping[str, Any]) -> None:
        """What `Cache.get` gives back beside the arrays."""
        (self.folder / "facts.json").write_bytes(orjson.dumps(dict(facts)))


class Cache:
    """Arrays in a folder. Safe to share among threads and processes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = Cache(Path(folder))
    ...     with cache.put("key", "first") as draft:
    ...         draft.save("numbers", np.arange(3))
    ...         draft.describe({"of": "a test"})
    ...     cache.array("key", "first", "numbers"), cache.get("key", "second")
    (array([0, 1, 2]), None)
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self.folder = folder
        self.limit = _limit() if limit is None else limit

    def get(self, key: str, state: str) -> dict[str, Any] | None:
        """The facts about what is kept of this key in this state; None where nothing is."""
        place = self._place(key, state)
        try:
            facts: dict[str, Any] = orjson.loads((place / "facts.json").read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError):
            return None
        with suppress(OSError):
            os.utime(place)
        return facts

    def array(self, key: str, state: str, name: str) -> Any:
        """A kept array, memory-mapped and read-only; empty ones are read."""
        path = self._place(key, state) / f"{name}.npy"
        try:
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except ValueError:  # an empty file cannot be mapped
            return np.load(path, allow_pickle=False)

    @contextmanager
    def put(self, key: str, state: str) -> Iterator[Draft]:
        """Write arrays; they take the place of what is kept of this key in other states."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = Path(mkdtemp(prefix="draft-", dir=self.folder))
        try:
            yield Draft(draft)
            place = self._place(key, state)
            with suppress(OSError):  # another process was first: its arrays are the same
                os.rename(draft, place)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        for old in self.folder.glob(f"{_name(key)}-*"):
            if old != place:
                shutil.rmtree(old, ignore_errors=True)
        self._shrink(place)

    def forget(self, key: str) -> None:
        """Remove what is kept of this key."""
        for old in self.folder.glob(f"{_name(key)}-*"):
            shutil.rmtree(old, ignore_errors=True)

    def _place(self, key: str, state: str) -> Path:
        return self.folder / f"{_name(key)}-{_name(state)}"

    def _shrink(self, newest: Path) -> None:
        """Remove what was used longest ago until the rest is within the limit."""
        kept = []
        for place in self.folder.iterdir():
            with suppress(OSError):  # another process removed it
                size = sum(file.stat().st_size for file in place.iterdir())
                kept.append((place.stat().st_mtime, size, place))
        total = sum(size for _, size, _ in kept)
        for _, size, place in sorted(kept):
            if total <= self.limit:
                return
            if place != newest and not place.name.startswith("draft-"):
                shutil.rmtree(place, ignore_errors=True)
                total -= size


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _limit() -> int:
    text = os.environ.get("KATIML_CACHE_LIMIT") or "20GB"
    match = _SIZE.match(text)
    if match is None:
        raise InvalidInput(
            f"KATIML_CACHE_LIMIT is {text!r:.100}", hint="write it like 20GB or 800MB"
        )
    return int(float(match[1]) * _UNITS[match[2].upper()])
