"""What stands on the right of a filter, as plain Python values that can travel to SQL."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, time
from typing import Any
from uuid import UUID

import orjson

from katiml.errors import InvalidFilter
from katiml.query.fields import Field, shown
from katiml.schema import LOOKUPS

__all__ = ["as_number", "as_text", "as_time", "as_uuid", "plain"]

_CANONICAL_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")


def plain(value: Any, field: Field | None = None) -> Any:
    """`value` as None, bool, int, float, str, datetime, list or dict; old names mapped.

    NumPy, pandas and Arrow scalars and columns are welcome. InvalidFilter for NaN and for what
    is no literal.

    >>> import numpy as np
    >>> plain(np.array([1, 2])), plain(np.float32(0.5))
    ([1, 2], 0.5)
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        mapped = LOOKUPS.get(field.column.name, {}) if field is not None and not field.path else {}
        return _checked_text(mapped.get(value, str(value)))
    if isinstance(value, float):
        return _checked_number(float(value))
    if isinstance(value, list | tuple | set | frozenset):
        return _plain_list(list(value), field)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, date | UUID):
        return _moment_or_id(value)
    for method in ("to_pylist", "tolist", "as_py", "item"):
        convert = getattr(value, method, None)
        if callable(convert) and type(converted := convert()) is not type(value):
            return plain(converted, field)
    raise InvalidFilter(
        f"{shown(value)} is not a literal",
        hint="a filter's right side is a text, a number, true, false, null or a list of them",
    )


def _plain_list(values: list[Any], field: Field | None) -> list[Any]:
    kinds = set(map(type, values))
    if kinds <= {int, bool, type(None)}:
        return values
    if kinds == {str} and (field is None or field.column.name not in LOOKUPS):
        # Long lists of ids are checked as one text.
        _checked_text(" ".join(values))
        return values
    return [plain(item, field) for item in values]


def _moment_or_id(value: date | UUID) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, datetime):
        return datetime.combine(value, time(), UTC)
    # pandas' NaT is a datetime, and not a moment.
    if value.isoformat() == "NaT":
        return None
    return value.replace(tzinfo=value.tzinfo or UTC)


def _checked_number(value: float) -> float:
    if math.isnan(value):
        raise InvalidFilter(
            "NaN equals nothing and is not greater or smaller than anything",
            hint="missing values are found with the operator 'is null'",
        )
    return value


def _checked_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidFilter(
            f"{shown(value)} holds half a surrogate pair, which is no text",
            hint="send text as valid Unicode",
        ) from None
    # DuckLake asks its catalog with such a text, and the catalog ends texts there.
    if "\0" in value:
        raise InvalidFilter(
            f"{shown(value)} holds a NUL character",
            hint="no text in a lake has one, so nothing can equal it",
        )
    return value


def as_text(value: Any) -> str:
    """A scalar as the text it is compared as.

    >>> as_text(3), as_text(True), as_text("a")
    ('3', 'true', 'a')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        moment = value.astimezone(UTC).isoformat(timespec="milliseconds")
        return moment.replace("+00:00", "Z")
    if isinstance(value, list | dict):
        return json_text(value)
    return repr(value)


def json_text(value: Any) -> str:
    """A list or object as the JSON text that the lake's own JSON is compared with."""
    try:
        return orjson.dumps(value, default=str).decode()
    except orjson.JSONEncodeError as error:
        raise InvalidFilter(
            f"{shown(value)} cannot be written as JSON: {error}",
            hint="a filter's right side is a text, a number, true, false, null or a list of them",
        ) from None


def as_number(value: Any, field: Field) -> int | float:
    """A number, or a text that reads as one; InvalidFilter otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _not_a("number", value, field)
    if isinstance(value, str):
        try:
            value = int(value) if value.strip().lstrip("+-").isdecimal() else float(value)
        except ValueError:
            raise _not_a("number", value, field) from None
        if math.isnan(value):
            raise _not_a("number", value, field)
    return sized(value)


def sized(value: int | float) -> int | float:
    """`value` as an int of 64 bits, otherwise a float."""
    if isinstance(value, float) or -(2**63) <= value < 2**63:
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def as_time(value: Any, field: Field) -> str:
    """A moment as ISO 8601 text in UTC: from such text, or a unix time in (milli)seconds.

    >>> from katiml.query.fields import resolve
    >>> as_time(1_700_000_000, resolve("datapoints", "created_at"))
    '2023-11-14T22:13:20+00:00'
    """
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value.strip())
            return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC).isoformat()
        if isinstance(value, int | float) and not isinstance(value, bool):
            # Seconds pass this bound in the year 5138; milliseconds passed it in 1973.
            seconds = value / 1000 if abs(value) > 1e11 else value
            return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        pass
    raise _not_a("moment", value, field, "write it like 2024-05-01T12:00:00Z, or as a unix time")


def as_uuid(value: Any) -> str | None:
    """The canonical text of a UUID, or None if `value` is none.

    >>> as_uuid("0190A000-0000-7000-8000-000000000000"), as_uuid("x' OR 1=1")
    ('0190a000-0000-7000-8000-000000000000', None)
    """
    if not isinstance(value, str):
        return None
    if _CANONICAL_ID.match(value):
        return value
    try:
        return str(UUID(value))
    except ValueError:
        return None


def _not_a(what: str, value: Any, field: Field, hint: str | None = None) -> InvalidFilter:
    return InvalidFilter(
        f"{field.key} holds a {what}, and {shown(value)} is none",
        hint=hint or "compare it with a number, or with its text by like",
    )
