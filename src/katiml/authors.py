"""Who makes a change, where nothing else says so."""

from __future__ import annotations

import getpass
import os
from contextlib import suppress

__all__ = ["author_of"]


def author_of(author: str | None = None) -> str | None:
    """The author as given, else KATIML_AUTHOR, else the user of this computer, if it knows one.

    >>> author_of("ann")
    'ann'
    """
    if author is not None:
        return author
    named = os.environ.get("KATIML_AUTHOR")
    if named:
        return named
    with suppress(KeyError, OSError, ImportError):
        return getpass.getuser()
    return None
