"""The strategies that the original client had no class for.

All take the arguments of `StrategyMiner`; parameters of a strategy, such as `aggregate`, are given
by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dioptra.miners.base_miner import BaseMiner, selection

__all__ = [
    "BaldMiner",
    "ConfidenceMiner",
    "DensityMiner",
    "EmbeddingDistanceMiner",
    "MarginMiner",
    "MislabeledMiner",
    "MixedMiner",
    "NoveltyMiner",
    "OutlierMiner",
    "QueryByCommitteeMiner",
    "StrategyMiner",
    "TypiClustMiner",
]


class StrategyMiner(BaseMiner):
    """What the classes here share; `settings` are parameters of the strategy.

    `model_name` is `model`, or `model:layer` for strategies on embeddings (`embeddings_field`:
    embeddings, grad_embeddings or logits). Datasets, by id or name, choose among their members, or
    leave them out. With an `evaluation_period` (ISO 8601) the server runs
    it by itself.
    """

    def __init__(
        self,
        display_name: str,
        size: int,
        select_filters: Sequence[Any] | None,
        model_name: str | list[str] | None = None,
        *,
        embeddings_field: str | None = None,
        select_limit: int | None = None,
        select_order_by: str | None = None,
        select_desc: bool | None = None,
        select_reference_filters: Sequence[Any] | None = None,
        select_reference_limit: int | None = None,
        select_reference_order_by: str | None = None,
        select_reference_desc: bool | None = None,
        select_dataset_id: str | None = None,
        select_exclude_dataset_id: str | None = None,
        select_reference_dataset_id: str | None = None,
        seed: int | None = None,
        skip_caching: bool | None = None,
        evaluation_period: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        reference = selection(
            select_reference_filters,
            select_reference_limit,
            select_reference_order_by,
            select_reference_desc,
            dataset_id=select_reference_dataset_id,
        )
        told = {
            "model_name": model_name,
            "embeddings_field": embeddings_field,
            "select": selection(
                select_filters,
                select_limit,
                select_order_by,
                select_desc,
                dataset_id=select_dataset_id,
                exclude_dataset_id=select_exclude_dataset_id,
            ),
            "select_reference": reference,
            "seed": seed,
            "skip_caching": skip_caching,
            "evaluation_period": evaluation_period,
            **settings,
        }
        self._create(display_name, size, told)


class ConfidenceMiner(StrategyMiner):
    """The datapoints whose likeliest class is least likely."""

    strategy = "CONFIDENCE"


class MarginMiner(StrategyMiner):
    """The datapoints whose two likeliest classes are closest."""

    strategy = "MARGIN"


class BaldMiner(StrategyMiner):
    """The datapoints on which passes of MC dropout are sure of different things."""

    strategy = "BALD"


class QueryByCommitteeMiner(StrategyMiner):
    """The datapoints on which several models, listed as `model_name`, disagree."""

    strategy = "QUERY_BY_COMMITTEE"


class EmbeddingDistanceMiner(StrategyMiner):
    """The datapoints farthest from the reference."""

    strategy = "EMBEDDING_DISTANCE"


class NoveltyMiner(StrategyMiner):
    """The datapoints in regions where the reference is sparse."""

    strategy = "NOVELTY"


class OutlierMiner(StrategyMiner):
    """The datapoints that lie apart from the others of the selection."""

    strategy = "OUTLIER"


class TypiClustMiner(StrategyMiner):
    """The most typical datapoint of each cluster."""

    strategy = "TYPICLUST"


class DensityMiner(StrategyMiner):
    """Datapoints without near-duplicates."""

    strategy = "DENSITY"


class MislabeledMiner(StrategyMiner):
    """The datapoints whose ground truth is likely wrong."""

    strategy = "MISLABELED"


class MixedMiner(StrategyMiner):
    """One strategy after the other."""

    strategy = "MIXED"
