"""The Dataset class of the original client, unmodified, against `katiml serve`: every method."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.original_client import python_of_original_client
from tests.sdk.test_original_client import KEY, server

__all__ = ["server"]  # a fixture: this module gets a server of its own


@pytest.fixture(scope="module")
def found(server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the class saw."""
    home = tmp_path_factory.mktemp("home")
    output = home / "datasets.json"
    script = Path(__file__).with_name("original_datasets_script.py")
    done = subprocess.run(
        [python_of_original_client(), str(script), str(output)],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "DIOPTRA_API_KEY": KEY,
            "DIOPTRA_APP_ENDPOINT": server,
            "DIOPTRA_API_ENDPOINT": f"{server}/events",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    results: dict[str, Any] = json.loads(output.read_text())
    return results


def test_datasets_are_made_and_found(found: dict[str, Any]) -> None:
    id_, name, text = found["made"]
    assert name == found["from_uuid"] == "pets" and found["again"] == id_
    assert text == f"Dataset with uuid {id_} and name pets"
    assert found["absent"] == "No Dataset exists for name pets" and found["no_uuid"] == "404"
    assert [one[1] for one in found["listed"]] == ["pets", "other"]
    assert found["after_delete"] == ["pets"]


def test_members(found: dict[str, Any]) -> None:
    assert found["downloaded"] == found["checked_out"] == ["t0", "t1", "t2"]
    assert found["unknown"] == "404"


def test_versions(found: dict[str, Any]) -> None:
    draft, second, empty, first = found["history"]
    assert [second["uuid"], empty["uuid"], first["uuid"]] == [
        found["second"],
        found["empty_commit"],
        found["first"],
    ]
    assert [one["message"] for one in (second, empty, first)] == ["second", "nothing new", "first"]
    assert draft["dirty"] and not draft["committed"]
    assert all(one["committed"] and not one["dirty"] for one in (second, empty, first))
    assert {one["dataset_uuid"] for one in found["history"]} == {found["made"][0]}
    for one in found["history"]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["created_at"])
    assert found["checkout"] == found["first"] and found["foreign"] == "400"
