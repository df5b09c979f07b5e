"""How the demo shows code, answers and pictures in a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from katiml.demo.digits import SCALE

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, RenderableType
    from rich.text import Text

__all__ = ["bars", "picture", "pictures", "run_code", "step", "table"]

_SHADES = " ░▒▓█"


def run_code(console: Console, names: dict[str, Any], code: str, *, timed: bool = False) -> Any:
    """Show some code, run it, and say how long it took if it asked the lake (or is `timed`).

    The value of an expression is returned; what is assigned is in `names`.
    """
    for number, line in enumerate(code.splitlines()):
        prompt = "..." if number else ">>>"
        console.print(f"{prompt} {line}", style="cyan", markup=False, soft_wrap=True)
    start = time.perf_counter()
    try:
        answer = eval(code, names)  # noqa: S307  the texts are the demo's own
    except SyntaxError:
        answer = None
        exec(code, names)  # noqa: S102
        if not (timed or "lake." in code):
            return None
    spent = (time.perf_counter() - start) * 1000
    if spent >= 1:
        console.print(f"{spent:.0f} ms", style="dim")
    return answer


@contextmanager
def step(console: Console, what: str) -> Iterator[None]:
    """Say what is done, and how long it took."""
    start = time.perf_counter()
    yield
    console.print(f"  {what} [dim]{time.perf_counter() - start:.1f} s[/]", soft_wrap=True)


def table(rows: pd.DataFrame | list[dict[str, Any]]) -> RenderableType:
    """Rows as a table."""
    from katiml.cli.output import table_of

    found = rows if isinstance(rows, list) else rows.to_dict("records")
    return table_of([{str(name): value for name, value in row.items()} for row in found])


def bars(counts: pd.DataFrame) -> RenderableType:
    """A distribution as bars, the longest 40 characters."""
    from rich.table import Table

    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right")
    most = counts["count"].max()
    for bucket, count in zip(counts["bucket"], counts["count"], strict=True):
        table.add_row(str(bucket), f"[blue]{'█' * round(40 * count / most)}[/] {count:,}")
    return table


def pictures(console: Console, guesses: pd.DataFrame) -> RenderableType:
    """Images side by side, each above what the model takes it for."""
    from PIL import Image
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    images = []
    for path in guesses["metadata.uri"]:
        with Image.open(path) as image:
            images.append(np.asarray(image)[::SCALE, ::SCALE])
    colour = console.color_system is not None
    table.add_row(*(picture(image, colour=colour) for image in images))
    said = zip(guesses["class_name"], guesses["confidence"], strict=True)
    table.add_row(*(f"{name}? {confidence:.0%}" for name, confidence in said))
    return table


def picture(image: np.ndarray[Any, Any], *, colour: bool = True) -> Text:
    """A small grey image as text: half blocks, two pixels a character; without colours, shades.

    >>> picture(np.array([[0, 255], [128, 0]], np.uint8), colour=False).plain.splitlines()
    [' █', '▒ ']
    """
    from rich.text import Text

    if not colour:
        shades = image.astype(int) * (len(_SHADES) - 1) // 255
        return Text("\n".join("".join(_SHADES[shade] for shade in row) for row in shades.tolist()))
    text = Text()
    for upper, lower in zip(image[0::2].tolist(), image[1::2].tolist(), strict=True):
        for above, below in zip(upper, lower, strict=True):
            text.append("▀", style=f"rgb({above},{above},{above}) on rgb({below},{below},{below})")
        text.append("\n")
    return text
