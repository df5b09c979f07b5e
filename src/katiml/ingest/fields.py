"""Records field by field: {name: a value for each}, which is how tables are made of them.

A name that is absent was sent for none of them; UNSET stands for one for which it was not sent.

>>> from katiml.records import Completion
>>> fields_of([Completion(text="yes"), Completion(text="no", confidence=0.5)])
{'text': ['yes', 'no'], 'confidence': [UNSET, 0.5]}
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import attrgetter, is_
from typing import Any

from msgspec import UNSET

from katiml.records.alike import Fields

__all__ = ["Fields", "fields_of", "fill", "sent", "values"]


def fields_of(items: Sequence[Any]) -> Fields:
    """The fields of structures of one type."""
    fields: Fields = {}
    for name in items[0].__struct_fields__ if items else ():
        own = list(map(attrgetter(name), items))
        # Looked at with `is`: arrays compare item by item.
        if own[0] is not UNSET or not all(map(is_, own, repeat(UNSET))):
            fields[name] = own
    return fields


def sent(value: Any) -> bool:
    """Whether a field was sent, and not as null."""
    return value is not UNSET and value is not None


def values(fields: Fields, name: str, count: int) -> list[Any]:
    """The values of one field, UNSET where there are none."""
    return fields.get(name) or [UNSET] * count


def fill(
    fields: Fields, name: str, places: Iterable[int], found: Iterable[Any], count: int
) -> None:
    """Put `found` where nothing was sent, in place."""
    own = fields.setdefault(name, [UNSET] * count)
    for place, value in zip(places, found, strict=True):
        if not sent(own[place]):
            own[place] = value
