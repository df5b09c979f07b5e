"""Arrays as text (`encode`, `decode`), and the forms in which the lake keeps them.

The text form is the original's: base64 of an LZ4 frame of a `.npy` file. Nothing is ever unpickled,
and nothing is inflated before its size is known.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import re

import numpy as np
from numpy.typing import NDArray

from katiml.errors import InvalidInput, TooLarge

__all__ = [
    "MAX_ARRAY_BYTES",
    "MAX_EMBEDDING_VALUES",
    "decode",
    "encode",
    "pool_embedding",
    "resize_nearest",
    "to_float16_or_float32",
]

MAX_ARRAY_BYTES = 64 * 2**20
MAX_EMBEDDING_VALUES = 5_000

_PREAMBLE = 1_024
# Exactly what numpy.save writes for numbers. Matching it here, rather than evaluating it as the
# Python literal it is, leaves an attacker nothing to evaluate.
_HEADER = re.compile(
    rb"\{'descr': '([<>|=][biuf]\d{1,2})', 'fortran_order': (True|False), "
    rb"'shape': \(([\d, ]{0,200})\), \} *\n?"
)


def encode(array: NDArray[np.generic]) -> str:
    """Base64 text of the array, any shape, dtype boolean, integer or float.

    >>> decode(encode(np.arange(3, dtype=np.uint8)))
    array([0, 1, 2], dtype=uint8)
    """
    import lz4.frame

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return base64.b64encode(lz4.frame.compress(buffer.getbuffer())).decode("ascii")


def decode(text: str, *, max_bytes: int = MAX_ARRAY_BYTES) -> NDArray[np.generic]:
    """The array that `encode` (or the original client) made text of; C-contiguous and writable.

    Raises InvalidInput when the text is anything else, TooLarge when the array would take more than
    `max_bytes`; both before the data is inflated.

    >>> decode("AAAA")
    Traceback (most recent call last):
    katiml.errors.InvalidInput: not a .npy file (encoded arrays are base64 of an LZ4 frame of .npy)
    """
    import lz4.frame

    try:
        frame = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _undecodable("not base64 text") from error
    decompressor = lz4.frame.LZ4FrameDecompressor()
    try:
        start = decompressor.decompress(frame, max_length=_PREAMBLE)
        dtype, fortran, shape, offset = _read_header(start)
        size = math.prod(shape) * dtype.itemsize
        if size > max_bytes:
            raise TooLarge(f"an array of {size:,} bytes is over the limit of {max_bytes:,}")
        # One byte more than is due, so that data past the end shows; never a negative length, which
        # would mean no limit.
        rest = max(offset + size - len(start), 0) + 1
        body = b"" if decompressor.eof else decompressor.decompress(b"", max_length=rest)
    except (RuntimeError, EOFError, MemoryError) as error:
        raise _undecodable("not an LZ4 frame") from error
    data = start + body
    if len(data) != offset + size or not decompressor.eof or decompressor.unused_data:
        raise _undecodable(
            f"a .npy file of shape {shape} and type {dtype} with data of another size"
        )
    array = np.frombuffer(data, dtype=dtype, offset=offset)
    array = array.reshape(shape, order="F" if fortran else "C")
    return np.array(array, dtype=dtype.newbyteorder("="), order="C")


def _read_header(start: bytes) -> tuple[np.dtype[np.generic], bool, tuple[int, ...], int]:
    length_size = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}.get(start[:8])
    if length_size is None:
        raise _undecodable("not a .npy file")
    offset = 8 + length_size + int.from_bytes(start[8 : 8 + length_size], "little")
    header = _HEADER.fullmatch(start[8 + length_size : offset])
    if header is None or offset > len(start):
        raise _undecodable("a .npy file that does not hold a plain array of numbers")
    try:
        dtype = np.dtype(header[1].decode("ascii"))
        shape = tuple(int(side) for side in header[3].split(b",") if side.strip())
    except (TypeError, ValueError) as error:
        raise _undecodable("a .npy file with a damaged header") from error
    if len(shape) > 8 or any(side > 2**40 for side in shape):
        raise _undecodable("a .npy file with a damaged header")
    return dtype, header[2] == b"True", shape, offset


def _undecodable(what: str) -> InvalidInput:
    return InvalidInput(what, hint="encoded arrays are base64 of an LZ4 frame of .npy")


def resize_nearest(mask: NDArray[np.generic], size: int = 512) -> NDArray[np.generic]:
    """A (height, width) mask as (size, size) by nearest neighbour, same dtype.

    >>> resize_nearest(np.array([[1, 2], [3, 4]]), 4)[0]
    array([1, 1, 2, 2])
    """
    height, width = mask.shape
    # The centre of each new pixel falls into the old pixel it is taken from.
    rows = (2 * np.arange(size) + 1) * height // (2 * size)
    columns = (2 * np.arange(size) + 1) * width // (2 * size)
    resized: NDArray[np.generic] = mask[rows[:, None], columns]
    return resized


def pool_embedding(
    array: NDArray[np.floating], max_values: int = MAX_EMBEDDING_VALUES
) -> NDArray[np.floating]:
    """An embedding as one flat vector, as it is stored.

    1-D stays, 2-D is flattened. 3-D (channels, height, width) is flattened too, but first, if it
    has more than `max_values` values, each channel is max-pooled by the smallest square window
    that brings it under (by the whole plane at most: at least one value a channel stays).

    >>> pool_embedding(np.arange(8.0).reshape(2, 2, 2), max_values=2)
    array([3., 7.])
    """
    if array.ndim == 3 and array.size > max_values:
        array = _max_pool(array, _pooling_window(array.shape, max_values))
    return array.reshape(-1)


def _pooling_window(shape: tuple[int, ...], max_values: int) -> int:
    channels, height, width = shape
    low, high = 1, max(height, width)
    while low < high:
        window = (low + high) // 2
        if channels * -(-height // window) * -(-width // window) <= max_values:
            high = window
        else:
            low = window + 1
    return high


def _max_pool(array: NDArray[np.floating], window: int) -> NDArray[np.floating]:
    rows = np.arange(0, array.shape[1], window)
    columns = np.arange(0, array.shape[2], window)
    return np.maximum.reduceat(np.maximum.reduceat(array, rows, axis=1), columns, axis=2)


def to_float16_or_float32(array: NDArray[np.floating]) -> NDArray[np.floating]:
    """The same values as float16, or in the next wider type that holds the largest of them.

    >>> to_float16_or_float32(np.array([1.0, 65504.0])).dtype, to_float16_or_float32(
    ...     np.array([1e5])
    ... ).dtype, to_float16_or_float32(np.array([1e300])).dtype
    (dtype('float16'), dtype('float32'), dtype('float64'))
    """
    largest = max(abs(float(array.max())), abs(float(array.min()))) if array.size else 0.0
    for dtype in (np.float16, np.float32):
        if largest <= float(np.finfo(dtype).max):
            return np.ascontiguousarray(array, dtype=dtype)
    return np.ascontiguousarray(array, dtype=np.float64)
