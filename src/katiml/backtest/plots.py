"""Label-efficiency curves for people: on a terminal, and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from katiml.errors import InvalidInput, MissingExtra

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from katiml.backtest.result import Backtest

__all__ = ["chart", "draw", "report"]

Floats = NDArray[np.float64]
_FORMATS = (".png", ".svg", ".pdf")
_COLOURS = ("bright_black", "cyan", "magenta", "yellow", "green", "blue", "red", "white")
_WIDTH, _HEIGHT = 64, 16
# A braille character is 2 x 4 dots; the bit of each.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def report(backtest: Backtest) -> RenderableType:
    """The curves, the areas under them, and what a level takes."""
    from rich.console import Group
    from rich.text import Text

    about = backtest.about
    title = Text.assemble(
        (f"{backtest.score} by labels", "bold"),
        f"  {about.get('datapoints', 0):,} datapoints, {about.get('classes', 0)} classes,"
        f" {about.get('model', '')}, {len(backtest.seeds)} seeds",
    )
    means = {name: values.mean(axis=0) for name, values in backtest.scores.items()}
    return Group(
        title,
        chart(backtest.counts, means),
        _areas(backtest),
        _advice(backtest),
    )


def chart(
    counts: NDArray[np.intp], curves: dict[str, Floats], width: int = _WIDTH, height: int = _HEIGHT
) -> Text:
    """(rounds,) curves as braille, `width` x `height` characters, with axes and a legend.

    >>> print(chart(np.array([0, 10]), {"A": np.array([0.0, 1.0])}, width=4, height=2).plain)
    1.000 │  ⡠⠊
    0.000 │⡠⠊
          └────
           0 10
           ━ A
    """
    from rich.text import Text

    low = min(float(curve.min()) for curve in curves.values())
    high = max(float(curve.max()) for curve in curves.values())
    span = high - low or 1.0
    cells = np.zeros((height, width), np.int64)
    owner = np.full((height, width), -1)
    for number, curve in enumerate(curves.values()):
        x, y = _line(counts, curve, low, span, 2 * width, 4 * height)
        for column, row in zip(x.tolist(), y.tolist(), strict=True):
            cells[row // 4, column // 2] |= _DOTS[row % 4][column % 2]
            owner[row // 4, column // 2] = number
    text = Text()
    for row in range(height):
        # Rounding must not leave a label of -0.000.
        value = max(low, high - (high - low) * row / max(1, height - 1))
        labelled = row in (0, height - 1) or row == height // 2
        text.append(f"{value:.3f} │" if labelled else "      │", style="dim")
        for cell, number in zip(cells[row].tolist(), owner[row].tolist(), strict=True):
            if cell:
                text.append(chr(0x2800 + cell), style=_COLOURS[number % len(_COLOURS)])
            else:
                text.append(" ")
        text.rstrip()
        text.append("\n")
    first, last = str(counts[0]), str(counts[-1])
    text.append("      └" + "─" * width + "\n", style="dim")
    text.append(f"       {first}{last.rjust(max(1, width - len(first)))}\n", style="dim")
    text.append("      ")
    for number, name in enumerate(curves):
        text.append(" ━ ", style=_COLOURS[number % len(_COLOURS)])
        text.append(name + " ")
    text.rstrip()
    return text


def _line(
    counts: NDArray[np.intp], curve: Floats, low: float, span: float, width: int, height: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The dots of a curve: columns, and rows from the top."""
    reach = max(1, int(counts[-1] - counts[0]))
    xs = (counts - counts[0]) / reach * (width - 1)
    fine = np.linspace(0, width - 1, 8 * width)
    values = np.interp(fine, xs, curve)
    rows = (height - 1) - np.rint((values - low) / span * (height - 1)).astype(np.intp)
    return np.rint(fine).astype(np.intp), np.clip(rows, 0, height - 1)


def _areas(backtest: Backtest) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("strategy", "area", "± sd", f"gain on {backtest.baseline}", "95 %", "better in",
                 "choosing"):  # fmt: skip
        table.add_column(name, justify="left" if name == "strategy" else "right")
    runs = len(backtest.seeds)
    for row in _rows(backtest.areas):
        first = row.strategy == backtest.baseline
        table.add_row(
            str(row.strategy),
            f"{row.area:.4f}",
            "-" if np.isnan(row.deviation) else f"{row.deviation:.4f}",
            "" if first else f"{row.gain:+.4f}",
            "" if first or np.isnan(row.low) else f"{row.low:+.4f} to {row.high:+.4f}",
            "" if first else f"{row.better:.0%}",
            f"{backtest.seconds[str(row.strategy)] / runs:.2f} s",
        )
    return table


def _advice(backtest: Backtest) -> Text:
    """What a level takes, in words."""
    from rich.text import Text

    found = backtest.labels_to_reach()
    level, most = float(found["level"].iloc[0]), int(backtest.counts[-1])
    text = Text(f"\n{backtest.baseline} ends at {level:.4f} with {most:,} labels.")
    for row in _rows(found):
        if row.strategy == backtest.baseline:
            continue
        if np.isnan(row.labels):
            text.append(f"\n{row.strategy} does not get there.")
        else:
            text.append(
                f"\n{row.strategy} gets there with {row.labels:.0f}, {row.saved:.0%} fewer."
            )
    return text


def _rows(frame: Any) -> list[Any]:
    return list(frame.itertuples())


def draw(backtest: Backtest, path: Path) -> Path:
    """Write the curves with their intervals to a file whose name says which kind."""
    if path.suffix.lower() not in _FORMATS:
        raise InvalidInput(
            f"{path.name!r} is no name of a picture", hint=f"end it in {', '.join(_FORMATS)}"
        )
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra(
            "pictures need matplotlib", hint="pip install 'katiml[backtest]'"
        ) from error
    figure: Any = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, curve) in enumerate(backtest.curves.groupby("strategy", sort=False)):
        colour = "0.45" if number == 0 else f"C{number - 1}"
        axes.plot(curve["labels"], curve["mean"], color=colour, label=str(name), linewidth=2)
        if len(backtest.seeds) > 1:
            axes.fill_between(
                curve["labels"], curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0
            )
    axes.set_xlabel("labels")
    axes.set_ylabel(backtest.score.replace("_", " "))
    axes.set_title(
        f"{backtest.about.get('model', '')}, mean of {len(backtest.seeds)} seeds"
        " with its 95 % interval",
        fontsize=10,
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    return path
