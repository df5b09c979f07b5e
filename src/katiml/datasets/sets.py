"""Member sets as the lake keeps them: content-addressed, whole or as a difference to another.

A set has the hash of its content for a name and is stored once. One that differs little from a
set that is there is stored as that difference, so that the disk grows with the change. All
differences below one whole set are read together, so there may be few of them, and light ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any, Protocol

import pyarrow as pa
from pyroaring import BitMap

from katiml.errors import StoreError
from katiml.store.bitmaps import digest, pack, unpack
from katiml.store.scope import ScopedTransaction

__all__ = ["EMPTY", "Reader", "read_set", "set_hash", "write_set"]

# Differences below one whole set: how many, and how heavy against it, all together.
_MAX_DIFFERENCES = 128
_MAX_WEIGHT = 0.5
# Smaller sets are not worth a difference.
_ALWAYS_WHOLE = 512
_CACHE_BYTES = 64 * 2**20

EMPTY = digest(pack(BitMap()))


class Reader(Protocol):
    """What sets are read from: a Scope, or a transaction of one."""

    def query(self, sql: str, parameters: Mapping[str, Any] = ...) -> pa.Table: ...


class _Cache:
    """The sets used last, by hash. What a hash names never changes; nor may what is kept here."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._sets: OrderedDict[str, tuple[BitMap, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, name: str) -> BitMap | None:
        with self._lock:
            found = self._sets.get(name)
            if found is None:
                return None
            self._sets.move_to_end(name)
            return found[0]

    def put(self, name: str, members: BitMap, size: int) -> None:
        with self._lock:
            if name in self._sets or size > self._limit:
                return
            self._sets[name] = (members, size)
            self._bytes += size
            while self._bytes > self._limit:
                _, (_, freed) = self._sets.popitem(last=False)
                self._bytes -= freed


_cache = _Cache(_CACHE_BYTES)


def set_hash(members: BitMap) -> str:
    """The name under which a set is stored.

    >>> set_hash(BitMap()) == EMPTY
    True
    """
    return digest(pack(members))


def read_set(reader: Reader, name: str) -> BitMap:
    """The set of that hash. Not to be changed: others may be given the same object."""
    if name == EMPTY:
        return BitMap()
    known = _cache.get(name)
    if known is not None:
        return known
    rows = reader.query(
        "SELECT hash, parent, position, data FROM {member_sets} WHERE root = "
        "(SELECT root FROM {member_sets} WHERE hash = $hash ORDER BY position, root LIMIT 1) "
        "ORDER BY position DESC",
        {"hash": name},
    ).to_pylist()
    # Two writers may have stored one set at the same time; the one nearer to the root is taken,
    # so that no set can be a difference to itself.
    stored = {row["hash"]: row for row in rows}
    if name not in stored:
        raise StoreError(f"the member set {name} is missing from the lake")
    members = BitMap()
    step: str | None = name
    weight = 0
    while step is not None:
        row = stored[step]
        members ^= unpack(row["data"])
        weight += len(row["data"])
        step = row["parent"]
    _cache.put(name, members, weight)
    return members


def write_set(transaction: ScopedTransaction, members: BitMap, base: str) -> str:
    """Store a set unless it is there; returns its hash. `base` names one that it is likely near."""
    packed = pack(members)
    name = digest(packed)
    if name in (EMPTY, base) or _stored(transaction, name):
        return name
    difference = _difference(transaction, members, base, len(packed))
    if difference is None:
        row = {"hash": name, "root": name, "parent": None, "position": 0, "data": packed}
    else:
        row = {"hash": name, "parent": base, **difference}
    transaction.append("member_sets", pa.Table.from_pylist([row], _SCHEMA))
    _cache.put(name, members, len(packed))
    return name


_SCHEMA = pa.schema(
    {
        "hash": pa.string(),
        "root": pa.string(),
        "parent": pa.string(),
        "position": pa.int64(),
        "data": pa.binary(),
    }
)


def _stored(transaction: ScopedTransaction, name: str) -> bool:
    found = transaction.query("SELECT 1 FROM {member_sets} WHERE hash = $hash", {"hash": name})
    return bool(found.num_rows)


def _difference(
    transaction: ScopedTransaction, members: BitMap, base: str, whole: int
) -> dict[str, Any] | None:
    """The set as a difference to `base`; None where storing it whole is better."""
    if base == EMPTY or whole <= _ALWAYS_WHOLE:
        return None
    data = pack(members ^ read_set(transaction, base))
    if len(data) > whole * _MAX_WEIGHT:
        return None
    (tree,) = transaction.query(
        "SELECT any_value(base.root) AS root, any_value(base.position) AS position, "
        "count(*) AS sets, sum(octet_length(data)) AS bytes, "
        "max(CASE WHEN sets.position = 0 THEN octet_length(data) END) AS whole "
        "FROM {member_sets} AS sets JOIN (SELECT root, position FROM {member_sets} "
        "WHERE hash = $base ORDER BY position, root LIMIT 1) AS base ON sets.root = base.root",
        {"base": base},
    ).to_pylist()
    if tree["root"] is None or tree["sets"] > _MAX_DIFFERENCES:
        return None
    differences = int(tree["bytes"]) - tree["whole"] + len(data)
    if differences > tree["whole"] * _MAX_WEIGHT:
        return None
    return {"root": tree["root"], "position": tree["position"] + 1, "data": data}
