"""How values are spread: classes, pixels, lanes, words, tags, metrics and columns.

`distribution` gives counts as a DataFrame; `histogram` gives, as the web app wants them, the
datapoints in each bucket.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from katiml.errors import InvalidInput
from katiml.query.fields import shown
from katiml.query.ordering import whole_number
from katiml.query.samples import Samples, samples_of

if TYPE_CHECKING:
    import pandas as pd

    from katiml.store import Scope

__all__ = ["bin_edges", "bin_labels", "distribution", "histogram"]

_MAX_BINS = 10_000
_TITLES = {"LANE_DETECTION": "Number of lanes", "COMPLETION": "Number of words"}


def distribution(
    scope: Scope,
    table: str,
    field: str | None = None,
    filters: Any = None,
    *,
    model_name: str | None = None,
    task_type: str | None = None,
    bins: int = 10,
) -> pd.DataFrame:
    """Counts by bucket over the rows of `table` that pass `filters`.

    `field` is a column (`metadata.width`, `bboxes.class_name`), a metric of the predictions
    (`entropy`), `tags.split` or `tag/split` for the tag of that name, or `groundtruths` or
    `predictions` for their classes; None means the table's own classes. Numbers come in `bins`
    equal-width bins with bounds `low` and `high`, the highest value in the last; missing values
    are in none. Classes of several task types have a column `task_type` before them. Raises
    InvalidFilter and InvalidInput.

    >>> import tempfile
    >>> from katiml.store import Scope, open_store
    >>> with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
    ...     distribution(Scope(store), "datapoints", "groundtruths").columns.tolist()
    ['bucket', 'count']
    """
    import pandas as pd

    bins = _checked_bins(bins)
    samples = samples_of(scope, table, field, filters, model_name, task_type)
    if samples.numeric:
        edges, counts = _by_bin(scope, samples, bins, "count(*)")
        return pd.DataFrame(
            {
                "bucket": pd.Series(bin_labels(edges), dtype=object),
                "count": np.array([counts.get(index, 0) for index in _indexes(edges)], np.int64),
                "low": edges[:-1],
                "high": edges[1:],
            }
        )
    found = scope.query(
        f"SELECT task_type, bucket, CAST(sum(weight) AS BIGINT) AS count FROM ({samples.sql}) "
        "WHERE bucket IS NOT NULL GROUP BY task_type, bucket "
        f"ORDER BY task_type, {samples.order}",
        samples.parameters,
    ).to_pydict()
    columns = ["bucket", "count"]
    if len(set(found["task_type"])) > 1:
        columns.insert(0, "task_type")
    kinds = {"count": np.int64}
    return pd.DataFrame(
        {name: pd.Series(found[name], dtype=kinds.get(name, object)) for name in columns}
    )


def histogram(
    scope: Scope,
    field: str,
    filters: Any = None,
    *,
    model_name: str | None = None,
    task_type: str | None = None,
    bins: int = 10,
) -> dict[str, Any]:
    """The datapoints that pass `filters`, by bucket.

    `{"histogram": {bucket: {"datapoints": [ids], "index": n}}, "task_type", "title"}`. A
    datapoint is listed once for each of its boxes; buckets of SEGMENTATION also count `pixels`.
    Of several task types the most frequent is shown, and `task_types` names them all.

    >>> import tempfile
    >>> from katiml.store import Scope, open_store
    >>> with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
    ...     histogram(Scope(store), "entropy")
    {'histogram': {}, 'task_type': None, 'title': 'entropy'}
    """
    bins = _checked_bins(bins)
    samples = samples_of(scope, "datapoints", field, filters, model_name, task_type)
    present = "value" if samples.numeric else "bucket"
    types = _task_types(scope, samples, present)
    answer: dict[str, Any] = {"histogram": {}, "task_type": types[0] if types else None}
    if samples.numeric:
        listed = "list(CAST(datapoint AS VARCHAR) ORDER BY datapoint)"
        edges, ids = _by_bin(scope, samples, bins, listed)
        answer["histogram"] = {
            label: {"datapoints": ids.get(index, []), "index": index}
            for index, label in enumerate(bin_labels(edges))
        }
    else:
        answer["histogram"] = _by_bucket(scope, samples, answer["task_type"])
        if len(types) > 1:
            answer["task_types"] = sorted(types)
    title = _TITLES.get(answer["task_type"] or "", samples.title)
    return {**answer, "title": title} if title else answer


def _task_types(scope: Scope, samples: Samples, present: str) -> list[str]:
    """The task types among the samples, the most frequent first."""
    found = scope.query(
        f"SELECT task_type, count(DISTINCT datapoint) AS datapoints FROM ({samples.sql}) "
        f"WHERE task_type IS NOT NULL AND {present} IS NOT NULL "
        "GROUP BY task_type ORDER BY datapoints DESC, task_type",
        samples.parameters,
    )
    return found.column("task_type").to_pylist()  # type: ignore[no-any-return]


def _by_bucket(scope: Scope, samples: Samples, task_type: str | None) -> dict[str, Any]:
    # The samples of one task type; where there are none of any, task_type is NULL in all.
    found = scope.query(
        "SELECT bucket, CAST(sum(weight) AS BIGINT) AS count, task_type, "
        "list(CAST(datapoint AS VARCHAR) ORDER BY datapoint) AS datapoints "
        f"FROM ({samples.sql}) WHERE bucket IS NOT NULL "
        "AND task_type IS NOT DISTINCT FROM CAST($shown_task_type AS VARCHAR) "
        f"GROUP BY bucket, task_type ORDER BY {samples.order}",
        {**samples.parameters, "shown_task_type": task_type},
    ).to_pydict()
    buckets = {
        bucket: {"datapoints": datapoints, "index": index}
        for index, (bucket, datapoints) in enumerate(
            zip(found["bucket"], found["datapoints"], strict=True)
        )
    }
    if task_type == "SEGMENTATION":
        for bucket, pixels in zip(found["bucket"], found["count"], strict=True):
            buckets[bucket]["pixels"] = pixels
    return buckets


# -- bins ------------------------------------------------------------------------------------


def bin_edges(low: float, high: float, bins: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The bounds of equal-width bins, float64, one more than bins; one bin if low equals high.

    >>> bin_edges(0.0, 1.0, 4).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if low == high:
        return np.array([low, high])
    return np.linspace(low, high, bins + 1)


def bin_labels(edges: np.ndarray[Any, np.dtype[np.float64]]) -> list[str]:
    """`0.00 - 0.10` and so on; with more decimals where two labels would be the same.

    >>> bin_labels(np.array([0.0, 0.5, 1.0]))
    ['0.00 - 0.50', '0.50 - 1.00']
    >>> bin_labels(np.array([0.0, 0.0005, 0.001]))
    ['0.0000 - 0.0005', '0.0005 - 0.0010']
    """
    labels: list[str] = []
    for decimals in range(2, 18):
        texts = [f"{edge:.{decimals}f}" for edge in edges]
        labels = [f"{low} - {high}" for low, high in pairwise(texts)]
        if len(edges) == 2 or len(set(texts)) == len(texts):
            return labels
    return [f"{low} - {high}" for low, high in pairwise(edges)]


def _indexes(edges: np.ndarray[Any, np.dtype[np.float64]]) -> range:
    return range(max(0, len(edges) - 1))


def _by_bin(
    scope: Scope, samples: Samples, bins: int, what: str
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], dict[int, Any]]:
    """The bounds of the bins, and an aggregate of the samples by the index of their bin."""
    # The division may miss by one where a value lies on an edge, so the edges decide, as in NumPy.
    sql = (
        f"WITH every AS MATERIALIZED (SELECT datapoint, value FROM ({samples.sql})), "
        "samples AS NOT MATERIALIZED (SELECT * FROM every WHERE abs(value) < 1e300), "
        "bounds AS (SELECT min(value) AS low, max(value) AS high, (high - low) / $bins AS width "
        "FROM samples), "
        "guessed AS (SELECT *, CASE WHEN width > 0 THEN greatest(0, least($last, "
        "CAST(floor((value - low) / width) AS BIGINT))) ELSE 0 END AS bin FROM samples, bounds), "
        "placed AS (SELECT *, CASE WHEN bin > 0 AND value < bin * width + low THEN bin - 1 "
        "WHEN bin < $last AND value >= (bin + 1) * width + low AND width > 0 THEN bin + 1 "
        "ELSE bin END AS place FROM guessed) "
        f"SELECT place, {what} AS found, any_value(low) AS low, any_value(high) AS high "
        "FROM placed GROUP BY place"
    )
    found = scope.query(sql, {**samples.parameters, "bins": bins, "last": bins - 1}).to_pydict()
    if not found["place"]:
        return np.array([]), {}
    edges = bin_edges(found["low"][0], found["high"][0], bins)
    placed = dict(zip(found["place"], found["found"], strict=True))
    # Between neighbours such as 1e16 and 1e16 + 2 there are fewer bounds than asked for.
    rising, of_rising = np.unique(edges, return_inverse=True)
    if 2 <= len(rising) < len(edges):
        together: dict[int, Any] = {}
        for place in sorted(placed):
            index = min(int(of_rising[place]), len(rising) - 2)
            together[index] = (
                together[index] + placed[place] if index in together else placed[place]
            )
        return rising, together
    return edges, placed


def _checked_bins(bins: Any) -> int:
    number = whole_number("bins", bins)
    if number is None or not 1 <= number <= _MAX_BINS:
        raise InvalidInput(f"bins is {shown(bins)}", hint=f"between 1 and {_MAX_BINS}")
    return number
