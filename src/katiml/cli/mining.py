"""`katiml mine` and `katiml miner`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import pyarrow as pa
import typer

from katiml.cli import output
from katiml.cli.files import format_of, write_rows, write_stream
from katiml.cli.filters import parse_filters
from katiml.cli.options import (
    DescOption,
    FieldsOption,
    FilterOption,
    FiltersOption,
    JsonOption,
    LakeOption,
    LimitOption,
    OrderByOption,
    OrganizationOption,
    OutputOption,
    open_lake,
)

if TYPE_CHECKING:
    import pandas as pd

    from katiml.mining import Miner, Picked

__all__ = ["mine", "miners", "project"]

_SHOWN = 20  # picks that a table shows

miners = typer.Typer(
    help="Miners kept in the lake: what they are told, their runs and results.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_MinerId = Annotated[str, typer.Argument(help="Its id, as `katiml miner list` shows it.")]


def mine(
    context: typer.Context,
    strategy: Annotated[
        str, typer.Argument(help="How to choose; `katiml miner strategies` lists them.")
    ],
    size: Annotated[int, typer.Option("--size", min=1, metavar="N", help="How many to choose.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Whose predictions: `model`, or `model:layer` for embeddings. May be repeated"
            " for a committee.",
        ),
    ] = None,
    embeddings_field: Annotated[
        str | None,
        typer.Option(
            "--embeddings-field",
            metavar="FIELD",
            help="Which vectors: embeddings, grad_embeddings or logits. [default: embeddings]",
        ),
    ] = None,
    filter: FilterOption = None,
    filters: FiltersOption = None,
    order_by: OrderByOption = None,
    desc: DescOption = False,
    limit: LimitOption = None,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", metavar="NAME", help="Choose among the members of a dataset."),
    ] = None,
    exclude_dataset: Annotated[
        str | None,
        typer.Option("--exclude-dataset", metavar="NAME", help="Choose no member of a dataset."),
    ] = None,
    reference_dataset: Annotated[
        str | None,
        typer.Option(
            "--reference-dataset", metavar="NAME", help="Compare with the members of a dataset."
        ),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            "--reference",
            metavar="'FIELD OP VALUE'",
            help="Compare with datapoints where this holds; may be repeated, and all must hold.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A parameter of the strategy, such as metric=cosine.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Of randomness.")] = 0,
    skip_caching: Annotated[
        bool, typer.Option("--skip-caching", help="Read vectors anew, and keep no copy of them.")
    ] = False,
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Only say what a run would take, and what is missing."),
    ] = False,
    keep: Annotated[
        str | None,
        typer.Option("--keep", metavar="NAME", help="Keep it as a miner of this name, and run it."),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            "--every",
            metavar="PERIOD",
            help="With --keep: have `katiml serve` run it so often, such as PT12H or P1D.",
        ),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(
            "--into", metavar="DATASET", help="Add what is chosen to a dataset, made if it is new."
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what the choice rests on, as JSON.")
    ] = False,
    fields: FieldsOption = None,
    json: JsonOption = False,
    file: OutputOption = None,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Choose what to label next.

    A table shows the first 20; --json and --output give all.

    Examples:

        katiml mine RANDOM --size 10

        katiml mine MARGIN --size 50 --model net --filter "tags.value = unlabelled"

        katiml mine CORESET --size 50 --model net:layer4 --set metric=cosine --output picks.csv

        katiml mine MARGIN --size 50 --exclude-dataset train --into train
    """
    if every is not None and keep is None:
        raise typer.BadParameter("only a miner that is kept runs again", param_hint="--every")
    if file is not None:
        format_of(file)
    from katiml.mining.miners import mine as pick
    from katiml.mining.miners import told_of
    from katiml.tasks.limits import shown_bytes

    compared = parse_filters(reference or [], None)
    told = told_of(
        strategy,
        size,
        parse_filters(filter or [], filters),
        limit=limit,
        order_by=order_by,
        desc=desc or None,
        dataset=dataset,
        exclude_dataset=exclude_dataset,
        reference_filters=compared or None,
        reference_dataset=reference_dataset,
        model_name=model[0] if model and len(model) == 1 else model,
        embeddings_field=embeddings_field,
        seed=seed,
        skip_caching=skip_caching,
        display_name=keep,
        evaluation_period=every,
        **dict(_setting(text) for text in settings or []),
    )
    opened = open_lake(context, lake, organization)
    if estimate:
        found = vars(opened.miners.estimate_as_told(told))
        if json:
            output.print_json(found)
        else:
            output.show_values({**found, "bytes": shown_bytes(found["bytes"])})
        return
    # Made first: it may also be the one that is left out.
    target = None if into is None else opened.datasets.get_or_create(into)
    if keep is not None:
        made = opened.miners.create_as_told(told)
        output.messages().print(f"miner {made.id}", highlight=False)
        picked = made.run().picked
    else:
        picked = pick(opened.scope, told)
    if target is not None:
        added = target.add(picked.ids)
        output.messages().print(f"added {added:,} to {into}", highlight=False)
    if explain:
        output.messages().print_json(orjson.dumps(picked.explanation).decode())
    _show(picked, fields, json, file)


def project(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="Whose vectors: `model` or `model:layer`."),
    ] = None,
    embeddings_field: Annotated[
        str,
        typer.Option(
            "--embeddings-field",
            metavar="FIELD",
            help="Which vectors: embeddings, grad_embeddings or logits.",
        ),
    ] = "embeddings",
    method: Annotated[
        str,
        typer.Option(
            "--method", metavar="METHOD", help="pca, tsne or umap; the last two need katiml[plots]."
        ),
    ] = "pca",
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Of randomness.")] = 0,
    filter: FilterOption = None,
    filters: FiltersOption = None,
    order_by: OrderByOption = None,
    desc: DescOption = False,
    limit: LimitOption = None,
    skip_caching: Annotated[
        bool, typer.Option("--skip-caching", help="Do it anew, and keep no copy of the vectors.")
    ] = False,
    json: JsonOption = False,
    file: OutputOption = None,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Show vectors as points of a plane: id, x, y.

    A table shows the first 20; --json and --output give all.

    Examples:

        katiml project --model net:layer4 --method umap --output points.csv
    """
    if file is not None:
        format_of(file)
    frame = open_lake(context, lake, organization).project(
        parse_filters(filter or [], filters),
        model_name=model,
        embeddings_field=embeddings_field,
        method=method,
        seed=seed,
        limit=limit,
        order_by=order_by,
        desc=desc or None,
        skip_caching=skip_caching,
    )
    _give(frame, json, file)


@miners.command("strategies")
def list_strategies(json: JsonOption = False) -> None:
    """The strategies: what each does, needs and can be told."""
    from katiml.miners.registry import STRATEGIES, strategy_class

    kinds = [strategy_class(name) for name in STRATEGIES]
    rows = [
        {
            "name": kind.name,
            "summary": kind.summary,
            "needs": ", ".join(kind.needs) or "nothing",
            "parameters": {own.name: own.help for own in kind.parameters}
            if json
            else ", ".join(own.name for own in kind.parameters),
        }
        for kind in kinds
    ]
    if json:
        output.print_json(rows)
    else:
        output.show_rows(rows)


@miners.command("list")
def list_miners(
    context: typer.Context,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, metavar="N", help="At most this many.")
    ] = 100,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """The miners, the newest first.

    Examples:

        katiml miner list
    """
    found = open_lake(context, lake, organization).miners.list(limit)
    if json:
        output.print_json([miner.to_dict() for miner in found])
    else:
        output.show_rows([_line(miner) for miner in found])


@miners.command("show")
def show_miner(
    context: typer.Context,
    id: _MinerId,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """What a miner is told, and how its last run went."""
    miner = open_lake(context, lake, organization).miners.get(id)
    if json:
        output.print_json(miner.to_dict())
        return
    output.show_values({**_line(miner), **miner.configuration})
    if miner.error:
        output.complain(miner.error["message"], miner.error.get("hint"))


@miners.command("run")
def run_miner(
    context: typer.Context,
    id: _MinerId,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Run a miner now, and show what it picked; Ctrl-C stops the run."""
    miner = open_lake(context, lake, organization).miners.get(id)
    _show(miner.run().picked, None, False, None)


@miners.command("results")
def results(
    context: typer.Context,
    id: _MinerId,
    fields: FieldsOption = None,
    json: JsonOption = False,
    file: OutputOption = None,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """What a miner's last run picked, the best first.

    Examples:

        katiml miner results 0190c1f2-… --fields "id,metadata.uri" --output picks.csv
    """
    if file is not None:
        format_of(file)
    picked = open_lake(context, lake, organization).miners.get(id).picked
    _show(picked, fields, json, file)


@miners.command("schedule")
def schedule_miner(
    context: typer.Context,
    id: _MinerId,
    period: Annotated[
        str, typer.Argument(help="ISO 8601, such as PT12H or P1D; `never` ends a schedule.")
    ],
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Have `katiml serve` run a miner every so often."""
    miner = open_lake(context, lake, organization).miners.get(id)
    miner.schedule(None if period == "never" else period)
    when = "not scheduled any more" if period == "never" else f"runs next at {miner.next_run_at}"
    output.messages().print(f"miner {id}: {when}", highlight=False)


@miners.command("reset")
def reset_miner(
    context: typer.Context,
    id: _MinerId,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Forget what a miner picked; a run under way is stopped."""
    open_lake(context, lake, organization).miners.get(id).reset()
    output.messages().print(f"reset miner {id}", highlight=False)


@miners.command("delete")
def delete_miner(
    context: typer.Context,
    id: _MinerId,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Delete a miner with what it picked; a run under way is stopped."""
    open_lake(context, lake, organization).miners.get(id).delete()
    output.messages().print(f"deleted miner {id}", highlight=False)


def _setting(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found or not re.fullmatch(r"\w+", name.strip()):
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
    try:
        return name.strip(), orjson.loads(value)
    except orjson.JSONDecodeError:
        return name.strip(), value.strip()


def _line(miner: Miner) -> dict[str, Any]:
    task = miner.seen_task
    state = None if task is None else task.refresh()
    return {
        "id": miner.id,
        "display_name": miner.display_name,
        "strategy": miner.strategy,
        "size": miner.size,
        "status": "PENDING" if state is None else state.status,
        "picked": None if state is None or not state.result else state.result["size"],
        "last_run": None if state is None else state.finished_at or state.started_at,
        "next_run_at": miner.seen.next_run_at,
        "created_at": miner.created_at,
    }


def _show(picked: Picked, fields: str | None, json: bool, file: Path | None) -> None:
    names = [name.strip() for name in fields.split(",")] if fields else None
    _give(picked.to_pandas(names), json, file)


def _give(frame: pd.DataFrame, json: bool, file: Path | None) -> None:
    if json or (file is not None and format_of(file) == ".json"):
        chunks = output.json_rows(pa.Table.from_pandas(frame, preserve_index=False).to_batches())
        if file is None:
            output.print_chunks(chunks)
            typer.echo()
        else:
            write_stream(file, chunks)
            output.messages().print(f"wrote {file}")
    elif file is not None:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        number = write_rows(file, table.to_reader())
        output.messages().print(f"wrote {number:,} rows to {file}")
    else:
        more = f"{_SHOWN} of {len(frame):,}; --output writes all" if len(frame) > _SHOWN else ""
        shown = frame.head(_SHOWN).astype(object)
        rows: Any = shown.where(shown.notna(), None).to_dict("records")
        output.show_rows(rows, note=more)
