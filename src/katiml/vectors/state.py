"""The state of what a selection reads, as a short text: another one as soon as data changes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = ["state_of"]


def state_of(scope: Scope, tables: Iterable[str]) -> str:
    """A digest of the changes that touched these tables or datapoints, 32 hexadecimal digits.

    Reads one row a transaction, however many rows of records there are. What datasets do is no
    change of records.

    >>> import katiml
    >>> lake = katiml.connect()
    >>> before = state_of(lake.scope, ["tags"])
    >>> _ = lake.ingest([{"type": "TEXT", "text": "new"}])
    >>> before == state_of(lake.scope, ["tags"])
    False
    """
    touched = sorted({"datapoints", *tables})
    found = scope.query(
        "SELECT count(*) AS changes, bit_xor(hash(number)) AS mixed FROM {changes} "
        "WHERE summary IS NULL OR list_has_any(json_keys(summary, '/rows'), $touched)",
        {"touched": touched},
    ).to_pylist()[0]
    text = repr((touched, found["changes"], found["mixed"]))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
