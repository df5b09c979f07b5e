"""`CoresetMiner`: spread over the pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dioptra.miners.base_miner import BaseMiner, selection

__all__ = ["CoresetMiner"]


class CoresetMiner(BaseMiner):
    """Each pick is the farthest from all that is in the reference or picked before."""

    strategy = "CORESET"

    def __init__(
        self,
        display_name: str,
        size: int,
        select_filters: Sequence[Any] | None,
        model_name: str | None = None,
        embeddings_field: str = "embeddings",
        metric: str = "euclidean",
        select_limit: int | None = None,
        select_order_by: str | None = None,
        select_desc: bool | None = None,
        select_reference_filters: Sequence[Any] | None = None,
        select_reference_limit: int | None = None,
        select_reference_order_by: str | None = None,
        select_reference_desc: bool | None = None,
        skip_caching: bool = True,
    ) -> None:
        super().__init__()
        told = {
            "model_name": model_name,
            "embeddings_field": embeddings_field,
            "metric": metric,
            "select": selection(select_filters, select_limit, select_order_by, select_desc),
            "select_reference": selection(
                select_reference_filters,
                select_reference_limit,
                select_reference_order_by,
                select_reference_desc,
            ),
            "skip_caching": skip_caching,
        }
        self._create(display_name, size, told)
