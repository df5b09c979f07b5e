"""What the SDK does when the network or the server has a bad moment."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dioptra import _http
from dioptra.lake import utils
from katiml.errors import Conflict, InvalidFilter, KatiMLError, Unauthorized


class Scripted:
    """A server that answers what it is told, in turn, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.headers.get("transfer-encoding") == "chunked":
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                scripted.asked.append((self.command, self.path, dict(self.headers), body))
                answer = scripted.answers.pop(0)
                if answer == "cut":
                    self.connection.close()
                    return
                status, content, *headers = answer
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

            def handle(self) -> None:
                with contextlib.suppress(ValueError, OSError):
                    super().handle()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    scripted = Scripted()
    monkeypatch.setenv("DIOPTRA_APP_ENDPOINT", f"http://127.0.0.1:{scripted.server.server_port}/")
    monkeypatch.setenv("DIOPTRA_API_KEY", "key")
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    yield scripted
    scripted.close()


def error(status: int, code: str = "x", hint: str | None = None) -> tuple[int, Any]:
    body = {"message": "what was wrong", "code": code, "hint": hint, "details": {"why": 1}}
    return status, {"error": body}


def test_reading__is_repeated(server: Scripted) -> None:
    server.answers = [error(503), "cut", (502, b"<html>"), (200, [{"id": "a"}])]
    assert utils._lake().select("datapoints", {}) == [{"id": "a"}]
    assert len(server.asked) == 4
    assert {headers["x-api-key"] for _, _, headers, _ in server.asked} == {"key"}


def test_upload__is_repeated_under_one_idempotency_key(server: Scripted) -> None:
    server.answers = [
        "cut",
        (200, {"url": "object://x"}),
        error(503),
        (200, {"id": "u"}),
        "cut",
        (200, {"id": "s"}),
    ]
    assert utils.upload_to_lake([{"a": 1}])["id"] == "u"
    (first, again) = server.asked[:2]
    assert first[3] == again[3] and b"records.ndjson" in again[3]
    keys = [
        headers["Idempotency-Key"]
        for _, path, headers, _ in server.asked
        if "ingest" in path and "upload" not in path
    ]
    assert len(keys) == 2 and len(set(keys)) == 1
    assert json.loads(server.asked[2][3]) == {"urls": ["object://x"]}
    assert utils.stream_to_lake([{"a": 1}])["id"] == "s"
    streamed = server.asked[4:]
    assert {path for _, path, _, _ in streamed} == {"/events"}
    assert len({headers["Idempotency-Key"] for _, _, headers, _ in streamed} | set(keys)) == 2


def test_delete__is_not_repeated_once_it_was_sent(server: Scripted) -> None:
    server.answers = ["cut", (200, [])]
    with pytest.raises(KatiMLError, match="no answer"):
        utils.delete_datapoints([])
    assert len(server.asked) == 1
    server.answers = [error(503), (200, [])]
    with pytest.raises(KatiMLError):
        utils.delete_datapoints([])
    server.answers = [(429, *error(429)[1:], ("Retry-After", "1")), (200, [])]
    assert utils.delete_datapoints([]) == []


def test_errors__are_the_servers(server: Scripted) -> None:
    server.answers = [
        error(400, "invalid_filter", "do this"),
        error(409, "conflict"),
        error(401, "unauthorized"),
    ]
    with pytest.raises(InvalidFilter) as caught:
        utils.select_datapoints([])
    assert caught.value.message == "what was wrong"
    assert caught.value.hint == "do this"
    assert caught.value.details["why"] == 1
    with pytest.raises(Conflict):
        utils.select_datapoints([])
    with pytest.raises(Unauthorized):
        utils.select_datapoints([])
    assert len(server.asked) == 3


@pytest.mark.parametrize("body", [b"<html>nginx</html>", b"", b"[]", b'{"error": "text"}', b"null"])
def test_errors__of_something_else_on_that_address(server: Scripted, body: bytes) -> None:
    server.answers = [(404, body)]
    with pytest.raises(KatiMLError, match="answered 404"):
        utils.select_datapoints([])


def test_answer_that_is_no_json(server: Scripted) -> None:
    server.answers = [(200, b"<html>hello</html>")]
    with pytest.raises(KatiMLError, match="no JSON") as caught:
        utils.query_dioptra_app("GET", "/api/x")
    assert "DIOPTRA_APP_ENDPOINT" in (caught.value.hint or "")


def test_nobody_there(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http, "_TRIES", 3)
    monkeypatch.setenv("DIOPTRA_APP_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(KatiMLError, match="no answer from the server") as caught:
        utils.delete_datapoints([])
    assert "katiml serve" in (caught.value.hint or "")


def test_events_endpoint(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{server.server.server_port}/other"
    monkeypatch.setenv("DIOPTRA_API_ENDPOINT", address)
    server.answers = [(200, {"id": "1"}), (200, {"id": "2"})]
    utils.stream_to_lake([{}])
    monkeypatch.delenv("DIOPTRA_APP_ENDPOINT")
    utils.stream_to_lake([{}])
    assert [path for _, path, _, _ in server.asked] == ["/other", "/other"]


def test_wait__gives_up_when_nothing_moves(server: Scripted) -> None:
    server.answers = [(200, {"status": "RUNNING", "durationMs": n}) for n in range(100)]
    with pytest.raises(RuntimeError, match="has not moved"):
        utils.wait_for_upload("u")
    server.answers = [(200, {"status": "TIMED_OUT", "errorMessage": "too slow"})]
    with pytest.raises(RuntimeError, match=r"too slow.*settings/uploads/u"):
        utils.wait_for_upload("u")
