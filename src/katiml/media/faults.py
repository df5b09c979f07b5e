"""Why an image, a sound or a video cannot be shown. Each has a code of its own, so that a card can
say which."""

from __future__ import annotations

from katiml.errors import Forbidden, InvalidInput, KatiMLError, NotFound, TooLarge

__all__ = [
    "MediaBroken",
    "MediaForbidden",
    "MediaMissing",
    "MediaTooLarge",
    "MediaUnreachable",
]


class MediaMissing(NotFound):
    """The datapoint names no file, or one that is not there."""


class MediaForbidden(Forbidden):
    """This server may not read where the file is."""


class MediaBroken(InvalidInput):
    """The file is not an image, a sound or a video that can be read."""

    status = 422


class MediaTooLarge(TooLarge):
    """The file has more bytes or pixels than this server reads."""


class MediaUnreachable(KatiMLError):
    """Where the file is does not answer."""

    status = 424
