"""A diff as a table for the terminal."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["as_text", "report"]

# How many buckets of each distribution are shown, those that changed most.
_SHOWN = 12
_COUNTED = ("before", "after", "change")
_SIGNS = {
    "added": ("+", "green"),
    "removed": ("-", "red"),
    "relabelled": ("~", "yellow"),
    "retagged": ("~", "yellow"),
    "edited": ("~", "yellow"),
}


def report(
    before: str, after: str, counts: Mapping[str, int], frames: Mapping[str, pd.DataFrame]
) -> Any:
    """Something rich can print: counts of datapoints, and the largest changes of each frame.

    `frames` have columns before, after and change, behind those that name a bucket.
    """
    from rich.console import Group
    from rich.text import Text

    head = Text.assemble((before, "bold"), " .. ", (after, "bold"), "\n")
    for name, count in counts.items():
        sign, colour = _SIGNS[name]
        head.append(f"{sign}{count:,} {name}", colour if count else "dim").append("  ")
    head.rstrip()
    parts: list[Any] = [head]
    for title, frame in frames.items():
        changed = frame[frame["change"] != 0]
        if not changed.empty:
            parts.append(_table(title, changed))
    return Group(*parts)


def _table(title: str, changed: pd.DataFrame) -> Any:
    from rich.table import Table
    from rich.text import Text

    largest = changed.sort_values("change", key=abs, ascending=False, kind="stable")
    more = len(changed) - _SHOWN
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=f"and {more:,} more" if more > 0 else None,
        caption_justify="left",
    )
    names = [name for name in changed.columns if name not in _COUNTED]
    # A column that says the same everywhere says nothing, but for the last.
    names = [name for name in names if changed[name].nunique() > 1 or name == names[-1]]
    for name in names:
        table.add_column(name)
    for name in _COUNTED:
        table.add_column(name, justify="right")
    for row in largest.head(_SHOWN).to_dict("records"):
        table.add_row(
            *(Text(str(row[name])) for name in names),
            f"{row['before']:,}",
            f"{row['after']:,}",
            Text(f"{row['change']:+,}", "green" if row["change"] > 0 else "red"),
        )
    return table


def as_text(renderable: Any) -> str:
    """What rich would print, as plain text, 100 characters wide.

    >>> as_text("a [b]")
    'a [b]'
    """
    from rich.console import Console

    file = io.StringIO()
    console = Console(file=file, width=100, no_color=True, force_terminal=False, markup=False)
    console.print(renderable)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())
