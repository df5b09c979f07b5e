"""What needs the optional dependencies of `katiml[cloud]`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from katiml.errors import MissingExtra

__all__ = ["cloud_extra"]


@contextmanager
def cloud_extra() -> Iterator[None]:
    """Name the extra to install where the block misses an optional package."""
    try:
        yield
    except ImportError as error:
        raise MissingExtra(
            f"lakes in the cloud need an optional package: {error}",
            hint="pip install 'katiml[cloud]'",
        ) from error
