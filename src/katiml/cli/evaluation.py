"""`katiml evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from katiml.cli import output
from katiml.cli.filters import parse_filters
from katiml.cli.options import (
    FilterOption,
    FiltersOption,
    JsonOption,
    LakeOption,
    OrganizationOption,
    open_lake,
)
from katiml.cli.progress import share_bar

if TYPE_CHECKING:
    from katiml.evaluation import Evaluation

__all__ = ["evaluate"]


def evaluate(
    context: typer.Context,
    models: Annotated[list[str], typer.Argument(help="A model, or several to put side by side.")],
    filter: FilterOption = None,
    filters: FiltersOption = None,
    task_type: Annotated[
        str | None,
        typer.Option("--task-type", metavar="TYPE", help="Where a model has several."),
    ] = None,
    iou_threshold: Annotated[
        float,
        typer.Option(
            "--iou-threshold", min=0, max=1, help="From which overlap boxes are the same."
        ),
    ] = 0.5,
    min_confidence: Annotated[
        float,
        typer.Option("--min-confidence", min=0, max=1, help="Which boxes count in confusions."),
    ] = 0.5,
    ignore_class: Annotated[
        list[str] | None,
        typer.Option("--ignore-class", metavar="NAME", help="Leave its pixels out; repeatable."),
    ] = None,
    count_missing: Annotated[
        bool, typer.Option("--count-missing", help="Datapoints without a prediction are wrong.")
    ] = False,
    mistakes: Annotated[
        str | None,
        typer.Option(
            "--mistakes",
            metavar="TRUTH,PREDICTED",
            help="Show the datapoints of that cell, the worst first; either may be left empty.",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, metavar="N", help="How many mistakes.")
    ] = 20,
    json: JsonOption = False,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", dir_okay=False, help="Write classes to FILE.csv."
        ),
    ] = None,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """How good a model is: its predictions against ground truths.

    Accuracy, precision, recall, F1 and IoU by class, the confusion matrix, and COCO's average
    precision of boxes and instances.

    Examples:

        katiml evaluate resnet -f "tags.name = split" -f "tags.value = test"

        katiml evaluate yolo-s yolo-m --task-type OBJECT_DETECTION

        katiml evaluate resnet --mistakes cat,dog
    """
    if mistakes is not None and len(models) > 1:
        raise typer.BadParameter("mistakes are those of one model", param_hint="--mistakes")
    if file is not None and (file.suffix != ".csv" or len(models) > 1):
        raise typer.BadParameter("classes of one model go to FILE.csv", param_hint="--output")
    opened = open_lake(context, lake, organization)
    options: dict[str, Any] = {
        "filters": parse_filters(filter or [], filters),
        "task_type": task_type,
        "iou_threshold": iou_threshold,
        "min_confidence": min_confidence,
        "ignore_classes": ignore_class or (),
        "count_missing": count_missing,
    }
    with share_bar("evaluating", output.messages()) as reached:
        options["on_progress"] = reached
        found = opened.evaluate(models if len(models) > 1 else models[0], **options)
    from katiml.evaluation import Evaluation

    if isinstance(found, Evaluation) and mistakes is not None:
        _show_mistakes(found, mistakes, limit, json)
    elif json:
        output.print_json(found.to_dict())
    else:
        output.console().print(found)
    if isinstance(found, Evaluation) and file is not None:
        found.per_class.to_csv(file, index=False)
        output.messages().print(f"wrote {file}")


def _show_mistakes(found: Evaluation, cell: str, limit: int, json: bool) -> None:
    truth, _, predicted = cell.partition(",")
    frame = found.mistakes(truth or None, predicted or None, limit=limit)
    rows: list[Any] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    if json:
        output.print_json(rows)
    else:
        output.show_rows(rows)
