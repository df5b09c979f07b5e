"""Where a lake lives, read from its URL."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from katiml.errors import InvalidInput
from katiml.store.failures import redact

__all__ = ["DuckLakeLocation", "FolderLocation", "locate"]

_DUCKLAKE = "ducklake:"
_HINT = "ducklake:postgres://user:password@host:5432/database?data_path=s3://bucket/prefix"


@dataclass(frozen=True)
class FolderLocation:
    """A lake in one DuckDB file of a folder."""

    folder: Path

    @property
    def url(self) -> str:
        """What to show, and what `locate` reads again."""
        return str(self.folder)

    @property
    def objects(self) -> str:
        """Where uploaded files are kept."""
        return str(self.folder / "objects")


@dataclass(frozen=True)
class DuckLakeLocation:
    """A lake with its catalog in PostgreSQL and its data as Parquet in `data_path`."""

    url: str  # without the password
    dsn: str = field(repr=False)
    place: str = ""  # host and database, for messages
    data_path: str = ""
    metadata_schema: str = "public"

    @property
    def objects(self) -> str:
        """Where uploaded files are kept."""
        return f"{self.data_path.rstrip('/')}/objects"


def locate(url: str | os.PathLike[str] | None = None) -> FolderLocation | DuckLakeLocation:
    """Read a lake URL; None means `KATIML_LAKE`, or else `~/.katiml`.

    Raises InvalidInput for a URL of neither home.

    >>> locate("/srv/lake").url
    '/srv/lake'
    >>> lake = locate("ducklake:postgres://ann:secret@db/lake?data_path=s3://bucket/lake")
    >>> lake.data_path, lake.place, lake.url
    ('s3://bucket/lake', 'db:5432/lake', \
'ducklake:postgres://ann:***@db/lake?data_path=s3://bucket/lake')
    """
    text = os.fspath(url if url is not None else os.environ.get("KATIML_LAKE") or "~/.katiml")
    if text.startswith(_DUCKLAKE):
        return _locate_ducklake(text)
    scheme, separator, _ = text.partition("://")
    if separator and scheme != "file":
        raise InvalidInput(
            f"{redact(text)!r} is not the URL of a lake",
            hint=f"give a folder, or {_HINT}",
        )
    if scheme == "file" and separator:
        text = unquote(urlsplit(text).path)
    if not text or "\0" in text:
        raise InvalidInput(f"{text!r} is not a folder", hint=f"give a folder, or {_HINT}")
    return FolderLocation(Path(text).expanduser().resolve())


def _locate_ducklake(text: str) -> DuckLakeLocation:
    parts = urlsplit(text.removeprefix(_DUCKLAKE))
    shown = redact(text)
    if parts.scheme not in ("postgres", "postgresql"):
        raise InvalidInput(
            f"{shown!r}: the catalog of a DuckLake is in PostgreSQL here", hint=_HINT
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    data_path = options.pop("data_path", "")
    metadata_schema = options.pop("metadata_schema", "public")
    if not data_path:
        raise InvalidInput(f"{shown!r} does not say where the data is", hint=_HINT)
    if "://" not in data_path:
        data_path = str(Path(data_path).expanduser().resolve())
    try:
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"{shown!r} has no valid port", hint=_HINT) from error
    settings = {
        "host": unquote(parts.hostname or ""),
        "port": str(port or ""),
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "dbname": unquote(parts.path.lstrip("/")) or "postgres",
        **options,
    }
    settings.setdefault("connect_timeout", "10")
    dsn = " ".join(f"{name}={_quote(value)}" for name, value in settings.items() if value)
    host = settings["host"] or "localhost"
    address = host if host.startswith("/") else f"{host}:{settings['port'] or 5432}"
    return DuckLakeLocation(
        url=shown,
        dsn=dsn,
        place=f"{address}/{settings['dbname']}",
        data_path=data_path,
        metadata_schema=metadata_schema,
    )


def _quote(value: str) -> str:
    """A value as libpq's connection strings quote it."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
