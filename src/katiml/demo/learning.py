"""A round of active learning: miners choose, an annotator labels, a dataset keeps the versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from katiml.demo.digits import MODEL, NAMES, Digits, accuracy
from katiml.demo.questions import POOL, TRAIN
from katiml.demo.showing import run_code, step, table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from katiml.lake import Lake

__all__ = ["DATASET", "learn"]

DATASET = "katiml-demo"
_CHOSEN = 50  # digits that are labelled in the round
_RANDOM_RUNS = 10

_MARGIN = f'margin = lake.mine("MARGIN", {_CHOSEN}, pool, model_name="{MODEL}")'
_CORESET = f"""coreset = lake.mine(
    "CORESET", {_CHOSEN}, pool, model_name="{MODEL}:pca", reference_filters=train
)"""


def learn(console: Console, lake: Lake, data: Digits, uris: list[str]) -> None:
    """One round, and what it was good for beside choosing at random."""
    names: dict[str, Any] = {"lake": lake}
    for code in (TRAIN, POOL):
        exec(code, names)  # noqa: S102  the same texts, which the questions before showed
    run_code(console, names, f'dataset = lake.datasets.create("{DATASET}")')
    console.print(f"{run_code(console, names, 'dataset.add(filters=train)')} added", "")
    run_code(console, names, 'first = dataset.commit("a hundred labelled digits")', timed=True)
    run_code(console, names, _MARGIN)
    run_code(console, names, _CORESET)
    found = run_code(console, names, 'margin.to_pandas(fields="metadata.uri").head(3)')
    console.print(table(found), "")
    places = {uri: place for place, uri in enumerate(uris)}
    with step(console, f"an annotator labels the {_CHOSEN} digits of smallest margin"):
        _label(lake, data, _places(lake, names["margin"].ids, places))
    console.print()
    run_code(console, names, "dataset.add(margin)")
    run_code(console, names, 'second = dataset.commit("and those of smallest margin")', timed=True)
    console.print(run_code(console, names, "dataset.diff(first, second)"), "")
    _compare(console, lake, data, names, places)


def _places(lake: Lake, ids: Iterable[str], places: dict[str, int]) -> dict[str, int]:
    """Which digit each datapoint is."""
    chosen = {"left": "id", "op": "in", "right": list(ids)}
    found = lake.datapoints.select(chosen, ["id", "metadata.uri"])
    return {id_: places[uri] for id_, uri in zip(found["id"], found["metadata.uri"], strict=True)}


def _label(lake: Lake, data: Digits, chosen: dict[str, int]) -> None:
    lake.ingest(
        [
            {
                "id": id_,
                "tags": {"split": "train"},
                "groundtruths": [
                    {"task_type": "CLASSIFICATION", "class_name": NAMES[data.labels[place]]}
                ],
            }
            for id_, place in chosen.items()
        ]
    )


def _compare(
    console: Console, lake: Lake, data: Digits, names: dict[str, Any], places: dict[str, int]
) -> None:
    """The classifier trained again, with the labels that each way of choosing would have bought."""
    pool = np.flatnonzero(data.split == "pool")
    picks = {
        name: [list(_places(lake, names[name].ids, places).values())]
        for name in ("coreset", "margin")
    }
    picks["random"] = [
        np.random.default_rng(seed).choice(pool, _CHOSEN, replace=False).tolist()
        for seed in range(_RANDOM_RUNS)
    ]
    with step(console, "train again, with the labels that each way of choosing would have bought"):
        before = accuracy(data, [])
        after = {
            name: float(np.mean([accuracy(data, run) for run in runs]))
            for name, runs in picks.items()
        }
    console.print()
    tested = int((data.split == "test").sum())
    column = f"accuracy on {tested} other digits"
    rows = [{"labels": f"the first {100}", column: f"{before:.1%}"}]
    for name, said in (
        ("random", f"and {_CHOSEN} at random, mean of {_RANDOM_RUNS} runs"),
        ("coreset", f"and {_CHOSEN} chosen by CORESET"),
        ("margin", f"and {_CHOSEN} chosen by MARGIN"),
    ):
        rows.append({"labels": said, column: f"{after[name]:.1%}"})
    console.print(table(rows), "")
