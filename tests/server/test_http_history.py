"""History over HTTP: changes, undo, restore, purge and retention."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.conftest import Api, picture

SMALL = [{"left": "metadata.width", "op": "=", "right": 100}]


@pytest.fixture
def dogs(api: Api) -> Api:
    """Three pictures of dogs, one of them deleted over HTTP."""
    api.lake.ingest([picture(number) for number in range(3)])
    api.post("/api/datapoints/delete", {"filters": SMALL, "returning": "counts"})
    return api


def test_changes_name_the_key_that_made_them(dogs: Api) -> None:
    latest, first = dogs.client.get("/api/changes").json()
    assert (latest["kind"], latest["author"], latest["undoneBy"]) == ("delete", "default", None)
    assert latest["removed"]["datapoints"] == 1
    assert first["added"]["datapoints"] == 3
    assert len(dogs.client.get("/api/changes?limit=1").json()) == 1
    assert dogs.client.get("/api/changes?kind=undo").json() == []
    assert len(dogs.client.get(f"/api/changes?upload={first['upload']}").json()) == 1
    assert dogs.client.get("/api/changes?upload=x").status_code == 400
    assert dogs.client.get("/api/changes?limit=-1").status_code == 422


def test_undo(dogs: Api) -> None:
    preview = dogs.rows("/api/changes/undo", {"dryRun": True})
    assert (preview["dryRun"], preview["change"]) == (True, None)
    assert dogs.rows("/api/datapoints/count") == 2
    done = dogs.rows("/api/changes/undo")
    assert done["restored"] == preview["restored"]
    assert done["undoes"][0]["kind"] == "delete"
    assert dogs.rows("/api/datapoints/count") == 3
    again = dogs.post("/api/changes/undo", {"change": 2})
    assert again.status_code == 409
    assert "undo 3" in again.json()["error"]["hint"]
    upload = dogs.client.get("/api/changes").json()[-1]["upload"]
    assert dogs.rows("/api/changes/undo", {"change": upload})["removed"]["datapoints"] == 3


def test_restore(dogs: Api) -> None:
    body: dict[str, Any] = {"filters": SMALL}
    assert dogs.rows("/api/datapoints/restore", {**body, "dryRun": True})["restored"]
    assert dogs.rows("/api/datapoints/restore", body)["restored"]["datapoints"] == 1
    assert dogs.rows("/api/datapoints/count") == 3
    assert dogs.post("/api/datapoints/restore").status_code == 400
    assert dogs.rows("/api/datapoints/restore", {"all": True})["restored"] == {}


def test_purge(dogs: Api) -> None:
    assert dogs.post("/api/datapoints/purge").status_code == 400
    assert dogs.post("/api/datapoints/purge", {"ids": ["x"]}).status_code == 400
    body = {"filters": SMALL, "dryRun": True}
    assert dogs.rows("/api/datapoints/purge", body)["datapoints"] == 1
    done = dogs.rows("/api/datapoints/purge", {"filters": SMALL})
    assert (done["datapoints"], done["finished"]) == (1, True)
    assert dogs.rows("/api/datapoints/restore", {"all": True})["restored"] == {}


def test_retention(dogs: Api) -> None:
    assert dogs.client.get("/api/retention").json() == {"retention": "P90D"}
    put = dogs.client.put("/api/retention", json={"retention": "P1Y"})
    assert put.json() == {"retention": "P1Y"}
    assert dogs.stranger.get("/api/retention").json() == {"retention": "P90D"}
    assert dogs.client.put("/api/retention", json={"retention": "soon"}).status_code == 400
    assert dogs.client.put("/api/retention", json={}).json() == {"retention": "P90D"}


def test_strangers_see_and_undo_their_own(dogs: Api) -> None:
    assert dogs.stranger.get("/api/changes").json() == []
    assert dogs.stranger.post("/api/changes/undo", json={}).status_code == 404
    assert dogs.stranger.post("/api/changes/undo", json={"change": 2}).status_code == 404
    restored = dogs.stranger.post("/api/datapoints/restore", json={"all": True}).json()
    assert restored["restored"] == {}
    assert dogs.anybody.get("/api/changes").status_code == 401
