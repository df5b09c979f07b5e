"""`katiml import` and `katiml export`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from katiml.cli import output
from katiml.cli.filters import parse_filters
from katiml.cli.options import (
    DescOption,
    FilterOption,
    FiltersOption,
    JsonOption,
    LakeOption,
    LimitOption,
    OrderByOption,
    OrganizationOption,
    open_lake,
)

if TYPE_CHECKING:
    from katiml.formats import Report

__all__ = ["export", "import_"]


class FormatName(str, Enum):  # noqa: UP042  (typer shows the values of a str Enum as choices)
    """The formats that data sets come in."""

    coco = "coco"
    yolo = "yolo"
    voc = "voc"
    folder = "folder"
    csv = "csv"
    parquet = "parquet"
    jsonl = "jsonl"


_Format = Annotated[FormatName, typer.Argument(help="The format.", metavar="FORMAT")]
_Split = Annotated[
    str | None,
    typer.Option(
        "--split-tag", metavar="NAME", help="yolo, voc, folder: the tag of train, val, test."
    ),
]


def import_(
    context: typer.Context,
    format: _Format,
    path: Annotated[Path, typer.Argument(help="The file or folder.")],
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="NAME=VALUE", help="A tag for all; may be repeated."),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option("--images", metavar="PLACE", help="coco: folder or address of the images."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="NAME=FIELD", help="csv, parquet: which field a column is."
        ),
    ] = None,
    split_tag: _Split = None,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Put a data set of another tool in: its images stay where they are.

    Formats: coco, yolo, voc, folder (of class folders), csv, parquet, jsonl (prompts and
    completions). What is wrong in it is left out and counted.

    Examples:

        katiml import coco annotations/instances_val.json --images s3://bucket/val

        katiml import yolo datasets/cats --tag source=cats
    """
    options: dict[str, Any] = {
        "images": images,
        "split_tag": split_tag,
        "columns": _pairs(column, "--column"),
    }
    upload, report = open_lake(context, lake, organization).import_dataset(
        format.value,
        path,
        tags=_pairs(tag, "--tag"),
        **{name: value for name, value in options.items() if value},
    )
    if json:
        output.print_json({"upload": upload.to_dict(), "report": _plain(report)})
    else:
        output.messages().print(str(report), markup=False)
        output.show_values({"upload": upload.id, "status": upload.status, **upload.counts})
    if upload.status != "SUCCEEDED":
        raise typer.Exit(1)


def export(
    context: typer.Context,
    format: _Format,
    path: Annotated[Path, typer.Argument(help="A file or folder that is not there yet.")],
    filter: FilterOption = None,
    filters: FiltersOption = None,
    order_by: OrderByOption = None,
    desc: DescOption = False,
    limit: LimitOption = None,
    class_names: Annotated[
        str | None,
        typer.Option("--class-names", metavar="A,B", help="coco, yolo: the classes, in order."),
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", metavar="TASK", help="yolo: detect or segment.")
    ] = None,
    split_tag: _Split = None,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Write datapoints and their ground truths for another tool.

    What the format cannot hold is counted. Nothing is written over.

    Examples:

        katiml export yolo datasets/cats -f "tags.value = cats"

        katiml export csv everything.csv
    """
    options: dict[str, Any] = {
        "class_names": class_names.split(",") if class_names else None,
        "task": task,
        "split_tag": split_tag,
    }
    report = open_lake(context, lake, organization).export_dataset(
        format.value,
        path,
        parse_filters(filter or [], filters),
        order_by=order_by,
        desc=desc,
        limit=limit,
        **{name: value for name, value in options.items() if value},
    )
    if json:
        output.print_json(_plain(report))
    else:
        output.console().print(str(report), markup=False)


def _pairs(typed: list[str] | None, option: str) -> dict[str, str] | None:
    pairs = {}
    for text in typed or ():
        name, sign, value = text.partition("=")
        if not name or not sign:
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
        pairs[name] = value
    return pairs or None


def _plain(report: Report) -> dict[str, Any]:
    return {"format": report.format, "records": report.records, "notes": report.notes}
