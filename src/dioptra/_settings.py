"""What the environment says, read anew at each call so that scripts can set it at any time."""

from __future__ import annotations

import os
from pathlib import Path

from katiml.errors import InvalidInput, Unauthorized

__all__ = [
    "api_key",
    "app_endpoint",
    "aws_region",
    "events_endpoint",
    "is_embedded",
    "local_cache_dir",
    "storage_type",
    "upload_bucket",
    "upload_prefix",
    "verify_tls",
]


def _read(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def app_endpoint() -> str:
    """`DIOPTRA_APP_ENDPOINT` without a slash at its end; empty where the lake is embedded."""
    return _http_url("DIOPTRA_APP_ENDPOINT")


def is_embedded() -> bool:
    """Whether calls go to a lake in this process."""
    return not app_endpoint()


def events_endpoint() -> str:
    """`DIOPTRA_API_ENDPOINT`; by default the address `/events` of the app endpoint."""
    app = app_endpoint()
    return _http_url("DIOPTRA_API_ENDPOINT") or (f"{app}/events" if app else "")


def api_key() -> str:
    """`DIOPTRA_API_KEY`. Raises Unauthorized where it is not set."""
    key = _read("DIOPTRA_API_KEY")
    if not key:
        raise Unauthorized(
            "DIOPTRA_API_KEY is not set, and the server needs a key",
            hint="`katiml keys create NAME` beside the server makes one; then"
            " os.environ['DIOPTRA_API_KEY'] = '…'",
        )
    return key


def verify_tls() -> bool:
    """False where `DIOPTRA_SSL_NOVERIFY` is True."""
    return _read("DIOPTRA_SSL_NOVERIFY").lower() not in ("true", "1", "yes")


def upload_bucket() -> str:
    """`DIOPTRA_UPLOAD_BUCKET`; may be empty."""
    return _read("DIOPTRA_UPLOAD_BUCKET")


def upload_prefix() -> str:
    """`DIOPTRA_UPLOAD_PREFIX`; may be empty."""
    return _read("DIOPTRA_UPLOAD_PREFIX").strip("/")


def storage_type() -> str:
    """`DIOPTRA_UPLOAD_STORAGE_TYPE`: s3 (the default) or gs."""
    return check_storage_type(_read("DIOPTRA_UPLOAD_STORAGE_TYPE", "s3"))


def check_storage_type(name: str) -> str:
    """The protocol of a kind of bucket. Raises InvalidInput for an unknown kind.

    >>> check_storage_type("gs")
    'gs'
    """
    known = {"s3": "s3", "gs": "gs", "gcs": "gs", "az": "az"}
    if name not in known:
        raise InvalidInput(f"unknown storage type {name!r}", hint="s3, gs and az are known")
    return known[name]


def local_cache_dir() -> Path:
    """`DIOPTRA_LOCAL_CACHE_DIR`, by default `~/.dioptra`."""
    return Path(_read("DIOPTRA_LOCAL_CACHE_DIR", "~/.dioptra")).expanduser()


def aws_region() -> str:
    """`AWS_REGION`, by default us-east-2."""
    return _read("AWS_REGION", "us-east-2")


def _http_url(name: str) -> str:
    url = _read(name).rstrip("/")
    if url and not url.startswith(("http://", "https://")):
        raise InvalidInput(
            f"{name} is {url!r}, which is no http(s) address",
            hint="for example http://localhost:4004",
        )
    return url
