"""`katiml changes | undo | restore | purge | retention | forget`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import katiml
from katiml.cli import main


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command on a lake with two datapoints, one of them deleted."""
    monkeypatch.setenv("KATIML_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("KATIML_AUTHOR", "ann")
    with katiml.connect() as lake:
        records = [{"type": "TEXT", "tags": {"n": str(number)}} for number in range(2)]
        lake.ingest(records)
        lake.datapoints.delete([{"left": "tags.value", "op": "=", "right": "0"}])

    def run(*arguments: str, code: int = 0) -> tuple[str, str]:
        with pytest.raises(SystemExit) as left:
            main(list(arguments))
        said = capsys.readouterr()
        assert (left.value.code or 0) == code, said.out + said.err
        return said.out, said.err

    return run


def test_changes(run: Any) -> None:
    out, _ = run("changes")
    assert "-1 tags, -1 datapoints" in out
    assert "ann" in out
    (latest,) = json.loads(run("changes", "-n", "1", "--json")[0])
    assert (latest["change"], latest["kind"], latest["undone_by"]) == (2, "delete", None)
    assert json.loads(run("changes", "--kind", "ingest", "--json")[0])[0]["change"] == 1


def test_undo_shows_and_asks(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = run("undo", "--dry-run")
    assert "would undo 2 (delete)" in err
    assert "datapoints" in out
    monkeypatch.setattr("typer.confirm", lambda *_, **__: (_ for _ in ()).throw(SystemExit(1)))
    run("undo", code=1)
    assert run("count")[0] == "1\n"
    done = json.loads(run("undo", "--yes", "--json")[0])
    assert done["restored"] == {"tags": 1, "datapoints": 1}
    assert run("count")[0] == "2\n"
    assert "2" in run("changes")[0]
    _, err = run("undo", "2", "--yes", code=1)
    assert "undone already" in err
    run("undo", str(done["change"]), "--yes")
    assert run("count")[0] == "1\n"


def test_undo_of_nothing(run: Any) -> None:
    _, err = run("undo", "99", code=1)
    assert "there is no change 99" in err
    _, err = run("undo", "x", code=1)
    assert "hint" in err


def test_restore(run: Any) -> None:
    run("restore", code=2)
    _, err = run("restore", "-f", "tags.value = 1")
    assert "no deleted datapoints match" in err
    run("restore", "-f", "tags.value = 0", "--dry-run")
    assert run("count")[0] == "1\n"
    run("restore", "-f", "tags.value = 0", "--yes")
    assert run("count")[0] == "2\n"


def test_restore_by_change(run: Any) -> None:
    done = json.loads(run("restore", "--change", "2", "--yes", "--json")[0])
    assert done["restored"] == {"tags": 1, "datapoints": 1}


def test_purge(run: Any) -> None:
    run("purge", code=2)
    _, err = run("purge", "-f", "tags.value = 7")
    assert "no datapoints match" in err
    _, err = run("purge", "--all", "--dry-run")
    assert "would purge 2 datapoints" in err
    done = json.loads(run("purge", "-f", "tags.value = 0", "--yes", "--json")[0])
    assert (done["datapoints"], done["finished"]) == (1, True)
    _, err = run("restore", "--all", "--yes")
    assert "no deleted datapoints match" in err
    assert run("count")[0] == "1\n"


def test_retention(run: Any) -> None:
    assert run("retention")[0] == "P90D\n"
    assert run("retention", "P1Y")[0] == "P1Y\n"
    assert json.loads(run("retention", "--json")[0]) == {"retention": "P1Y"}
    assert run("retention", "-")[0] == "P90D\n"
    _, err = run("retention", "soon", code=1)
    assert "ISO 8601" in err
    run("retention", "PT0S")
    assert json.loads(run("forget", "--json")[0]) == {"tags": 1, "datapoints": 1}
    assert "nothing to forget" in run("forget")[1]
