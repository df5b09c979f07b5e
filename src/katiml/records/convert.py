"""One value of a record -> the form the lake keeps: arrays, masks, ids, moments.

Each function takes what was sent and returns the checked value, or raises InvalidRecord whose path
is relative to the value. Values that overflow float32 are expected and dealt with: call under
`numpy.errstate(over="ignore")`, once for a batch, because it costs as much as a short vector.
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml.errors import InvalidInput, InvalidRecord, TooLarge
from katiml.records import arrays

__all__ = ["flat_vector", "to_id", "to_mask", "to_timestamp", "to_vector"]

_CANONICAL_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_ANY_ID = re.compile(
    r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
).fullmatch
_MILLISECONDS_FROM = 1e11  # the year 5138 in seconds, 1973 in milliseconds
_INT32 = np.iinfo(np.int32)


def to_id(value: str) -> str:
    """An id in its one spelling: lower-case, with dashes.

    >>> to_id("0190F0E0-0000-7000-8000-00000000000A")
    '0190f0e0-0000-7000-8000-00000000000a'
    """
    if _CANONICAL_ID(value):
        return value
    if _ANY_ID(value):
        return str(uuid.UUID(value))
    raise InvalidRecord(f"{value[:80]!r} is not an id", hint="ids are UUIDs that the lake gave")


def to_timestamp(value: Any) -> datetime:
    """A moment in UTC from ISO 8601 text, a datetime, or seconds or milliseconds since 1970.

    Text and datetimes without a zone are taken as UTC.

    >>> to_timestamp(1_700_000_000_000).isoformat()
    '2023-11-14T22:13:20+00:00'
    """
    try:
        if isinstance(value, str):
            text = value.strip()
            if re.fullmatch(r"-?\d{9,}(\.\d+)?", text):
                return to_timestamp(float(text))
            value = datetime.fromisoformat(text)
        if isinstance(value, datetime):
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value / 1000 if abs(value) >= _MILLISECONDS_FROM else value
            return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise InvalidRecord(
        f"{str(value)[:80]!r} is not a moment",
        hint="ISO 8601 text, or seconds or milliseconds since 1970",
    )


def to_vector(value: Any, dimensions: tuple[int, ...]) -> NDArray[np.floating] | None:
    """Numbers as a finite C-contiguous float32 array; float64 where float32 would overflow.

    `value`: nested lists, anything with `__array__`, or text made by `arrays.encode`. An empty
    array is None: it means that there is none. `dimensions`: how many are allowed.

    >>> to_vector([1, 2], (1,))
    array([1., 2.], dtype=float32)
    """
    if type(value) is list and 1 in dimensions:
        vector = flat_vector(value)
        if vector is not None:
            return vector
    values = _to_array(value)
    if values.size == 0:
        return None
    if values.ndim not in dimensions:
        allowed = " or ".join(f"{count}-D" for count in dimensions)
        raise InvalidRecord(f"an array of shape {values.shape} where {allowed} is expected")
    vector = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(vector).all():
        if not np.isfinite(values).all():
            raise _not_finite(values)
        vector = np.ascontiguousarray(values, dtype=np.float64)
    return vector


def flat_vector(value: Sequence[Any]) -> NDArray[np.float32] | None:
    """A flat list of ordinary numbers as `to_vector` takes it, at a third of the price.

    None when it is anything else.
    """
    try:
        packed = struct.pack(f"{len(value)}f", *value)
    except (struct.error, OverflowError):
        return None
    vector = np.frombuffer(packed, np.float32)
    # The sum of squares is finite only where every value is: one cheap pass.
    return vector if vector.size and isfinite(vector.dot(vector)) else None


def to_mask(value: Any) -> NDArray[np.integer]:
    """A (height, width) mask in the smallest integer type that holds its values.

    `value` as for `to_vector`, of whole numbers in the range of int32; a leading side of 1 is
    squeezed away.

    >>> to_mask([[[0, 1], [2, 300]]])
    array([[  0,   1],
           [  2, 300]], dtype=uint16)
    """
    values = _to_array(value)
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 2 or values.size == 0:
        raise InvalidRecord(f"an array of shape {values.shape} where height x width is expected")
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise _not_finite(values)
        fractions = np.argwhere(values != np.rint(values))
        if len(fractions):
            raise InvalidRecord("a mask holds whole numbers", path=_position(fractions[0]))
    least, most = values.min(), values.max()
    if least < _INT32.min or most > _INT32.max:
        culprit = np.argwhere((values < _INT32.min) | (values > _INT32.max))[0]
        raise InvalidRecord("a mask value does not fit 32 bits", path=_position(culprit))
    dtype = np.promote_types(np.min_scalar_type(int(least)), np.min_scalar_type(int(most)))
    if dtype.itemsize > 4:
        dtype = np.dtype(np.int32)
    return np.ascontiguousarray(values, dtype=dtype)


def _to_array(value: Any) -> NDArray[Any]:
    if isinstance(value, str):
        try:
            values = arrays.decode(value)
        except (InvalidInput, TooLarge) as error:
            raise InvalidRecord(error.message, hint=error.hint) from error
    else:
        values = _from_numbers(value)
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind not in "iuf":
        raise _not_numbers(value)
    return values


def _from_numbers(value: Any) -> NDArray[Any]:
    if isinstance(value, dict) or value is None:
        raise InvalidRecord("an array of numbers is expected")
    if hasattr(value, "detach"):  # a torch tensor that may require gradients or live on a GPU
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise _not_numbers(value) from error


def _not_finite(values: NDArray[Any]) -> InvalidRecord:
    where = np.argwhere(~np.isfinite(values))[0]
    return InvalidRecord(
        f"{values[tuple(where)]} is not a finite number",
        path=_position(where),
        hint="NaN and infinity cannot be stored",
    )


def _position(where: Sequence[int] | NDArray[np.integer]) -> str:
    return "".join(f"[{int(index)}]" for index in where)


def _not_numbers(value: Any) -> InvalidRecord:
    """Says which item of nested lists is no number, or where they are ragged."""
    found = _first_fault(value, _shape_of(value))
    return found or InvalidRecord("an array of numbers is expected")


def _shape_of(value: Any) -> tuple[int, ...]:
    shape: list[int] = []
    while isinstance(value, list | tuple) and len(shape) < 8:
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _first_fault(value: Any, shape: tuple[int, ...]) -> InvalidRecord | None:
    if not isinstance(value, list | tuple):
        if shape:
            return InvalidRecord(f"a single value where {shape[0]} are expected", hint=_RAGGED)
        if isinstance(value, int | float | np.number) and not isinstance(value, bool):
            return None
        return InvalidRecord(f"{str(value)[:80]!r} is not a number")
    if not shape:
        return InvalidRecord(f"{len(value)} values where a number is expected", hint=_RAGGED)
    if len(value) != shape[0]:
        return InvalidRecord(f"{len(value)} values where {shape[0]} are expected", hint=_RAGGED)
    for index, item in enumerate(value):
        fault = _first_fault(item, shape[1:])
        if fault:
            fault.path = f"[{index}]{fault.path}"
            return fault
    return None


_RAGGED = "rows of one array have the same length"
