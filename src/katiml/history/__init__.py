"""History: what changed in a lake, undoing it, bringing back what was deleted, and forgetting.

A change is a transaction that wrote records or datasets (`katiml.store.views` says how rows know
theirs). `Lake` has all of this as methods.
"""

from katiml.history.forgetting import (
    duration_of,
    forget,
    forget_if_due,
    forgotten_before,
    retention,
    set_retention,
)
from katiml.history.log import Change, changes_frame, list_changes, read_changes
from katiml.history.outcome import Outcome, Skipped, Undo
from katiml.history.purging import Purge, purge
from katiml.history.records import undo_records
from katiml.history.restoring import DELETED, restore
from katiml.history.undoing import Part, Target, undo

__all__ = [
    "DELETED",
    "Change",
    "Outcome",
    "Part",
    "Purge",
    "Skipped",
    "Target",
    "Undo",
    "changes_frame",
    "duration_of",
    "forget",
    "forget_if_due",
    "forgotten_before",
    "list_changes",
    "purge",
    "read_changes",
    "restore",
    "retention",
    "set_retention",
    "undo",
    "undo_records",
]
