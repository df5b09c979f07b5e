"""`BadgeMiner`: unsure and diverse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dioptra.miners.base_miner import BaseMiner, selection

__all__ = ["BadgeMiner"]


class BadgeMiner(BaseMiner):
    """k-means++ over gradient embeddings: what the model is unsure of, without repeating itself."""

    strategy = "BADGE"

    def __init__(
        self,
        display_name: str,
        size: int,
        select_filters: Sequence[Any] | None,
        select_limit: int | None = None,
        select_order_by: str | None = None,
        select_desc: bool | None = None,
        model_name: str | None = None,
    ) -> None:
        super().__init__()
        select = selection(select_filters, select_limit, select_order_by, select_desc)
        self._create(display_name, size, {"model_name": model_name, "select": select})
