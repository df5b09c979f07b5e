"""What a user sends -> valid, typed records; and the mathematics of what follows from them.

`arrays` and `derived` need NumPy alone, so that `katiml.edge` can use them on a device.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from katiml.records.model import (
        BoundingBox,
        Classification,
        Completion,
        GroundTruth,
        Lane,
        Prediction,
        Record,
    )
    from katiml.records.parse import Parsed, Rejected, parse_lines, parse_objects

__all__ = [
    "BoundingBox",
    "Classification",
    "Completion",
    "GroundTruth",
    "Lane",
    "Parsed",
    "Prediction",
    "Record",
    "Rejected",
    "parse_lines",
    "parse_objects",
]

_PARSING = ("Parsed", "Rejected", "parse_lines", "parse_objects")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "parse" if name in _PARSING else "model"
    value = getattr(import_module(f"katiml.records.{home}"), name)
    globals()[name] = value
    return value
