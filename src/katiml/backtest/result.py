"""What came of a backtest: curves, areas, and how many labels a level takes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from katiml.backtest.statistics import area_under, first_reached, interval
from katiml.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

__all__ = ["Backtest"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Backtest:
    """Label-efficiency curves: `scores` holds (seeds, rounds) of each strategy, and `counts`,
    (rounds,), how many labels there were. The first strategy is what others are compared with.

    `seconds` is how long choosing took in all; `about` says what was simulated.
    """

    counts: NDArray[np.intp]
    scores: dict[str, Floats]
    seeds: Sequence[int]
    score: str
    seconds: Mapping[str, float]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def baseline(self) -> str:
        """The first strategy."""
        return next(iter(self.scores))

    @property
    def curves(self) -> pd.DataFrame:
        """strategy, labels, mean, low, high: the mean over the seeds with its 95 % interval."""
        import pandas as pd

        frames = []
        for name, values in self.scores.items():
            mean, low, high = interval(values)
            frames.append(
                pd.DataFrame(
                    {
                        "strategy": name,
                        "labels": self.counts,
                        "mean": mean,
                        "low": low,
                        "high": high,
                    }
                )
            )
        return pd.concat(frames, ignore_index=True)

    @property
    def areas(self) -> pd.DataFrame:
        """One row a strategy: area (the mean score over the range of labels) and its deviation
        over seeds; gain over the baseline with its 95 % interval low, high, seed by seed; and in
        which share of the seeds it was better."""
        import pandas as pd

        every = {name: area_under(self.counts, values) for name, values in self.scores.items()}
        rows = []
        for name, area in every.items():
            gains = area - every[self.baseline]
            gain, low, high = interval(gains)
            row: dict[str, Any] = {
                "strategy": name,
                "area": area.mean(),
                "deviation": area.std(ddof=1) if len(area) > 1 else np.nan,
            }
            row |= {"gain": gain, "low": low, "high": high, "better": (gains > 0).mean()}
            if name == self.baseline:
                row |= dict.fromkeys(("gain", "low", "high", "better"), np.nan)
            rows.append(row)
        return pd.DataFrame(rows)

    def labels_to_reach(self, level: float | None = None) -> pd.DataFrame:
        """How many labels each strategy needs to reach a score; without one, what the baseline
        reaches in the end.

        One row a strategy: labels (NaN where its mean curve does not reach it), and saved, the
        share of the baseline's labels that it does without.
        """
        import pandas as pd

        means = {name: values.mean(axis=0) for name, values in self.scores.items()}
        if level is None:
            level = float(means[self.baseline][-1])
        if isinstance(level, bool) or not isinstance(level, int | float):
            raise InvalidInput(f"level is {level!r:.100}", hint="a score such as 0.9")
        needed = {name: first_reached(self.counts, mean, level) for name, mean in means.items()}
        known = needed[self.baseline]
        return pd.DataFrame(
            {
                "strategy": list(needed),
                "level": level,
                "labels": list(needed.values()),
                "saved": [1 - labels / known for labels in needed.values()],
            }
        )

    def table(self, labels: Sequence[int] | None = None) -> pd.DataFrame:
        """Mean scores: a row a number of labels, a column a strategy. `labels` chooses rows."""
        import pandas as pd

        frame = pd.DataFrame(
            {name: values.mean(axis=0) for name, values in self.scores.items()},
            index=pd.Index(self.counts, name="labels"),
        )
        if labels is None:
            return frame
        missing = [count for count in labels if count not in frame.index]
        if missing:
            raise InvalidInput(
                f"no round had {missing[0]} labels",
                hint=f"there were: {', '.join(map(str, self.counts))}",
            )
        return frame.loc[list(labels)]

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Draw the curves with their intervals into FILE.png, .svg or .pdf.

        Raises MissingExtra without matplotlib, InvalidInput for another kind of file.
        """
        from katiml.backtest.plots import draw

        return draw(self, Path(path))

    def to_dict(self, level: float | None = None) -> dict[str, Any]:
        """All of it as plain values; NaN becomes None. `level` as of `labels_to_reach`."""
        return {
            "counts": self.counts.tolist(),
            "seeds": list(self.seeds),
            "score": self.score,
            "scores": {name: values.tolist() for name, values in self.scores.items()},
            "areas": _records(self.areas),
            "labels_to_reach": _records(self.labels_to_reach(level)),
            "seconds": dict(self.seconds),
            "about": dict(self.about),
        }

    def __repr__(self) -> str:
        return (
            f"<Backtest of {', '.join(self.scores)}: {self.counts[0]} to {self.counts[-1]} labels,"
            f" {len(self.seeds)} seeds>"
        )

    def __str__(self) -> str:
        from katiml.evaluation.tables import as_text

        return as_text(self.__rich__(), 100)

    def __rich__(self) -> RenderableType:
        from katiml.backtest.plots import report

        return report(self)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]
