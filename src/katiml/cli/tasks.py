"""`katiml tasks`: work in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from katiml.cli import output
from katiml.cli.options import JsonOption, LakeOption, OrganizationOption, open_lake

if TYPE_CHECKING:
    from katiml.tasks import Task

__all__ = ["tasks"]

tasks = typer.Typer(
    help="Work in the background: runs of miners, projections.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_TaskId = Annotated[str, typer.Argument(help="Its id, as `katiml tasks list` shows it.")]


@tasks.command("list")
def list_tasks(
    context: typer.Context,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, metavar="N", help="At most this many.")
    ] = 20,
    status: Annotated[
        str | None,
        typer.Option("--status", metavar="STATUS", help="Only those, such as STARTED or FAILURE."),
    ] = None,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """The latest tasks.

    Examples:

        katiml tasks list --status FAILURE
    """
    found = open_lake(context, lake, organization).tasks.list(limit, status=status)
    if json:
        output.print_json([task.to_dict() for task in found])
    else:
        output.show_rows([_line(task) for task in found])


@tasks.command("show")
def show_task(
    context: typer.Context,
    id: _TaskId,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """One task: how far it is, what it came to, what went wrong, and its log."""
    task = open_lake(context, lake, organization).tasks.get(id)
    if json:
        output.print_json({**task.to_dict(), "logs": task.log_lines()})
        return
    output.show_values(_line(task))
    for line in task.log_lines():
        moment = line["created_at"].isoformat(" ", "seconds")
        output.console().print(f"{moment}  {line['level']}  {line['message']}", markup=False)
    error = task.error
    if error:
        output.complain(error["message"], error.get("hint"))


@tasks.command("wait")
def wait_for_task(
    context: typer.Context,
    id: _TaskId,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Follow a task until it is done; the exit code is 1 unless it succeeded."""
    from katiml.tasks.follow import follow

    task = follow(open_lake(context, lake, organization).tasks.get(id), id)
    output.show_values(_line(task))
    task.check()


@tasks.command("cancel")
def cancel_task(
    context: typer.Context,
    id: _TaskId,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Stop a task; what it computed is dropped."""
    task = open_lake(context, lake, organization).tasks.get(id).cancel()
    output.show_values(_line(task))


def _line(task: Task) -> dict[str, Any]:
    state = task.refresh()
    return {
        "id": state.id,
        "kind": state.kind,
        "status": state.status,
        "progress": state.progress,
        "message": state.message,
        "attempt": state.attempt,
        "seconds": round(task.duration, 2),
        "created_at": state.created_at,
    }
