"""The home of a lake in this process: shared by all its stores, remade after a fork."""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from katiml.errors import KatiMLError
from katiml.store.engine import Backend, Engine
from katiml.store.location import DuckLakeLocation, FolderLocation

__all__ = ["Block", "Home", "acquire_home", "release_home"]


@dataclass
class Block:
    """Numbers of one counter that this process has taken from the lake and not used yet."""

    size: int  # of the next block
    next: int = 0
    left: int = 0
    returned: list[int] = field(default_factory=list)


class Home(ABC):
    """Finds, keeps and replaces the backend through which a lake is reached."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.users = 0
        self.reset()

    def reset(self) -> None:
        """Start without a backend: when new, and in a forked child."""
        self.lock = threading.RLock()
        self.number_lock = threading.Lock()
        self.blocks: dict[str, Block] = {}
        self._thread = threading.local()

    @abstractmethod
    def backend(self) -> Backend:
        """The backend to use now; finds another where the last one went away."""

    @abstractmethod
    def close(self) -> None:
        """Let the backend go."""

    @abstractmethod
    def abandon(self) -> None:
        """In a forked child: forget the parent's backend without touching what it holds."""

    def refuse_nesting(self) -> None:
        """A transaction inside another one of the same thread would wait for itself for ever."""
        if getattr(self._thread, "busy", False):
            raise RuntimeError("a transaction cannot begin inside another one of the same thread")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Mark this thread as being inside a transaction."""
        self.refuse_nesting()
        self._thread.busy = True
        try:
            yield
        finally:
            self._thread.busy = False


def keep_for_ever(engine: Engine) -> None:
    """Never destroy an engine inherited through fork: its end would write to the parent's file."""
    for connection in engine.connections():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


_homes: dict[str, Home] = {}
_homes_lock = threading.Lock()


def acquire_home(location: FolderLocation | DuckLakeLocation) -> Home:
    """The home of this lake in this process, counted once more."""
    with _homes_lock:
        home = _homes.get(_key(location))
        if home is None:
            home = _new_home(location)
        home.users += 1
        _homes[home.key] = home
    try:
        home.backend()
    except BaseException:
        release_home(home)
        raise
    return home


def release_home(home: Home) -> None:
    """Count one user less; the last one closes it."""
    with _homes_lock:
        home.users -= 1
        if home.users == 0:
            _homes.pop(home.key, None)
            home.close()


def _key(location: FolderLocation | DuckLakeLocation) -> str:
    if isinstance(location, FolderLocation):
        return location.url
    # Two passwords are two homes; neither is kept in the key.
    secret = hashlib.sha256(f"{location.dsn}\0{location.metadata_schema}".encode()).hexdigest()
    return f"{location.url} {secret}"


def _new_home(location: FolderLocation | DuckLakeLocation) -> Home:
    if isinstance(location, FolderLocation):
        from katiml.store.folder import FolderHome

        return FolderHome(_key(location), location)
    from katiml.store.ducklake import DuckLakeHome

    return DuckLakeHome(_key(location), location)


@atexit.register
def _close_all() -> None:
    for home in list(_homes.values()):
        with suppress(KatiMLError):
            home.close()


def _after_fork() -> None:
    global _homes_lock  # noqa: PLW0603
    _homes_lock = threading.Lock()
    for home in _homes.values():
        home.abandon()
        home.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
