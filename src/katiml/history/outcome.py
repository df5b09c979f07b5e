"""What an undo, a restore or a purge did, or would do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Outcome", "Skipped", "Undo"]


@dataclass(frozen=True)
class Skipped:
    """Rows of `table` that were left as they are, and why."""

    table: str
    rows: int
    reason: str


@dataclass
class Outcome:
    """Rows put back and taken away, by table, and what was left alone."""

    restored: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    # Whether this is only what would happen.
    dry_run: bool = False

    def skip(self, table: str, rows: int, reason: str) -> None:
        """Note that some rows were left alone."""
        if rows:
            self.skipped.append(Skipped(table, rows, reason))

    def add(self, restored: Mapping[str, int], removed: Mapping[str, int]) -> None:
        """Count rows."""
        for own, more in ((self.restored, restored), (self.removed, removed)):
            for table, rows in more.items():
                if rows:
                    own[table] = own.get(table, 0) + rows

    @property
    def is_empty(self) -> bool:
        """Whether nothing was put back or taken away."""
        return not self.restored and not self.removed

    def as_dict(self) -> dict[str, Any]:
        """The outcome as plain values, for JSON."""
        return {
            "restored": self.restored,
            "removed": self.removed,
            "skipped": [vars(skipped) for skipped in self.skipped],
            "dry_run": self.dry_run,
        }

    def rows(self) -> Iterable[tuple[str, int, int, str]]:
        """A line for each table: its name, rows restored, rows removed, what was left alone."""
        notes: dict[str, list[str]] = {}
        for one in self.skipped:
            notes.setdefault(one.table, []).append(f"{one.rows:,} left alone: {one.reason}")
        for table in dict.fromkeys([*self.restored, *self.removed, *notes]):
            note = "; ".join(notes.get(table, ()))
            yield table, self.restored.get(table, 0), self.removed.get(table, 0), note

    @property
    def title(self) -> str:
        """The line over the table."""
        return "would happen" if self.dry_run else "happened"

    def __str__(self) -> str:
        lines = [self.title]
        for table, restored, removed, note in self.rows():
            lines.append(f"  {table:16}{restored:>+12,}{-removed:>+12,}  {note}".rstrip())
        if len(lines) == 1:
            lines.append("  nothing")
        return "\n".join(lines)


@dataclass
class Undo(Outcome):
    """What `lake.undo` did or would do. `change` is the number of the undo itself, None of a dry
    run; `undoes` are the changes it undoes, as `lake.changes` lists them."""

    change: int | None = None
    undoes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Which changes it is about."""
        named = ", ".join(f"{one['change']} ({one['kind']})" for one in self.undoes[:3])
        more = f" and {len(self.undoes) - 3:,} more" if len(self.undoes) > 3 else ""
        done = "would undo" if self.dry_run else f"change {self.change} undid"
        return f"{done} {named}{more}"

    def as_dict(self) -> dict[str, Any]:
        """The outcome as plain values, for JSON."""
        return {"change": self.change, "undoes": self.undoes, **super().as_dict()}
