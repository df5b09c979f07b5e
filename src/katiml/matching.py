"""Files on this machine and the datapoints of a lake: which belongs to which."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import orjson
import pyarrow as pa

from katiml.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["WAYS", "match", "sha256_of"]

WAYS = ("uri", "basename", "sha256")
# Values of one filter: more make the query longer, not faster.
_CHUNK = 20_000
_Select = Callable[[list[Any], list[str]], pa.Table]


def match(select: _Select, items: Iterable[Any], by: str | Callable[[str], Any]) -> pd.DataFrame:
    """See `Lake.match`. `select(filters, fields)` gives datapoints as an Arrow table."""
    import pandas as pd

    given = [os.fspath(item) for item in items]
    if not all(isinstance(item, str) for item in given):
        raise InvalidInput("paths and URIs to match are texts")
    if callable(by):
        keys = [{by(item)} for item in given]
        pairs: Iterable[tuple[Any, str]] = ((by(uri), id_) for uri, id_ in _all(select))
    elif by == "basename":
        keys = [{_basename(item)} for item in given]
        pairs = ((_basename(uri), id_) for uri, id_ in _all(select))
    elif by in ("uri", "sha256"):
        keys = [_spellings(item) for item in given] if by == "uri" else _hashes(given)
        pairs = _with_values(select, f"metadata.{by}", set().union(*keys))
    else:
        raise InvalidInput(
            f"by is {by!r}", hint=f"one of {', '.join(map(repr, WAYS))}, or a function"
        )
    wanted = set().union(*keys)
    found: dict[Any, list[str]] = {}
    for key, id_ in pairs:
        if key in wanted:
            found.setdefault(key, []).append(id_)
    matches = [
        list(dict.fromkeys(id_ for key in own for id_ in found.get(key, ()))) for own in keys
    ]
    return pd.DataFrame(
        {
            "item": given,
            "status": [_STATUS[min(len(ids), 2)] for ids in matches],
            "datapoint": pd.Series(
                [ids[0] if len(ids) == 1 else None for ids in matches], dtype=object
            ),
            "matches": pd.Series(matches, dtype=object),
        }
    )


_STATUS = ("missing", "matched", "ambiguous")


def sha256_of(path: str) -> str:
    """The SHA-256 of a file's content as hexadecimal text. Raises NotFound.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     sha256_of(file.name)[:8]
    'e3b0c442'
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}") from error


def _hashes(paths: list[str]) -> list[set[str]]:
    # Hashing lets other threads run.
    with ThreadPoolExecutor() as pool:
        return [{digest} for digest in pool.map(sha256_of, paths)]


def _spellings(item: str) -> set[str]:
    """A path may be kept as it was typed, in full, or as a file URI."""
    if urlsplit(item).scheme == "file":
        return {item, unquote(urlsplit(item).path)}
    if "://" in item:
        return {item}
    full = Path(item).expanduser().absolute()
    return {item, str(full), full.as_uri(), f"file://{full}"}


def _basename(uri: str) -> str:
    path = urlsplit(uri).path if "://" in uri else uri
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _with_values(select: _Select, field: str, values: set[Any]) -> Iterator[tuple[str, str]]:
    rest = iter(values)
    while chunk := list(islice(rest, _CHUNK)):
        filters = [{"left": field, "op": "in", "right": chunk}]
        yield from _pairs(select(filters, ["id", field]), field)


def _all(select: _Select) -> Iterator[tuple[str, str]]:
    filters = [{"left": "metadata.uri", "op": "is not", "right": None}]
    return _pairs(select(filters, ["id", "metadata.uri"]), "metadata.uri")


def _pairs(table: pa.Table, field: str) -> Iterator[tuple[str, str]]:
    ids, texts = table["id"].to_pylist(), table[field].to_pylist()
    values = orjson.loads("[" + ",".join(text or "null" for text in texts) + "]")
    return ((value, id_) for value, id_ in zip(values, ids, strict=True) if isinstance(value, str))
