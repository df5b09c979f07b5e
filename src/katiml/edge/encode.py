"""Records -> JSON with NumPy and the standard library alone, as the lake takes them."""

from __future__ import annotations

import base64
import datetime
import io
import json
import os
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml.errors import InvalidInput, InvalidRecord
from katiml.records.arrays import decode, to_float16_or_float32

__all__ = ["decode_array", "encode_array", "encode_record"]

# Fields whose arrays the lake also takes as text.
_ARRAYS = {"logits", "segmentation_class_mask", "segmentation_mask"}
_VECTORS = {"embeddings", "grad_embeddings"}
# An LZ4 frame without compression: magic, version 1 with independent blocks of up to 64 KiB, the
# checksum of these two bytes; then blocks whose length has the highest bit set, and an end.
_FRAME = bytes.fromhex("04224d18604082")
_BLOCK = 64 << 10


def encode_array(array: NDArray[Any]) -> str:
    """Base64 of an LZ4 frame of a `.npy` file, which `katiml.records.arrays.decode` reads.

    The frame is not compressed: that would need a library.

    >>> from katiml.records.arrays import decode
    >>> decode(encode_array(np.arange(3, dtype=np.uint8)))
    array([0, 1, 2], dtype=uint8)
    """
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    data = buffer.getvalue()
    parts = [_FRAME]
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        parts += [(len(block) | 1 << 31).to_bytes(4, "little"), block]
    return base64.b64encode(b"".join([*parts, bytes(4)])).decode("ascii")


def decode_array(text: str) -> NDArray[Any]:
    """The array that `encode_array` made text of; text from elsewhere needs the package lz4.

    Raises InvalidInput for any other text.

    >>> decode_array(encode_array(np.array([0.5, 2.0]))).tolist()
    [0.5, 2.0]
    """
    try:
        frame = base64.b64decode(text, validate=True)
        data = _stored(frame)
    except ValueError as error:
        raise InvalidInput(f"no encoded array: {error}") from None
    if data is None:
        return decode(text)
    try:
        array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InvalidInput(f"no encoded array: {error}") from None
    return array


def _stored(frame: bytes) -> bytes | None:
    """What a frame holds that is not compressed; None for one that is."""
    if not frame.startswith(_FRAME):
        return None
    place = len(_FRAME)
    parts: list[bytes] = []
    while True:
        length = int.from_bytes(frame[place : place + 4], "little")
        if length == 0:
            return b"".join(parts)
        if not length >> 31:
            return None
        length &= 0x7FFFFFFF
        part = frame[place + 4 : place + 4 + length]
        if len(part) < length:
            raise ValueError("it ends too early")
        parts.append(part)
        place += 4 + length


def encode_record(record: Mapping[str, Any]) -> bytes:
    """One record as JSON; arrays of logits and masks as text, embeddings float16 as in the lake.

    Raises InvalidRecord for what JSON cannot hold, NaN and infinity included.

    >>> encode_record({"type": "IMAGE", "tags": {"camera": np.int64(3)}})
    b'{"type":"IMAGE","tags":{"camera":3}}'
    """
    try:
        plain = _plain(record, "")
        return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRecord(
            f"the record cannot be written as JSON: {error}",
            hint="records hold dicts, lists, text, finite numbers, NumPy arrays and dates",
        ) from None


def _plain(value: Any, field: str) -> Any:
    """`value` as JSON has it; `field` is the name under which it stands, or stood further up."""
    if isinstance(value, Mapping):
        inside = field if field in _VECTORS else ""
        return {str(name): _plain(item, inside or str(name)) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return _array(value, field)
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, field if field in _VECTORS else "") for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def _array(array: NDArray[Any], field: str) -> Any:
    if array.dtype.kind not in "biuf":
        raise TypeError(f"an array of {array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{field or 'an array'} holds NaN or infinity")
    if field in _VECTORS:
        return encode_array(to_float16_or_float32(array.astype(np.float64)))
    if field not in _ARRAYS:
        return array.tolist()
    # The lake keeps logits as float32 at most.
    return encode_array(array.astype(np.float32) if array.dtype == np.float64 else array)
