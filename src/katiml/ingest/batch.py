"""One batch of records into the tables, in one transaction.

`prepare` does what needs no lake (new datapoints as finished tables), so that it can run beside the
transaction before it; `apply` writes. `apply` may run again after a conflict: it changes nothing
but the transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

import numpy as np
import pyarrow as pa
from msgspec import UNSET

from katiml.errors import InvalidRecord
from katiml.ingest.changes import Entry, append, apply_wave, refused
from katiml.ingest.creations import alike_creations, creations
from katiml.ingest.rows import Tables
from katiml.records import Parsed, Record, Rejected
from katiml.records.patches import split
from katiml.store.ids import uuid7
from katiml.store.scope import ScopedTransaction

__all__ = ["Batch", "Outcome", "apply", "merged", "prepare"]


@dataclass(slots=True)
class Batch:
    """What `apply` writes: finished tables of new datapoints, and records that need the lake."""

    tables: Tables
    created: int
    landed: int
    waves: list[list[Entry]]
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of the finished tables."""
        return sum(rows.nbytes for rows in self.tables.values())

    @property
    def new_datapoints(self) -> int:
        """At most this many row numbers are needed."""
        return self.created + sum(entry.record.id is UNSET for wave in self.waves for entry in wave)


def merged(batches: list[Batch]) -> Batch:
    """Batches of new datapoints as one: larger transactions are written faster, and read too."""
    return Batch(
        tables=_together([batch.tables for batch in batches]),
        created=sum(batch.created for batch in batches),
        landed=sum(batch.landed for batch in batches),
        waves=[wave for batch in batches for wave in batch.waves],
        rejected=[item for batch in batches for item in batch.rejected],
    )


@dataclass(slots=True)
class Outcome:
    """What became of a batch."""

    landed: int
    rejected: list[Rejected]


def prepare(parsed: Parsed, organization_id: str) -> Batch:
    """Sort a block of parsed records: new ones become tables, the others wait for the lake."""
    own = _sorted(parsed, organization_id)
    ids, *ids_alike = _ids_by_line([own.lines, *(alike.lines for alike in parsed.alike)])
    parts = [creations(own.simple, ids)]
    parts += [
        alike_creations(alike, new) for alike, new in zip(parsed.alike, ids_alike, strict=True)
    ]
    if own.children:
        owners = pa.array([owner for owner, _ in own.children])
        patches = [patch for _, patch in own.children]
        tables = creations(patches, uuid7(len(patches)))
        tables["datapoints"] = tables["datapoints"].append_column(
            "parent_datapoint", ids.take(owners)
        )
        parts.append(tables)
    landed = len(ids) + sum(map(len, ids_alike))
    return Batch(
        tables=_together(parts),
        created=landed + len(own.children),
        landed=landed,
        waves=_waves(own.waiting),
        rejected=[*parsed.rejected, *own.rejected],
    )


def _together(parts: list[Tables]) -> Tables:
    names = {name: None for part in parts for name in part}
    return {
        name: pa.concat_tables(
            [part[name] for part in parts if name in part], promote_options="permissive"
        )
        for name in names
    }


def _ids_by_line(groups: Sequence[Sequence[int]]) -> list[pa.Array]:
    """New ids for the records on these lines: over all groups, a later line has a later id."""
    ids = uuid7(sum(map(len, groups)))
    ends = np.cumsum([len(group) for group in groups])
    if max(map(len, groups)) == len(ids):
        return [
            ids.slice(end - len(group), len(group)) for end, group in zip(ends, groups, strict=True)
        ]
    places = np.argsort(np.argsort(np.concatenate(groups)))
    return [ids.take(pa.array(own)) for own in np.split(places, ends[:-1])]


@dataclass(slots=True)
class _Sorted:
    """New records with their lines and patches (place, patch), what waits, and what is refused."""

    simple: list[Record] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    children: list[tuple[int, Record]] = field(default_factory=list)
    waiting: list[Entry] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


def _sorted(parsed: Parsed, organization_id: str) -> _Sorted:
    records = parsed.records
    if all(_nobody_has(name, records) for name in _NOT_SIMPLE):
        return _Sorted(records, parsed.lines)
    result = _Sorted()
    for line, record in zip(parsed.lines, records, strict=True):
        try:
            _check_organization(record, organization_id)
            patches = split(record) if record.preprocessor else []
        except InvalidRecord as error:
            result.rejected.append(refused(line, error))
            continue
        if record.id is UNSET and not record.parent_datapoint:
            result.children.extend((len(result.simple), patch) for patch in patches)
            result.simple.append(record)
            result.lines.append(line)
        else:
            result.waiting.append(Entry(line, record))
            # Patches of a stored datapoint name it, and wait with it.
            for patch in patches:
                patch.parent_datapoint = record.id
                result.waiting.append(Entry(line, patch))
    return result


_NOT_SIMPLE = ("id", "parent_datapoint", "organization_id", "preprocessor")


def _nobody_has(name: str, records: list[Record]) -> bool:
    return list(map(attrgetter(name), records)).count(UNSET) == len(records)


def _check_organization(record: Record, organization_id: str) -> None:
    if record.organization_id and record.organization_id != organization_id:
        raise InvalidRecord(
            f"{record.organization_id!r} is not the organization of this key",
            path="organization_id",
            hint="leave organization_id out",
        )


def _waves(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Records in groups that name no datapoint twice: what is sent later is applied later."""
    waves: list[list[Entry]] = []
    seen: dict[str, int] = {}
    for entry in entries:
        wave = 0
        # A patch follows the wave of the datapoint it is cut from.
        key = entry.record.id or entry.record.parent_datapoint
        if entry.record.id is not UNSET:
            wave = seen.get(str(key), 0)
            seen[str(key)] = wave + 1
        else:
            wave = max(seen.get(str(key), 0) - 1, 0)
        while len(waves) <= wave:
            waves.append([])
        waves[wave].append(entry)
    return waves


def apply(transaction: ScopedTransaction, batch: Batch, first_row: int) -> Outcome:
    """Write a batch. `first_row` begins the row numbers of its new datapoints."""
    rejected: list[Rejected] = []
    landed = batch.landed
    append(transaction, batch.tables, first_row)
    row = first_row + batch.created
    for wave in batch.waves:
        refused, created = apply_wave(transaction, wave, row)
        row += created
        rejected.extend(refused)
        landed += len({entry.line for entry in wave} - {item.line for item in refused})
    return Outcome(landed, [*batch.rejected, *rejected])
