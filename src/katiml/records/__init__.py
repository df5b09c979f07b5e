"""What a user sends -> valid, typed records; and the mathematics of what follows from them."""

from __future__ import annotations

from katiml.records.alike import Alike, Layouts
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
    "Alike",
    "BoundingBox",
    "Classification",
    "Completion",
    "GroundTruth",
    "Lane",
    "Layouts",
    "Parsed",
    "Prediction",
    "Record",
    "Rejected",
    "parse_lines",
    "parse_objects",
]
