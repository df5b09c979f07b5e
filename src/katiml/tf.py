"""Datapoints of a lake as a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from katiml.extras import need
from katiml.lake import Lake
from katiml.training.cache import FileCache
from katiml.training.source import Source, chosen_ids

__all__ = ["to_tf_dataset"]

_PAGE = 256


def to_tf_dataset(
    lake: Lake,
    filters: Any = None,
    *,
    transform: Callable[[dict[str, Any]], Any],
    output_signature: Any,
    order_by: str | None = None,
    desc: bool = False,
    limit: int | None = None,
    ids: Sequence[str] | None = None,
    task_types: Sequence[str] | None = None,
    cache: FileCache | None = None,
    on_error: str = "raise",
    workers: int = 4,
) -> Any:
    """A `tf.data.Dataset` of the datapoints that pass `filters`, streamed in their order.

    Items are those of `katiml.torch.LakeDataset`; `transform(item)` makes arrays of them, of the
    shapes and dtypes of `output_signature` (`tf.TensorSpec`s, nested as they are). Files are read
    in `workers` threads, some ahead. Raises MissingExtra without TensorFlow.
    """
    tf = need("tensorflow", "tensorflow")
    source = Source(lake, cache, on_error)
    chosen = chosen_ids(lake, filters, order_by, desc, limit, ids)

    def items() -> Iterator[Any]:
        stream = source.stream(chosen, task_types, transform, _PAGE, workers)
        return (item for item in stream if item is not None)

    dataset = tf.data.Dataset.from_generator(items, output_signature=output_signature)
    if on_error == "raise":
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(chosen)))
    return dataset
