"""Arrays as text and back; nothing damaged, dangerous or too large is ever decoded."""

import base64
import io
import pickle
import tracemalloc
from contextlib import suppress

import lz4.frame
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from katiml.errors import InvalidInput, TooLarge
from katiml.records.arrays import (
    decode,
    encode,
    pool_embedding,
    resize_nearest,
    to_float16_or_float32,
)

DTYPES = st.sampled_from(["?", "i1", "u1", "<i4", ">i4", "<u8", "<f2", "<f4", ">f8"])


def text_of(content: bytes) -> str:
    return base64.b64encode(lz4.frame.compress(content)).decode()


def npy(array, **options) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@given(hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0), fill=st.nothing()))
def test_what_is_encoded_is_decoded(array):
    for layout in (array, np.array(array, order="F")):
        decoded = decode(encode(layout))
        assert decoded.shape == array.shape
        assert decoded.dtype == array.dtype.newbyteorder("=")
        assert decoded.flags.c_contiguous
        assert decoded.flags.writeable
        assert decoded.astype(array.dtype).tobytes() == array.tobytes()


def test_the_original_client_reads_it():
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    frame = lz4.frame.decompress(base64.b64decode(encode(array)))
    assert (np.load(io.BytesIO(frame), allow_pickle=False) == array).all()


def test_later_npy_versions_are_read():
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.arange(3.0), version=(2, 0))
    assert decode(text_of(buffer.getvalue())).tolist() == [0, 1, 2]


FILE = npy(np.arange(1000.0))
DAMAGED = {
    "no base64": "é",
    "base64 with other characters": "AA*A",
    "nothing": "",
    "no frame": base64.b64encode(b"hello world").decode(),
    "empty frame": text_of(b""),
    "no npy": text_of(b"hello world"),
    "cut header": text_of(FILE[:40]),
    "cut data": text_of(FILE[:-1]),
    "data past the end": text_of(FILE + b"\0"),
    "cut frame": base64.b64encode(lz4.frame.compress(FILE)[:-8]).decode(),
    "two frames": base64.b64encode(lz4.frame.compress(FILE) * 2).decode(),
    "a pickle": text_of(pickle.dumps([1])),
    "an array of objects": text_of(npy(np.array([{}]), allow_pickle=True)),
    "an array of text": text_of(npy(np.array(["a"]))),
    "complex numbers": text_of(npy(np.array([1j]))),
    "records": text_of(npy(np.zeros(2, dtype=[("a", "i4")]))),
    "code in the header": text_of(FILE.replace(b"(1000,)", b"(len([]")),
    "a negative side": text_of(FILE.replace(b"(1000,)", b"(-999,)")),
    "a shape of nonsense": text_of(FILE.replace(b"(1000,)", b"(1 0 0)")),
    "another type": text_of(FILE.replace(b"<f8", b"<f9")),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_anything_else_is_refused(name):
    with pytest.raises(InvalidInput):
        decode(DAMAGED[name])


@given(st.data())
def test_damage_anywhere_never_raises_anything_else(data):
    frame = bytearray(lz4.frame.compress(npy(np.arange(20, dtype=np.uint8))))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    with suppress(InvalidInput, TooLarge):
        decode(base64.b64encode(bytes(frame)).decode())


@given(st.text() | st.binary().map(text_of))
def test_no_text_raises_anything_else(text):
    with pytest.raises(InvalidInput):
        decode(text)


def test_a_bomb_is_refused_before_it_is_inflated():
    zeros = bytes(50_000_000)
    honest = text_of(npy(np.zeros(50_000_000, np.uint8)))
    huge = text_of(FILE.replace(b"(1000,), }       ", b"(99999999999,), }"))
    lying = text_of(FILE[:128].replace(b"(1000,), }", b"(9,), }   ") + zeros)
    headless = text_of(zeros)
    tracemalloc.start()
    try:
        for text in (honest, huge):
            with pytest.raises(TooLarge):
                decode(text, max_bytes=1_000_000)
        for text in (lying, headless):
            with pytest.raises(InvalidInput):
                decode(text)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_resizing_takes_the_nearest_pixel():
    mask = np.arange(12).reshape(3, 4)
    assert (resize_nearest(mask, 12) == np.kron(mask, np.ones((4, 3), int))).all()
    assert resize_nearest(mask, 1).tolist() == [[6]]
    assert resize_nearest(np.ones((1000, 3), np.uint8)).shape == (512, 512)
    assert resize_nearest(mask.astype(np.uint8), 5).dtype == np.uint8


@given(hnp.array_shapes(min_dims=3, max_dims=3, max_side=12), st.integers(1, 200))
def test_pooling_keeps_the_greatest_of_each_window(shape, limit):
    array = np.random.default_rng(0).normal(size=shape)
    pooled = pool_embedding(array, limit)
    assert pooled.ndim == 1
    assert pooled.size <= max(limit, shape[0])
    if array.size <= limit:
        assert (pooled == array.ravel()).all()
        return
    planes = pooled.reshape(shape[0], -1)
    assert (planes.max(axis=1) == array.max(axis=(1, 2))).all()
    assert np.isin(pooled, array).all()
    # No smaller window would do.
    for window in range(1, max(shape[1:]) + 1):
        size = shape[0] * -(-shape[1] // window) * -(-shape[2] // window)
        if size <= limit:
            assert pooled.size == size
            break


def test_only_three_dimensions_are_pooled():
    assert pool_embedding(np.zeros(9000)).shape == (9000,)
    assert pool_embedding(np.zeros((90, 100))).shape == (9000,)
    assert pool_embedding(np.zeros((512, 7, 7))).shape == (512 * 3 * 3,)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([], np.float16),
        ([65504.0, -65504.0], np.float16),
        ([-65505.0], np.float32),
        ([3e38], np.float32),
        ([-1e39], np.float64),
    ],
)
def test_the_narrowest_float_that_does_not_overflow(values, dtype):
    stored = to_float16_or_float32(np.array(values))
    assert stored.dtype == dtype
    assert np.isfinite(stored).all()
