"""Records in over HTTP: inline, as uploads, by URL."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import katiml
from katiml.server import Settings
from tests.server.conftest import Api, picture, serve_lake

LINES = b"".join(
    json.dumps({"type": "TEXT", "text": f"line {number}"}).encode() + b"\n" for number in range(10)
)


def wait(api: Api, upload: Any) -> dict[str, Any]:
    """The state of an upload when it is finished."""
    for _ in range(500):
        state: dict[str, Any] = api.client.get(f"/api/ingestion/executions/{upload['id']}").json()
        if state["status"] != "RUNNING":
            return state
        time.sleep(0.02)
    raise AssertionError(state)


def send(api: Api, data: bytes, name: str = "records.ndjson") -> str:
    """The url of an uploaded file."""
    response = api.client.post("/api/ingestion/upload", files={"file": (name, data)})
    assert response.status_code == 200, response.text
    url: str = response.json()["url"]
    assert url.startswith("object://")
    return url


@pytest.mark.parametrize("path", ["/events", "/api/ingestion/ingest"])
def test_records__are_committed_when_the_answer_comes(api_of_home: Api, path: str) -> None:
    api = api_of_home
    answer = api.rows(path, {"records": [picture(0), picture(1)]})
    assert answer["status"] == "SUCCEEDED" and answer["statusCode"] == 200
    assert answer["counts"] == {"read": 2, "landed": 2, "rejected": 0}
    assert api.rows("/api/datapoints/count") == 2
    state = api.client.get(f"/api/ingestion/executions/{answer['id']}").json()
    assert state["status"] == "SUCCEEDED"
    assert state["startDate"].endswith("Z") and state["stopDate"] >= state["startDate"]
    assert state["durationMs"] >= 0 and state["errorMessage"] is None


def test_records__wrong_ones_are_rejected_alone(api: Api) -> None:
    records = [picture(0), 5, "s3://bucket/file", ["x"], None, {"type": "SMELL"}, {}, picture(1)]
    answer = api.rows("/events", {"records": records})
    assert answer["counts"] == {"read": 8, "landed": 2, "rejected": 6}
    assert answer["status"] == "SUCCEEDED"
    path = f"/api/ingestion/executions/{answer['id']}/rejected"
    response = api.client.get(path)
    assert "attachment" in response.headers["content-disposition"]
    rejected = [json.loads(line) for line in response.text.splitlines()]
    assert [item["line"] for item in rejected] == [2, 3, 4, 5, 6, 7]
    assert all(item["reason"] for item in rejected)
    assert rejected[4]["path"] == "type"
    sent = api.client.get(path, params={"reasons": False}).text.splitlines()
    assert json.loads(sent[4]) == {"type": "SMELL"}


def test_records__nothing_landed(api: Api) -> None:
    answer = api.rows("/events", {"records": [{"type": "SMELL"}]})
    assert answer["status"] == "FAILED"
    assert "rejected" in answer["errorMessage"]
    assert api.rows("/events", {"records": []})["status"] == "SUCCEEDED"


def test_records__nan_rejects_only_its_record(api: Api) -> None:
    bad = {**picture(0), "predictions": [{"task_type": "CLASSIFICATION", "logits": [float("nan")]}]}
    body = json.dumps({"records": [bad, picture(1)]})
    assert "NaN" in body
    answer = api.client.post("/events", content=body).json()
    assert answer["counts"] == {"read": 2, "landed": 1, "rejected": 1}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": "a", "urls": ["b"]},
        {"records": {}},
        {"records": [], "url": "x"},
        {"urls": "x"},
        {"url": 5},
        {"url": "object://x", "offset": -1},
        {"record": []},
    ],
)
def test_ingest__wrong_body(api: Api, body: Any) -> None:
    response = api.post("/api/ingestion/ingest", body)
    assert response.status_code == 422
    assert response.json()["error"]["hint"]


@pytest.mark.parametrize("packed", [False, True])
def test_upload__then_ingest(api_of_home: Api, packed: bool) -> None:
    api = api_of_home
    url = send(api, gzip.compress(LINES) if packed else LINES.replace(b"\n", b"\r"))
    answer = api.rows("/api/ingestion/ingest", {"urls": [url]})
    state = wait(api, answer)
    assert state["status"] == "SUCCEEDED"
    assert state["counts"]["landed"] == 10
    assert state["progress"] == 1.0
    assert [one["id"] for one in api.client.get("/api/ingestion/executions").json()] == [
        answer["id"]
    ]


def test_upload__offset_and_limit_are_lines(api: Api) -> None:
    body = {"url": send(api, LINES), "offset": 2, "limit": 5}
    assert wait(api, api.rows("/api/ingestion/ingest", body))["counts"]["landed"] == 3
    texts = {row["text"] for row in api.rows("/api/datapoints/select")}
    assert texts == {"line 2", "line 3", "line 4"}


def test_upload__larger_than_the_body_limit(tmp_path: Path) -> None:
    settings = Settings(max_body_bytes=10_000, max_upload_bytes=1_000_000)
    with katiml.connect(tmp_path / "lake") as lake:
        for api in serve_lake(lake, settings):
            data = LINES * 100
            assert len(data) > 10_000
            state = wait(api, api.rows("/events", {"url": send(api, data)}))
            assert state["counts"]["landed"] == 1000
            refused = api.client.post("/api/ingestion/upload", files={"file": b"x" * 1_100_000})
            assert refused.status_code == 413
            assert api.client.post("/events", content=b" " * 10_001).status_code == 413
            objects = [path for path in (tmp_path / "lake").rglob("*") if "unfinished" in path.name]
            assert objects == []


def test_upload__without_a_file(api: Api) -> None:
    for options in ({"files": {"other": b"x"}}, {"json": {}}, {"content": b""}):
        response = api.client.post("/api/ingestion/upload", **options)  # type: ignore[arg-type]
        assert response.status_code == 400
        assert "file" in response.json()["error"]["hint"]


def test_object_of_another_organization(api: Api) -> None:
    url = send(api, LINES)
    response = api.stranger.post("/api/ingestion/ingest", json={"url": url})
    state: Any = response.json()
    for _ in range(500):
        if response.status_code != 200 or state["status"] != "RUNNING":
            break
        time.sleep(0.02)
        state = api.stranger.get(f"/api/ingestion/executions/{state['id']}").json()
    assert response.status_code == 404 or state["status"] == "FAILED"
    assert api.stranger.post("/api/datapoints/count", json={}).json() == 0


def test_idempotency_key(api_of_home: Api) -> None:
    api = api_of_home
    headers = {"Idempotency-Key": "once"}
    first = api.post("/events", {"records": [picture(0)]}, headers=headers).json()
    again = api.post("/events", {"records": [picture(0)]}, headers=headers).json()
    assert again["id"] == first["id"]
    assert api.rows("/api/datapoints/count") == 1
    other = api.post("/events", {"records": [picture(0)]}, headers={"Idempotency-Key": "twice"})
    assert other.json()["id"] != first["id"]
    theirs = api.stranger.post("/events", json={"records": [picture(0)]}, headers=headers)
    assert theirs.json()["id"] != first["id"]
    url = {"url": send(api, LINES)}
    headers = {"Idempotency-Key": "file"}
    uploads = [api.post("/events", url, headers=headers).json()["id"] for _ in range(3)]
    assert len(set(uploads)) == 1
    wait(api, {"id": uploads[0]})
    assert api.rows("/api/datapoints/count") == 12
    too_long = api.post("/events", {"records": []}, headers={"Idempotency-Key": "x" * 1000})
    assert too_long.status_code in (400, 422)


@pytest.fixture
def file_server() -> Iterator[str]:
    """An address on this machine that serves `LINES`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(LINES)))
            self.end_headers()
            self.wfile.write(LINES)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/records.ndjson?signature=secret"
    server.shutdown()
    server.server_close()
    thread.join()


def test_private_urls__refused(api: Api, file_server: str, tmp_path: Path) -> None:
    local = tmp_path / "records.ndjson"
    local.write_bytes(LINES)
    for url in (
        file_server,
        file_server.replace("127.0.0.1", "localhost"),
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/x",
        str(local),
        local.as_uri(),
        "/etc/passwd",
        "ftp://example.com/x",
        "x",
        "",
    ):
        response = api.post("/api/ingestion/ingest", {"urls": [url]})
        assert response.status_code in (400, 403), url
    assert api.rows("/api/datapoints/count") == 0
    assert api.client.get("/api/ingestion/executions").json() == []


def test_private_urls__allowed_by_the_operator(tmp_path: Path, file_server: str) -> None:
    with katiml.connect(tmp_path / "lake") as lake:
        for api in serve_lake(lake, Settings(allow_private_urls=True)):
            state = wait(api, api.rows("/events", {"urls": [file_server]}))
            assert state["status"] == "SUCCEEDED", state
            assert state["counts"]["landed"] == 10
            assert "secret" not in json.dumps(state)
            assert api.post("/events", {"urls": ["/etc/passwd"]}).status_code == 403


def test_gzip_body(api: Api) -> None:
    body = gzip.compress(json.dumps({"records": [picture(0)]}).encode())
    headers = {"content-encoding": "gzip"}
    assert api.client.post("/events", content=body, headers=headers).json()["counts"]["landed"] == 1
    bomb = gzip.compress(b'{"records": [' + b" " * 60_000_000 + b"]}")
    assert len(bomb) < 100_000
    assert api.client.post("/events", content=bomb, headers=headers).status_code == 413


def test_executions(api: Api) -> None:
    ids = [api.rows("/events", {"records": [picture(n)]})["id"] for n in range(3)]
    listed = api.client.get("/api/ingestion/executions").json()
    assert [one["id"] for one in listed] == ids[::-1]
    assert len(api.client.get("/api/ingestion/executions?limit=2").json()) == 2
    for wrong in ("-1", "x", "100000"):
        response = api.client.get(f"/api/ingestion/executions?limit={wrong}")
        assert response.status_code == 422
        assert "limit" in response.json()["error"]["message"]
    assert api.client.get("/api/ingestion/executions/nonsense").status_code == 404
    assert api.client.get("/api/ingestion/executions/nonsense/rejected").status_code == 404


def test_cancel(api: Api) -> None:
    url = send(api, LINES * 20_000)
    upload = api.rows("/api/ingestion/ingest", {"urls": [url]})
    path = f"/api/ingestion/executions/{upload['id']}/cancel"
    assert api.stranger.post(path).status_code == 404
    assert api.client.post(path).status_code == 200
    state = wait(api, upload)
    assert state["status"] == "ABORTED"
    assert state["counts"]["landed"] < 200_000
    assert api.rows("/api/datapoints/count") == state["counts"]["landed"]
    done = api.rows("/events", {"records": [picture(0)]})
    again = api.client.post(f"/api/ingestion/executions/{done['id']}/cancel")
    assert again.status_code in (200, 409)
    assert wait(api, done)["status"] == "SUCCEEDED"
