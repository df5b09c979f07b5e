"""The benchmarks run, on a sliver of their size, and write the tables they print."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import _TOPICS as TOPICS
from benchmarks.common import Measure, Topic, seconds

ROOT = Path(__file__).parents[1]


def test_every_topic_runs_and_is_written(tmp_path: Path) -> None:
    output = tmp_path / "benchmarks.md"
    arguments = ["--scale", "0.003", "--repeats", "1", "--output", str(output)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments, "--folder", str(tmp_path / "files")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    written = output.read_text()
    assert written.count("## ") == len(TOPICS)
    for line in (
        "import katiml",
        "10 logits",
        "top 1,000 by entropy, Arrow",
        "CORESET, a pick",
        "average precision of",
        "DuckDB 1.",
    ):
        assert line in written
    assert "top 1,000 by entropy" in done.stdout


def test_an_unknown_topic_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--only", "weather", "--folder", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "weather" in done.stderr


def test_a_table_as_markdown() -> None:
    topic = Topic("Ingest", "orjson", [Measure("records", "2 s", "1 s", 2.0, "2.5")])
    assert topic.markdown().splitlines() == [
        "## Ingest",
        "",
        "| what | KatiML | orjson | ratio | aim |",
        "| --- | --- | --- | --- | --- |",
        "| records | 2 s | 1 s | 2.00 | 2.5 |",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0001234, "0.123 ms"),
        (0.01234, "12.3 ms"),
        (0.9, "900 ms"),
        (2.5, "2.50 s"),
        (12.34, "12.3 s"),
        (150, "150 s"),
    ],
)
def test_durations_have_three_digits(value: float, shown: str) -> None:
    assert seconds(value) == shown
