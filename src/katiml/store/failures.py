"""What DuckDB and the operating system raise, turned into KatiML's errors in one place.

Three failures never reach a caller, because the store answers them by trying again:
`Interfered` (another writer was first), `Lost` (the other end went away), `Locked` (another
process owns the file).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from katiml.errors import (
    InvalidInput,
    KatiMLError,
    LakeBusy,
    LakeReadOnly,
    StorageFull,
    StoreError,
)

__all__ = ["Interfered", "Locked", "Lost", "redact", "translate", "translated", "unreachable"]


class Interfered(Exception):
    """Another transaction touched the same rows and was first: run this one again."""


class Lost(Exception):
    """The connection to the lake went away; what was asked may or may not have happened."""


class Locked(Exception):
    """Another process owns the DuckDB file."""


_FULL = re.compile(
    r"no space left|disk quota exceeded|file too large|could not (?:write|fsync|truncate)"
    r"|out of disk|disk full|max_temp_directory_size",
    re.IGNORECASE,
)
_READ_ONLY = re.compile(
    r"permission denied|read-only file ?system|operation not permitted", re.IGNORECASE
)
_CONFLICT = re.compile(r"conflict|serializ|deadlock detected", re.IGNORECASE)
_DISCONNECTED = re.compile(
    r"server closed the connection|connection (?:refused|reset|timed out|not open|to server)"
    r"|terminating connection|could not connect|no connection to the server|broken pipe"
    r"|password authentication failed|no pg_hba|database .* does not exist"
    r"|unable to connect|SSL SYSCALL|could not translate host|the database system is",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"(password\s*=\s*)('(?:\\.|[^'\\])*'|[^\s']+)", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@/\s]*@")

# User data or user SQL that DuckDB could not take.
_INPUT_ERRORS = (
    duckdb.DataError,
    duckdb.IntegrityError,
    duckdb.InvalidInputException,
    duckdb.ParserException,
    duckdb.SyntaxException,
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.PermissionException,
    duckdb.NotImplementedException,
)


def redact(text: str) -> str:
    """Blank out passwords in a connection string or in a message that quotes one.

    >>> redact("could not connect: host=db password=hunter2 dbname=lake")
    'could not connect: host=db password=*** dbname=lake'
    >>> redact("ducklake:postgres://ann:hunter2@db/lake")
    'ducklake:postgres://ann:***@db/lake'
    """
    return _URL_PASSWORD.sub(r"\1:***@", _PASSWORD.sub(r"\1***", text))


def translate(error: Exception, place: str) -> Exception:
    """Say in KatiML's terms what `error`, raised at the lake `place`, means.

    >>> translate(duckdb.ConversionException("Could not convert 'a' to INT32"), "lake").code
    'invalid_input'
    >>> translate(OSError(28, "No space left on device"), "lake").code
    'storage_full'
    """
    if isinstance(error, KatiMLError | Interfered | Lost | Locked):
        return error
    if isinstance(error, duckdb.Error):
        return _translate_duckdb(error, place)
    if isinstance(error, OSError):
        return _translate_os(error, place)
    return error


def _translate_os(error: OSError, place: str) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return _full(place)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return _read_only(place)
    return StoreError(f"the lake at {place} cannot be used: {redact(str(error))}")


def _translate_duckdb(error: duckdb.Error, place: str) -> Exception:
    text = redact(str(error)).strip()
    if "Could not set lock on file" in text:
        return Locked(text)
    if isinstance(error, duckdb.TransactionException | duckdb.IOException | duckdb.FatalException):
        known = _by_text(error, text, place)
        if known is not None:
            return known
    if isinstance(error, duckdb.OutOfMemoryException):
        if _FULL.search(text):
            return _full(place)
        return StoreError(
            f"not enough memory for this: {text}",
            hint="ask for fewer rows at once, or raise KATIML_MEMORY_LIMIT (for example 8GB)",
        )
    if isinstance(error, duckdb.InterruptException):
        return LakeBusy("the statement was interrupted", hint="run it again")
    if "Failed to initialize DuckLake" in text and "already exists" in text:
        return Interfered(text)
    if isinstance(error, _INPUT_ERRORS):
        return InvalidInput(text)
    return StoreError(f"the lake at {place} cannot be used: {text}")


def _by_text(error: duckdb.Error, text: str, place: str) -> Exception | None:
    # DuckDB raises several classes for one cause (a lost connection shows as IOException,
    # TransactionException or FatalException), so here the text decides.
    if _FULL.search(text):
        return _full(place)
    if _DISCONNECTED.search(text):
        return Lost(text)
    if _CONFLICT.search(text):
        return Interfered(text)
    if "read-only mode" in text:
        return InvalidInput(text, hint="a query reads; changes are made in a transaction")
    if isinstance(error, duckdb.IOException) and _READ_ONLY.search(text):
        return _read_only(place)
    return None


def unreachable(place: str, error: Exception) -> StoreError:
    """The lake's server cannot be talked to, and what to do about it."""
    return StoreError(
        f"the server of the lake at {place} does not answer: {error}",
        hint="start it, or correct host, port, user, password and database in the URL",
    )


def _full(place: str) -> StorageFull:
    return StorageFull(
        f"no space is left where the lake {place} lives; nothing was half-written",
        hint="free some space, then run the same again",
    )


def _read_only(place: str) -> LakeReadOnly:
    return LakeReadOnly(
        f"the lake {place} cannot be written",
        hint="give this user write permission there, or name another folder",
    )


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Run the block; what it raises leaves as `translate` says."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raised = translate(error, place)
        if raised is error:
            raise
        raise raised from error
