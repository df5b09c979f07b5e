"""How classes and tags are spread over two views of a lake, beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from katiml.query.aggregate import model_names
from katiml.query.frames import to_pandas
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
    sides = []
    for scope, own, other in ((before, "before", "after"), (after, "after", "before")):
        counts = _counts(scope, table)
        none = pa.repeat(pa.scalar(0, pa.int64()), counts.num_rows)
        sides.append(counts.rename_columns([*keys, own]).append_column(other, none))
    # Aggregated and not joined: a join would not match keys that are null.
    both = (
        pa.concat_tables([sides[0], sides[1].select(sides[0].column_names)])
        .group_by(keys)
        .aggregate([("before", "sum"), ("after", "sum")])
        .sort_by([(key, "ascending") for key in keys])
        .rename_columns([*keys, "before", "after"])
    )
    return to_pandas(both.append_column("change", pc.subtract(both["after"], both["before"])))


def _counts(scope: Scope, table: str) -> pa.Table:
    keys = _KEYS[table]
    schema = pa.schema({**dict.fromkeys(keys, pa.string()), "count": pa.int64()})
    if table == "tags":
        sql = "SELECT name, value, count(*) AS count FROM {tags} GROUP BY name, value"
        return scope.query(sql).cast(schema)
    parts = [schema.empty_table()]
    for model in model_names(scope) if table == "predictions" else [None]:
        samples = samples_of(scope, "datapoints", table, None, model, None)
        found = scope.query(
            "SELECT task_type, bucket, CAST(sum(weight) AS BIGINT) AS count "
            f"FROM ({samples.sql}) WHERE bucket IS NOT NULL GROUP BY task_type, bucket",
            samples.parameters,
        )
        if model is not None:
            found = found.add_column(0, "model_name", pa.repeat(pa.scalar(model), found.num_rows))
        parts.append(found.select(schema.names).cast(schema))
    return pa.concat_tables(parts)
