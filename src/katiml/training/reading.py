"""The bytes of a URI: local files, http(s), s3, gs, az, and the lake's own objects."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from katiml.errors import InvalidSource, KatiMLError, MissingExtra, NotFound
from katiml.training.cache import FileCache

__all__ = ["Reader", "open_image"]

_SECONDS = 60


class Reader:
    """Reads URIs, again and again: connections are kept, what comes from afar may be cached.

    `open_object(id)` reads the lake's own objects (`object://`). Copies in other processes make
    connections of their own.

    >>> Reader()("/no/such/file")
    Traceback (most recent call last):
    katiml.errors.NotFound: no file /no/such/file
    """

    def __init__(
        self,
        cache: FileCache | None = None,
        open_object: Callable[[str], bytes] | None = None,
    ) -> None:
        self.cache = cache
        self._open_object = open_object
        self._opened: dict[str, Any] = {}
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": {}}

    def __call__(self, uri: str) -> bytes:
        """The content. Raises NotFound or InvalidSource."""
        scheme = urlsplit(uri).scheme if "://" in uri else "file"
        if scheme == "file":
            return _read_file(unquote(urlsplit(uri).path) if "://" in uri else uri)
        if self.cache is not None:
            return self.cache.get(uri, lambda: self._fetch(scheme, uri))
        return self._fetch(scheme, uri)

    def _fetch(self, scheme: str, uri: str) -> bytes:
        if os.getpid() != self._process:  # forked: the parent's connections are the parent's
            self._opened, self._process = {}, os.getpid()
        try:
            if scheme == "object" and self._open_object is not None:
                return self._open_object(uri.removeprefix("object://"))
            if scheme in ("http", "https"):
                return self._fetch_http(uri)
            content: bytes = self._filesystem(scheme, uri).cat_file(uri)
            return content
        except KatiMLError:
            raise
        except FileNotFoundError as error:
            raise NotFound(f"no object {uri}") from error
        except ImportError as error:
            raise MissingExtra(
                f"{scheme}:// needs a package that is not installed: {error}",
                hint="pip install 'katiml[cloud]'",
            ) from error
        except Exception as error:
            # Each cloud's client has errors of its own.
            raise InvalidSource(
                f"{uri} cannot be read: {error}", hint="check the name and the credentials"
            ) from error

    def _fetch_http(self, uri: str) -> bytes:
        import httpx

        client = self._opened.get("http")
        if client is None:
            client = self._opened["http"] = httpx.Client(timeout=_SECONDS, follow_redirects=True)
        answer = client.get(uri)
        if answer.status_code == 404:
            raise NotFound(f"no file {uri}")
        answer.raise_for_status()
        content: bytes = answer.content
        return content

    def _filesystem(self, scheme: str, uri: str) -> Any:
        import fsspec

        if scheme not in self._opened:
            self._opened[scheme] = fsspec.core.url_to_fs(uri, skip_instance_cache=True)[0]
        return self._opened[scheme]


def _read_file(path: str) -> bytes:
    try:
        with open(os.path.expanduser(path), "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise NotFound(f"no file {path}") from error
    except (OSError, ValueError) as error:
        raise InvalidSource(f"{path} cannot be read: {error}") from error


def open_image(content: bytes, uri: str) -> Any:
    """A PIL image, decoded. Raises InvalidSource for bytes that are none, or broken ones."""
    import io

    from PIL import Image

    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except Exception as error:
        # Pillow raises many kinds for broken files: OSError, SyntaxError, struct.error ...
        raise InvalidSource(f"{uri} is not an image that can be read: {error}") from error
    return image
