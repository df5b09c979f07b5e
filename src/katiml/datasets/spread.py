"""How classes and tags are spread over two views of a lake, beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from katiml.query.aggregate import model_names
from katiml.query.samples import samples_of
from katiml.store.scope import Scope

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["spread"]

_KEYS = {
    "groundtruths": ["task_type", "bucket"],
    "predictions": ["model_name", "task_type", "bucket"],
    "tags": ["name", "value"],
}


def spread(before: Scope, after: Scope, table: str) -> pd.DataFrame:
    """Counts by class or tag in two views: the keys, then `before`, `after` and `change`, int64.

    `table` is groundtruths, predictions (by model) or tags. Classes of boxes count boxes, masks
    pixels, as in a distribution.

    >>> import tempfile
    >>> from katiml.store import open_store
    >>> with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
    ...     spread(Scope(store), Scope(store), "tags").columns.tolist()
    ['name', 'value', 'before', 'after', 'change']
    """
    keys = _KEYS[table]
    both = _counts(before, table).merge(
        _counts(after, table), on=keys, how="outer", suffixes=("_before", "_after")
    )
    for side in ("before", "after"):
        both[side] = both.pop(f"count_{side}").fillna(0).astype(np.int64)
    both["change"] = both["after"] - both["before"]
    return both.sort_values(keys).reset_index(drop=True)


def _counts(scope: Scope, table: str) -> pd.DataFrame:
    import pandas as pd

    keys = _KEYS[table]
    if table == "tags":
        sql = "SELECT name, value, count(*) AS count FROM {tags} GROUP BY name, value"
        tags: pd.DataFrame = scope.query(sql).to_pandas()
        return tags
    parts = []
    for model in model_names(scope) if table == "predictions" else [None]:
        samples = samples_of(scope, "datapoints", table, None, model, None)
        found = scope.query(
            "SELECT task_type, bucket, CAST(sum(weight) AS BIGINT) AS count "
            f"FROM ({samples.sql}) WHERE bucket IS NOT NULL GROUP BY task_type, bucket",
            samples.parameters,
        ).to_pandas()
        if model is not None:
            found.insert(0, "model_name", model)
        parts.append(found)
    if not parts:
        return pd.DataFrame({name: pd.Series(dtype=object) for name in [*keys, "count"]})
    counts: pd.DataFrame = pd.concat(parts, ignore_index=True)[[*keys, "count"]]
    return counts
