"""How long the lake remembers what was removed, and forgetting what is older."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa
from pyroaring import BitMap

from katiml.errors import InvalidInput, LakeBusy
from katiml.history.purging import finish_purges
from katiml.query.fields import shown
from katiml.schema import RECORD_TABLES, REMOVED
from katiml.store.views import bitmap_of, inside, of_predictions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from katiml.store import Scope, ScopedTransaction
    from katiml.store.views import View

__all__ = [
    "duration_of",
    "forget",
    "forget_if_due",
    "forgotten_before",
    "retention",
    "set_retention",
]

_VARIABLE = "KATIML_RETENTION"
_USUAL = "P90D"
_FOREVER = "forever"
_PAUSE = timedelta(days=1)
_DURATION = re.compile(
    r"P(?=.)(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?"
    r"(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?\Z"
)
_UNITS = (
    timedelta(days=365),
    timedelta(days=30),
    timedelta(weeks=1),
    timedelta(days=1),
    timedelta(hours=1),
    timedelta(minutes=1),
    timedelta(seconds=1),
)


def duration_of(text: object) -> timedelta | None:
    """An ISO 8601 duration; None for "forever". A year has 365 days here, a month 30.

    >>> duration_of("P90D"), duration_of("P1Y2M"), duration_of("PT36H"), duration_of("forever")
    (datetime.timedelta(days=90), datetime.timedelta(days=425), datetime.timedelta(days=1, \
seconds=43200), None)
    """
    if text == _FOREVER:
        return None
    found = _DURATION.match(text) if isinstance(text, str) and len(text) <= 50 else None
    if found is None:
        raise InvalidInput(
            f"{shown(text)} is not a duration",
            hint="write it as ISO 8601 says: P90D for 90 days, P1Y, PT12H; or 'forever'",
        )
    try:
        return sum(
            (
                int(count) * unit
                for count, unit in zip(found.groups(), _UNITS, strict=True)
                if count
            ),
            timedelta(),
        )
    except OverflowError:
        return None


def retention(scope: Scope) -> str:
    """How long removed rows stay: what was set for this organization, else KATIML_RETENTION."""
    own = _setting(scope, "retention")
    if own is not None:
        return own
    usual = os.environ.get(_VARIABLE) or _USUAL
    try:
        duration_of(usual)
    except InvalidInput as error:
        raise InvalidInput(f"{_VARIABLE}: {error.message}", hint=error.hint) from None
    return usual


def set_retention(scope: Scope, duration: str | None) -> None:
    """Keep removed rows for that long (see `duration_of`); None goes back to what is usual."""
    if duration is not None:
        duration_of(duration)
    _set(scope, "retention", duration)


def forgotten_before(scope: Scope) -> datetime | None:
    """Changes before this moment can no longer be undone: rows that they removed may be gone."""
    mark = _mark(scope)
    return None if mark is None else datetime.fromisoformat(mark["before"])


def forget_if_due(scope: Scope, views: Callable[[], Iterable[View]]) -> dict[str, int]:
    """`forget`, where there may be something to forget and a day has passed since the last time.

    Only then `views` is called.
    """
    mark = _mark(scope)
    now = _now()
    if mark is not None and now - datetime.fromisoformat(mark["at"]) < _PAUSE:
        return {}
    before = _limit(scope, now)
    if before is None:
        return {}
    old = scope.query(
        "SELECT 1 FROM {changes} WHERE created_at < $before LIMIT 1", {"before": before}
    )
    return forget(scope, views()) if old.num_rows else {}


def _limit(scope: Scope, now: datetime) -> datetime | None:
    """What was removed before this moment may be forgotten; None: nothing."""
    age = duration_of(retention(scope))
    if age is None:
        return None
    try:
        return now - age
    except OverflowError:  # longer ago than there are years
        return None


def forget(scope: Scope, views: Iterable[View] = ()) -> dict[str, int]:
    """Drop removed rows that are older than the retention; returns how many, by table.

    Rows that one of `views` shows stay: versions of datasets pass theirs. Files are tidied up too.

    >>> from katiml.store import open_store, Scope
    >>> with open_store(getfixture("tmp_path")) as store:
    ...     forget(Scope(store))
    {}
    """
    with suppress(LakeBusy):
        finish_purges(scope)
    now = _now()
    before = _limit(scope, now)
    counts: dict[str, int] = {}
    if before is not None:
        kept = list(views)
        counts = scope.transact(lambda transaction: _forget(transaction, before, kept))
        mark = {"at": now.isoformat(), "before": before.isoformat()}
        earlier = _mark(scope)
        if earlier is not None:
            # A longer retention does not bring back what is gone.
            mark["before"] = max(mark["before"], earlier["before"])
        _set(scope, "forgotten", orjson.dumps(mark).decode())
    scope.store.tidy()
    return counts


def _forget(transaction: ScopedTransaction, before: datetime, views: list[View]) -> dict[str, int]:
    transaction.note("forget")
    old = bitmap_of(
        transaction.query(
            "SELECT number FROM {changes} WHERE created_at < $before", {"before": before}
        )["number"]
    )
    members: BitMap | None = BitMap()
    for view in views:
        # One view of all datapoints shows them all.
        members = None if members is None or view.members is None else members | view.members
    aged, parameters = inside("until", old, "forget_old")
    counts = {}
    # Datapoints last: what belongs to one is found by it.
    for table in reversed(RECORD_TABLES):
        shown_ = _stage_shown(transaction, table, aged, parameters, views)
        where, values = f"{aged}", dict(parameters)
        if shown_:
            of_members, more = _of_members(table, members)
            where += f" AND NOT ((since, until) IN (FROM forget_shown) AND {of_members})"
            values |= more
        leaving = _deleted(transaction, where, values) if table == "datapoints" else None
        gone = transaction.delete(f"{REMOVED}{table}", where, values)
        if gone:
            counts[table] = gone
        if leaving is not None:
            _bury(transaction, leaving)
    return counts


def _deleted(transaction: ScopedTransaction, where: str, values: Mapping[str, Any]) -> pa.Table:
    """Of the removed rows those of datapoints that are not in the lake."""
    return transaction.query(
        'SELECT DISTINCT CAST(id AS VARCHAR) AS datapoint, "row" FROM {removed_datapoints} '
        f"WHERE {where} AND id NOT IN (SELECT id FROM {{datapoints}})",
        values,
    )


def _bury(transaction: ScopedTransaction, leaving: pa.Table) -> None:
    """Leave a tombstone for datapoints of which nothing is left, so that datasets know them."""
    transaction.stage("forget_leaving", leaving.combine_chunks())
    graves = transaction.query(
        'SELECT datapoint, "row" FROM forget_leaving WHERE CAST(datapoint AS UUID) NOT IN '
        "(SELECT id FROM {removed_datapoints})"
    )
    change = pa.repeat(pa.scalar(transaction.change, pa.int64()), graves.num_rows)
    transaction.append("tombstones", graves.append_column("change", change))


def _of_members(table: str, members: BitMap | None) -> tuple[str, dict[str, Any]]:
    if members is None:
        return "TRUE", {}
    condition, parameters = inside('"row"', members, "forget_members")
    if table == "datapoints":
        return condition, parameters
    ids = " UNION ALL ".join(
        f"SELECT id FROM {{{name}}} WHERE {condition}"
        for name in ("datapoints", f"{REMOVED}datapoints")
    )
    return f"datapoint IN ({ids})", parameters


def _stage_shown(
    transaction: ScopedTransaction,
    table: str,
    aged: str,
    parameters: dict[str, Any],
    views: list[View],
) -> bool:
    """Stage which pairs of changes some view lies between, as `forget_shown`; whether any does."""
    if not views:
        return False
    pairs = transaction.query(
        f"SELECT DISTINCT since, until FROM {{{REMOVED}{table}}} WHERE {aged}", parameters
    )
    since, until = (pairs[name].to_numpy() for name in ("since", "until"))
    # Predictions are shown whenever they came; and by the last row of their datapoint.
    always = table == "datapoints" or of_predictions(table) is not None
    shown_ = np.zeros(len(since), bool)
    for view in views:
        if view.moment is None:
            continue
        there = view.moment.changes
        here = ~_among(until, there)
        shown_ |= here if always else here & _among(since, there)
    transaction.stage("forget_shown", pairs.filter(pa.array(shown_)).combine_chunks())
    return bool(shown_.any())


def _among(numbers: NDArray[np.int64], changes: BitMap) -> NDArray[np.bool_]:
    return np.fromiter((number in changes for number in numbers.tolist()), bool, len(numbers))


def _now() -> datetime:
    return datetime.now(UTC)


# -- settings of an organization --------------------------------------------------------------


def _mark(scope: Scope) -> dict[str, str] | None:
    text = _setting(scope, "forgotten")
    return None if text is None else orjson.loads(text)


def _setting(scope: Scope, name: str) -> str | None:
    rows = scope.store.query(
        "SELECT value FROM lake.settings WHERE name = $name",
        {"name": f"{name}:{scope.organization_id}"},
    )["value"].to_pylist()
    return rows[0] if rows else None


def _set(scope: Scope, name: str, value: str | None) -> None:
    key = {"name": f"{name}:{scope.organization_id}"}

    def work(transaction: Any) -> None:
        transaction.serialize("settings")
        transaction.execute("DELETE FROM lake.settings WHERE name = $name", key)
        if value is not None:
            transaction.execute(
                "INSERT INTO lake.settings (name, value) VALUES ($name, $value)",
                {**key, "value": value},
            )

    scope.store.transact(work)
