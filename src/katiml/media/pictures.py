"""Image files of any kind -> small images that a browser shows. Pure: bytes in, bytes out."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from katiml.media.faults import MediaBroken, MediaTooLarge

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_PIXELS", "Picture", "Region", "kind_of", "thumbnail"]

MAX_PIXELS = 89_478_485
# What Pillow decodes itself. Not EPS and PDF, which start other programs.
_FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "TGA",
    "TIFF", "WEBP",
)  # fmt: skip
# The quality of JPEG; small images stay exact.
_QUALITY = 85
_EXACT_BELOW = 128

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"BM", "image/bmp"),
    (8, b"WAVE", "audio/wav"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "application/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftyp", "video/mp4"),
)


@dataclass(frozen=True)
class Region:
    """A part of an image as fractions of it: `normalized_roi`."""

    top: float
    left: float
    height: float
    width: float

    @classmethod
    def of(cls, value: Any) -> Region | None:
        """The region of `metadata.normalized_roi`; None where it says nothing usable.

        >>> Region.of({"top": 0.5, "left": 0, "height": 0.9, "width": 1})
        Region(top=0.5, left=0.0, height=0.5, width=1.0)
        """
        try:
            top, left, height, width = (
                float(value[side]) for side in ("top", "left", "height", "width")
            )
        except (TypeError, KeyError, ValueError, OverflowError):
            return None
        if not (0 <= top < 1 and 0 <= left < 1 and height > 0 and width > 0):
            return None
        return cls(top, left, min(height, 1 - top), min(width, 1 - left))


@dataclass(frozen=True)
class Picture:
    """An encoded image. `width` and `height` are those of the original, or of its region."""

    data: bytes
    media_type: str
    width: int
    height: int


def kind_of(head: bytes) -> str | None:
    """The media type that the first bytes of a file show; None unless a browser may be given it.

    >>> kind_of(b"RIFF....WAVEfmt "), kind_of(b"<html>")
    ('audio/wav', None)
    """
    for offset, magic, media_type in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return media_type
    # The frame header of MPEG audio without tags.
    return "audio/mpeg" if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 else None


def thumbnail(
    file: BinaryIO, size: int, region: Region | None = None, max_pixels: int = MAX_PIXELS
) -> Picture:
    """The image in `file`, or a region of it, made to fit into `size` x `size` pixels.

    It is never enlarged, and is turned as its EXIF data say. Raises MediaBroken for what is no
    image, MediaTooLarge past `max_pixels`; nothing is decoded before its size is known.

    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (640, 480), "red").save(file, "PNG")
    >>> small = thumbnail(file, 256)
    >>> small.media_type, small.width, small.height
    ('image/jpeg', 640, 480)
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file, formats=_known_formats()) as image:
            if image.width * image.height > max_pixels:
                raise MediaTooLarge(
                    f"the image has {image.width:,} x {image.height:,} pixels, over the limit of"
                    f" {max_pixels / 1e6:,.0f} million"
                )
            if region is None:
                # JPEG decodes at a half, a quarter or an eighth several times as fast.
                full = image.size
                image.draft("RGB", (size * 2, size * 2))
                scale = full[0] / image.width
            else:
                scale = 1.0
            turned = ImageOps.exif_transpose(image)
            width, height = round(turned.width * scale), round(turned.height * scale)
            if region is not None:
                turned = turned.crop(_pixels(region, turned.width, turned.height))
                width, height = turned.size
            small = _eight_bits(turned)
            small.thumbnail((size, size), Image.Resampling.BICUBIC, reducing_gap=2.0)
            return _encoded(small, width, height)
    except (MediaTooLarge, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaTooLarge("the image has more pixels than this server decodes") from error
    except UnidentifiedImageError as error:
        raise MediaBroken("the file is not an image of a kind known here") from error
    except (OSError, ValueError, SyntaxError, TypeError, EOFError, struct.error) as error:
        # What decoders raise on damaged files.
        raise MediaBroken(f"the image is damaged: {error}"[:300]) from error


@cache
def _known_formats() -> tuple[str, ...]:
    """Those that this Pillow was built with."""
    from PIL import Image

    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _pixels(region: Region, width: int, height: int) -> tuple[int, int, int, int]:
    left, top = int(region.left * width), int(region.top * height)
    right = max(left + 1, round((region.left + region.width) * width))
    bottom = max(top + 1, round((region.top + region.height) * height))
    return left, top, min(right, width), min(bottom, height)


def _eight_bits(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
        spread = (np.nan_to_num(values, nan=low) - low) / (high - low or 1.0)
        return Image.fromarray((spread.clip(0, 1) * 255).astype(np.uint8))
    if image.mode in ("RGB", "RGBA", "L"):
        return image.copy() if image.readonly else image
    if image.mode in ("LA", "PA") or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def _encoded(image: Image.Image, width: int, height: int) -> Picture:
    buffer = io.BytesIO()
    if image.mode == "RGBA" or max(image.size) <= _EXACT_BELOW:
        image.save(buffer, "PNG")
        return Picture(buffer.getvalue(), "image/png", width, height)
    image.save(buffer, "JPEG", quality=_QUALITY)
    return Picture(buffer.getvalue(), "image/jpeg", width, height)
