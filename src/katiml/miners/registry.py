"""Strategies by the name that HTTP, SDK, command line and library all use."""

from __future__ import annotations

import difflib
import re
from importlib import import_module
from typing import Any

from katiml.errors import InvalidInput
from katiml.miners.strategy import Strategy

__all__ = ["STRATEGIES", "get_strategy", "strategy_class"]

# Wire name -> where its class is. A module is imported when its strategy is first asked for.
STRATEGIES: dict[str, tuple[str, str]] = {
    "RANDOM": ("random", "Random"),
    "ENTROPY": ("entropy", "Entropy"),
    "WEIGHTED_ENTROPY": ("weighted_entropy", "WeightedEntropy"),
    "VARIANCE": ("variance", "Variance"),
    "CONFIDENCE": ("confidence", "Confidence"),
    "MARGIN": ("margin", "Margin"),
    "BALD": ("bald", "Bald"),
    "ACTIVATION": ("activation", "Activation"),
    "QUERY_BY_COMMITTEE": ("query_by_committee", "QueryByCommittee"),
    "CORESET": ("coreset", "Coreset"),
    "NEAREST_NEIGHBORS": ("nearest_neighbors", "NearestNeighbors"),
    "EMBEDDING_DISTANCE": ("embedding_distance", "EmbeddingDistance"),
    "NOVELTY": ("novelty", "Novelty"),
    "OUTLIER": ("outlier", "Outlier"),
    "TYPICLUST": ("typiclust", "TypiClust"),
    "DENSITY": ("density", "Density"),
    "BADGE": ("badge", "Badge"),
    "MISLABELED": ("mislabeled", "Mislabeled"),
    "MIXED": ("mixed", "Mixed"),
}


def strategy_class(name: str) -> type[Strategy]:
    """The class of that wire name, in any case; InvalidInput names those there are.

    >>> strategy_class("entropy").summary
    'The highest entropy of the predicted classes: where the model is least sure.'
    """
    wanted = re.sub(r"[\s-]", "_", name.strip().upper()) if isinstance(name, str) else ""
    if wanted not in STRATEGIES:
        near = difflib.get_close_matches(wanted, STRATEGIES, n=1)
        raise InvalidInput(
            f"no strategy is called {name!r:.100}",
            hint=(f"did you mean {near[0]}? " if near else "")
            + f"strategies are: {', '.join(STRATEGIES)}",
        )
    module, attribute = STRATEGIES[wanted]
    found: type[Strategy] = getattr(import_module(f"katiml.miners.{module}"), attribute)
    return found


def get_strategy(name: str, **settings: Any) -> Strategy:
    """The strategy of that wire name, told these parameters.

    >>> get_strategy("MARGIN", aggregate="max")
    Margin(aggregate='max')
    """
    return strategy_class(name)(**settings)
