"""`dioptra.miners`, on an embedded lake and over HTTP."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import dioptra.miners
import katiml
from dioptra.miners import (
    ActivationMiner,
    BadgeMiner,
    BaseMiner,
    CoresetMiner,
    EntropyMiner,
    KNNMiner,
    MarginMiner,
    MixedMiner,
    RandomMiner,
    VarianceMiner,
    WeightedEntropyMiner,
    list_miners,
)
from katiml.errors import InvalidInput, KatiMLError, NotFound
from katiml.miners.registry import STRATEGIES
from tests.mining.conftest import LABELLED, UNLABELLED, pool


def test_from_creation_to_deletion(lake: katiml.Lake) -> None:
    lake.ingest(pool())
    miner = CoresetMiner(
        display_name="spread",
        size=5,
        select_filters=UNLABELLED,
        select_limit=30,
        select_order_by="created_at",
        select_desc=True,
        select_reference_filters=LABELLED,
        model_name="net:last",
        metric="cosine",
    )
    assert (miner.miner_name, miner.get_status()) == ("spread", "PENDING")
    with pytest.raises(RuntimeError, match="has not been run"):
        miner.get_results()
    config = miner.get_config()
    assert config["_id"] == miner.miner_id
    assert (config["strategy"], config["size"], config["metric"]) == ("CORESET", 5, "cosine")
    assert config["select"] == {
        "filters": UNLABELLED,
        "limit": 30,
        "order_by": "created_at",
        "desc": True,
    }
    assert config["select_reference"] == {"filters": LABELLED}
    miner.run()
    picked = miner.get_results()
    assert len(set(picked)) == 5
    assert miner.get_status() == "SUCCESS"
    assert lake.miners.get(str(miner.miner_id)).picked.ids == picked
    miner.reset()
    assert miner.get_status() == "PENDING"
    miner.delete()
    with pytest.raises(NotFound):
        miner.get_status()


def test_every_class_of_the_original(lake: katiml.Lake) -> None:
    lake.ingest(pool())
    miners = [
        RandomMiner("random", 2, UNLABELLED),
        EntropyMiner("entropy", 2, UNLABELLED, "net"),
        WeightedEntropyMiner("weighted", 2, UNLABELLED, "net"),
        VarianceMiner("variance", 2, UNLABELLED, model_name="net"),
        ActivationMiner("activation", 2, UNLABELLED, "net:last"),
        CoresetMiner("coreset", 2, UNLABELLED, "net:last"),
        KNNMiner("knn", 2, UNLABELLED, "net:last", select_reference_filters=LABELLED),
        BadgeMiner("badge", 2, UNLABELLED, model_name="net:last"),
        MarginMiner("margin", 2, UNLABELLED, "net", aggregate="max"),
        MixedMiner(
            "mixed", 2, UNLABELLED, "net", stages=["ENTROPY", {"strategy": "MARGIN"}], seed=3
        ),
    ]
    for miner in miners:
        miner.run()
    for miner in miners:
        if miner.miner_name == "variance":
            # There are no passes of MC dropout in this lake.
            with pytest.raises(RuntimeError, match=r"Miner failed: VARIANCE.*variance.*passes"):
                miner.get_results()
        else:
            assert len(miner.get_results(retry_on_empty_success=False)) == 2, miner.miner_name
    listed = list_miners()
    assert [miner.miner_name for miner in listed] == [own.miner_name for own in miners][::-1]
    assert [type(miner) for miner in listed] == [type(own) for own in miners][::-1]
    assert listed[0].get_results() == miners[-1].get_results()


def test_errors_are_those_of_the_library(lake: katiml.Lake) -> None:
    with pytest.raises(InvalidInput, match="size is 0"):
        RandomMiner("none", 0, [])
    with pytest.raises(InvalidInput, match="NEAREST_NEIGHBORS needs a reference"):
        KNNMiner("knn", 1, [], "net:last")
    with pytest.raises(InvalidInput, match="agregate"):
        MarginMiner("margin", 1, [], "net", agregate="max")
    with pytest.raises(KatiMLError, match="not in the lake"):
        BaseMiner().run()
    assert list_miners() == []


# Of dioptra 1.0.29, whose scripts call them by position too.
_PLAIN = "select_limit select_order_by select_desc"
_REFERENCE = (
    f"embeddings_field {{}}{_PLAIN} select_reference_filters select_reference_limit "
    "select_reference_order_by select_reference_desc skip_caching"
)
SIGNATURES: dict[type, str] = {
    RandomMiner: f"{_PLAIN} model_name",
    EntropyMiner: f"model_name {_PLAIN}",
    WeightedEntropyMiner: f"model_name {_PLAIN}",
    VarianceMiner: f"{_PLAIN} model_name",
    ActivationMiner: f"model_name {_REFERENCE.format('')}",
    CoresetMiner: f"model_name {_REFERENCE.format('metric ')}",
    KNNMiner: f"model_name {_REFERENCE.format('metric ')}",
    BadgeMiner: f"{_PLAIN} model_name",
}


@pytest.mark.parametrize("kind", SIGNATURES, ids=lambda kind: str(kind.__name__))
def test_signatures_of_the_original(kind: type) -> None:
    parameters = inspect.signature(kind).parameters
    wanted = ["display_name", "size", "select_filters", *SIGNATURES[kind].split()]
    assert list(parameters) == wanted
    defaults: dict[str, Any] = {
        name: own.default for name, own in parameters.items() if own.default is not None
    }
    usual = {"embeddings_field": "embeddings", "metric": "euclidean", "skip_caching": True}
    for name in wanted[3:]:
        assert defaults.get(name) == usual.get(name), name


def test_every_strategy_has_a_class() -> None:
    kinds = [getattr(dioptra.miners, name) for name in dioptra.miners.__all__]
    assert {kind.strategy for kind in kinds if inspect.isclass(kind)} - {None} == set(STRATEGIES)
