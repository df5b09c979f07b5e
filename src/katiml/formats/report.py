"""What a format could not hold, and what was wrong in a data set."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Report"]


@dataclass
class Report:
    """Counts what happened: `records` read or written, and `notes`: {what: how often}.

    `examples` has the first place of each note.

    >>> report = Report("coco", records=2)
    >>> report.note("tags are not kept", "image 7")
    >>> print(report)
    coco: 2 records
    - tags are not kept: 1 (image 7)
    """

    format: str
    records: int = 0
    notes: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def note(self, what: str, where: str = "", count: int = 1) -> None:
        """Count something that was left out or changed."""
        if count:
            self.notes[what] = self.notes.get(what, 0) + count
            self.examples.setdefault(what, where)

    def __str__(self) -> str:
        lines = [f"{self.format}: {self.records:,} records"]
        for what, count in self.notes.items():
            where = f" ({self.examples[what]})" if self.examples[what] else ""
            lines.append(f"- {what}: {count:,}{where}")
        return "\n".join(lines)
