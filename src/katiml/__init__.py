"""KatiML: an open ML data lake with active learning.

`katiml.connect()` opens a lake; everything else hangs from the `Lake` it returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from katiml.errors import KatiMLError

if TYPE_CHECKING:
    from katiml.lake import Lake, connect

__all__ = ["KatiMLError", "Lake", "__version__", "connect"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("Lake", "connect"):
        from katiml import lake

        return getattr(lake, name)
    raise AttributeError(f"module 'katiml' has no attribute {name!r}")
