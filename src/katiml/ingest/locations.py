"""Where records come from: local files, the lake's own objects, http(s), s3, gs and az.

Sources that a stranger names over HTTP may not reach local files or private addresses.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from katiml.errors import Forbidden, InvalidSource, KatiMLError, MissingExtra, NotFound
from katiml.store.scope import Scope

__all__ = ["check_location", "open_location", "private_urls_allowed"]

_OBJECT_STORES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_HINT = "use http(s)://, s3://, gs://, az://, or upload the file"
_CONNECT_SECONDS = 20
_MAX_REDIRECTS = 5


def private_urls_allowed() -> bool:
    """Whether KATIML_ALLOW_PRIVATE_URLS permits URLs to private addresses."""
    return os.environ.get("KATIML_ALLOW_PRIVATE_URLS", "").lower() in ("1", "true", "yes")


def check_location(location: str, *, trusted: bool, allow_private: bool = False) -> str:
    """The location in its full form; raises where it may not or can not be read.

    `trusted` callers (the library, the command line) may name local files and any address.

    >>> check_location("ftp://example.com/records", trusted=True)
    Traceback (most recent call last):
    katiml.errors.InvalidSource: records cannot be read from 'ftp://' (use http(s)://, s3://, \
gs://, az://, or upload the file)
    """
    scheme = urlsplit(location).scheme.lower() if "://" in location else ""
    if scheme in ("object", *_OBJECT_STORES):
        return location
    if scheme in ("http", "https"):
        if not trusted and not allow_private:
            _public_addresses(location)
        return location
    if scheme not in ("", "file"):
        raise InvalidSource(f"records cannot be read from {scheme + '://'!r}", hint=_HINT)
    if not trusted:
        raise Forbidden(f"a local path may not be read by this server: {location!r}", hint=_HINT)
    path = Path(location.removeprefix("file://")).expanduser().absolute()
    if path.is_dir():
        raise InvalidSource(f"{path} is a folder", hint="name the files in it")
    if not path.exists():
        raise InvalidSource(f"no file {path}", hint=f"looked in {Path.cwd()}")
    return path.as_uri()


def _public_addresses(url: str) -> list[str]:
    """The addresses of the URL's host; Forbidden where one is not a public one."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise InvalidSource(f"not a URL: {url!r}") from error
    if not parts.hostname:
        raise InvalidSource(f"not a URL: {url!r}", hint=_HINT)
    try:
        found = socket.getaddrinfo(parts.hostname, port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InvalidSource(f"host {parts.hostname!r} cannot be found: {error}") from error
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not ipaddress.ip_address(address.partition("%")[0]).is_global:
            raise Forbidden(
                f"{parts.hostname} is at the private address {address}",
                hint="the operator of the server can allow it with KATIML_ALLOW_PRIVATE_URLS=1",
            )
    return addresses


@contextmanager
def open_location(
    scope: Scope, location: str, *, trusted: bool, allow_private: bool = False
) -> Iterator[tuple[BinaryIO, int | None]]:
    """Open a checked location for reading: (binary file, size in bytes where known)."""
    scheme = urlsplit(location).scheme.lower()
    if scheme == "file":
        from urllib.request import url2pathname

        with _opened(location, url2pathname(urlsplit(location).path)) as file:
            yield file, os.fstat(file.fileno()).st_size
    elif scheme == "object":
        objects, id_ = scope.store.objects, location.removeprefix("object://")
        with objects.open(scope.organization_id, id_) as file:
            yield file, objects.size(scope.organization_id, id_)
    elif scheme in _OBJECT_STORES:
        yield from _open_object_store(location, scheme)
    else:
        guarded = not trusted and not allow_private
        yield from _open_http(location, guarded=guarded)


def _opened(location: str, path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise InvalidSource(f"{location} cannot be read: {error.strerror}") from error


def _open_object_store(location: str, scheme: str) -> Iterator[tuple[BinaryIO, int | None]]:
    try:
        import fsspec

        # A fresh one: fsspec's own cache keeps keys, addresses and listings of the first use.
        filesystem, path = fsspec.url_to_fs(location, skip_instance_cache=True)
    except ImportError as error:
        raise MissingExtra(
            f"{scheme}:// needs {_OBJECT_STORES[scheme]}", hint="pip install 'katiml[cloud]'"
        ) from error
    try:
        size = filesystem.info(path).get("size")
        file = filesystem.open(path, "rb")
    except KatiMLError:
        raise
    except FileNotFoundError as error:
        raise NotFound(f"no object {location}") from error
    except Exception as error:
        raise InvalidSource(
            f"{location} cannot be read: {error}", hint="check the name and the credentials"
        ) from error
    with file:
        yield file, size


def _open_http(location: str, *, guarded: bool) -> Iterator[tuple[BinaryIO, int | None]]:
    import httpx

    client = httpx.Client(timeout=_CONNECT_SECONDS, follow_redirects=False)
    if guarded:
        _pin(client)
    with client:
        url = httpx.URL(location)
        for _ in range(_MAX_REDIRECTS):
            try:
                with client.stream("GET", url, headers={"accept-encoding": "identity"}) as answer:
                    if answer.is_redirect and "location" in answer.headers:
                        url = url.join(answer.headers["location"])
                        continue
                    if answer.is_error:
                        raise InvalidSource(
                            f"{url.copy_with(query=None)} answered {answer.status_code}",
                            hint="a signed URL may have expired; make a new one",
                            details={"status": answer.status_code},
                        )
                    length = answer.headers.get("content-length", "")
                    body = cast(BinaryIO, _Body(answer.iter_raw(1 << 20)))
                    yield body, int(length) if length.isdigit() else None
                    return
            except httpx.HTTPError as error:
                shown = url.copy_with(query=None)
                raise InvalidSource(f"{shown} cannot be read: {error}") from error
        raise InvalidSource(f"{location} redirects more than {_MAX_REDIRECTS} times")


def _pin(client: Any) -> None:
    """Resolve a host once, check its addresses, and connect to one of those.

    Checking by name and connecting by name would leave a gap in which the name can change.
    """
    import httpcore

    plain = httpcore.SyncBackend()

    class Guarded(httpcore.NetworkBackend):
        def connect_tcp(  # type: ignore[override]
            self, host: str, port: int, **options: Any
        ) -> Any:
            bracketed = f"[{host}]" if ":" in host else host
            return plain.connect_tcp(
                _public_addresses(f"http://{bracketed}:{port}")[0], port, **options
            )

        def connect_unix_socket(self, *_: Any, **__: Any) -> Any:
            raise Forbidden("local sockets may not be read by this server")

        def sleep(self, seconds: float) -> None:
            plain.sleep(seconds)

    # httpx has no public way to hand a network backend to its transport; proxies from the
    # environment are not asked, since they would resolve the name themselves.
    client._mounts.clear()
    client._transport._pool._network_backend = Guarded()


class _Body:
    """The body of an answer as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, fewer only at the end."""
        while size < 0 or len(self._rest) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._rest += piece
        end = len(self._rest) if size < 0 else size
        data, self._rest = self._rest[:end], self._rest[end:]
        return data
