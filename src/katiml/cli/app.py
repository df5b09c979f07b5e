"""The commands, put together; and how errors leave: one sentence and a hint, no traceback."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from katiml.cli import (
    backtest,
    data,
    datasets,
    edge,
    evaluation,
    formats,
    history,
    mining,
    output,
    service,
    tasks,
    uploads,
)
from katiml.cli.options import LakeOption, OrganizationOption
from katiml.errors import InvalidFilter, KatiMLError

__all__ = ["app", "run"]

app = typer.Typer(
    name="katiml",
    help="""KatiML: an ML data lake in one pip install.

    Records of images, video, audio and text go in with their tags, ground truths and predictions;
    filters choose what to look at, label and train on next.

    Start with:

        katiml demo

        katiml ingest records.ndjson

        katiml select -f "tags.name = split" -f "tags.value = train"

    Exit codes: 0 done, 1 an error, 2 wrong usage, 130 stopped by Ctrl-C.
    """,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback()
def everywhere(lake: LakeOption = None, organization: OrganizationOption = None) -> None:
    """Options before the command hold for it, whatever it is."""


for command in (
    service.demo,
    uploads.ingest,
    formats.import_,
    formats.export,
    data.select,
    data.count,
    data.delete,
    data.sql,
    mining.mine,
    mining.project,
    evaluation.evaluate,
    backtest.backtest,
    history.changes,
    history.undo,
    history.restore,
    history.purge,
    history.retention,
    history.forget,
    service.serve,
    service.status,
    service.version,
):
    app.command(command.__name__.rstrip("_"))(command)
app.add_typer(datasets.dataset, name="dataset")
app.add_typer(uploads.uploads, name="uploads")
app.add_typer(mining.miners, name="miner")
app.add_typer(tasks.tasks, name="tasks")
app.add_typer(service.keys, name="keys")
app.add_typer(edge.edge, name="edge")


def run(arguments: Sequence[str] | None = None) -> None:
    """Run one command line; always leaves with SystemExit."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="katiml")
    except KatiMLError as error:
        output.complain(error.message, error.hint)
        raise SystemExit(2 if isinstance(error, InvalidFilter) else 1) from None
    except OSError as error:
        output.complain(
            f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
        )
        raise SystemExit(1) from None
