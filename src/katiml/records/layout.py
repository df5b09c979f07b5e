"""The layout of a line: a regular expression that fits the lines which differ only in values.

Only what is plain has one: a new record of today's spelling with one ground truth and one
prediction at most. Whatever the expression lets vary is checked by it, or by what reads a group;
everything else is as in the line that the layout was learned from, which was read the usual way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from katiml.records.convert import flat_vector
from katiml.records.model import MAX_NAME, MAX_TAG_VALUE, MAX_TEXT, Record

__all__ = ["Layout", "learn"]

# What one group found in each line -> values, and the places of those that need more care.
Convert = Callable[[Sequence[bytes]], tuple[Sequence[Any], list[int]]]
# (table, field), or (table, field, key) for a value inside an object.
Path = tuple[str, ...]

_MOST_GROUPS = 100
_MOST_BYTES = 10_000

# All repeats are possessive, so that a line that does not fit fails at once.
_CHARACTERS = rb'[^"\\\x00-\x1f]'
_RAW_TEXT = rb'"%b*+(?:\\["\\/bfnrt]%b*+)*+"' % (_CHARACTERS, _CHARACTERS)
# Longer ones may be past float64.
_RAW_NUMBER = rb"-?(?:0|[1-9][0-9]{0,300}+)(?:\.[0-9]{1,300}+)?+(?:[eE][-+]?[0-9]{1,2}+)?+"
_RAW_SCALAR = rb"(?:%b|%b|true|false)" % (_RAW_TEXT, _RAW_NUMBER)
_NUMBER = _RAW_NUMBER.replace(b"300", b"17")
_LIST = rb"\[[^\]]*+\]"
_NOT_NUMBERS = re.compile(rb"[^-+0-9.eE, \[\]]")
_RECORD_TEXTS = {"text": MAX_TEXT, "request_id": MAX_NAME}
_NUMBERS = frozenset({"confidence", "top", "left", "height", "width"})


@dataclass(frozen=True, slots=True)
class Layout:
    """How a line looks, what the groups of `pattern` hold, and what is the same in all lines."""

    pattern: re.Pattern[bytes]
    groups: list[tuple[Path, Convert]]
    constants: list[tuple[str, str, Any]]

    def read(self, rows: Sequence[tuple[bytes, ...]]) -> tuple[list[list[Any]], set[int]]:
        """What the groups found in each line -> (values by group, rows that need more care)."""
        found = [
            convert(texts)
            for (_, convert), texts in zip(self.groups, zip(*rows, strict=True), strict=True)
        ]
        return [list(values) for values, _ in found], {row for _, odd in found for row in odd}


def learn(line: bytes, record: Record) -> Layout | None:
    """The layout of a line that was read as `record`; None where it has none.

    >>> layout = learn(b'{"type": "TEXT", "text": "yes"}', Record(type="TEXT", text="yes"))
    >>> layout.pattern.fullmatch(b'{"type": "TEXT", "text": "no"}').groups()
    (b'no',)
    """
    writer = _Writer(spaced=line[line.find(b'":') + 2 :][:1] == b" ")
    try:
        pattern = writer.record(orjson.loads(line), record)
    except (_Unlike, orjson.JSONDecodeError):
        return None
    if len(writer.groups) > _MOST_GROUPS or len(pattern) > _MOST_BYTES:
        return None
    compiled = re.compile(pattern)
    # Fields sent twice, other white space, escapes in names: such a line does not fit itself.
    if compiled.fullmatch(line) is None:
        return None
    return Layout(compiled, writer.groups, writer.constants)


class _Unlike(Exception):
    """A record with something in it that no layout describes."""


class _Writer:
    """Writes the expression of one line, and notes down what its groups hold."""

    def __init__(self, *, spaced: bool) -> None:
        self._comma, self._colon = (b", ", b": ") if spaced else (b",", b":")
        self.groups: list[tuple[Path, Convert]] = []
        self.constants: list[tuple[str, str, Any]] = []

    def record(self, value: dict[str, Any], record: Record) -> bytes:
        """The expression of a whole line; `value` is what it says, `record` what it was read as."""
        self.constants.append(("datapoints", "type", record.type))
        return self._object((name, self._field(name, item, record)) for name, item in value.items())

    def _field(self, name: str, item: Any, record: Record) -> bytes:
        path = ("datapoints", name)
        if name == "type":
            return self._constant(item)
        if name == "metadata" and isinstance(item, dict):
            return self._group(path, self._raw(item), _as_they_are)
        if name in _RECORD_TEXTS and isinstance(item, str):
            return self._text(path, _RECORD_TEXTS[name])
        if name == "tags" and isinstance(item, dict):
            return self._object((key, self._tag(key, tag)) for key, tag in item.items())
        if name in ("groundtruths", "predictions") and isinstance(item, list) and len(item) == 1:
            return rb"\[%b\]" % self._attachment(name, item[0], getattr(record, name))
        raise _Unlike

    def _tag(self, name: str, value: Any) -> bytes:
        if isinstance(value, str):
            return self._text(("tags", name), MAX_TAG_VALUE)
        if isinstance(value, bool):
            return self._group(("tags", name), rb"true|false", _as_they_are)
        if isinstance(value, int):
            # What becomes the same text again when it is read as a number and written.
            return self._group(("tags", name), rb"0|-?[1-9][0-9]{0,17}+", _as_they_are)
        raise _Unlike

    def _attachment(self, table: str, item: Any, read: list[Any]) -> bytes:
        if not isinstance(item, dict):
            raise _Unlike
        # Of another spelling of the task, or of none, this was made.
        self.constants.append((table, "task_type", read[0].task_type))
        if "class_names" in item:
            self.constants.append((table, "class_names", read[0].class_names))
        return self._object((name, self._part((table, name), own)) for name, own in item.items())

    def _part(self, path: Path, item: Any) -> bytes:
        """One field of a ground truth or prediction."""
        name = path[-1]
        if name in ("task_type", "class_names") and item:
            return self._constant(item)
        if name in ("class_name", "model_name") and isinstance(item, str):
            return self._text(path, MAX_NAME)
        if name in _NUMBERS:
            return self._number(path, item)
        if name == "metrics" and isinstance(item, dict):
            return self._object((key, self._number((*path, key), own)) for key, own in item.items())
        if name in ("logits", "confidences") and isinstance(item, list):
            # Of as many classes as in the line that was read: so they fit its class names too.
            list_of = _vector if name == "logits" else _numbers
            return self._group(path, _LIST, _each(list_of, len(item)))
        if name in ("embeddings", "grad_embeddings"):
            if isinstance(item, dict):
                return self._object(
                    (key, self._vector((*path, key), own)) for key, own in item.items()
                )
            return self._vector((*path, ""), item)
        raise _Unlike

    def _object(self, fields: Iterable[tuple[str, bytes]]) -> bytes:
        written = [self._constant(name) + self._colon + pattern for name, pattern in fields]
        return rb"\{%b\}" % self._comma.join(written)

    def _constant(self, value: Any) -> bytes:
        if isinstance(value, list):
            return rb"\[%b\]" % self._comma.join(map(self._constant, value))
        return re.escape(orjson.dumps(value))

    def _group(self, path: Path, pattern: bytes, convert: Convert) -> bytes:
        self.groups.append((path, convert))
        return rb"(%b)" % pattern

    def _text(self, path: Path, limit: int) -> bytes:
        some = rb"%b{0,%d}+" % (_CHARACTERS, limit)
        return rb'"%b"' % self._group(path, rb"%b(?:\\.%b)*+" % (some, some), _texts(limit))

    def _number(self, path: Path, value: Any) -> bytes:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Unlike
        return self._group(path, _NUMBER, _each(_finite))

    def _vector(self, path: Path, value: Any) -> bytes:
        if not isinstance(value, list):
            raise _Unlike
        return self._group(path, _LIST, _each(_vector))

    def _raw(self, value: Any) -> bytes:
        """Metadata, which are kept as they were written."""
        if isinstance(value, dict):
            return self._object((name, self._raw(item)) for name, item in value.items())
        if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
            return rb"\[(?:%b(?:%b%b)*+)?+\]" % (_RAW_SCALAR, self._comma, _RAW_SCALAR)
        if isinstance(value, str):
            return _RAW_TEXT
        if isinstance(value, bool):
            return rb"(?:true|false)"
        if isinstance(value, int | float):
            return _RAW_NUMBER
        raise _Unlike


def _as_they_are(texts: Sequence[bytes]) -> tuple[Sequence[bytes], list[int]]:
    return texts, []


def _each(read: Callable[..., Any], *more: Any) -> Convert:
    """What `read` makes of each text; where it raises, the text needs more care."""

    def converted(texts: Sequence[bytes]) -> tuple[list[Any], list[int]]:
        values: list[Any] = []
        odd: list[int] = []
        for index, text in enumerate(texts):
            try:
                values.append(read(text, *more))
            except (ValueError, TypeError):
                values.append(None)
                odd.append(index)
        return values, odd

    return converted


def _texts(limit: int) -> Convert:
    unescaped = _each(_unescaped, limit)

    def converted(texts: Sequence[bytes]) -> tuple[Sequence[Any], list[int]]:
        return unescaped(texts) if b"\\" in b"".join(texts) else (texts, [])

    return converted


def _unescaped(text: bytes, limit: int) -> bytes:
    if b"\\" not in text:
        return text
    value: str = orjson.loads(b'"%b"' % text)
    if "\0" in value or len(value) > limit:
        raise ValueError
    return value.encode()


def _finite(text: bytes) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError
    return value


def _vector(text: bytes, size: int | None = None) -> NDArray[np.float32]:
    vector = flat_vector(orjson.loads(text))
    if vector is None or (size is not None and len(vector) != size):
        raise ValueError
    return vector


def _numbers(text: bytes, size: int) -> list[float]:
    values: list[float] = orjson.loads(text)
    if len(values) != size or _NOT_NUMBERS.search(text) or not all(map(isfinite, values)):
        raise ValueError
    # Arrow refuses whole numbers that float64 rounds.
    return list(map(float, values))
