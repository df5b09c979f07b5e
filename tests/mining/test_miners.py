"""Miners kept in a lake: create, run, results, edit, reset, delete; and mining in one call."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import katiml
from katiml.errors import (
    Conflict,
    InvalidFilter,
    InvalidInput,
    KatiMLError,
    NotFound,
    TooLarge,
)
from katiml.miners.mine import mine as pick
from katiml.mining import run as mining_run
from katiml.mining.configuration import Configuration
from katiml.tasks import pool as task_pool
from tests.mining.conftest import LABELLED, UNLABELLED, pool


def texts(lake: katiml.Lake, ids: Any) -> list[str]:
    """The texts of some datapoints, in the order of the ids."""
    found = lake.datapoints.select({"left": "id", "op": "in", "right": list(ids)})
    by_id = dict(zip(found["id"], found["text"], strict=True))
    return [by_id[id_] for id_ in ids]


# -- one call ------------------------------------------------------------------------------------


def test_mine__the_best_first_with_scores(quick: katiml.Lake) -> None:
    picked = quick.mine("ENTROPY", 3, LABELLED, model_name="net")
    assert texts(quick, picked) == ["40", "41", "42"]
    assert np.all(np.diff(picked.scores) < 0)
    frame = picked.to_pandas(fields=["text", "tags.*"])
    assert frame.columns.tolist()[:3] == ["rank", "id", "score"]
    assert frame["rank"].tolist() == [1, 2, 3]
    assert frame["text"].tolist() == ["40", "41", "42"]
    assert [tags[0]["value"] for tags in frame["tags"]] == ["labelled"] * 3


def test_mine__random_is_seeded(quick: katiml.Lake) -> None:
    one, same, other = (quick.mine("RANDOM", 10, seed=seed).ids for seed in (1, 1, 2))
    assert one == same != other
    assert len(set(one)) == 10


def test_mine__order_and_limit_choose_the_pool(quick: katiml.Lake) -> None:
    picked = quick.mine("RANDOM", 5, order_by="created_at", desc=True, limit=5)
    everything = quick.datapoints.select(order_by="created_at", desc=True, limit=5)
    assert set(picked) == set(everything["id"])


def test_mine__reference(quick: katiml.Lake) -> None:
    picked = quick.mine(
        "CORESET", 5, UNLABELLED, reference_filters=LABELLED, model_name="net:last", metric="cosine"
    )
    assert set(map(int, texts(quick, picked))) <= set(range(40))
    nearest = quick.mine(
        "NEAREST_NEIGHBORS", 5, UNLABELLED, reference_filters=LABELLED, model_name="net:last"
    )
    assert np.all(np.diff(nearest.scores) >= 0)


def test_a_run_can_be_repeated_from_its_explanation(filled: katiml.Lake) -> None:
    for strategy, told in (
        ("RANDOM", {"seed": 7}),
        ("CORESET", {"model_name": "net:last", "seed": 3}),
        ("MARGIN", {"model_name": "net"}),
    ):
        first = filled.mine(strategy, 6, UNLABELLED, **told)
        assert first.explanation["configuration"]["seed"] == told.get("seed", 0)
        assert first.explanation["versions"]["katiml"] == katiml.__version__
        filled.datapoints.delete({"left": "id", "op": "=", "right": first.ids[0]})
        filled.ingest([{"type": "TEXT", "text": "new", "tags": {"split": "unlabelled"}}])
        again = filled.miners.repeat(first.explanation)
        assert again.ids == first.ids, strategy
        assert filled.mine(strategy, 6, UNLABELLED, **told).ids != first.ids, strategy


@pytest.mark.parametrize(
    "explanation",
    [
        {},
        None,
        {"configuration": {"strategy": "RANDOM", "size": 1}},
        {"configuration": {"strategy": "RANDOM", "size": 1}, "lake_state": "?"},
        {"configuration": {"strategy": "RANDOM", "size": 1}, "lake_state": "AAAA"},
        {"configuration": {"strategy": "RANDOM", "size": 1}, "lake_state": 3},
    ],
)
def test_what_is_no_explanation_is_refused(quick: katiml.Lake, explanation: Any) -> None:
    with pytest.raises(InvalidInput):
        quick.miners.repeat(explanation)


# -- kept miners ---------------------------------------------------------------------------------


def test_create_run_results(filled: katiml.Lake) -> None:
    miner = filled.miners.create(
        "ENTROPY", 4, UNLABELLED, display_name="to label", model_name="net"
    )
    assert (miner.status, miner.task, miner.error) == ("PENDING", None, None)
    with pytest.raises(Conflict, match="has not been run"):
        miner.results()
    assert miner.run() is miner
    assert miner.status == "SUCCESS"
    assert miner.results("text")["text"].tolist() == ["0", "1", "2", "3"]
    again = filled.miners.get(miner.id)
    assert again.picked.ids == miner.picked.ids
    assert np.array_equal(again.picked.scores, miner.picked.scores)
    assert again.picked.reasons == miner.picked.reasons
    explanation = again.picked.explanation
    assert explanation["configuration"] == again.configuration
    assert filled.miners.repeat(explanation).ids == miner.picked.ids
    assert [own.id for own in filled.miners.list()] == [miner.id]
    assert filled.miners.list()[0].to_dict()["status"] == "SUCCESS"
    assert "picked 4" in miner.task.logs["message"].tolist()[-1]  # type: ignore[union-attr]


def test_results_follow_the_last_run(filled: katiml.Lake) -> None:
    miner = filled.miners.create("ENTROPY", 2, UNLABELLED, model_name="net").run()
    first = miner.picked.ids
    filled.datapoints.delete({"left": "id", "op": "=", "right": first[0]})
    assert miner.results("text")["text"].isna().tolist() == [True, False]
    miner.run()
    assert miner.picked.ids[0] == first[1]
    rows = filled.scope.query("SELECT count(*) AS n FROM {miner_results}").to_pylist()
    assert rows == [{"n": 2}]


def test_run_in_the_background(quick: katiml.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go = threading.Event(), threading.Event()

    def slow(scope: Any, request: Any, *, progress: Any) -> Any:
        progress(1, 2)
        began.set()
        assert go.wait(60)
        return pick(scope, request, progress=progress)

    monkeypatch.setattr(mining_run, "mine", slow)
    miner = quick.miners.create("RANDOM", 3).run(wait=False)
    assert began.wait(60)
    task = miner.task
    assert task is not None
    assert (miner.status, task.progress) == ("STARTED", 0.5)
    assert quick.miners.get(miner.id).run(wait=False).task.id == task.id  # type: ignore[union-attr]
    with pytest.raises(TimeoutError):
        miner.wait(0.01)
    go.set()
    assert len(miner.results()) == 3


def test_a_cancelled_run__and_running_again(
    quick: katiml.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, stopped = threading.Event(), threading.Event()

    def endless(scope: Any, request: Any, *, progress: Any) -> Any:
        try:
            while True:
                progress(1, 3)
                began.set()
        finally:
            stopped.set()

    miner = quick.miners.create("RANDOM", 3)
    with monkeypatch.context() as patched:
        patched.setattr(mining_run, "mine", endless)
        miner.run(wait=False)
        assert began.wait(60)
        miner.cancel()
        assert stopped.wait(60)
    assert miner.status == "REVOKED"
    assert miner.error is not None and miner.error["message"] == "cancelled"
    with pytest.raises(Conflict, match="cancelled"):
        miner.results()
    assert len(miner.run().results()) == 3


def test_a_run_that_breaks__and_running_again(
    quick: katiml.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise MemoryError

    miner = quick.miners.create("RANDOM", 3)
    with monkeypatch.context() as patched:
        patched.setattr(mining_run, "mine", broken)
        with pytest.raises(katiml.KatiMLError, match="not enough memory"):
            miner.run()
    assert miner.status == "FAILURE"
    assert miner.error is not None and miner.error["hint"]
    assert task_pool.has_room()
    assert len(miner.run().results()) == 3


def test_reset_forgets_results(filled: katiml.Lake) -> None:
    miner = filled.miners.create("RANDOM", 3).run()
    assert miner.reset().status == "PENDING"
    with pytest.raises(Conflict):
        miner.results()
    assert filled.scope.query("SELECT 1 FROM {miner_results}").num_rows == 0
    assert len(miner.run().results()) == 3


def test_edit_keeps_what_is_not_named(quick: katiml.Lake) -> None:
    miner = quick.miners.create(
        "CORESET", 3, UNLABELLED, limit=20, desc=True, model_name="net:last", metric="cosine"
    ).run()
    miner.edit(size=5, select={"filters": LABELLED}, display_name="edited")
    assert miner.status == "PENDING"
    told = quick.miners.get(miner.id).configuration
    assert told["size"] == 5
    assert told["select"] == {"filters": LABELLED, "limit": 20, "desc": True}
    assert (told["metric"], told["model_name"]) == ("cosine", "net:last")
    miner.edit(strategy="RANDOM", select={"limit": None})
    told = miner.configuration
    assert "metric" not in told
    assert told["select"] == {"filters": LABELLED, "desc": True}
    assert len(miner.run().results()) == 5
    with pytest.raises(InvalidInput, match="colour"):
        miner.edit(colour="red")


def test_a_miner_of_a_strategy_that_is_not_known_here(quick: katiml.Lake) -> None:
    """A newer version made it: it can be listed, edited and deleted."""
    miner = quick.miners.create("RANDOM", 3)
    quick.scope.transact(
        lambda transaction: transaction.update(
            "miners",
            "configuration = replace(CAST(configuration AS VARCHAR), '\"RANDOM\"', '\"ORACLE\"')",
            "TRUE",
        )
    )
    (listed,) = quick.miners.list()
    assert (listed.strategy, listed.to_dict()["strategy"]) == ("ORACLE", "ORACLE")
    with pytest.raises(InvalidInput, match="ORACLE"):
        listed.run()
    assert len(listed.edit(strategy="RANDOM").run().results()) == 3
    miner.delete()
    assert quick.miners.list() == []


def test_delete(filled: katiml.Lake) -> None:
    miner = filled.miners.create("RANDOM", 3).run()
    miner.delete()
    with pytest.raises(NotFound):
        filled.miners.get(miner.id)
    with pytest.raises(NotFound):
        miner.run()
    for table in ("miners", "miner_results", "tasks", "task_logs"):
        assert filled.scope.query(f"SELECT 1 FROM {{{table}}}").num_rows == 0, table
    # What miners do is no change of the records.
    kinds = filled.scope.query("SELECT DISTINCT kind FROM {changes}").column(0).to_pylist()
    assert kinds == ["ingest"]


def test_delete_stops_the_run(quick: katiml.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go = threading.Event(), threading.Event()

    def slow(scope: Any, request: Any, *, progress: Any) -> Any:
        began.set()
        assert go.wait(60)
        return pick(scope, request, progress=progress)

    monkeypatch.setattr(mining_run, "mine", slow)
    miner = quick.miners.create("RANDOM", 3).run(wait=False)
    assert began.wait(60)
    job = task_pool.job_of(miner.task.id)  # type: ignore[union-attr]
    miner.delete()
    go.set()
    assert job is not None and job.ended.wait(60)
    assert quick.scope.query("SELECT 1 FROM {miner_results}").num_rows == 0


def test_another_organization_sees_nothing(filled: katiml.Lake) -> None:
    miner = filled.miners.create("RANDOM", 3).run()
    other = filled.for_organization("other")
    assert other.miners.list() == []
    with pytest.raises(NotFound):
        other.miners.get(miner.id)
    with pytest.raises(InvalidInput):
        other.mine("RANDOM", 1)
    assert len(miner.results()) == 3


# -- estimates -----------------------------------------------------------------------------------


def test_estimate__how_many_and_what_is_missing(filled: katiml.Lake) -> None:
    filled.ingest([{"type": "TEXT", "text": "bare"}])
    found = filled.miners.estimate("CORESET", 3, model_name="net:last")
    assert (found.datapoints, found.usable) == (61, 50)
    assert sum(found.missing.values()) == 11
    assert any("no predictions" in reason for reason in found.missing)
    assert found.bytes >= 50 * 4 * 4
    found = filled.miners.create("ENTROPY", 3, model_name="net").estimate()
    assert (found.datapoints, found.usable, sum(found.missing.values())) == (61, 60, 1)
    assert filled.miners.estimate("RANDOM", 3, UNLABELLED).usable == 40


def test_a_run_that_needs_more_memory_than_there_is(
    quick: katiml.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KATIML_TASK_MEMORY", "500")
    told = {"model_name": "net:last"}
    with pytest.raises(TooLarge, match="CORESET"):
        quick.mine("CORESET", 3, **told)
    miner = quick.miners.create("CORESET", 3, **told)
    with pytest.raises(TooLarge, match="miner"):
        miner.run()
    assert miner.status == "PENDING"


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"size": 0}, "size is 0"),
        ({"size": -3}, "size is -3"),
        ({"size": 2.5}, "size is 2.5"),
        ({"size": None}, "size is None"),
        ({"strategy": "CORSET"}, "CORSET"),
        ({"strategy": None}, "None"),
        ({"strategy": 7}, "7"),
        ({"metric": "manhattan", "strategy": "CORESET"}, "metric is 'manhattan'"),
        ({"colour": "red"}, "colour"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"seed": "1"}, "seed"),
        ({"model_name": 3}, "model_name"),
        ({"embeddings_field": "pixels"}, "embeddings_field"),
        ({"skip_caching": "yes"}, "skip_caching"),
        ({"device": "tpu" * 1000}, "device"),
        ({"evaluation_period": "daily"}, "evaluation_period"),
        ({"display_name": "x" * 2_000}, "display_name"),
        ({"display_name": "a\0b"}, "display_name"),
        ({"select": []}, "select"),
        ({"select": {"filter": []}}, "filter"),
        ({"select": {"limit": -1}}, "limit"),
        ({"select": {"order_by": "colour"}}, "colour"),
        ({"strategy": "NEAREST_NEIGHBORS"}, "reference"),
        ({"strategy": "NEAREST_NEIGHBORS", "select_reference": {"filters": None}}, "reference"),
        ({"strategy": "MIXED", "stages": [{"strategy": "ENTROPY"}]}, "stages"),
    ],
)
def test_wrong_configurations(told: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        Configuration.of({"strategy": "RANDOM", "size": 1, **told})


def test_wrong_filters_are_refused_when_a_miner_is_made(lake: katiml.Lake) -> None:
    wrong = {"left": "colour", "op": "=", "right": "red"}
    for told in ({"filters": [wrong]}, {"reference_filters": [wrong]}):
        with pytest.raises(InvalidFilter, match="colour"):
            lake.miners.create("CORESET", 1, **told)
    assert lake.miners.list() == []


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (("RANDOM", 61, {}), "60 datapoints only"),
        (("ENTROPY", 41, {"filters": UNLABELLED, "model_name": "net"}), "40 datapoints only"),
        (("CORESET", 51, {"model_name": "net:last"}), "50 datapoints only"),
        (("CORESET", 1, {"model_name": "net:first"}), "'net:last'"),
        (("CORESET", 1, {"model_name": "other"}), "'net:last'"),
        (("ENTROPY", 1, {"model_name": "other"}), "'net'"),
        (("VARIANCE", 1, {"model_name": "net"}), "variance"),
        (("BADGE", 1, {"model_name": "other"}), "other"),
        (("QUERY_BY_COMMITTEE", 1, {"model_name": "net"}), "two models"),
        (("ENTROPY", 1, {"model_name": ["net", "other"]}), "one model"),
        (("RANDOM", 1, {"filters": [{"left": "text", "op": "=", "right": "?"}]}), "RANDOM"),
        (
            (
                "NEAREST_NEIGHBORS",
                1,
                {
                    "model_name": "net:last",
                    "reference_filters": [{"left": "text", "op": "=", "right": "?"}],
                },
            ),
            "empty",
        ),
        (
            ("CORESET", 1, {"model_name": "net:last", "reference_filters": {"any": []}}),
            "a reference, which is empty",
        ),
        (("CORESET", 1, {"model_name": "net:last", "device": "cuda:9"}), "cuda"),
    ],
)
def test_runs_that_cannot_be_say_why(told: Any, says: str, unchanged: katiml.Lake) -> None:
    strategy, size, more = told
    with pytest.raises(KatiMLError) as raised:
        unchanged.mine(strategy, size, **more)
    assert says in str(raised.value)
    miner = unchanged.miners.create(strategy, size, **more)
    with pytest.raises(type(raised.value)):
        miner.run()
    assert miner.status == "FAILURE"
    assert miner.error is not None
    assert miner.error["message"] == raised.value.message


def test_mixed_dimensions(tmp_path: Any) -> None:
    with katiml.connect(tmp_path / "lake") as lake:
        lake.ingest(pool(20, 4) + pool(20, 5))
        with pytest.raises(InvalidInput, match=r"different lengths: .*4 values.*5 values"):
            lake.mine("CORESET", 2, model_name="net:last")


def test_an_overlapping_reference_is_not_picked_again(quick: katiml.Lake) -> None:
    picked = quick.mine("CORESET", 40, reference_filters=LABELLED, model_name="net:last")
    assert set(map(int, texts(quick, picked))) == set(range(40))
    with pytest.raises(InvalidInput):
        quick.mine("CORESET", 1, LABELLED, reference_filters=LABELLED, model_name="net:last")
