"""Records -> newline-delimited JSON."""

from __future__ import annotations

import base64
import datetime
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import orjson

from katiml.errors import InvalidRecord
from katiml.records.arrays import encode
from katiml.records.plain import ARRAY_FIELDS

__all__ = ["encode_record", "encode_records"]

# An encoded array has about 150 bytes around it: shorter ones are smaller as numbers.
_ENCODED_FROM = 128

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def encode_record(record: Any) -> bytes:
    """One record as one line of JSON; NumPy arrays and scalars welcome.

    Long arrays among the logits, embeddings and masks of predictions and ground truths travel
    encoded (see `katiml.records.arrays`): a third of the bytes, and quicker to read.

    NaN and infinity stay what they are, for the lake to reject with their path; most encoders
    would turn them into a null, which deletes.

    >>> encode_record({"logits": np.array([0.5, 2.0], np.float32), "passes": np.int64(3)})
    b'{"logits":[0.5,2.0],"passes":3}'
    >>> encode_record({"confidence": float("nan")})
    b'{"confidence": NaN}'
    """
    if isinstance(record, dict) and not _ATTACHMENTS.isdisjoint(record):
        record = {
            name: _with_encoded_arrays(value) if name in _ATTACHMENTS else value
            for name, value in record.items()
        }
    try:
        line = orjson.dumps(record, default=_plain, option=_OPTIONS)
        # orjson writes NaN as null. A text without null had none.
        if b"null" not in line:
            return line
    except (TypeError, ValueError):
        # Integers above 64 bits, a broken surrogate, or something that is no JSON at all.
        pass
    try:
        return json.dumps(record, default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRecord(
            f"the record cannot be written as JSON: {error}",
            hint="records hold dicts, lists, text, numbers, NumPy arrays and dates",
        ) from None


def encode_records(records: Iterable[Any], separator: bytes = b"\n") -> Iterator[bytes]:
    """Each record as a line. Raises InvalidRecord with the number of the record, from 0."""
    for number, record in enumerate(records):
        try:
            yield encode_record(record) + separator
        except InvalidRecord as error:
            raise InvalidRecord(
                f"records[{number}]: {error.message}", path=f"[{number}]", hint=error.hint
            ) from None


_ATTACHMENTS = frozenset({"predictions", "prediction", "groundtruths", "groundtruth"})
_LISTS = frozenset({"bboxes"})


def _with_encoded_arrays(value: Any) -> Any:
    """An attachment, or a list of them, in which long arrays are text."""
    if isinstance(value, list | tuple):
        return [_with_encoded_arrays(item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {}
    for name, item in value.items():
        if name in ARRAY_FIELDS:
            changed[name] = (
                {layer: _encoded(array) for layer, array in item.items()}
                if isinstance(item, dict)
                else _encoded(item)
            )
        elif name in _LISTS:
            changed[name] = _with_encoded_arrays(item)
    return {**value, **changed} if changed else value


def _encoded(value: Any) -> Any:
    is_long = isinstance(value, np.ndarray) and value.size > _ENCODED_FROM
    return encode(value) if is_long and value.dtype.kind in "biuf" else value


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    # Tensors of any framework.
    for name in ("detach", "cpu", "numpy"):
        if not hasattr(value, name):
            break
        value = getattr(value, name)()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON value")
