"""`/api/tasks/…`: miners and tasks over HTTP."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import katiml
from tests.mining.conftest import LABELLED, UNLABELLED, pool
from tests.server.conftest import Api, serve_lake

CORESET = {
    "display_name": "spread",
    "strategy": "CORESET",
    "size": 5,
    "embeddings_field": "embeddings",
    "metric": "cosine",
    "model_name": "net:last",
    "select": {"filters": UNLABELLED},
    "select_reference": {"filters": LABELLED},
    "skip_caching": True,
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A served lake with a pool."""
    with katiml.connect(tmp_path_factory.mktemp("lake")) as lake:
        lake.ingest(pool())
        yield from serve_lake(lake)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Api]:
    """A served lake with a pool, of this test's own."""
    with katiml.connect(tmp_path / "lake") as lake:
        lake.ingest(pool())
        yield from serve_lake(lake)


def created(api: Api, body: Any) -> str:
    answer: dict[str, str] = api.rows("/api/tasks/miners", body)
    assert list(answer) == ["miner_id"]
    return answer["miner_id"]


def finished(api: Api, miner_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        task: dict[str, Any] = get(api, f"/api/tasks/miners/inspect/{miner_id}")["task"]
        if task["status"] not in ("PENDING", "STARTED", "RETRY"):
            return task
        assert time.monotonic() < deadline
        time.sleep(0.02)


def get(api: Api, path: str, **parameters: Any) -> Any:
    response = api.client.get(path, params=parameters)
    assert response.status_code == 200, response.text
    return response.json()


def test_from_creation_to_results(served: Api) -> None:
    miner_id = created(served, CORESET)
    before = get(served, f"/api/tasks/miners/inspect/{miner_id}")
    assert before["task"]["status"] == "PENDING"
    assert before["task"]["id"] is None
    assert before["task"]["result"] is None
    config = get(served, f"/api/tasks/miners/{miner_id}")
    assert config["_id"] == miner_id
    assert {name: config[name] for name in CORESET} == CORESET
    assert config["created_at"].endswith("Z")

    answer = served.rows("/api/tasks/miner/run", {"miner_id": miner_id})
    assert answer["miner_id"] == miner_id
    task = finished(served, miner_id)
    assert task["status"] == "SUCCESS"
    assert (task["result_size"], len(task["result"])) == (5, 5)
    assert task["done_at"] >= task["started_at"]
    assert task["error"] is None
    assert task["explanation"]["configuration"]["metric"] == "cosine"

    listed = get(served, "/api/tasks/miners")[0]
    assert listed["_id"] == miner_id
    assert (listed["task"]["result_size"], listed["task"]["result"]) == (5, None)

    rows = get(served, f"/api/tasks/miners/results/{miner_id}")
    assert [row["datapoint"] for row in rows] == task["result"]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    response = served.client.get(
        f"/api/tasks/miners/results/{miner_id}", params={"as_csv": "true", "fields": "text"}
    )
    assert response.headers["content-type"].startswith("text/csv")
    table = list(csv.DictReader(io.StringIO(response.text)))
    assert [row["datapoint"] for row in table] == task["result"]
    assert float(table[0]["score"]) == rows[0]["score"]
    assert {int(row["text"]) < 40 for row in table} == {True}

    reset = served.rows("/api/tasks/miner/reset", {"miner_id": miner_id})
    assert reset["task"]["status"] == "PENDING"
    served.rows("/api/tasks/miners/delete", {"miner_id": miner_id})
    assert served.client.get(f"/api/tasks/miners/{miner_id}").status_code == 404


def test_editing__what_is_left_out_stays(served: Api) -> None:
    miner_id = created(served, {**CORESET, "select": {"filters": UNLABELLED, "limit": 30}})
    # As the web app of the original edits: without limit.
    again = {"_id": miner_id, **CORESET, "size": 7, "evaluation_period": "P1D"}
    assert created(served, again) == miner_id
    config = get(served, f"/api/tasks/miners/{miner_id}")
    assert config["size"] == 7
    assert config["select"] == {"filters": UNLABELLED, "limit": 30}
    assert config["evaluation_period"] == "P1D"
    assert config["next_run_at"] > config["created_at"]


def test_a_run_that_fails_says_why(served: Api) -> None:
    miner_id = created(served, {**CORESET, "model_name": "other"})
    served.rows("/api/tasks/miner/run", {"miner_id": miner_id})
    task = finished(served, miner_id)
    assert task["status"] == "FAILURE"
    assert "'other'" in task["error"]["message"]
    assert "'net:last'" in task["error"]["hint"]
    response = served.client.get(f"/api/tasks/miners/results/{miner_id}")
    assert response.status_code == 400
    assert response.json()["error"]["hint"] == task["error"]["hint"]


def test_results_before_a_run(served: Api) -> None:
    miner_id = created(served, CORESET)
    response = served.client.get(f"/api/tasks/miners/results/{miner_id}")
    assert response.status_code == 409
    assert "has not been run" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "strategy"),
        ({**CORESET, "size": 0}, "size is 0"),
        ({**CORESET, "size": "5"}, "size"),
        ({**CORESET, "strategy": "CORSET"}, "CORSET"),
        ({**CORESET, "metrik": "cosine"}, "metrik"),
        ({**CORESET, "select": {"filters": [{"left": "x", "op": "=", "right": 1}]}}, "'x'"),
        ({**CORESET, "select": {"filters": "x"}}, "filters"),
        ({**CORESET, "select": "x"}, "select"),
        ({**CORESET, "evaluation_period": "daily"}, "daily"),
        ({**CORESET, "display_name": 3}, "display_name"),
        ({**CORESET, "_id": "x"}, "'x'"),
        ({**CORESET, "_id": {"$gt": ""}}, "no miner"),
        ({"strategy": "MIXED", "size": 1, "stages": [{"strategy": "MIXED"}] * 2}, "MIXED"),
        ([], "object"),
        (3, "object"),
    ],
)
def test_wrong_bodies(served: Api, body: Any, says: str) -> None:
    before = len(get(served, "/api/tasks/miners"))
    response = served.client.post("/api/tasks/miners", json=body)
    assert response.status_code in (400, 404, 422), response.text
    assert says in response.json()["error"]["message"]
    assert len(get(served, "/api/tasks/miners")) == before


@pytest.mark.parametrize("data", [b"{", b"\xff", b'{"size": NaN}', b"[" * 10_000])
def test_bodies_that_are_no_json(served: Api, data: bytes) -> None:
    for path in ("miners", "miners/estimate", "miner/run", "miners/delete"):
        response = served.client.post(f"/api/tasks/{path}", content=data)
        assert response.status_code in (400, 422), response.text


@pytest.mark.parametrize("path", ["miner/run", "miner/reset", "miner/cancel", "miners/delete"])
def test_unknown_miners(served: Api, path: str) -> None:
    for wrong in ("x", "", "0190c1f2-0000-7000-8000-000000000000"):
        response = served.post(f"/api/tasks/{path}", {"miner_id": wrong})
        assert response.status_code == 404, response.text
    assert served.post(f"/api/tasks/{path}", {"miner": "x"}).status_code == 422


def test_another_organization_sees_nothing(served: Api) -> None:
    miner_id = created(served, CORESET)
    served.rows("/api/tasks/miner/run", {"miner_id": miner_id})
    task = finished(served, miner_id)
    stranger = served.stranger
    assert stranger.get("/api/tasks/miners").json() == []
    assert stranger.get("/api/tasks").json() == []
    for path in (
        f"miners/{miner_id}",
        f"miners/inspect/{miner_id}",
        f"miners/results/{miner_id}",
        task["id"],
        f"{task['id']}/logs",
    ):
        assert stranger.get(f"/api/tasks/{path}").status_code == 404, path
    for path in ("miner/run", "miner/reset", "miners/delete"):
        body = {"miner_id": miner_id}
        assert stranger.post(f"/api/tasks/{path}", json=body).status_code == 404, path
    edit = {**CORESET, "_id": miner_id}
    assert stranger.post("/api/tasks/miners", json=edit).status_code == 404
    assert served.anybody.get("/api/tasks/miners").status_code == 401
    assert len(get(served, f"/api/tasks/miners/results/{miner_id}")) == 5


def test_strategies(served: Api) -> None:
    found = {own["name"]: own for own in get(served, "/api/tasks/miners/strategies")}
    assert {"RANDOM", "ENTROPY", "CORESET", "BADGE", "NEAREST_NEIGHBORS"} <= set(found)
    (metric,) = found["CORESET"]["parameters"]
    assert metric["choices"] == ["euclidean", "cosine"]
    assert all(own["summary"] and own["paper"] for own in found.values())


def test_estimate(served: Api) -> None:
    found = served.rows("/api/tasks/miners/estimate", {**CORESET, "select_reference": None})
    assert (found["datapoints"], found["usable"]) == (40, 40)
    response = served.post("/api/tasks/miners/estimate", {**CORESET, "model_name": "other"})
    assert response.status_code == 400
    assert "'net:last'" in response.json()["error"]["hint"]


def test_tasks(own: Api) -> None:
    miner_id = created(own, CORESET)
    task_id = own.rows("/api/tasks/miner/run", {"miner_id": miner_id})["task"]["id"]
    finished(own, miner_id)
    (listed,) = get(own, "/api/tasks", kind="miner", status="SUCCESS")
    shown = get(own, f"/api/tasks/{task_id}")
    assert {**shown, **listed} == shown
    assert "result" not in listed
    assert shown["result"]["size"] == 5
    assert (shown["subject"], shown["progress"], shown["attempt"]) == (miner_id, 1.0, 1)
    messages = [line["message"] for line in get(own, f"/api/tasks/{task_id}/logs")]
    assert "picked 5" in messages[-1]
    assert own.rows(f"/api/tasks/{task_id}/cancel")["status"] == "SUCCESS"
    assert own.client.get("/api/tasks/x").status_code == 404
    assert own.client.get("/api/tasks", params={"status": "RUNNING"}).status_code == 400
