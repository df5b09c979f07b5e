"""`katiml dataset`: what it prints, and how it leaves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import katiml
from katiml.cli import main

RECORDS: list[dict[str, Any]] = [
    {
        "type": "TEXT",
        "text": f"text {number}",
        "tags": {"split": "train" if number < 4 else "pool"},
        "groundtruths": [
            {"task_type": "CLASSIFICATION", "class_name": "cat" if number % 2 else "dog"}
        ],
    }
    for number in range(8)
]
TRAIN = ("-f", "tags.name = split", "-f", "tags.value = train")


class Shell:
    """Runs command lines on a lake of this test."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.code = 0
        self.err = ""

    def __call__(self, *arguments: str) -> str:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(arguments)
        said = self._capsys.readouterr()
        self.code, self.err = int(left.value.code or 0), said.err
        return said.out

    def dataset(self, *arguments: str) -> str:
        out = self("dataset", *arguments)
        assert self.code == 0, self.err
        return out

    def json(self, *arguments: str) -> Any:
        return json.loads(self.dataset(*arguments, "--json"))


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    monkeypatch.setenv("KATIML_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("KATIML_AUTHOR", "ann")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    with katiml.connect() as lake:
        lake.ingest(RECORDS)
    return Shell(capsys)


def test_from_create_to_log(shell: Shell) -> None:
    shell.dataset("create", "train")
    assert "4 added, 0 removed" in shell.dataset("add", "train", *TRAIN)
    said = shell.dataset("commit", "train", "-m", "first split")
    assert re.search(r"\[train [0-9a-f]{8}\] first split\n 4 datapoints, \+4 -0", said)
    shell.dataset("remove", "train", "-f", "groundtruths.class_name = cat")
    status = shell.json("status", "train")
    assert (status["size"], status["added"], status["removed"]) == (2, 0, 2)
    shell.dataset("commit", "train", "-m", "no cats", "--author", "bob")
    log = shell.json("log", "train")
    assert [(row["message"], row["author"], row["size"]) for row in log] == [
        ("no cats", "bob", 2),
        ("first split", "ann", 4),
    ]
    assert [row["name"] for row in shell.json("list")] == ["train"]


def test_the_log_is_a_graph_with_names(shell: Shell) -> None:
    shell.dataset("create", "train")
    shell.dataset("add", "train", *TRAIN)
    root = shell.json("commit", "train", "-m", "root")["id"]
    shell.dataset("add", "train", "--all")
    theirs = shell.json("commit", "train", "-m", "theirs")["id"]
    shell.dataset("checkout", "train", "HEAD~1")
    shell.dataset("remove", "train", "-f", "text = text 0")
    shell.dataset("commit", "train", "-m", "ours")
    shell.dataset("tag", "train", "base", root[:8])
    merged = shell.json("merge", "train", theirs[:8], "-m", "both")
    assert merged["version"]["size"] == 7
    lines = shell.dataset("log", "train").splitlines()
    drawn = [line.split("  ")[0] for line in lines]
    short = {row["message"]: row["short_id"] for row in shell.json("log", "train")}
    assert drawn == [
        f"* {short['both']} (HEAD) both",
        "|\\",
        f"* | {short['ours']} ours",
        f"| * {short['theirs']} theirs",
        "|/",
        f"* {short['root']} (tag: base) root",
    ]
    assert len(shell.dataset("log", "train", "-n", "1").splitlines()) == 1


def test_diff_takes_two_dots(shell: Shell) -> None:
    shell.dataset("create", "train")
    shell.dataset("add", "train", *TRAIN)
    shell.dataset("commit", "train", "-m", "first")
    shell.dataset("add", "train", "-f", "text = text 5")
    said = shell.dataset("diff", "train")
    assert "+1 added  -0 removed" in said
    assert re.search(r"cat\W+2\W+3\W+\+1", said)
    shell.dataset("commit", "train", "-m", "second")
    assert shell.json("diff", "train", "HEAD~1..HEAD")["counts"]["added"] == 1
    assert shell.json("diff", "train", "HEAD..HEAD~1")["counts"]["removed"] == 1
    with_ids = shell.dataset("diff", "train", "HEAD~1..HEAD", "--ids")
    assert re.search(r"^\+ [0-9a-f-]{36} added$", with_ids, re.MULTILINE)
    shown = shell.dataset("show", "train")
    assert "second" in shown and "+1 added" in shown


def test_a_forced_checkout_can_be_taken_back(shell: Shell) -> None:
    shell.dataset("create", "train")
    shell.dataset("add", "train", *TRAIN)
    shell.dataset("commit", "train", "-m", "first")
    shell.dataset("add", "train", "--all")
    shell("dataset", "checkout", "train", "HEAD")
    assert shell.code == 1 and "hint" in shell.err
    shell.dataset("checkout", "train", "HEAD", "--force")
    assert shell.json("status", "train")["size"] == 4
    assert [row["size"] for row in shell.json("drafts", "train")] == [8]
    shell.dataset("restore", "train")
    assert shell.json("status", "train")["size"] == 8


def test_queries_and_exports_see_a_version(shell: Shell, tmp_path: Path) -> None:
    shell.dataset("create", "train")
    shell.dataset("add", "train", *TRAIN)
    shell.dataset("commit", "train", "-m", "first")
    shell.dataset("tag", "train", "v1")
    shell("delete", "-f", "text = text 1", "--yes")
    assert shell("count", "--dataset", "train").strip() == "3"
    assert shell("count", "groundtruths", "--dataset", "train", "--version", "v1").strip() == "4"
    rows = json.loads(shell("select", "--dataset", "train", "--version", "v1", "--json"))
    assert [row["text"] for row in rows] == [f"text {number}" for number in range(4)]
    shell.dataset("export", "train", "v1", "-o", "train.parquet")
    frame = pd.read_parquet(tmp_path / "train.parquet")
    assert frame["text"].tolist() == [f"text {number}" for number in range(4)]
    labels = [own[0]["class_name"] for own in frame["groundtruths"]]
    assert labels == ["dog", "cat", "dog", "cat"]


def test_ids_come_from_options_files_and_pipes(shell: Shell, tmp_path: Path) -> None:
    shell.dataset("create", "train")
    ids = [row["id"] for row in json.loads(shell("select", "--json"))]
    shell.dataset("add", "train", "--id", ids[0], "--id", ids[1])
    (tmp_path / "ids.txt").write_text("\n".join(ids[1:4]) + "\n\n")
    assert shell.json("add", "train", "--ids-from", "ids.txt")["added"] == 2
    shell("dataset", "add", "train", "--id", "0192f0c1-7d5e-7a31-8f53-0a4b5c6d7e8f", "--id", ids[7])
    assert shell.code == 1 and "0192f0c1-7d5e-7a31-8f53-0a4b5c6d7e8f" in shell.err
    assert shell.json("status", "train")["size"] == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "train"), "which datapoints?"),
        (("add", "train", "--all", "-f", "text = a"), "only one of them"),
        (("commit", "train", "-m", " "), "message"),
        (("commit", "train", "-m", "again"), "nothing to commit"),
        (("show", "train", "ffffffff"), "ffffffff"),
        (("status", "nothing"), "nothing"),
        (("export", "train", "-o", "train.xls"), "train.xls"),
    ],
)
def test_mistakes_are_said(shell: Shell, arguments: tuple[str, ...], said: str) -> None:
    shell.dataset("create", "train")
    shell.dataset("add", "train", *TRAIN)
    shell.dataset("commit", "train", "-m", "first")
    shell("dataset", *arguments)
    assert shell.code == 1
    assert said in shell.err
    assert "Traceback" not in shell.err


def test_deleting_asks_first(shell: Shell) -> None:
    shell.dataset("create", "train")
    shell("dataset", "delete", "train")
    assert shell.code == 1
    assert len(shell.json("list")) == 1
    shell.dataset("delete", "train", "--yes")
    assert shell.json("list") == []
