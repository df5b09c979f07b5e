"""What Python programs send (NumPy, torch, datetimes, paths) -> what JSON could have held."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import numpy as np

from katiml.errors import InvalidRecord
from katiml.records.faults import within

__all__ = ["ARRAY_FIELDS", "plain"]

# Left as they are in attachments: they become arrays, and lists of thousands of numbers are not
# walked.
ARRAY_FIELDS = frozenset(
    {"logits", "embeddings", "grad_embeddings", "segmentation_class_mask", "segmentation_mask"}
)
_ATTACHMENTS = frozenset({"groundtruths", "groundtruth", "predictions", "prediction"})


def plain(record: Any) -> Any:
    """A record of None, bool, int, float, str, list and dict alone, but for its array fields.

    Raises InvalidRecord with the path of a number that is not finite, of text that cannot be
    stored, and of a value that has no JSON form.

    >>> plain({"id": UUID(int=1), "tags": {1: np.int64(2)}})
    {'id': '00000000-0000-0000-0000-000000000001', 'tags': {'1': 2}}
    """
    if not isinstance(record, Mapping):
        return record
    return _object(record, _field)


def _field(name: str, value: Any) -> Any:
    return (_attachment if name.partition(".")[0] in _ATTACHMENTS else _value)(name, value)


def _attachment(name: str, value: Any) -> Any:
    """Something inside an attachment, under its name."""
    if name.rpartition(".")[2] in ARRAY_FIELDS:
        return _object(value, _array_or_text) if isinstance(value, Mapping) else value
    if isinstance(value, Mapping):
        return _object(value, _attachment)
    if isinstance(value, list | tuple):
        return _list(value, _attachment)
    return _value(name, value)


def _array_or_text(_name: str, value: Any) -> Any:
    return value


def _value(_name: str, value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return _text(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**64 else _large(value)
    if kind is float:
        return _number(value)
    if kind is dict or isinstance(value, Mapping):
        return _object(value, _value)
    if kind is list or kind is tuple:
        return _list(value, _value)
    return _foreign(value)


def _object(value: Mapping[Any, Any], convert: Callable[[str, Any], Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = key if type(key) is str else _key(key)
        try:
            if "\0" in name or not name.isascii():
                _text(name)
            result[name] = convert(name, item)
        except InvalidRecord as error:
            raise within(error, name) from None
    return result


def _list(value: list[Any] | tuple[Any, ...], convert: Callable[[str, Any], Any]) -> list[Any]:
    result = []
    for index, item in enumerate(value):
        try:
            result.append(convert("", item))
        except InvalidRecord as error:
            raise within(error, f"[{index}]") from None
    return result


def _key(key: Any) -> str:
    if isinstance(key, str | int | float | np.integer | UUID):
        return str(key.value if isinstance(key, Enum) else key)
    raise InvalidRecord(f"a field name of type {type(key).__name__}", hint="names are text")


def _text(value: str) -> str:
    if "\0" in value:
        raise InvalidRecord("text holds a NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidRecord("text holds half of a surrogate pair") from error
    return value


def _number(value: float) -> float:
    if not math.isfinite(value):
        raise InvalidRecord(
            f"{value} is not a finite number", hint="NaN and infinity cannot be stored"
        )
    return value


def _large(value: int) -> float:
    """A whole number past 64 bits, as readers of JSON take it."""
    try:
        return float(value)
    except OverflowError as error:
        raise InvalidRecord("a number too large to be stored") from error


def _foreign(value: Any) -> Any:
    """A value of a type that JSON does not know, or of a subclass of one that it does."""
    for kind, convert in _CONVERSIONS:
        if isinstance(value, kind):
            return convert(value)
    if hasattr(value, "detach"):  # a torch tensor that may require gradients or live on a GPU
        value = value.detach().cpu()
    if hasattr(value, "__array__"):
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise _no_form(value) from error
        if array.dtype.kind in "biufUM":
            return _value("", array.tolist())
    raise _no_form(value)


# In this order: an Enum may be text too, and numpy.float64 is a float.
_CONVERSIONS: tuple[tuple[type[Any], Callable[[Any], Any]], ...] = (
    (Enum, lambda value: _value("", value.value)),
    (str, lambda value: _text(str(value))),
    (datetime, datetime.isoformat),
    (date, date.isoformat),
    (UUID, str),
    (os.PathLike, lambda value: _value("", os.fspath(value))),
    (Decimal, lambda value: _number(float(value))),
    (np.bool_, bool),
    (np.integer, int),
    (np.floating, lambda value: _number(float(value))),
    (int, lambda value: _value("", int(value))),
    (float, lambda value: _number(float(value))),
)


def _no_form(value: Any) -> InvalidRecord:
    return InvalidRecord(f"a value of type {type(value).__name__} cannot be stored")
