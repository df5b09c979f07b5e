"""`python -m benchmarks.digits`: how many labels strategies need on handwritten digits.

Logistic regression on pixels from 0 to 1, 40 % for testing, 20 random first labels, 20 a round.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from sklearn.datasets import load_digits

from katiml.backtest import Backtest, backtest
from katiml.cli.progress import share_bar

__all__ = ["main", "markdown", "simulate"]

_STRATEGIES = ["RANDOM", "ENTROPY", "MARGIN", "CORESET", "BADGE", "TYPICLUST"]
_LABELS = [20, 60, 100, 140, 200, 300]


def simulate(seeds: int, workers: int) -> Backtest:
    """The curves of all strategies, with a bar on standard error."""
    data = load_digits()
    with share_bar("simulating", Console(stderr=True)) as reached:
        return backtest(
            data.data / 16,
            data.target,
            _STRATEGIES,
            initial=20,
            batch=20,
            budget=300,
            seeds=seeds,
            standardize=False,
            workers=workers,
            on_progress=reached,
        )


def markdown(found: Backtest) -> str:
    """Mean accuracies in % at some numbers of labels, and the areas, as a Markdown table."""
    names = list(found.scores)
    lines = [f"| Labels | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for labels, row in (100 * found.table(_LABELS)).iterrows():
        lines.append(f"| {labels} | {' | '.join(f'{value:.1f}' for value in row)} |")
    areas = [f"{row.area:.4f} ± {row.deviation:.3f}" for row in found.areas.itertuples()]
    lines.append(f"| area | {' | '.join(areas)} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, simulate, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.digits", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--plot", type=Path, help="also draw the curves into this file")
    options = parser.parse_args()
    found = simulate(options.seeds, options.workers)
    Console().print(found)
    print(markdown(found))
    if options.plot:
        found.plot(options.plot)


if __name__ == "__main__":
    main()
