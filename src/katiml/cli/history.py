"""`katiml changes | undo | restore | purge | retention | forget`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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

if TYPE_CHECKING:
    from katiml.history import Outcome, Undo

__all__ = ["changes", "forget", "purge", "restore", "retention", "undo"]

_DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show what it would do.")]
_YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_IdOption = Annotated[
    list[str] | None,
    typer.Option("--id", metavar="ID", help="This datapoint; may be repeated."),
]
_EverythingOption = Annotated[
    bool, typer.Option("--all", help="Needed without any filter, --id or --change.")
]


def changes(
    context: typer.Context,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, metavar="N", help="At most this many.")
    ] = 20,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="Only ingest, delete, undo, …")
    ] = None,
    upload: Annotated[
        str | None, typer.Option("--upload", metavar="ID", help="Only those of this upload.")
    ] = None,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """What happened in the lake, the latest first.

    Examples:

        katiml changes

        katiml changes --kind delete -n 5
    """
    frame = open_lake(context, lake, organization).changes(limit, kind=kind, upload=upload)
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    if json:
        output.print_json(rows)
    else:
        output.show_rows([_line({str(name): row[name] for name in row}) for row in rows])


def undo(
    context: typer.Context,
    change: Annotated[
        str | None,
        typer.Argument(
            help="Its number, as `katiml changes` shows it, or the id of an upload for all of it."
            " [default: whatever was last]",
            show_default=False,
        ),
    ] = None,
    dry_run: _DryRunOption = False,
    yes: _YesOption = False,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Undo a change: what it wrote goes, what it took away comes back.

    Shows first what it would do, and asks. What later changes have touched is left alone. To redo,
    undo the undo.

    Examples:

        katiml undo

        katiml undo 12 --dry-run
    """
    opened = open_lake(context, lake, organization)
    with _busy("looking"):
        preview = opened.undo(change, dry_run=True)
    if dry_run or preview.is_empty:
        _give(preview, json)
        if preview.is_empty:
            output.messages().print("there is nothing to undo in it")
        return
    if not yes:
        _show(preview)
        typer.confirm("Undo this?", abort=True, err=True)
    # What was shown is what is undone, whatever happened meanwhile.
    with _busy("undoing"):
        done = opened.undo(_same(preview, change))
    _give(done, json)


def restore(
    context: typer.Context,
    filter: FilterOption = None,
    filters: FiltersOption = None,
    id: _IdOption = None,
    change: Annotated[
        int | None,
        typer.Option("--change", metavar="N", help="What this change deleted, and no other."),
    ] = None,
    everything: _EverythingOption = False,
    dry_run: _DryRunOption = False,
    yes: _YesOption = False,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Put deleted datapoints back, with all that was deleted with them.

    Filters see them as they were. Shows first what would come back, and asks.

    Examples:

        katiml restore --change 12

        katiml restore -f "tags.name = split" -f "tags.value = test" --yes
    """
    chosen: dict[str, Any] = {
        "filters": parse_filters(filter or [], filters),
        "ids": id or None,
        "change": change,
        "all": everything,
    }
    _refuse_nothing(chosen, "restores all deleted datapoints")
    opened = open_lake(context, lake, organization)
    with _busy("looking"):
        preview = opened.restore(**chosen, dry_run=True)
    if dry_run or preview.is_empty:
        _give(preview, json)
        if preview.is_empty:
            output.messages().print("no deleted datapoints match")
        return
    if not yes:
        _show(preview)
        typer.confirm("Put these back?", abort=True, err=True)
    with _busy("restoring"):
        done = opened.restore(**chosen)
    _give(done, json)


def purge(
    context: typer.Context,
    filter: FilterOption = None,
    filters: FiltersOption = None,
    id: _IdOption = None,
    everything: _EverythingOption = False,
    dry_run: _DryRunOption = False,
    yes: _YesOption = False,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Delete datapoints for good: nothing brings them back.

    Those that were deleted before count too. They leave all tables, all history and the files
    below, which are written anew. Says how many first, and asks.

    Examples:

        katiml purge --id 0190a000-0000-7000-8000-000000000000

        katiml purge -f "tags.name = person" -f "tags.value = withdrawn" --dry-run
    """
    chosen: dict[str, Any] = {
        "filters": parse_filters(filter or [], filters),
        "ids": id or None,
        "all": everything,
    }
    _refuse_nothing(chosen, "purges the whole lake")
    opened = open_lake(context, lake, organization)
    with _busy("looking"):
        preview = opened.purge(**chosen, dry_run=True)
    if dry_run or not preview.datapoints:
        _give(preview, json)
        if not preview.datapoints:
            output.messages().print("no datapoints match, deleted or not")
        return
    if not yes:
        _show(preview)
        typer.confirm(
            f"Purge {preview.datapoints:,} datapoints for good? Nothing brings them back.",
            abort=True,
            err=True,
        )
    with _busy("purging, and writing the files anew"):
        done = opened.purge(**chosen)
    _give(done, json)
    for copy in done.copies:
        output.messages().print(f"a copy from before an upgrade still has them: {copy}")
    if not done.finished:
        output.messages().print(
            "the lake is in use: its files are written anew by the next purge or katiml forget"
        )


def retention(
    context: typer.Context,
    duration: Annotated[
        str | None,
        typer.Argument(
            help="An ISO 8601 duration, as P90D or P1Y, or forever; - for what is usual.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Show or set how long what was removed can come back.

    Examples:

        katiml retention

        katiml retention P1Y
    """
    opened = open_lake(context, lake, organization)
    if duration is not None:
        opened.retention = None if duration == "-" else duration
    if json:
        output.print_json({"retention": opened.retention})
    else:
        typer.echo(opened.retention)


def forget(
    context: typer.Context,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Drop what was removed longer ago than the retention, and tidy files up.

    What versions of datasets show stays. `katiml serve` does so once a day.
    """
    with _busy("forgetting"):
        counts = open_lake(context, lake, organization).forget()
    if json:
        output.print_json(counts)
    elif counts:
        output.messages().print("forgotten")
        output.show_values(counts)
    else:
        output.messages().print("there is nothing to forget")


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    """A change as a line of a table."""
    rows = [
        f"{sign}{count:,} {table}"
        for name, sign in (("added", "+"), ("removed", "-"), ("changed", "~"))
        for table, count in row[name].items()
    ]
    undoes = ", ".join(map(str, row["undoes"][:3])) + ("…" if len(row["undoes"]) > 3 else "")
    return {
        "change": row["change"],
        "when": row["created_at"].strftime("%Y-%m-%d %H:%M:%S"),
        "kind": f"{row['kind']} {undoes}".rstrip(),
        "author": row["author"],
        "rows": ", ".join(rows),
        "undone by": row["undone_by"],
    }


def _same(preview: Undo, wanted: str | None) -> int | str:
    if wanted is not None:
        return wanted
    if len(preview.undoes) == 1:
        return int(preview.undoes[0]["change"])
    return str(preview.undoes[0]["upload"])


def _refuse_nothing(chosen: Mapping[str, Any], what: str) -> None:
    if not any(chosen.values()):
        raise typer.BadParameter(
            f"without a filter this {what}; add --all if that is meant", param_hint="--filter"
        )


def _give(outcome: Outcome, json: bool) -> None:
    if json:
        output.print_json(outcome.as_dict())
    else:
        _show(outcome)


def _show(outcome: Outcome) -> None:
    output.messages().print(outcome.title, style="bold")
    lines = [
        {"table": table, "restored": restored or None, "removed": removed or None, "note": note}
        for table, restored, removed, note in outcome.rows()
    ]
    if lines:
        output.console().print(output.table_of(lines), soft_wrap=True)


@contextmanager
def _busy(what: str) -> Iterator[None]:
    """Show that work goes on, where somebody watches."""
    console = output.messages()
    if not console.is_terminal:
        yield
        return
    with console.status(f"{what}…"):
        yield
