"""Images of any kind become small ones; what cannot is refused, before it costs much."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from katiml.media import MediaBroken, MediaTooLarge
from katiml.media.cache import Cache
from katiml.media.masks import as_png, instances
from katiml.media.pictures import Region, kind_of, thumbnail


def encoded(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_kinds(kind: str) -> None:
    made = thumbnail(encoded(Image.new("RGB", (1200, 800), (200, 40, 40)), kind), 256)
    assert (made.width, made.height) == (1200, 800)
    small = opened(made.data).convert("RGB")
    assert small.size == (256, 171)
    assert np.abs(np.subtract(small.getpixel((100, 100)), (200, 40, 40))).max() < 12


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_modes(mode: str) -> None:
    values = np.tile(np.linspace(0, 255, 300), (300, 1))
    if mode in ("I;16", "I", "F"):
        dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        image = Image.fromarray((values * 200).astype(dtype))
    else:
        image = Image.fromarray(values.astype(np.uint8)).convert(mode)
    kind = "TIFF" if mode in ("CMYK", "F", "I", "I;16") else "PNG"
    made = thumbnail(encoded(image, kind), 256)
    grey = np.asarray(opened(made.data).convert("L"), dtype=int)
    assert grey[128, 10] < 60
    assert grey[128, 245] > 195


def test_a_small_image_stays_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    made = thumbnail(encoded(Image.fromarray(pixels), "PNG"), 256)
    assert made.media_type == "image/png"
    assert np.array_equal(np.asarray(opened(made.data)), pixels)


def test_turned_as_exif_says() -> None:
    image = Image.new("RGB", (400, 200))
    exif = image.getexif()
    exif[0x0112] = 6
    made = thumbnail(encoded(image, "JPEG", exif=exif), 128)
    assert (made.width, made.height) == (200, 400)
    assert opened(made.data).size == (64, 128)


def test_a_region() -> None:
    pixels = np.zeros((400, 600, 3), np.uint8)
    pixels[200:, 300:] = 250
    file = encoded(Image.fromarray(pixels), "JPEG", quality=95)
    made = thumbnail(file, 1024, Region(0.5, 0.5, 0.5, 0.5))
    assert (made.width, made.height) == (300, 200)
    assert np.asarray(opened(made.data)).mean() > 240


@pytest.mark.parametrize(
    "value", [None, 3, {}, {"top": 0}, {"top": "x", "left": 0, "height": 1, "width": 1},
              {"top": 2, "left": 0, "height": 1, "width": 1},
              {"top": 0, "left": 0, "height": 0, "width": 1},
              {"top": float("nan"), "left": 0, "height": 1, "width": 1}],
)  # fmt: skip
def test_what_is_no_region(value: object) -> None:
    assert Region.of(value) is None


def bomb(width: int, height: int) -> io.BytesIO:
    """A PNG of a few bytes that claims to be that large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(b"0" * 1000)),
        chunk(b"IEND", b""),
    ]
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize("side", [9_500, 14_000, 60_000])
def test_a_bomb_is_not_decoded(side: int) -> None:
    with pytest.raises(MediaTooLarge):
        thumbnail(bomb(side, side), 256)


# Pillow warns of damaged metadata and goes on; here warnings are errors.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(
    st.binary(max_size=300),
    st.sampled_from(["", "JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]),
    st.integers(0, 400),
)
def test_damaged_files_are_said_to_be(noise: bytes, kind: str, keep: int) -> None:
    good = encoded(Image.new("RGB", (40, 30)), kind).getvalue()[:keep] if kind else b""
    try:
        made = thumbnail(io.BytesIO(good + noise), 128)
    except (MediaBroken, MediaTooLarge):
        return
    assert opened(made.data).size


def test_kinds_that_a_browser_may_be_given() -> None:
    assert kind_of(encoded(Image.new("L", (2, 2)), "JPEG").getvalue()) == "image/jpeg"
    for text in (b"<html>", b"<svg xmlns=", b"%PDF-1.7", b"MZ", b"#!/bin/sh", b"", b"root:x:0:0"):
        assert kind_of(text) is None


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 255))
def test_masks_are_exact(height: int, width: int, seed: int) -> None:
    plane = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    assert np.array_equal(np.asarray(opened(as_png(plane))), plane)


def test_instances_of_other_sizes_are_fitted() -> None:
    plane = instances([np.ones((4, 4), np.uint8), np.array([[0, 1]])])
    assert plane.tolist() == [[1, 1, 2, 2]] * 4


def test_the_cache_stays_small_and_keeps_what_is_used(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=100_000)
    for number in range(100):
        cache.put(str(number), bytes([number]) * 2_000)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size <= 106_000
    assert cache.get("99") == bytes([99]) * 2_000
    assert [path for path in tmp_path.rglob("*.*") if path.is_file()] == []


def test_what_is_too_old_is_made_again(tmp_path: Path) -> None:
    now = [0.0]
    cache = Cache(tmp_path, max_age=10, clock=lambda: now[0])
    cache.put("a", b"1")
    made = cache.path("a")
    now[0] = Path(made).stat().st_mtime + 5
    assert cache.get("a") == b"1"
    now[0] += 10
    assert cache.get("a") is None


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    cache = Cache(blocked / "below")
    cache.put("a", b"1")
    assert cache.get("a") is None
