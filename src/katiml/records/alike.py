"""Lines that look alike -> columns, without an object for each record.

Most files come from one program, which writes the same fields in the same order, line after line.
So the layout of one line checks and cuts up the others, several times faster than they could be
decoded. A line that fits no layout is read the usual way: nothing is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from katiml.records.layout import Layout, learn
from katiml.records.model import Record

__all__ = ["Alike", "Fields", "Layouts"]

# {name: a value for each record}.
Fields = dict[str, list[Any]]

# Lines of one kind that repay finding out their layout, which takes milliseconds.
_WORTHWHILE = 32
_ATTEMPTS = 16


@dataclass(slots=True)
class Alike:
    """New records of one layout, field by field; `lines[i]` is where the i-th of them stood.

    Values are those of a `Record`, but texts may be bytes of UTF-8. A table has the fields that
    were sent; of ground truths and predictions there is one for each record, or none.
    """

    lines: Sequence[int]
    datapoints: Fields = field(default_factory=dict)
    tags: Fields = field(default_factory=dict)
    groundtruths: Fields = field(default_factory=dict)
    predictions: Fields = field(default_factory=dict)


class Layouts:
    """What the lines of a source have been seen to look like, over all its blocks.

    >>> lines = [b'{"type":"TEXT","text":"%d"}' % number for number in range(99)]
    >>> alike, rest, _ = Layouts().take(lines, range(99), lambda line: Record(type="TEXT"))
    >>> alike[0].datapoints["text"][:2], alike[0].lines, rest
    ([b'0', b'1'], range(0, 99), [])
    """

    def __init__(self) -> None:
        self._known: list[Layout] = []
        self._attempts = _ATTEMPTS

    def take(
        self, lines: list[bytes], numbers: Sequence[int], read: Callable[[bytes], Record | None]
    ) -> tuple[list[Alike], list[bytes], Sequence[int]]:
        """(Records by layout, lines that fit none, their numbers). `lines` are valid UTF-8.

        `read` is the usual way: the record of a line, None where it is refused.
        """
        found: list[Alike] = []
        for layout in self._known:
            if lines:
                lines, numbers = _take(layout, lines, numbers, found)
        while len(lines) >= _WORTHWHILE and self._attempts:
            self._attempts -= 1
            # Any line may be an odd one: it is not always the first that is asked.
            sample = lines[self._attempts * 7919 % len(lines)]
            record = read(sample)
            learned = None if record is None else learn(sample, record)
            if learned is not None:
                before = len(lines)
                lines, numbers = _take(learned, lines, numbers, found)
                if before - len(lines) >= _WORTHWHILE:
                    self._known.append(learned)
        return found, lines, numbers


def _take(
    layout: Layout, lines: list[bytes], numbers: Sequence[int], found: list[Alike]
) -> tuple[list[bytes], Sequence[int]]:
    """Add the records of the lines that fit to `found`; returns the other lines."""
    rows: list[Any] = [match and match.groups() for match in map(layout.pattern.fullmatch, lines)]
    places: Sequence[int] = range(len(lines))
    if None in rows:
        places = [place for place in places if rows[place] is not None]
        rows = [rows[place] for place in places]
        if not rows:
            return lines, numbers
    columns, odd = layout.read(rows)
    if odd:
        kept = [row for row in range(len(rows)) if row not in odd]
        places = [places[row] for row in kept]
        columns = [[values[row] for row in kept] for values in columns]
    if len(places) == len(lines):
        found.append(_gathered(layout, columns, numbers))
        return [], []
    if places:
        found.append(_gathered(layout, columns, [numbers[place] for place in places]))
    left = sorted(set(range(len(lines))).difference(places))
    return [lines[place] for place in left], [numbers[place] for place in left]


def _gathered(layout: Layout, columns: list[list[Any]], lines: Sequence[int]) -> Alike:
    alike = Alike(lines)
    inner: dict[tuple[str, str], Fields] = {}
    for (path, _), values in zip(layout.groups, columns, strict=True):
        table, name, *key = path
        if key:
            inner.setdefault((table, name), {})[key[0]] = values
        else:
            getattr(alike, table)[name] = values
    for (table, name), own in inner.items():
        rows = zip(*own.values(), strict=True)
        getattr(alike, table)[name] = [dict(zip(own, row, strict=True)) for row in rows]
    for table, name, value in layout.constants:
        getattr(alike, table)[name] = [value] * len(lines)
    return alike
