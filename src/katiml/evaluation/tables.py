"""Evaluations as tables for people."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from katiml.evaluation.evaluation import Comparison, Evaluation

__all__ = ["as_text", "comparison_table", "evaluation_table"]

_CLASSES = 20  # rows of classes that a table shows
_CELLS = 12  # classes of a confusion matrix that fit side by side
_SHOWN = {
    "CLASSIFICATION": ("accuracy", "f1_macro", "f1_weighted", "precision_macro", "recall_macro"),
    "SEGMENTATION": ("mean_iou", "accuracy", "f1_macro", "recall_macro"),
}
_BOXES = ("map", "map_50", "map_75", "mar_100", "precision_micro", "recall_micro", "f1_micro")
_COLUMNS = ("support", "predicted", "precision", "recall", "f1", "iou", "ap", "ap_50", "ar_100")


def as_text(renderable: RenderableType, width: int = 120) -> str:
    """What a table looks like on a plain terminal."""
    from rich.console import Console

    file = io.StringIO()
    Console(file=file, width=width, color_system=None, highlight=False).print(renderable)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def evaluation_table(evaluation: Evaluation) -> RenderableType:
    """One model: the metrics overall, by class, and what was taken for what."""
    from rich.console import Group
    from rich.text import Text

    title = Text.assemble((evaluation.model_name, "bold"), f"  {evaluation.task_type}  ")
    title.append(f"{evaluation.datapoints:,} datapoints")
    if evaluation.without_prediction:
        title.append(f", {evaluation.without_prediction:,} more without a prediction", "yellow")
    parts: list[RenderableType] = [title, Text(_headline(evaluation)), _classes(evaluation)]
    wrong = evaluation.confusions
    wrong = wrong[wrong["truth"] != wrong["predicted"]]
    if 0 < len(evaluation.confusion.names) <= _CELLS:
        parts.append(_matrix(evaluation))
    elif len(wrong):
        parts.append(_table(wrong.head(10).to_dict("records"), "most frequent mistakes"))
    return Group(*parts)


def comparison_table(comparison: Comparison) -> RenderableType:
    """Models side by side: a row a metric, a column a model; the best of each row is marked."""
    from rich.table import Table
    from rich.text import Text

    first = next(iter(comparison.values()))
    title = f"{first.task_type}, {first.datapoints:,} datapoints"
    table = Table(title=title, box=None, title_justify="left", pad_edge=False)
    table.add_column("")
    for name in comparison:
        table.add_column(Text(name), justify="right")
    for metric in _SHOWN.get(first.task_type, _BOXES):
        values = [one.overall[metric] for one in comparison.values()]
        best = np.nanmax(values) if np.isfinite(values).any() else None
        table.add_row(
            metric.replace("_", " "),
            *(Text(_number(value), "bold" if value == best else "") for value in values),
        )
    return table


def _headline(evaluation: Evaluation) -> str:
    overall = evaluation.overall
    texts = []
    for name in _SHOWN.get(evaluation.task_type, _BOXES):
        text = f"{name.replace('_', ' ')} {_number(overall[name])}"
        if f"{name}_low" in overall:
            low, high = overall[f"{name}_low"], overall[f"{name}_high"]
            text += f" ({_number(low)} to {_number(high)})"
        texts.append(text)
    return "   ".join(texts)


def _classes(evaluation: Evaluation) -> Table:
    frame = evaluation.per_class
    frame = frame[["class_name", *(name for name in _COLUMNS if name in frame)]]
    shown = frame.sort_values("support", ascending=False, kind="stable").head(_CLASSES)
    more = len(frame) - len(shown)
    note = f"{more:,} more classes in per_class" if more else None
    return _table(shown.to_dict("records"), None, note)


def _matrix(evaluation: Evaluation) -> Table:
    matrix = evaluation.confusion_matrix
    rows = [
        {"truth \\ predicted": name, **dict(zip(map(str, matrix), counts, strict=True))}
        for name, counts in zip(matrix.index, matrix.to_numpy().tolist(), strict=True)
    ]
    return _table(rows, None)


def _table(rows: list[dict[Any, Any]], title: str | None, note: str | None = None) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, title=title, title_justify="left", pad_edge=False, caption=note)
    for name, value in rows[0].items() if rows else ():
        table.add_column(Text(str(name)), justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return _number(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4f}"
