"""What a run picked: datapoint ids, the best first, that say why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from katiml.miners.mine import Mined
from katiml.query.select import select

if TYPE_CHECKING:
    import pandas as pd

    from katiml.store import Scope

__all__ = ["Picked"]


class Picked:
    """Datapoints that a miner chose: `ids`, the best first, `scores` and `reasons` of each, and an
    `explanation` that is enough to repeat the run.

    >>> import katiml
    >>> lake = katiml.connect(getfixture("tmp_path"))
    >>> _ = lake.ingest([{"type": "TEXT", "text": str(number)} for number in range(9)])
    >>> picked = lake.mine("RANDOM", 2, seed=1)
    >>> len(picked), picked.to_pandas(fields="text").columns.tolist()
    (2, ['rank', 'id', 'score', 'text'])
    >>> picked.explanation["configuration"]["seed"]
    1
    """

    def __init__(self, scope: Scope, mined: Mined, explanation: dict[str, Any]) -> None:
        self._scope = scope
        self.ids: list[str] = [str(id_, "ascii") for id_ in mined.ids.tolist()]
        self.scores: NDArray[np.float64] = np.asarray(mined.scores, np.float64)
        self.reasons: dict[str, list[Any]] = {
            name: np.asarray(values).tolist() for name, values in mined.reasons.items()
        }
        self.explanation = explanation

    @classmethod
    def of(cls, scope: Scope, rows: pa.Table, explanation: dict[str, Any]) -> Picked:
        """What rows of `miner_results` hold."""
        reasons = [orjson.loads(text) for text in rows["reasons"].to_pylist() if text is not None]
        names = reasons[0] if reasons else {}
        mined = Mined(
            np.array(rows["datapoint"].to_pylist(), "S36"),
            rows["score"].to_numpy(),
            {name: np.array([row[name] for row in reasons], object) for name in names},
            {},
        )
        return cls(scope, mined, explanation)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __repr__(self) -> str:
        strategy = self.explanation["configuration"]["strategy"]
        return f"<{len(self):,} datapoints picked by {strategy}>"

    def _repr_html_(self) -> str:
        shown: str = self.to_pandas()._repr_html_()  # type: ignore[operator]
        return shown

    def to_pandas(self, fields: Sequence[str] | str | None = None) -> pd.DataFrame:
        """A DataFrame of rank, id, score and reasons, with any `fields` of the datapoints beside.

        `fields` are those of `lake.datapoints.select`. What a datapoint that was deleted since had
        is missing; its row stays.
        """
        import pandas as pd

        frame = pd.DataFrame(
            {
                "rank": np.arange(1, len(self) + 1),
                "id": pd.Series(self.ids, dtype=object),
                "score": self.scores,
                **self.reasons,
            }
        )
        if fields is None:
            return frame
        wanted = [fields] if isinstance(fields, str) else list(fields)
        chosen = [{"left": "id", "op": "in", "right": self.ids}]
        found = select(self._scope, "datapoints", chosen, ["id", *wanted]).pandas()
        added = [name for name in found.columns if name not in frame.columns]
        by_id = found.set_index("id")[added]
        return frame.join(by_id, on="id")
