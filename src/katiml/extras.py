"""Optional packages: imported where they are needed, with the command that installs them."""

from __future__ import annotations

import importlib
from typing import Any

from katiml.errors import MissingExtra

__all__ = ["need"]


def need(package: str, extra: str) -> Any:
    """The module `package`. Raises MissingExtra, which names the extra to install.

    >>> need("no_such_package", "torch")
    Traceback (most recent call last):
    katiml.errors.MissingExtra: no_such_package is not installed (pip install 'katiml[torch]')
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        top = package.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != top:
            raise
        raise MissingExtra(
            f"{top} is not installed", hint=f"pip install 'katiml[{extra}]'"
        ) from error
