"""The state of what a selection reads, as a short text: another one as soon as data changes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from katiml.schema import TABLES

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = ["state_of"]


def state_of(scope: Scope, tables: Iterable[str]) -> str:
    """A digest of which rows the organization has in these tables, 32 hexadecimal digits.

    Every change of a datapoint or of what hangs on it touches the datapoint, so its rows speak
    for what is changed in place; rows of other tables are made and removed. Ids and moments are
    read, nothing else.

    >>> import katiml
    >>> scope = katiml.connect().scope
    >>> before = state_of(scope, ["datapoints"])
    >>> before == state_of(scope, ["datapoints"])
    True
    """
    parts = []
    for table in sorted({"datapoints", *tables}):
        columns = "id, updated_at" if "updated_at" in TABLES[table].columns else "id"
        parts.append(
            f"SELECT '{table}' AS name, count(*) AS rows, bit_xor(hash({columns})) AS mixed "
            f"FROM {{{table}}}"
        )
    found = scope.query(" UNION ALL ".join(parts) + " ORDER BY name").to_pylist()
    text = repr([(row["name"], row["rows"], row["mixed"]) for row in found])
    return hashlib.sha256(text.encode()).hexdigest()[:32]
