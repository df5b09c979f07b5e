"""Undoing changes: which ones, in one transaction, with a look at it first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn

from pyroaring import BitMap

from katiml.errors import Conflict, InvalidInput, NotFound
from katiml.history.log import Change, read_changes, successor, undoers, undone
from katiml.history.outcome import Outcome, Undo
from katiml.query.fields import shown
from katiml.query.values import as_uuid

if TYPE_CHECKING:
    from katiml.store import Scope, ScopedTransaction

__all__ = ["Part", "Target", "rehearse", "undo"]

_LIST = "lake.changes() lists them"


@dataclass(frozen=True)
class Target:
    """What is to be undone: some changes, and which others are not later than they are."""

    changes: tuple[Change, ...]
    numbers: BitMap
    # Among them those to be undone, and 0 for what is older than all changes.
    earlier: BitMap

    @property
    def began(self) -> datetime:
        """When the first of the changes was made."""
        return min(change.created_at for change in self.changes)


# One kind of thing that changes can have changed, undone inside the transaction.
Part = Callable[["ScopedTransaction", Target], Outcome]


class _Rehearsed(Exception):
    """Rolls a transaction back that was only to show what it would do."""


def rehearse(
    scope: Scope, work: Callable[[ScopedTransaction], Outcome], *, dry_run: bool
) -> Outcome:
    """What `work` did in a transaction; with `dry_run` the transaction is rolled back.

    So what is shown first is what would happen, with all its exceptions.
    """
    seen: list[Outcome] = []

    def run(transaction: ScopedTransaction) -> Outcome:
        outcome = work(transaction)
        if dry_run:
            outcome.dry_run = True
            seen.append(outcome)
            raise _Rehearsed
        return outcome

    try:
        return scope.transact(run)
    except _Rehearsed:
        return seen[-1]


def undo(
    scope: Scope,
    parts: Sequence[Part],
    change: int | str | None = None,
    *,
    dry_run: bool = False,
    author: str | None = None,
    forgotten: datetime | None = None,
) -> Undo:
    """Undo a change, all of an upload, or whatever was last.

    Where later changes leave nothing to undo, nothing is written and `change` of the result is
    None.

    Raises NotFound where there is no such change, Conflict where it is undone already, was a purge,
    is older than `forgotten` or belongs to an upload that is still running.
    """

    def work(transaction: ScopedTransaction) -> Undo:
        # Two undos at once would both put the same rows back.
        transaction.serialize("undo")
        target = _target(transaction, change, forgotten)
        transaction.note("undo", author, undoes=sorted(target.numbers))
        result = Undo(undoes=[one.as_dict() for one in target.changes])
        for part in parts:
            outcome = part(transaction, target)
            result.add(outcome.restored, outcome.removed)
            result.skipped += outcome.skipped
        if not dry_run and not result.is_empty:
            result.change = transaction.change
        return result

    result = rehearse(scope, work, dry_run=dry_run)
    if not isinstance(result, Undo):
        raise TypeError(result)
    return result


def _target(
    transaction: ScopedTransaction, wanted: int | str | None, forgotten: datetime | None
) -> Target:
    by = undoers(transaction)
    gone = undone(by)
    chosen = _chosen(transaction, wanted, gone)
    _refuse_running(transaction, chosen)
    first = min(chosen, key=lambda change: change.created_at)
    if forgotten is not None and first.created_at < forgotten:
        raise Conflict(
            f"change {first.number} is older than the lake remembers",
            hint=f"it forgot what was removed before {forgotten:%Y-%m-%d}: see lake.retention",
        )
    # A change that was undone and redone is undone by undoing the redo.
    numbers = BitMap(successor(change.number, by) for change in chosen)
    if numbers != BitMap(change.number for change in chosen):
        chosen = read_changes(
            transaction, "list_contains($numbers, number)", {"numbers": list(numbers)}
        )
    latest = max(change.created_at for change in chosen)
    earlier = transaction.query(
        "SELECT number FROM {changes} WHERE created_at <= $latest", {"latest": latest}
    )
    return Target(
        changes=tuple(chosen),
        numbers=numbers,
        earlier=BitMap([0, *earlier["number"].to_pylist()]),
    )


def _chosen(transaction: ScopedTransaction, wanted: int | str | None, gone: BitMap) -> list[Change]:
    if wanted is None:
        return _latest(transaction, gone)
    if isinstance(wanted, str) and wanted.strip().isdecimal():
        wanted = int(wanted)
    if isinstance(wanted, str):
        return _of_upload(transaction, wanted, gone)
    if isinstance(wanted, bool) or not isinstance(wanted, int):
        raise InvalidInput(
            f"change is {shown(wanted)}", hint=f"pass the number of a change: {_LIST}"
        )
    found = read_changes(transaction, "number = $number", {"number": min(wanted, 2**62)})
    if not found:
        raise NotFound(f"there is no change {wanted}", hint=_LIST)
    if wanted in gone:
        _refuse_undone(transaction, wanted)
    if found[0].kind == "purge":
        raise Conflict(f"change {wanted} was a purge, which is for good")
    return found


def _refuse_undone(transaction: ScopedTransaction, number: int) -> NoReturn:
    by = undoers(transaction)
    gone = undone(by)
    last = next(undo.number for undo in by[number] if undo.number not in gone)
    raise Conflict(
        f"change {number} is undone already, by change {last}", hint=f"to redo it, undo {last}"
    )


def _latest(transaction: ScopedTransaction, gone: BitMap) -> list[Change]:
    """The last change that stands, with what belongs to the same upload."""
    found = read_changes(
        transaction,
        "kind NOT IN ('undo', 'purge') AND number NOT IN (SELECT unnest($gone))",
        {"gone": [0, *gone]},
        limit=1,
    )
    if not found:
        raise NotFound("there is no change to undo", hint=_LIST)
    if found[0].upload is None:
        return found
    return _of_upload(transaction, found[0].upload, gone)


def _of_upload(transaction: ScopedTransaction, upload: str, gone: BitMap) -> list[Change]:
    id_ = as_uuid(upload)
    if id_ is None:
        raise InvalidInput(
            f"{shown(upload)} is neither the number of a change nor the id of an upload", hint=_LIST
        )
    found = read_changes(transaction, "upload = CAST($upload AS UUID)", {"upload": id_})
    if not found:
        raise NotFound(f"no change belongs to an upload {upload}", hint=_LIST)
    standing = [change for change in found if change.number not in gone]
    if not standing:
        _refuse_undone(transaction, found[0].number)
    return standing


def _refuse_running(transaction: ScopedTransaction, chosen: Sequence[Change]) -> None:
    uploads = sorted({change.upload for change in chosen if change.upload is not None})
    running = transaction.query(
        "SELECT id FROM {uploads} WHERE status = 'RUNNING' AND list_contains($ids, id::VARCHAR)",
        {"ids": uploads},
    )
    # Records sent inline are one batch, whose upload is finished in the same transaction.
    if running.num_rows:
        id_ = running["id"][0].as_py()
        raise Conflict(
            f"the upload {id_} is still running",
            hint="wait for it, or cancel it first: what has landed can then be undone",
        )
