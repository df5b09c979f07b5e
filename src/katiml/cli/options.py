"""The options several commands share, and how they become a lake and filters."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from katiml.lake import Lake

__all__ = [
    "DatasetOption",
    "DescOption",
    "FieldsOption",
    "FilterOption",
    "FiltersOption",
    "JsonOption",
    "LakeOption",
    "LimitOption",
    "OffsetOption",
    "OrderByOption",
    "OrganizationOption",
    "OutputOption",
    "TableArgument",
    "TableName",
    "VersionOption",
    "open_lake",
]


class TableName(str, Enum):  # noqa: UP042  (typer shows the values of a str Enum as choices)
    """The tables a command can be pointed at."""

    datapoints = "datapoints"
    predictions = "predictions"
    groundtruths = "groundtruths"
    bboxes = "bboxes"
    lanes = "lanes"
    completions = "completions"
    tags = "tags"
    feature_vectors = "feature_vectors"


LakeOption = Annotated[
    str | None,
    typer.Option(
        "--lake",
        metavar="URL",
        help="Where the lake lives: a folder or ducklake:postgres://…?data_path=…"
        " [default: $KATIML_LAKE, else ~/.katiml]",
        show_default=False,
    ),
]
OrganizationOption = Annotated[
    str | None,
    typer.Option(
        "--organization", metavar="ID", help="Whose rows: the organization. [default: default]"
    ),
]
TableArgument = Annotated[
    TableName, typer.Argument(help="What to look at.", metavar="TABLE", show_default=True)
]
FilterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        "-f",
        metavar="'FIELD OP VALUE'",
        help="Keep rows where this holds; may be repeated, and all must hold.",
    ),
]
FiltersOption = Annotated[
    str | None,
    typer.Option(
        "--filters", metavar="JSON", help="Filters as a JSON list, groups (any, all, not) included."
    ),
]
FieldsOption = Annotated[
    str | None,
    typer.Option(
        "--fields",
        metavar="A,B",
        help="Columns to return, as 'id,metadata.uri,tags.*'. [default: *]",
    ),
]
OrderByOption = Annotated[
    str | None, typer.Option("--order-by", metavar="FIELD", help="Sort by this field, or RANDOM().")
]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset", metavar="NAME", help="Only what belongs to the members of this dataset."
    ),
]
VersionOption = Annotated[
    str | None,
    typer.Option(
        "--version",
        metavar="VERSION",
        help="With --dataset: as of this version (an id, a tag, HEAD~1).",
    ),
]
DescOption = Annotated[bool, typer.Option("--desc", help="Largest first.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", "-n", min=0, metavar="N", help="At most this many rows.")
]
OffsetOption = Annotated[
    int, typer.Option("--offset", min=0, metavar="N", help="Leave out this many rows first.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write every row to FILE.parquet, FILE.csv or FILE.json instead of printing.",
        dir_okay=False,
    ),
]


def open_lake(context: typer.Context, lake: str | None, organization: str | None = None) -> Lake:
    """The lake a command works on; it is closed when the command ends.

    An option of the command itself wins over the same option before the command.
    """
    import katiml

    before = context.find_root().params
    organization = organization or before.get("organization") or "default"
    opened = katiml.connect(lake or before.get("lake"), organization_id=organization)
    context.call_on_close(opened.close)
    return opened
