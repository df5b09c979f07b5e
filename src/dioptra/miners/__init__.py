"""Miners: what to label next. Import them from here, or from `dioptra.miners.coreset_miner` …

With no `DIOPTRA_APP_ENDPOINT` they work on the embedded lake, like `dioptra.lake.utils`.
"""

from __future__ import annotations

from dioptra.lake.utils import query_dioptra_app
from dioptra.miners.activation_miner import ActivationMiner
from dioptra.miners.badge_miner import BadgeMiner
from dioptra.miners.base_miner import BaseMiner
from dioptra.miners.coreset_miner import CoresetMiner
from dioptra.miners.entropy_miner import EntropyMiner
from dioptra.miners.knn_miner import KNNMiner
from dioptra.miners.more_miners import (
    BaldMiner,
    ConfidenceMiner,
    DensityMiner,
    EmbeddingDistanceMiner,
    MarginMiner,
    MislabeledMiner,
    MixedMiner,
    NoveltyMiner,
    OutlierMiner,
    QueryByCommitteeMiner,
    StrategyMiner,
    TypiClustMiner,
)
from dioptra.miners.random_miner import RandomMiner
from dioptra.miners.variance_miner import VarianceMiner
from dioptra.miners.weighted_entropy_miner import WeightedEntropyMiner

__all__ = [
    "ActivationMiner",
    "BadgeMiner",
    "BaldMiner",
    "BaseMiner",
    "ConfidenceMiner",
    "CoresetMiner",
    "DensityMiner",
    "EmbeddingDistanceMiner",
    "EntropyMiner",
    "KNNMiner",
    "MarginMiner",
    "MislabeledMiner",
    "MixedMiner",
    "NoveltyMiner",
    "OutlierMiner",
    "QueryByCommitteeMiner",
    "RandomMiner",
    "StrategyMiner",
    "TypiClustMiner",
    "VarianceMiner",
    "WeightedEntropyMiner",
    "list_miners",
]


def list_miners() -> list[BaseMiner]:
    """The miners in the lake, the newest first, each of its own class."""
    found = []
    for told in query_dioptra_app("GET", "/api/tasks/miners"):
        kind = _classes().get(told["strategy"], BaseMiner)
        miner = kind.__new__(kind)
        BaseMiner.__init__(miner)
        miner.miner_id, miner.miner_name = told["_id"], told["display_name"]
        found.append(miner)
    return found


def _classes() -> dict[str, type[BaseMiner]]:
    kinds = [*BaseMiner.__subclasses__(), *StrategyMiner.__subclasses__()]
    return {kind.strategy: kind for kind in kinds if kind.strategy is not None}
