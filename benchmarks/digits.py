"""How many labels strategies need on handwritten digits: `python -m benchmarks.digits`.

20 random labels, then 20 more a round up to 300, of 1,078 digits; the accuracy of a logistic
regression on 719 others. Each seed gives every strategy the same split and the same first labels.
The vectors are the pixels. A figure is worth something beside those of the same run only.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from katiml.miners import Inputs, get_strategy

__all__ = ["STRATEGIES", "curve", "main", "table"]

STRATEGIES = ("RANDOM", "ENTROPY", "MARGIN", "CORESET", "BADGE", "TYPICLUST")
_FIRST, _STEP, _LAST = 20, 20, 300
_SHOWN = (20, 60, 100, 140, 200, 300)


def curve(strategy: str, seed: int) -> list[float]:
    """Accuracies at 20, 40, … 300 labels."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    loaded = load_digits()
    parts = train_test_split(
        loaded.data / 16.0, loaded.target, test_size=719, random_state=seed, stratify=loaded.target
    )
    train, test, labels, truth = parts
    order = np.random.default_rng(seed).permutation(len(train))
    labelled, accuracies = order[:_FIRST], []
    while True:
        model = LogisticRegression(C=10.0, max_iter=500).fit(train[labelled], labels[labelled])
        accuracies.append(float((model.predict(test) == truth).mean()))
        if len(labelled) >= _LAST:
            return accuracies
        pool = np.setdiff1d(order, labelled)
        inputs = Inputs(
            probabilities=model.predict_proba(train[pool]),
            vectors=train[pool].astype(np.float32),
            reference=train[labelled].astype(np.float32),
        )
        picks = get_strategy(strategy).pick(inputs, _STEP, seed=seed)
        labelled = np.concatenate([labelled, pool[picks.positions]])


def table(strategies: tuple[str, ...], seeds: int, console: Console | None = None) -> Table:
    """Mean accuracies by the number of labels, and the mean over all of them with its spread."""
    jobs = [(name, seed) for seed in range(seeds) for name in strategies]
    found: dict[str, list[list[float]]] = {name: [] for name in strategies}
    for name, seed in track(jobs, "label digits", console=console, transient=True):
        found[name].append(curve(name, seed))
    areas = {name: np.array(curves).mean(axis=1) for name, curves in found.items()}
    base = areas.get("RANDOM")
    result = Table(title=f"Digits, {seeds} seeds: accuracy %", title_justify="left")
    result.add_column("labels")
    for name in strategies:
        result.add_column(name.lower(), justify="right")
    for count in _SHOWN:
        row = (count - _FIRST) // _STEP
        means = (100 * np.array(found[name])[:, row].mean() for name in strategies)
        result.add_row(str(count), *(f"{mean:.1f}" for mean in means))
    result.add_row("area", *(_spread(areas[name]) for name in strategies))
    if base is not None:
        result.add_row("paired gain", *(_gain(areas[name] - base) for name in strategies))
    return result


def _spread(values: Any) -> str:
    return f"{values.mean():.4f} ± {values.std():.3f}"


def _gain(values: Any) -> str:
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{values.mean():+.4f} ± {error:.4f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.digits", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    options = parser.parse_args()
    console = Console() if Console().is_terminal else Console(width=140)
    start = time.perf_counter()
    names = tuple(options.strategies.upper().split(","))
    console.print(table(names, options.seeds, console))
    console.print(f"{time.perf_counter() - start:.0f} s in all", style="dim")


if __name__ == "__main__":
    main()
