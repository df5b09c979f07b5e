"""`katiml edge`: miners for devices, and what devices kept."""

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
    from katiml.edge import Miner

__all__ = ["edge"]

edge = typer.Typer(
    help="Mining on devices: what they need, and what they kept.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@edge.command("export")
def export_miner(
    context: typer.Context,
    strategy: Annotated[str, typer.Argument(help="ENTROPY, NOVELTY, CORESET, …")],
    file: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write it.", dir_okay=False),
    ],
    model_name: Annotated[
        str | None,
        typer.Option("--model-name", metavar="NAME", help="The model, or MODEL:LAYER."),
    ] = None,
    filter: FilterOption = None,
    filters: FiltersOption = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="SHARE", help="The share of the stream to keep, as 0.02."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="The score to reach, instead of --rate.")
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", min=1, metavar="N", help="The most that are kept.")
    ] = None,
    reference_filter: Annotated[
        list[str] | None,
        typer.Option(
            "--reference-filter",
            metavar="'FIELD OP VALUE'",
            help="Datapoints to compare with, as --filter; may be repeated.",
        ),
    ] = None,
    reference_size: Annotated[
        int, typer.Option("--reference-size", min=1, metavar="N", help="The most that are taken.")
    ] = 1_000,
    metric: Annotated[
        str, typer.Option("--metric", help="How far is measured: euclidean or cosine.")
    ] = "euclidean",
    neighbors: Annotated[
        int, typer.Option("--neighbors", min=1, help="Neighbours that NOVELTY looks at.")
    ] = 5,
    embeddings_field: Annotated[
        str, typer.Option("--embeddings-field", help="embeddings or logits.")
    ] = "embeddings",
    aggregate: Annotated[
        str, typer.Option("--aggregate", help="Scores of boxes together: sum, mean or max.")
    ] = "sum",
    seed: Annotated[int, typer.Option("--seed", min=0, help="For what is drawn.")] = 0,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Write a miner for devices: a threshold from this lake's scores, a reference from its vectors.

    Examples:

        katiml edge export ENTROPY --model-name net --rate 0.02 -o door.npz

        katiml edge export CORESET --model-name net:pool --size 100 -o door.npz
    """
    opened = open_lake(context, lake, organization)
    with share_bar("calibrating", output.messages()) as reached:
        miner = opened.edge_miner(
            strategy,
            parse_filters(filter or [], filters) or None,
            model_name=model_name,
            rate=rate,
            threshold=threshold,
            size=size,
            reference_filters=parse_filters(reference_filter, None) if reference_filter else None,
            reference_size=reference_size,
            metric=metric,
            neighbors=neighbors,
            embeddings_field=embeddings_field,
            aggregate=aggregate,
            seed=seed,
            on_progress=reached,
        )
    miner.save(file)
    output.messages().print(f"wrote {file}, {file.stat().st_size:,} bytes")
    _show(miner, json)


@edge.command("show")
def show_miner(
    file: Annotated[Path, typer.Argument(help="A file that `katiml edge export` wrote.")],
    json: JsonOption = False,
) -> None:
    """What a miner for devices does, and where it is from.

    Examples:

        katiml edge show door.npz
    """
    from katiml.edge import load

    _show(load(file), json)


@edge.command("upload")
def upload_spool(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="The folder of a spool.", file_okay=False)],
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="URL", help="A server, with the key of $KATIML_API_KEY."),
    ] = None,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Send what a device kept, to a server or into the lake. It can be stopped and begun again.

    Examples:

        katiml edge upload /mnt/device/spool

        katiml edge upload ./spool --to https://lake.example
    """
    from katiml.edge import Spool
    from katiml.errors import InvalidInput

    if not folder.is_dir():
        raise InvalidInput(
            f"{folder} is no folder of a spool", hint="name the folder it was made in"
        )
    destination: Any = to or open_lake(context, lake, organization)
    with Spool(folder) as spool:
        with share_bar("uploading", output.messages()) as reached:
            sent = spool.upload(destination, on_progress=reached)
        answer = {
            "landed": sent.landed,
            "rejected": sent.rejected,
            "uploads": list(sent.ids),
            "damaged": spool.damaged,
        }
    if json:
        output.print_json(answer)
    else:
        output.show_values({**answer, "uploads": ", ".join(sent.ids)})


def _show(miner: Miner, json: bool) -> None:
    if json:
        output.print_json(miner.settings)
    else:
        output.show_values({k: v for k, v in miner.settings.items() if v not in (None, {})})
