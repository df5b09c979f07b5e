"""The command line: what it prints, what it writes, and how it leaves."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

import katiml
from katiml.cli import main
from katiml.cli.filters import parse_filter
from katiml.errors import InvalidFilter

RECORDS = [
    {
        "type": "IMAGE",
        "metadata": {"uri": f"s3://animals/{number}.jpg", "width": 640},
        "tags": {"split": "train" if number < 3 else "pool"},
        "groundtruths": [
            {"task_type": "CLASSIFICATION", "class_name": "cat" if number % 2 else "dog"}
        ],
        "predictions": [
            {
                "task_type": "CLASSIFICATION",
                "model_name": "small",
                "class_names": ["cat", "dog"],
                "logits": [0.5 * number, 1.0],
            }
        ],
    }
    for number in range(5)
]
TRAIN = ("--filter", "tags.name = split", "--filter", "tags.value = train")

Run = Callable[..., "Left"]


class Left:
    """How a command ended: its exit code and what it printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line on a lake of this test, in a folder of this test."""
    monkeypatch.setenv("KATIML_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Left:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(arguments)
        said = capsys.readouterr()
        return Left(int(left.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A file of five good records and, on line 3, a broken one."""
    lines = [json.dumps(record) for record in RECORDS]
    path = tmp_path / "records.ndjson"
    path.write_text("\n".join([*lines[:2], '{"type": ', *lines[2:]]) + "\n")
    return path


@pytest.fixture
def filled(run: Run, records: Path) -> Run:
    """The same, with the records in the lake."""
    assert run("ingest", str(records)).code == 0
    return run


# -- ingest and uploads ----------------------------------------------------------------------


def test_ingest_says_what_landed_and_what_was_rejected(run: Run, records: Path) -> None:
    left = run("ingest", str(records), "--rejected-to", "rejected.ndjson")
    assert left.code == 0
    assert "5" in left.out
    assert "3" in left.out
    assert Path("rejected.ndjson").read_text() == '{"type": \n'
    assert run("count").out == "5\n"


def test_ingest_as_json(run: Run, records: Path) -> None:
    (upload,) = run("ingest", str(records), "--json").json
    assert upload["status"] == "SUCCEEDED"
    assert upload["counts"]["landed"] == 5
    assert upload["counts"]["rejected"] == 1


def test_ingest_fails_when_nothing_landed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.ndjson").write_text("{}\n[1]\n")
    left = run("ingest", "bad.ndjson")
    assert left.code == 1
    assert run("count").out == "0\n"


def test_one_bad_file_does_not_hide_the_good_ones(run: Run, records: Path) -> None:
    left = run("ingest", "missing.ndjson", str(records))
    assert left.code == 1
    assert "missing.ndjson" in left.err
    assert "Traceback" not in left.err
    assert run("count").out == "5\n"


def test_the_same_idempotency_key_lands_once(run: Run, records: Path) -> None:
    for _ in range(2):
        assert run("ingest", str(records), "--idempotency-key", "monday").code == 0
    assert run("count").out == "5\n"


def test_a_key_for_several_files_is_refused(run: Run, records: Path) -> None:
    left = run("ingest", str(records), str(records), "--idempotency-key", "monday")
    assert left.code == 2
    assert run("count").out == "0\n"


def test_ingest_from_standard_input(records: Path, tmp_path: Path) -> None:
    lake = str(tmp_path / "piped")
    command = [sys.executable, "-m", "katiml", "ingest", "-", "--lake", lake, "--json"]
    done = subprocess.run(
        command, input=records.read_bytes(), capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)[0]["counts"]["landed"] == 5


def test_uploads_can_be_listed_shown_and_their_rejected_records_fetched(filled: Run) -> None:
    (upload,) = filled("uploads", "list", "--json").json
    assert upload["status"] == "SUCCEEDED"
    assert upload["id"] in filled("uploads", "list").out
    assert filled("uploads", "show", upload["id"], "--json").json["id"] == upload["id"]
    assert filled("uploads", "wait", upload["id"]).code == 0
    assert "SUCCEEDED" in filled("uploads", "cancel", upload["id"]).out
    assert filled("uploads", "rejected", upload["id"]).out == '{"type": \n'
    assert filled("uploads", "rejected", upload["id"], "--output", "again.ndjson").code == 0
    assert Path("again.ndjson").read_text() == '{"type": \n'


def test_an_unknown_upload_is_one_sentence(run: Run) -> None:
    left = run("uploads", "show", "00000000-0000-0000-0000-000000000000")
    assert left.code == 1
    assert left.err.startswith("error: ")
    assert "Traceback" not in left.err


# -- select, count, sql ----------------------------------------------------------------------


def test_select_shows_a_table_without_empty_columns(filled: Run) -> None:
    out = filled("select", *TRAIN).out
    assert out.count("IMAGE") == 3
    assert "metadata" in out
    assert "request_id" not in out
    assert "organization_id" not in out


def test_a_long_answer_is_cut_and_says_so(run: Run, tmp_path: Path) -> None:
    lines = "".join(f'{{"type": "TEXT", "text": "number {n}"}}\n' for n in range(30))
    (tmp_path / "texts.ndjson").write_text(lines)
    run("ingest", "texts.ndjson")
    cut = run("select", "--fields", "text")
    assert cut.out.count("number") == 20
    assert "20 of 30" in cut.err
    assert run("select", "--fields", "text", "--limit", "30").out.count("number") == 30
    assert len(run("select", "--json").json) == 30
    assert run("sql", "SELECT text FROM datapoints").out.count("number") == 20


def test_select_nothing(run: Run) -> None:
    left = run("select", "--filter", "type = TEXT")
    assert (left.code, left.out) == (0, "")
    assert "no rows" in left.err
    assert run("select", "--json").json == []


def test_select_as_json_nests_attachments(filled: Run) -> None:
    rows = filled("select", *TRAIN, "--fields", "id, metadata.uri, groundtruths.*", "--json").json
    assert sorted(row["metadata.uri"] for row in rows) == [
        f"s3://animals/{number}.jpg" for number in range(3)
    ]
    assert {row["groundtruths"][0]["class_name"] for row in rows} == {"cat", "dog"}


def test_order_limit_and_offset(filled: Run) -> None:
    chosen = ("select", "predictions", "--fields", "metrics.entropy", "--json")
    ordered = filled(*chosen, "--order-by", "metrics.entropy", "--desc").json
    values = [row["metrics.entropy"] for row in ordered]
    assert values == sorted(values, reverse=True)
    page = filled(
        *chosen, "--order-by", "metrics.entropy", "--desc", "-n", "2", "--offset", "1"
    ).json
    assert [row["metrics.entropy"] for row in page] == values[1:3]


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv", "rows.json"])
def test_select_into_a_file(filled: Run, name: str) -> None:
    left = filled("select", "--fields", "id,type,groundtruths.class_name", "--output", name)
    assert (left.code, left.out) == (0, "")
    rows = _read(Path(name))
    assert [row["type"] for row in rows] == ["IMAGE"] * 5
    assert list(Path().glob("*.part")) == []


@pytest.mark.parametrize("name", ["none.parquet", "none.csv", "none.json"])
def test_an_empty_answer_still_makes_a_file(filled: Run, name: str) -> None:
    assert filled("select", "--filter", "type = TEXT", "--output", name).code == 0
    assert _read(Path(name)) == []


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv", "rows.json"])
def test_sql_into_a_file(filled: Run, name: str) -> None:
    query = "SELECT class_name, count(*) AS n FROM groundtruths GROUP BY class_name ORDER BY 1"
    assert filled("sql", query, "-o", name).code == 0
    rows = [(row["class_name"], int(row["n"])) for row in _read(Path(name))]
    assert rows == [("cat", 2), ("dog", 3)]


def test_sql_cannot_write(filled: Run) -> None:
    left = filled("sql", "DELETE FROM datapoints")
    assert left.code == 1
    assert "Traceback" not in left.err
    assert filled("count").out == "5\n"


def test_an_unknown_format_is_refused_before_any_work(filled: Run) -> None:
    left = filled("select", "--output", "rows.xlsx")
    assert left.code == 1
    assert ".parquet, .csv or .json" in left.err
    assert not Path("rows.xlsx").exists()


def test_a_file_that_cannot_be_written(filled: Run) -> None:
    left = filled("select", "--output", "no/such/folder/rows.csv")
    assert left.code == 1
    assert "rows.csv" in left.err
    assert "Traceback" not in left.err


def test_count(filled: Run) -> None:
    assert filled("count", *TRAIN).out == "3\n"
    assert filled("count", "groundtruths", "-f", "class_name = cat").out == "2\n"
    assert filled("count", "--json").json == {"count": 5}
    either = '[{"any": [{"left": "metadata.uri", "op": "like", "right": "%0.jpg"}]}]'
    assert filled("count", "--filters", either).out == "1\n"


# -- filters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("tags.name = split", ("tags.name", "=", "split")),
        ("tags.name=split", ("tags.name", "=", "split")),
        ("metrics.entropy > 0.5", ("metrics.entropy", ">", 0.5)),
        ("metadata.width >= 640", ("metadata.width", ">=", 640)),
        ('text = "640"', ("text", "=", "640")),
        ("text != a = b", ("text", "!=", "a = b")),
        ("text IS NULL", ("text", "is", None)),
        ("text is not null", ("text", "is not", None)),
        ("type in IMAGE, TEXT", ("type", "in", ["IMAGE", "TEXT"])),
        ("type NOT  IN IMAGE", ("type", "not in", ["IMAGE"])),
        ("id in [1]", ("id", "in", [1])),
        ("text ~ ^a.*b$", ("text", "~", "^a.*b$")),
        ('type in ["IMAGE"]', ("type", "in", ["IMAGE"])),
        ("metadata.width between 1,2", ("metadata.width", "between", [1, 2])),
        ("text like 12%", ("text", "like", "12%")),
        ("text like 12", ("text", "like", "12")),
        ("metadata.ok = true", ("metadata.ok", "=", True)),
        ('text = ""', ("text", "=", "")),
        ("inside = in in in", ("inside", "=", "in in in")),
    ],
)
def test_typed_filters(typed: str, expected: tuple[str, str, Any]) -> None:
    condition = parse_filter(typed)
    assert (condition["left"], condition["op"], condition["right"]) == expected


@pytest.mark.parametrize(
    "typed", ["", "tags.name", "= 3", "tags.name =", "type in", "a b c", "type in ['IMAGE']"]
)
def test_what_is_not_a_filter(typed: str) -> None:
    with pytest.raises(InvalidFilter):
        parse_filter(typed)


@pytest.mark.parametrize(
    "arguments",
    [
        ("count", "--filter", "nonsense"),
        ("count", "--filter", "colour = red"),
        ("count", "--filters", "{broken"),
        ("count", "nowhere"),
        ("select", "--limit", "-1"),
        ("select", "--colour"),
        ("unheard-of",),
        ("delete",),
    ],
)
def test_wrong_usage_leaves_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    left = run(*arguments)
    assert left.code == 2
    assert left.err
    assert "Traceback" not in left.err


# -- delete ----------------------------------------------------------------------------------


def test_delete_says_how_many_and_asks(filled: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    left = filled("delete", *TRAIN)
    assert left.code == 1
    assert "3 datapoints" in left.err
    assert filled("count").out == "5\n"


def test_delete_answers_with_counts(filled: Run) -> None:
    counts = filled("delete", *TRAIN, "--yes", "--json").json
    assert (counts["datapoints"], counts["groundtruths"], counts["predictions"]) == (3, 3, 3)
    assert filled("count").out == "2\n"
    assert filled("count", "groundtruths").out == "2\n"


def test_delete_with_a_limit(filled: Run) -> None:
    left = filled("delete", "predictions", *TRAIN, "--limit", "1", "-y")
    assert left.code == 0
    assert filled("count", "predictions").out == "4\n"


def test_delete_everything_wants_all(filled: Run) -> None:
    refused = filled("delete", "--yes")
    assert refused.code == 2
    assert "--all" in refused.err
    assert filled("count").out == "5\n"
    assert filled("delete", "--all", "--yes").code == 0
    assert filled("count").out == "0\n"


def test_delete_nothing(filled: Run) -> None:
    left = filled("delete", "--filter", "type = TEXT")
    assert left.code == 0
    assert "nothing was deleted" in left.err


# -- keys, status, version, help -------------------------------------------------------------


def test_keys(run: Run) -> None:
    secret = run("keys", "create", "ci").out.strip()
    (key,) = run("keys", "list", "--json").json
    assert key["name"] == "ci"
    assert secret not in run("keys", "list").out
    with katiml.connect() as lake:
        assert lake.keys.verify(secret) == "default"
    assert run("keys", "delete", key["id"]).code == 0
    assert run("keys", "list", "--json").json == []
    assert run("keys", "delete", key["id"]).code == 1


def test_rows_belong_to_an_organization(filled: Run) -> None:
    assert filled("count", "--organization", "others").out == "0\n"
    assert filled("--organization", "others", "count").out == "0\n"
    assert filled("--organization", "others", "count", "--organization", "default").out == "5\n"


def test_the_lake_may_be_named_before_or_after_the_command(filled: Run, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    assert filled("--lake", other, "count").out == "0\n"
    assert filled("count", "--lake", other).out == "0\n"


def test_status(filled: Run, tmp_path: Path) -> None:
    assert str(tmp_path / "lake") in filled("status").out
    assert filled("status", "--json").json["url"] == str(tmp_path / "lake")


def test_version(run: Run) -> None:
    assert run("version", "--short").out == f"{katiml.__version__}\n"
    assert run("version", "--json").json["katiml"] == katiml.__version__


def test_a_lake_that_cannot_be_opened_is_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a lake")
    left = run("count", "--lake", str(tmp_path / "file"))
    assert left.code == 1
    assert left.err.startswith("error: ")
    assert "Traceback" not in left.err


def test_serve_answers_until_it_is_told_to_stop(filled: Run, tmp_path: Path) -> None:
    import httpx

    command = [sys.executable, "-m", "katiml", "serve", "--port", "0"]
    environment = {**os.environ, "KATIML_API_KEY": "a-key-for-this-test-0123456789abcdef"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address = None
        while address is None:
            line = server.stderr.readline()
            assert line, "the server ended without an address"
            address = re.search(r"http://127\.0\.0\.1:\d+", line)
        headers = {"x-api-key": environment["KATIML_API_KEY"]}
        count = httpx.post(
            f"{address[0]}/api/datapoints/count", json={"filters": []}, headers=headers, timeout=30
        )
        assert count.json() == 5
        server.terminate()
        assert server.wait(30) in (0, -signal.SIGTERM)


def test_serve_refuses_other_machines_without_a_key(run: Run) -> None:
    left = run("serve", "--host", "0.0.0.0", "--port", "0")
    assert left.code == 1
    assert "KATIML_API_KEY" in left.err


def test_help_starts_quickly_and_teaches() -> None:
    code = (
        "import sys; from katiml.cli import main\n"
        "try: main(['select', '--help'])\n"
        "finally: print(*sorted({n.split('.')[0] for n in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "Examples:" in done.stdout
    assert '--filter "tags.name = split"' in done.stdout
    assert {"pandas", "fastapi", "PIL", "sklearn", "duckdb"} & set(done.stderr.split()) == set()


def _read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
        return rows
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return found
