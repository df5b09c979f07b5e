"""`katiml mine`, `katiml miner` and `katiml tasks`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import katiml
from katiml.cli import main
from tests.mining.conftest import pool

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; returns what it printed: errors where it left with the code `code`."""
    monkeypatch.setenv("KATIML_LAKE", str(tmp_path / "lake"))
    monkeypatch.chdir(tmp_path)
    with katiml.connect() as lake:
        lake.ingest(pool())

    def run(*arguments: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        said = capsys.readouterr()
        assert (left.value.code or 0) == code, said.err
        return said.err if code else said.out

    return run


def test_mine(run: Run) -> None:
    shown = run("mine", "ENTROPY", "--size", "3", "--model", "net", "--fields", "id,text")
    assert [line.split()[-1] for line in shown.splitlines()] == ["text", "0", "1", "2"]
    rows = json.loads(run("mine", "random", "--size", "30", "--seed", "3", "--json"))
    assert [row["rank"] for row in rows] == list(range(1, 31))
    assert rows == json.loads(run("mine", "random", "--size", "30", "--seed", "3", "--json"))
    run(
        *("mine", "CORESET", "--size", "4", "--model", "net:last", "--set", "metric=cosine"),
        *("--filter", "tags.value = unlabelled", "--reference", "tags.value = labelled"),
        *("--output", "picks.csv", "--fields", "text"),
    )
    with Path("picks.csv").open() as file:
        picks = list(csv.DictReader(file))
    assert len(picks) == 4
    assert {int(row["text"]) < 40 for row in picks} == {True}
    assert "20 of 30" not in run("mine", "RANDOM", "--size", "30")


def test_mine__estimate_and_explain(run: Run) -> None:
    told = ("mine", "CORESET", "--size", "4", "--model", "net:last")
    found = json.loads(run(*told, "--estimate", "--json"))
    assert (found["datapoints"], found["usable"]) == (60, 50)
    shown = run(*told, "--estimate")
    assert "usable" in shown and "50" in shown and "kB" in shown
    assert run(*told, "--explain", "--json")


def test_mine__into_a_dataset(run: Run) -> None:
    for _ in range(2):
        run("mine", "RANDOM", "--size", "5", "--into", "train", "--exclude-dataset", "train")
    with katiml.connect() as lake:
        assert len(lake.datasets.get("train")) == 10
    run("mine", "RANDOM", "--size", "10", "--dataset", "train")
    run("mine", "RANDOM", "--size", "11", "--dataset", "train", code=1)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("mine", "ENTROPI", "--size", "1"), 1, "did you mean ENTROPY?"),
        (("mine", "RANDOM", "--size", "0"), 2, "--size"),
        (("mine", "RANDOM"), 2, "--size"),
        (("mine", "RANDOM", "--size", "61"), 1, "60 datapoints only"),
        (("mine", "CORESET", "--size", "1", "--model", "other"), 1, "'net:last'"),
        (("mine", "CORESET", "--size", "1", "--set", "metric"), 2, "NAME=VALUE"),
        (("mine", "CORESET", "--size", "1", "--set", "metrik=cosine"), 1, "did you mean metric?"),
        (("mine", "RANDOM", "--size", "1", "--every", "P1D"), 2, "kept"),
        (("mine", "RANDOM", "--size", "1", "--keep", "x", "--every", "daily"), 1, "ISO 8601"),
        (("mine", "RANDOM", "--size", "1", "--output", "picks.xyz"), 1, "picks.xyz"),
        (("miner", "show", "x"), 1, "no miner 'x'"),
        (("tasks", "show", "x"), 1, "no task 'x'"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], code: int, says: str, run: Run) -> None:
    assert says in run(*arguments, code=code)


def test_kept_miners(run: Run) -> None:
    run("mine", "RANDOM", "--size", "25", "--keep", "to label", "--every", "PT12H")
    (miner,) = json.loads(run("miner", "list", "--json"))
    assert (miner["display_name"], miner["status"]) == ("to label", "SUCCESS")
    id_ = miner["id"]
    assert "to label" in run("miner", "list")
    assert "PT12H" in run("miner", "show", id_)
    assert json.loads(run("miner", "show", id_, "--json"))["size"] == 25
    rows = json.loads(run("miner", "results", id_, "--json", "--fields", "text"))
    assert len(rows) == 25 and rows[0]["text"].isdecimal()
    assert len(run("miner", "run", id_).splitlines()) == 21
    run("miner", "schedule", id_, "never")
    assert json.loads(run("miner", "show", id_, "--json"))["next_run_at"] is None
    run("miner", "schedule", id_, "P1D")
    run("miner", "reset", id_)
    assert "has not been run" in run("miner", "results", id_, code=1)
    run("miner", "delete", id_)
    assert json.loads(run("miner", "list", "--json")) == []


def test_strategies(run: Run) -> None:
    assert "CORESET" in run("miner", "strategies")
    found = {row["name"]: row for row in json.loads(run("miner", "strategies", "--json"))}
    assert "metric" in found["CORESET"]["parameters"]


def test_tasks(run: Run) -> None:
    run("mine", "RANDOM", "--size", "61", "--keep", "too many", code=1)
    (task,) = json.loads(run("tasks", "list", "--status", "FAILURE", "--json"))
    assert "FAILURE" in run("tasks", "list")
    assert "picking 61" in run("tasks", "show", task["id"])
    shown = json.loads(run("tasks", "show", task["id"], "--json"))
    assert shown["logs"] and "60 datapoints only" in shown["error"]["message"]
    assert "60 datapoints only" in run("tasks", "wait", task["id"], code=1)
    assert "FAILURE" in run("tasks", "cancel", task["id"])
    assert "RUNNING" in run("tasks", "list", "--status", "RUNNING", code=1)
