"""Lines and Python objects -> records; each bad one is rejected alone, with where and why."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import msgspec
import numpy as np
import orjson
from msgspec import UNSET

from katiml.errors import InvalidRecord
from katiml.records.alike import Alike, Layouts
from katiml.records.legacy import normalise
from katiml.records.model import Record
from katiml.records.plain import plain
from katiml.records.validate import complete
from katiml.schema import DATAPOINT_TYPES, TASK_TYPES

__all__ = [
    "MAX_REJECTED_TEXT",
    "Parsed",
    "Rejected",
    "no_garbage_collection",
    "parse_lines",
    "parse_objects",
]

MAX_REJECTED_TEXT = 100_000

_decoder = msgspec.json.Decoder(Record)
_UNDECODABLE = (msgspec.MsgspecError, InvalidRecord, UnicodeDecodeError, RecursionError)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# The decoder passes over metadata. What may need a change or a refusal: nulls, escapes (NUL
# characters), numbers past float64.
_SUSPECT_METADATA = re.compile(rb"null|\\u|[0-9][eE]\+?[0-9]{3}|[0-9]{309}")


@dataclass(slots=True)
class Rejected:
    """One record that cannot land: `path` is inside it, `record` is its text, cut at 100 kB."""

    line: int
    path: str
    reason: str
    record: str


@dataclass(slots=True)
class Parsed:
    """Records in the order sent; `lines[i]` is where `records[i]` stood, from 1.

    `alike` holds further records, those of lines that looked alike.
    """

    records: list[Record] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    alike: list[Alike] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many records were read, rejected ones too."""
        return len(self.lines) + len(self.rejected) + sum(len(alike.lines) for alike in self.alike)


def parse_lines(block: bytes, first_line: int = 1, layouts: Layouts | None = None) -> Parsed:
    r"""Records of newline-delimited JSON: whole lines, ended by \n, \r\n or \r. Never raises.

    Empty lines are counted and passed over. `first_line` is the number of the block's first line.
    With `layouts`, which the blocks of one source share, lines that look alike become columns.

    >>> parsed = parse_lines(b'{"type": "TEXT", "text": "hello"}\n{"type": "IMAGE", "tag": {}}\n')
    >>> parsed.records[0].text, parsed.lines
    ('hello', [1])
    >>> parsed.rejected[0].line, parsed.rejected[0].path, parsed.rejected[0].reason
    (2, 'tag', "unknown field 'tag' (did you mean 'tags'?)")
    """
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    parsed = Parsed()
    numbers: Sequence[int] = range(first_line, first_line + len(lines))
    with no_garbage_collection(), np.errstate(over="ignore"):
        if layouts is not None and _is_utf8(block):
            parsed.alike, lines, numbers = layouts.take(lines, numbers, _sample)
        records, undone = _decode(lines, _is_clean_text(block))
        failed = {*undone, *_finish_metadata(records)}
        dropped: set[int] = set()
        for index in sorted(failed):
            try:
                records[index] = _read_carefully(lines[index])
            except InvalidRecord as error:
                dropped.add(index)
                if lines[index].strip():
                    parsed.rejected.append(_rejected(numbers[index], lines[index], error))
    kept = [index not in dropped for index in range(len(records))]
    parsed.records = list(compress(records, kept))
    parsed.lines = list(compress(numbers, kept))
    return parsed


def _sample(line: bytes) -> Record | None:
    try:
        return _read_carefully(line)
    except InvalidRecord:
        return None


# Stands for a line that could not be decoded; it is not complete, so that line is read with care.
_UNDECODED = Record()


def _decode(lines: list[bytes], trusted: bool) -> tuple[list[Record], list[int]]:
    """One record for each line, and the places of those that are not right as they are.

    Each line is finished before the next is decoded: its lists of numbers have become arrays by
    then, so the next line's take their place in memory, which makes long vectors a third cheaper.
    """
    records: list[Record] = []
    failed: list[int] = []
    decode = _decoder.decode
    for index, line in enumerate(lines):
        try:
            if not (trusted or _is_clean_text(line)):
                raise InvalidRecord("to be read with care")
            record = decode(line)
            complete(record)
        except _UNDECODABLE:
            record = _UNDECODED
            failed.append(index)
        records.append(record)
    return records, failed


def _is_clean_text(block: bytes) -> bool:
    """Whether there is no escaped NUL and no bad UTF-8, which pass the decoder in metadata."""
    return not (b"\\" in block and b"\\u0000" in block) and _is_utf8(block)


def _is_utf8(block: bytes) -> bool:
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def parse_objects(objects: Sequence[Any], first: int = 1) -> Parsed:
    """Records of Python dicts, in which NumPy arrays and scalars are welcome. Never raises.

    `first` is the number of the first object. The objects are not changed.

    >>> parse_objects([{"type": "IMAGE", "prediction": "cat"}]).records[0].predictions[0].task_type
    'CLASSIFICATION'
    """
    parsed = Parsed()
    with no_garbage_collection(), np.errstate(over="ignore"):
        for number, item in enumerate(objects, first):
            try:
                record = _from_object(item)
            except InvalidRecord as error:
                parsed.rejected.append(_rejected(number, item, error))
            else:
                parsed.records.append(record)
                parsed.lines.append(number)
    return parsed


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keeps the collector away from a batch of records.

    Every few hundred new lists it would walk all records decoded so far: 2 to 5 times the time of
    decoding, to find nothing, since records hold no cycles.

    >>> with no_garbage_collection():
    ...     gc.isenabled()
    False
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _read_carefully(line: bytes) -> Record:
    """One line that the fast path did not take: an older spelling, or something wrong."""
    line = line.removeprefix(_BYTE_ORDER_MARK)
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        # Raises at a NaN or half a surrogate pair, which this reader lets pass.
        _from_object(_read_tolerantly(line))
        raise InvalidRecord(f"not valid JSON: {error.msg}") from error
    return _from_object(value, is_plain=_is_clean_text(line))


def _read_tolerantly(line: bytes) -> Any:
    """Python's reader takes NaN and Infinity, so that their place can be told."""
    try:
        # Of whole numbers past 64 bits floats are made, as the fast reader does.
        return json.loads(
            line.decode(), parse_int=lambda text: int(text) if len(text) < 19 else float(text)
        )
    except UnicodeDecodeError as error:
        raise InvalidRecord(f"not valid UTF-8 at byte {error.start + 1}") from error
    except json.JSONDecodeError as error:
        raise InvalidRecord(f"not valid JSON: {error.msg} at character {error.pos + 1}") from error
    except RecursionError as error:
        raise InvalidRecord("nested too deeply") from error


def _from_object(value: Any, *, is_plain: bool = False) -> Record:
    if not isinstance(value, dict):
        raise InvalidRecord(
            f"a record is an object, not {_KINDS.get(type(value), 'something else')}"
        )
    try:
        fields = normalise(value if is_plain else plain(value))
        metadata = fields.pop("metadata", UNSET)
        _check_type(fields.get("type"))
        record = msgspec.convert(fields, Record)
        complete(record)
        record.metadata = _metadata(metadata)
    except msgspec.ValidationError as error:
        raise _explained(error) from error
    except RecursionError as error:
        raise InvalidRecord("nested too deeply") from error
    return record


_KINDS = {
    list: "a list",
    str: "text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _check_type(value: Any) -> None:
    if value is not None and value not in DATAPOINT_TYPES:
        upper = str(value).upper()
        known = ", ".join(DATAPOINT_TYPES)
        hint = f"did you mean {upper!r}?" if upper in DATAPOINT_TYPES else f"one of {known}"
        raise InvalidRecord(f"unknown type {str(value)[:80]!r}", path="type", hint=hint)


def _metadata(value: Any) -> Any:
    if value is UNSET or value is None:
        return value
    if not isinstance(value, dict):
        raise InvalidRecord("metadata is an object", path="metadata")
    try:
        return msgspec.Raw(orjson.dumps(_without_nulls(value)))
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise InvalidRecord(f"cannot be stored: {error}", path="metadata") from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _finish_metadata(records: list[Record]) -> list[int]:
    """Brings metadata, which the decoder skips, into form; returns the places of what is wrong."""
    failed: list[int] = []
    for index, record in enumerate(records):
        if not record.metadata:
            continue
        text = bytes(record.metadata)
        if text.startswith(b"{") and not _SUSPECT_METADATA.search(text):
            continue
        try:
            record.metadata = _metadata(plain({"metadata": orjson.loads(text)})["metadata"])
        except (orjson.JSONDecodeError, InvalidRecord):
            failed.append(index)
    return failed


def _rejected(number: int, item: Any, error: InvalidRecord) -> Rejected:
    if isinstance(item, bytes):
        text = item[: 4 * MAX_REJECTED_TEXT].decode(errors="replace")
    else:
        try:
            text = json.dumps(item, skipkeys=True, default=_shown)
        except (TypeError, ValueError, RecursionError):
            text = f"an object of type {type(item).__name__}"
    return Rejected(number, error.path, str(error), text[:MAX_REJECTED_TEXT])


def _shown(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _explained(error: msgspec.ValidationError) -> InvalidRecord:
    """What msgspec says, in words."""
    what, _, place = str(error).partition(" - at `")
    path = place.removeprefix("key` in `").rstrip("`").removeprefix("$").removeprefix(".")
    wrong_type = re.fullmatch(r"Expected `(.+?)(?: \| null)?`, got `(.+)`", what)
    if wrong_type:
        expected, got = (_WORDS.get(name, name) for name in wrong_type.groups())
        return InvalidRecord(f"expected {expected}, got {got}", path=path)
    too_long = re.fullmatch(r"Expected `str(?: \| null)?` of length <= (\d+)", what)
    if too_long:
        return InvalidRecord(f"text of more than {int(too_long[1]):,} characters", path=path)
    unknown = re.fullmatch(r"Invalid enum value (.*)", what, re.DOTALL)
    if unknown:
        return InvalidRecord(
            f"unknown task_type {unknown[1][:80]}",
            path=path,
            hint=f"one of {', '.join(TASK_TYPES)}",
        )
    return InvalidRecord(what[:1].lower() + what[1:], path=path)


_WORDS = {
    "object": "an object",
    "array": "a list",
    "str": "text",
    "float": "a number",
    "int": "a number",
    "bool": "true or false",
    "float | object": "a number",
}
