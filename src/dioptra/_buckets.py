"""Buckets, through fsspec: write a file, sign an address that reads it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dioptra import _settings
from katiml.errors import InvalidInput, InvalidSource, KatiMLError, MissingExtra

__all__ = ["bucket_url", "sign", "write"]

SIGNED_SECONDS = 3600


def bucket_url(*parts: str) -> str:
    """The address of an object in `DIOPTRA_UPLOAD_BUCKET`. Raises InvalidInput without one."""
    bucket = _settings.upload_bucket()
    if not bucket:
        raise InvalidInput(
            "DIOPTRA_UPLOAD_BUCKET is not set",
            hint="name the bucket: os.environ['DIOPTRA_UPLOAD_BUCKET'] = 'my-bucket'",
        )
    return address(_settings.storage_type(), bucket, _settings.upload_prefix(), *parts)


def address(storage_type: str, *parts: str) -> str:
    """The address of an object.

    >>> address("s3", "bucket", "", "logs/", "x.ndjson.gz")
    's3://bucket/logs/x.ndjson.gz'
    """
    path = "/".join(part.strip("/") for part in parts if part.strip("/"))
    return f"{_settings.check_storage_type(storage_type)}://{path}"


def write(url: str, chunks: Iterable[bytes]) -> None:
    """Store `chunks` as one object or local file."""
    filesystem, path = _open(url)
    try:
        if "://" not in url:
            filesystem.makedirs(filesystem._parent(path), exist_ok=True)
        with filesystem.open(path, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
    except (OSError, ValueError) as error:
        raise _failed("write", url, error) from error


def sign(url: str) -> str:
    """An address that reads the object for an hour, without credentials."""
    filesystem, path = _open(url)
    try:
        signed = str(filesystem.sign(path, expiration=SIGNED_SECONDS))
    except NotImplementedError:
        raise InvalidInput(
            f"addresses of {url.split(':', maxsplit=1)[0]} cannot be signed"
        ) from None
    except KatiMLError:
        raise
    except Exception as error:
        # Each cloud's client has errors of its own: missing credentials most of all.
        raise _failed("sign", url, error) from error
    return signed


def _open(url: str) -> tuple[Any, str]:
    import fsspec

    protocol = url.partition("://")[0] if "://" in url else "file"
    options: dict[str, Any] = {}
    if protocol == "s3":
        options = {
            "client_kwargs": {"region_name": _settings.aws_region()},
            "config_kwargs": {"signature_version": "s3v4"},
        }
    try:
        filesystem, path = fsspec.core.url_to_fs(url, skip_instance_cache=True, **options)
    except ImportError as error:
        raise MissingExtra(
            f"{protocol}:// needs a package that is not installed: {error}",
            hint="pip install 'katiml[cloud]'",
        ) from error
    return filesystem, path


def _failed(verb: str, url: str, error: Exception) -> InvalidSource:
    return InvalidSource(
        f"cannot {verb} {url}: {error}",
        hint="check the name of the bucket, the credentials and the region (AWS_REGION)",
    )
