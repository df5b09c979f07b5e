"""`katiml dataset …`: dataset versions with git's habits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from katiml.cli import output
from katiml.cli.data import give_file, give_json
from katiml.cli.files import format_of
from katiml.cli.filters import parse_filters
from katiml.cli.graph import graph_lines
from katiml.cli.options import (
    FieldsOption,
    FilterOption,
    FiltersOption,
    JsonOption,
    LakeOption,
    OrganizationOption,
    open_lake,
)
from katiml.errors import InvalidInput

if TYPE_CHECKING:
    from katiml.datasets import Dataset
    from katiml.datasets.version import Version

__all__ = ["dataset"]

dataset = typer.Typer(
    help="""Dataset versions: git for datapoints.

    A dataset has uncommitted members, which add and remove change for everybody, and versions,
    which never change. A version is named by its id or the first characters of it, by a tag, or
    as HEAD or HEAD~2.

    Examples:

        katiml dataset create train

        katiml dataset add train -f "tags.name = split" -f "tags.value = train"

        katiml dataset commit train -m "first split"

        katiml dataset diff train HEAD~1..HEAD
    """,
    no_args_is_help=True,
    rich_markup_mode=None,
)

NameArgument = Annotated[
    str, typer.Argument(metavar="DATASET", help="Its name, id, or the first characters of its id.")
]
VersionArgument = Annotated[
    str,
    typer.Argument(
        metavar="VERSION", help="An id or the first characters of it, a tag, HEAD or HEAD~2."
    ),
]
IdsOption = Annotated[
    list[str] | None,
    typer.Option("--id", metavar="ID", help="A datapoint's id; may be repeated."),
]
IdsFromOption = Annotated[
    str | None,
    typer.Option(
        "--ids-from", metavar="FILE", help="A file with an id on each line; - is standard input."
    ),
]
EverythingOption = Annotated[bool, typer.Option("--all", help="Every datapoint of the lake.")]
AuthorOption = Annotated[
    str | None,
    typer.Option("--author", help="Who it was. [default: $KATIML_AUTHOR, else the user]"),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataset.command("list")
def list_datasets(
    context: typer.Context,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """The datasets, the oldest first."""
    found = [one.to_dict() for one in open_lake(context, lake, organization).datasets.list()]
    if json:
        output.print_json(found)
        return
    output.show_rows(
        [
            {
                "name": one["name"],
                "datapoints": one["size"],
                "head": (one["head"] or "")[:8] or None,
                "id": one["id"],
                "created_at": one["created_at"][:19].replace("T", " "),
                "created_by": one["created_by"],
            }
            for one in found
        ]
    )


@dataset.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What to call it.")],
    author: AuthorOption = None,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Make an empty dataset."""
    made = open_lake(context, lake, organization).datasets.create(name, author=author)
    if json:
        output.print_json(made.to_dict())
    else:
        output.messages().print(f"made dataset {made.name!r}", style="dim")
        typer.echo(made.id)


@dataset.command()
def rename(
    context: typer.Context,
    name: NameArgument,
    new_name: Annotated[str, typer.Argument(metavar="NEW_NAME", help="What to call it now.")],
    author: AuthorOption = None,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Give a dataset another name."""
    renamed = open_lake(context, lake, organization).datasets.rename(name, new_name, author=author)
    output.messages().print(f"it is called {renamed.name!r} now")


@dataset.command()
def delete(
    context: typer.Context,
    name: NameArgument,
    yes: YesOption = False,
    author: AuthorOption = None,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Delete a dataset with its versions; the datapoints stay. `katiml undo` brings it back."""
    doomed = _dataset(context, lake, organization, name)
    if not yes:
        versions = len(doomed.versions())
        typer.confirm(
            f"Delete the dataset {doomed.name!r} with {versions:,} versions?", abort=True, err=True
        )
    doomed.delete(author=author)
    output.messages().print(f"deleted dataset {doomed.name!r}")


@dataset.command()
def add(
    context: typer.Context,
    name: NameArgument,
    id: IdsOption = None,
    ids_from: IdsFromOption = None,
    filter: FilterOption = None,
    filters: FiltersOption = None,
    everything: EverythingOption = False,
    author: AuthorOption = None,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Add datapoints to the uncommitted members: by filter, by id, or all.

    Ids that name no datapoint are reported, and nothing is added.

    Examples:

        katiml dataset add train -f "tags.name = split" -f "tags.value = train"

        katiml dataset add train --id 0192f0c1-7d5e-7a31-8f53-0a4b5c6d7e8f
    """
    wanted = _wanted(id, ids_from, filter, filters, everything)
    target = _dataset(context, lake, organization, name)
    _say_edit(target, "added", target.add(**wanted, author=author), json)


@dataset.command()
def remove(
    context: typer.Context,
    name: NameArgument,
    id: IdsOption = None,
    ids_from: IdsFromOption = None,
    filter: FilterOption = None,
    filters: FiltersOption = None,
    everything: EverythingOption = False,
    author: AuthorOption = None,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Remove datapoints from the uncommitted members; they stay in the lake and in versions.

    Examples:

        katiml dataset remove train -f "groundtruths.class_name = unclear"
    """
    wanted = _wanted(id, ids_from, filter, filters, everything)
    target = _dataset(context, lake, organization, name)
    _say_edit(target, "removed", target.remove(**wanted, author=author), json)


@dataset.command()
def status(
    context: typer.Context,
    name: NameArgument,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """What is not committed yet."""
    found = _dataset(context, lake, organization, name).status()
    if json:
        output.print_json(found.to_dict())
        return
    output.console().print(str(found), soft_wrap=True)
    if found.head is not None and found.relabelled:
        output.console().print(f"{found.relabelled:,} members relabelled since the last commit")


@dataset.command()
def commit(
    context: typer.Context,
    name: NameArgument,
    message: Annotated[str, typer.Option("--message", "-m", help="What changed, and why.")],
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Also when nothing changed.")
    ] = False,
    author: AuthorOption = None,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Make a version of the members, with their ground truths and tags as they are now."""
    target = _dataset(context, lake, organization, name)
    made = target.commit(message, author=author, allow_empty=allow_empty)
    if json:
        output.print_json(made.to_dict())
        return
    output.console().print(
        f"[{target.name} {made.short_id}] {made.message}\n"
        f" {made.size:,} datapoints, +{made.added:,} -{made.removed:,}",
        markup=False,
        soft_wrap=True,
    )


@dataset.command()
def log(
    context: typer.Context,
    name: NameArgument,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, metavar="N", help="The latest N only.")
    ] = None,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """The versions as a graph, the latest first."""
    target = _dataset(context, lake, organization, name)
    history = target.history()
    if json:
        rows = history.head(limit or len(history)).to_dict("records")
        output.print_json([{**row, "created_at": row["created_at"].isoformat()} for row in rows])
        return
    if history.empty:
        output.messages().print("no versions yet", style="dim")
        return
    _print_log(history.to_dict("records"), limit)


@dataset.command()
def show(
    context: typer.Context,
    name: NameArgument,
    version: VersionArgument = "HEAD",
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """A version, and how it differs from the one before it."""
    target = _dataset(context, lake, organization, name)
    found = target.at(version)
    change = target.diff(found.parents[0] if found.parents else None, found)
    if json:
        output.print_json({**found.to_dict(), "diff": change.to_dict(ids=False)})
        return
    tags = [tag for tag, tagged in target.version_tags().items() if tagged == found.id]
    output.show_values(
        {
            "version": found.id,
            "message": found.message,
            "author": found.author,
            "created_at": found.created_at,
            "datapoints": f"{found.size:,}",
            **({"tags": ", ".join(tags)} if tags else {}),
            **(
                {"parents": " ".join(parent[:8] for parent in found.parents)}
                if found.parents
                else {}
            ),
        }
    )
    output.console().print()
    output.console().print(change)


@dataset.command()
def diff(
    context: typer.Context,
    name: NameArgument,
    versions: Annotated[
        str,
        typer.Argument(
            metavar="A..B", help="Two versions; B alone or left out is what is uncommitted."
        ),
    ] = "HEAD",
    ids: Annotated[bool, typer.Option("--ids", help="Also the ids of the datapoints.")] = False,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """How a dataset changed: datapoints, labels and the distributions of labels and tags.

    Examples:

        katiml dataset diff train

        katiml dataset diff train HEAD~1..HEAD

        katiml dataset diff train v1.. --json
    """
    before, _, after = versions.partition("..")
    target = _dataset(context, lake, organization, name)
    change = target.diff(before or "HEAD", after or "draft")
    if json:
        output.print_json(change.to_dict(ids=ids))
        return
    output.console().print(change)
    if ids:
        signs = {"added": "+", "removed": "-", "relabelled": "~", "retagged": "~"}
        for part, sign in signs.items():
            for id_ in change.ids(part):
                typer.echo(f"{sign} {id_} {part}")


@dataset.command()
def checkout(
    context: typer.Context,
    name: NameArgument,
    version: VersionArgument,
    force: Annotated[
        bool,
        typer.Option("--force", help="Put uncommitted changes away, for restore."),
    ] = False,
    author: AuthorOption = None,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Go on from a version: its members become the uncommitted ones, for everybody."""
    target = _dataset(context, lake, organization, name)
    _say_version(target, target.checkout(version, force, author=author), "is at")


@dataset.command()
def drafts(
    context: typer.Context,
    name: NameArgument,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Uncommitted changes that a forced checkout put away."""
    rows: Any = _dataset(context, lake, organization, name).drafts().to_dict("records")
    if json:
        output.print_json(rows)
    else:
        output.show_rows(rows)


@dataset.command()
def restore(
    context: typer.Context,
    name: NameArgument,
    draft: Annotated[
        int | None, typer.Argument(metavar="DRAFT", help="Its number. [default: the latest]")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Put the uncommitted changes of now away.")
    ] = False,
    author: AuthorOption = None,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Bring uncommitted changes back that a forced checkout put away."""
    target = _dataset(context, lake, organization, name)
    output.console().print(str(target.restore(draft, force, author=author)), soft_wrap=True)


@dataset.command()
def merge(
    context: typer.Context,
    name: NameArgument,
    version: VersionArgument,
    message: Annotated[str | None, typer.Option("--message", "-m", help="What it is for.")] = None,
    author: AuthorOption = None,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Merge a version of another branch into HEAD; members never conflict."""
    target = _dataset(context, lake, organization, name)
    merged = target.merge(version, message=message, author=author)
    if json:
        output.print_json(merged.to_dict())
    else:
        output.console().print(str(merged), soft_wrap=True)


@dataset.command()
def tag(
    context: typer.Context,
    name: NameArgument,
    tag: Annotated[str, typer.Argument(metavar="TAG", help="The name to give, as v1.")],
    version: VersionArgument = "HEAD",
    delete: Annotated[bool, typer.Option("--delete", help="Take the name away.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also where another version has it.")
    ] = False,
    author: AuthorOption = None,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Name a version."""
    target = _dataset(context, lake, organization, name)
    if delete:
        target.untag(tag, author=author)
        output.messages().print(f"no version of {target.name!r} is called {tag!r} any more")
        return
    target.tag(tag, version, force=force, author=author)
    output.messages().print(f"{target.at(tag).short_id} is called {tag!r}")


@dataset.command()
def export(
    context: typer.Context,
    name: NameArgument,
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="A version, or draft for what is uncommitted.")
    ] = "HEAD",
    file: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A file that ends in .parquet, .csv or .json.",
            dir_okay=False,
        ),
    ] = Path("dataset.parquet"),
    fields: FieldsOption = "*,tags.*,groundtruths.*",
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Write the datapoints of a version to a file, with their labels as of the commit.

    Examples:

        katiml dataset export train v1 -o train-v1.parquet

        katiml dataset export train --fields "id,metadata.uri,groundtruths.class_name" -o train.csv
    """
    suffix = format_of(file)
    target = _dataset(context, lake, organization, name)
    members: Any = target if version == "draft" else target.at(version)
    columns = [column.strip() for column in fields.split(",")] if fields else None
    if suffix == ".json":
        give_json(members.datapoints.select_json(fields=columns), file)
    else:
        give_file(file, lambda: members.datapoints.select(fields=columns, form="batches"))


def _dataset(
    context: typer.Context, lake: str | None, organization: str | None, name: str
) -> Dataset:
    return open_lake(context, lake, organization).datasets.get(name)


def _wanted(
    ids: list[str] | None,
    ids_from: str | None,
    filter: list[str] | None,
    filters: str | None,
    everything: bool,
) -> dict[str, Any]:
    """What `add` and `remove` of a Dataset take."""
    named = list(ids or [])
    if ids_from is not None:
        lines = sys.stdin if ids_from == "-" else Path(ids_from).read_text().splitlines()
        named += [line.strip() for line in lines if line.strip()]
    conditions = parse_filters(filter or [], filters)
    if bool(named) + bool(conditions) + everything != 1:
        raise InvalidInput(
            "which datapoints?" if not (named or conditions) else "ids, filters or all: which?",
            hint="pass --filter, --id (or --ids-from), or --all, and only one of them",
        )
    if everything:
        return {"all": True}
    return {"ids": named} if named else {"filters": conditions}


def _say_edit(target: Dataset, done: str, number: int, json: bool) -> None:
    found = target.status()
    if json:
        output.print_json({done: number, "status": found.to_dict()})
        return
    output.messages().print(f"{done} {number:,}")
    output.console().print(str(found), soft_wrap=True)


def _say_version(target: Dataset, version: Version, verb: str) -> None:
    output.console().print(
        f"{target.name} {verb} {version.short_id} {version.message!r}: {version.size:,} datapoints",
        markup=False,
        soft_wrap=True,
    )


def _print_log(history: Any, limit: int | None) -> None:
    from rich.text import Text

    rows = {row["id"]: row for row in history}
    console = output.console()
    left = limit
    for drawn, version in graph_lines({id_: row["parents"] for id_, row in rows.items()}):
        if left == 0:
            return
        if version is None:
            console.print(Text(drawn, "red"), soft_wrap=True)
            continue
        left = None if left is None else left - 1
        row = rows[version]
        names = (["HEAD"] if row["is_head"] else []) + [f"tag: {name}" for name in row["tags"]]
        line = Text.assemble((drawn, "red"), " ", (row["short_id"], "yellow"))
        if names:
            line.append(f" ({', '.join(names)})", "bold cyan")
        line.append(f" {row['message']}  ")
        line.append(
            f"{row['author']}, {row['created_at']:%Y-%m-%d %H:%M}, "
            f"{row['size']:,} datapoints (+{row['added']:,} -{row['removed']:,})",
            "dim",
        )
        console.print(line, soft_wrap=True)
