"""What datapoints point at: images, audio and video, found, bounded, made small and kept.

`Media` opens what `metadata.uri` names, within an `Access`, and makes thumbnails of it.
"""

from __future__ import annotations

from katiml.media.faults import (
    MediaBroken,
    MediaForbidden,
    MediaMissing,
    MediaTooLarge,
    MediaUnreachable,
)
from katiml.media.library import Media
from katiml.media.sources import Access

__all__ = [
    "Access",
    "Media",
    "MediaBroken",
    "MediaForbidden",
    "MediaMissing",
    "MediaTooLarge",
    "MediaUnreachable",
]
