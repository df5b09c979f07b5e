"""Every error KatiML raises on purpose.

KatiMLError
├── InvalidInput            400  a value from the caller is wrong
│   ├── InvalidFilter       400  a filter names an unknown field or operator, or has the wrong shape
│   ├── InvalidRecord       422  one record is wrong; it alone is rejected
│   └── InvalidSource       400  a file or URL cannot be read as records
├── Unauthorized            401  the API key is missing, wrong or deleted
├── Forbidden               403  the caller may not do this
├── NotFound                404  no such object in this organization
├── Conflict                409  the state changed, or does not allow this
├── TooLarge                413  past a stated bound
├── MissingExtra            501  an optional part of KatiML is not installed
├── StoreError              500  the lake itself cannot work
│   ├── LakeTooNew          500  written by a newer KatiML
│   ├── LakeReadOnly        500  the folder cannot be written
│   ├── LakeBusy            503  no answer from the lake within the time allowed
│   └── StorageFull         507  no space left where the lake lives

Each carries what was wrong, with which value, and what to do next:

>>> try:
...     raise InvalidFilter("unknown field 'colour'", hint="fields are: id, type")
... except KatiMLError as error:
...     error.code, error.status, error.hint
('invalid_filter', 400, 'fields are: id, type')
"""

from __future__ import annotations

import re
from typing import Any

__all__ = [
    "Conflict",
    "Forbidden",
    "InvalidFilter",
    "InvalidInput",
    "InvalidRecord",
    "InvalidSource",
    "KatiMLError",
    "LakeBusy",
    "LakeReadOnly",
    "LakeTooNew",
    "MissingExtra",
    "NotFound",
    "StorageFull",
    "StoreError",
    "TooLarge",
    "Unauthorized",
]


class KatiMLError(Exception):
    """The root: `except katiml.KatiMLError` catches everything KatiML raises on purpose."""

    status = 500

    def __init__(
        self, message: str, *, hint: str | None = None, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details or {}

    @property
    def code(self) -> str:
        """The stable name of this kind of error, as HTTP answers carry it."""
        return re.sub(r"(?<!^)(?<![A-Z])(?=[A-Z])", "_", type(self).__name__).lower()

    @classmethod
    def named(cls, code: str | None, message: str, *, hint: str | None = None) -> KatiMLError:
        """An error of the kind that has this code, or of the root's where there is none.

        >>> KatiMLError.named("not_found", "no upload 'x'")
        NotFound("no upload 'x'")
        """
        kinds = list(cls.__subclasses__())
        for kind in kinds:
            kinds += kind.__subclasses__()
            if kind("").code == code:
                return kind(message, hint=hint)
        return cls(message, hint=hint)

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InvalidInput(KatiMLError, ValueError):
    """A value from the caller is wrong."""

    status = 400


class InvalidFilter(InvalidInput):
    """A filter names an unknown field or operator, or has the wrong shape."""


class InvalidRecord(InvalidInput):
    """One record is wrong; `path` says where inside it (`predictions[0].logits`)."""

    status = 422

    def __init__(self, message: str, *, path: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint, details={"path": path})
        self.path = path


class InvalidSource(InvalidInput):
    """A file or URL cannot be read as records."""


class Unauthorized(KatiMLError):
    """The API key is missing, wrong or deleted."""

    status = 401


class Forbidden(KatiMLError, PermissionError):
    """The caller may not do this."""

    status = 403


class NotFound(KatiMLError, LookupError):
    """No such object in this organization."""

    status = 404


class Conflict(KatiMLError):
    """The state changed meanwhile, or does not allow this."""

    status = 409


class TooLarge(KatiMLError):
    """Past a stated bound."""

    status = 413


class MissingExtra(KatiMLError, ImportError):
    """An optional part of KatiML is not installed; the hint is the command that installs it."""

    status = 501


class StoreError(KatiMLError):
    """The lake itself cannot work."""


class LakeTooNew(StoreError):
    """The lake was written by a newer KatiML than this one."""


class LakeReadOnly(StoreError):
    """The folder of the lake cannot be written."""


class LakeBusy(StoreError):
    """No answer from the lake within the time allowed."""

    status = 503


class StorageFull(StoreError):
    """No space is left where the lake lives; nothing was half-written."""

    status = 507
