"""`katiml backtest`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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

__all__ = ["backtest"]

_USUAL = ["RANDOM", "MARGIN", "CORESET", "BADGE"]


def backtest(
    context: typer.Context,
    model_name: Annotated[
        str | None,
        typer.Argument(help="The embeddings, MODEL:LAYER; not needed where there is one."),
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            "-s",
            metavar="NAME",
            help="A strategy; repeat it. The first is what others are compared with."
            f" [default: {', '.join(_USUAL)}]",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="The task model: logistic-regression, svm, random-forest, nearest-neighbors, mlp.",
        ),
    ] = "logistic-regression",
    initial: Annotated[
        int, typer.Option("--initial", min=2, metavar="N", help="Labels to begin with.")
    ] = 20,
    batch: Annotated[int, typer.Option("--batch", min=1, metavar="N", help="Labels a round.")] = 20,
    budget: Annotated[
        int, typer.Option("--budget", min=2, metavar="N", help="Labels in the end.")
    ] = 300,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, metavar="N", help="How often it is repeated.")
    ] = 20,
    score: Annotated[str, typer.Option("--score", help="accuracy or f1_macro.")] = "accuracy",
    level: Annotated[
        float | None,
        typer.Option("--level", help="Also say how many labels this score takes."),
    ] = None,
    standardize: Annotated[
        bool, typer.Option(help="Give each feature mean 0 and deviation 1.")
    ] = True,
    test_filter: Annotated[
        list[str] | None,
        typer.Option(
            "--test-filter",
            metavar="'FIELD OP VALUE'",
            help="Score on these datapoints instead of a random share; may be repeated.",
        ),
    ] = None,
    test_share: Annotated[
        float, typer.Option("--test-share", help="Which share is set aside for scoring.")
    ] = 0.4,
    filter: FilterOption = None,
    filters: FiltersOption = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Runs at a time.")] = 1,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", dir_okay=False, help="Draw it into FILE.png, .svg or .pdf."
        ),
    ] = None,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Which strategy would have saved labels: label what is labelled already once more.

    Simulates rounds of labelling by several strategies, with a model trained after each, and shows
    how its score grows with the labels: before anything is paid for.

    Examples:

        katiml backtest resnet:pool -s RANDOM -s MARGIN -s BADGE --budget 500

        katiml backtest resnet:pool --model svm --plot curves.svg
    """
    opened = open_lake(context, lake, organization)
    with share_bar("simulating", output.messages()) as reached:
        found = opened.backtest(
            strategy or _USUAL,
            model_name=model_name,
            filters=parse_filters(filter or [], filters) or None,
            test_filters=parse_filters(test_filter, None) if test_filter else None,
            model=model,
            initial=initial,
            batch=batch,
            budget=budget,
            seeds=seeds,
            score=score,
            test_share=test_share,
            standardize=standardize,
            workers=workers,
            on_progress=reached,
        )
    if json:
        output.print_json(found.to_dict(level))
    else:
        output.console().print(found)
        if level is not None:
            output.show_rows(found.to_dict(level)["labels_to_reach"])
    if plot is not None:
        found.plot(plot)
        output.messages().print(f"wrote {plot}")
