"""Uploads: state, counts, rejected records, idempotency, and what survives a crash."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from katiml.errors import Conflict, Forbidden, InvalidInput, InvalidSource, NotFound
from katiml.ingest import Source, get_upload, ingest, list_uploads, resume_uploads, sources, worker
from katiml.ingest.uploads import _OBJECTS
from katiml.store import Scope, open_store


def lines(count: int, start: int = 0) -> bytes:
    return b"".join(
        json.dumps({"type": "TEXT", "text": str(number)}).encode() + b"\n"
        for number in range(start, start + count)
    )


def texts(scope: Scope) -> list[int]:
    rows = scope.query("SELECT text FROM {datapoints}").column(0).to_pylist()
    return sorted(int(text) for text in rows)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "records.ndjson"
    path.write_bytes(lines(100))
    return path


class TestSources:
    def test_a_path(self, scope: Scope, file: Path) -> None:
        for source in (file, str(file), file.as_uri()):
            upload = ingest(scope, source).wait(60)
            assert upload.status == "SUCCEEDED"
            assert upload.counts == {"read": 100, "landed": 100, "rejected": 0}
            assert upload.progress == 1.0
            assert upload.duration > 0
        assert texts(scope) == sorted([*range(100)] * 3)

    def test_several(self, scope: Scope, file: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.gz"
        other.write_bytes(gzip.compress(lines(50, 100)))
        assert ingest(scope, [file, other]).wait(60).counts["landed"] == 150
        assert texts(scope) == list(range(150))

    def test_bytes_and_open_files(self, scope: Scope, file: Path) -> None:
        ingest(scope, lines(10)).wait(60)
        with file.open("rb") as opened:
            ingest(scope, opened).wait(60)
        ingest(scope, io.BytesIO(gzip.compress(lines(5)))).wait(60)
        assert len(texts(scope)) == 115

    def test_a_stored_object_is_gone_after_success(self, scope: Scope) -> None:
        id_ = scope.store.objects.put(scope.organization_id, lines(3))
        ingest(scope, f"object://{id_}").wait(60)
        assert len(texts(scope)) == 3
        with pytest.raises(NotFound):
            scope.store.objects.open(scope.organization_id, id_)

    def test_an_object_of_another_organization(self, scope: Scope) -> None:
        other = Scope(scope.store, "other")
        id_ = other.store.objects.put("other", lines(3))
        upload = ingest(scope, f"object://{id_}").wait(60)
        assert upload.status == "FAILED"
        assert "no object" in (upload.error or {})["message"]

    def test_a_window_of_lines(self, scope: Scope, file: Path) -> None:
        upload = ingest(scope, Source(str(file), first=10, last=20)).wait(60)
        assert upload.counts["landed"] == 10
        assert texts(scope) == list(range(10, 20))

    def test_an_iterator_of_records(self, scope: Scope) -> None:
        count = 2 * _OBJECTS + 3
        upload = ingest(scope, ({"type": "TEXT", "text": str(n)} for n in range(count)))
        assert upload.status == "SUCCEEDED"
        assert upload.counts == {"read": count, "landed": count, "rejected": 0}
        assert texts(scope) == list(range(count))

    def test_an_iterator_that_breaks(self, scope: Scope) -> None:
        def broken() -> Any:
            for number in range(2 * _OBJECTS + 1):
                yield {"type": "TEXT", "text": str(number)}
            raise RuntimeError("the disk fell out")

        with pytest.raises(RuntimeError):
            ingest(scope, broken())
        (upload,) = list_uploads(scope)
        assert upload.status == "FAILED"
        assert "the disk fell out" in (upload.error or {})["message"]
        assert len(texts(scope)) == upload.counts["landed"] == _OBJECTS

    def test_nothing(self, scope: Scope) -> None:
        assert ingest(scope, []).status == "SUCCEEDED"
        assert ingest(scope, b"").wait(60).counts == {"read": 0, "landed": 0, "rejected": 0}


class TestCancel:
    def test_what_landed_stays(
        self, scope: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from threading import Event

        path = tmp_path / "many.ndjson"
        path.write_bytes(lines(1_000))
        monkeypatch.setattr(sources, "_READ_BYTES", 500)
        monkeypatch.setattr(worker, "_BATCH_RECORDS", 50)
        monkeypatch.setattr(
            worker, "read_blocks", lambda raw: sources.read_blocks(raw, block_bytes=500)
        )
        half, cancelled, plain = Event(), Event(), worker._write

        def write(*arguments: Any) -> Any:
            if arguments[1].records_landed >= 300:
                half.set()
                cancelled.wait(30)
            return plain(*arguments)

        monkeypatch.setattr(worker, "_write", write)
        upload = ingest(scope, path)
        assert half.wait(30)
        upload.cancel()
        cancelled.set()
        upload.wait(30)
        assert upload.status == "ABORTED"
        assert (upload.error or {})["message"] == "cancelled"
        worker.finish_uploads(scope.store)
        found = texts(scope)
        assert 300 <= len(found) < 1_000
        assert found == list(range(len(found)))
        assert resume_uploads(scope) == 0

    def test_a_finished_one_stays_as_it_is(self, scope: Scope) -> None:
        upload = ingest(scope, [{"type": "TEXT", "text": "1"}]).cancel()
        assert get_upload(scope, upload.id).status == "SUCCEEDED"


class TestRejected:
    def test_the_wrong_one_alone(self, scope: Scope) -> None:
        good, bad = lines(10).splitlines(), b'{"type": "TEXT", "text": '
        good[2] = bad
        upload = ingest(scope, b"\r".join(good)).wait(60)
        assert upload.status == "SUCCEEDED"
        assert upload.counts == {"read": 10, "landed": 9, "rejected": 1}
        (row,) = upload.rejected.to_dict("records")
        assert row["line"] == 3
        assert row["record"] == bad.decode()
        assert "JSON" in row["reason"]
        (line,) = upload.rejected_lines()
        assert json.loads(line)["line"] == 3

    def test_a_number_is_no_record(self, scope: Scope) -> None:
        upload = ingest(scope, [5, {"type": "TEXT"}])
        assert upload.counts == {"read": 2, "landed": 1, "rejected": 1}

    def test_what_the_lake_refuses_keeps_its_text(self, scope: Scope) -> None:
        unknown = {"id": "01234567-89ab-7def-8123-456789abcdef", "tags": {"a": "b"}}
        for source in (
            [{"type": "TEXT", "text": "1"}, unknown],
            lines(1) + json.dumps(unknown).encode(),
        ):
            upload = ingest(scope, source).wait(60)
            (row,) = upload.rejected.to_dict("records")
            assert (row["line"], row["path"]) == (2, "id")
            assert json.loads(row["record"]) == unknown
            assert "no datapoint" in row["reason"]

    def test_all_wrong_is_failed(self, scope: Scope) -> None:
        upload = ingest(scope, [{"type": "SOUND"}, 5])
        assert upload.status == "FAILED"
        assert "all 2 records were rejected" in (upload.error or {})["message"]

    def test_a_line_that_is_too_long(self, scope: Scope, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, "_READ_BYTES", 1_000)
        monkeypatch.setattr(
            worker,
            "read_blocks",
            lambda raw: sources.read_blocks(raw, block_bytes=100, max_line_bytes=5_000),
        )
        upload = ingest(scope, lines(2) + b'"' + b"x" * 50_000 + b'"\n' + lines(2)).wait(60)
        assert upload.counts == {"read": 5, "landed": 4, "rejected": 1}
        (row,) = upload.rejected.to_dict("records")
        assert row["line"] == 3
        assert "longer than" in row["reason"]

    def test_a_broken_stream_says_what_landed(self, scope: Scope) -> None:
        data = gzip.compress(lines(20_000))
        upload = ingest(scope, data[:-20]).wait(60)
        assert upload.status == "FAILED"
        assert "gzip stream is broken" in (upload.error or {})["message"]
        assert upload.counts["landed"] == len(texts(scope))


class TestIdempotency:
    def test_the_same_key_is_the_same_upload(self, scope: Scope, file: Path) -> None:
        first = ingest(scope, [{"type": "TEXT", "text": "1"}], idempotency_key="k")
        again = ingest(scope, [{"type": "TEXT", "text": "1"}], idempotency_key="k")
        assert first.id == again.id
        assert texts(scope) == [1]
        background = [ingest(scope, file, idempotency_key="f").wait(60).id for _ in range(2)]
        assert len(set(background)) == 1
        assert len(texts(scope)) == 101

    def test_keys_belong_to_an_organization(self, scope: Scope) -> None:
        other = Scope(scope.store, "other")
        for own in (scope, other):
            ingest(own, [{"type": "TEXT", "text": "1"}], idempotency_key="k")
        assert texts(scope) == texts(other) == [1]

    def test_at_once(self, scope: Scope) -> None:
        from concurrent.futures import ThreadPoolExecutor

        def send(_: int) -> str:
            return ingest(scope, [{"type": "TEXT", "text": "1"}], idempotency_key="k").id

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(send, range(16)))) == 1
        assert texts(scope) == [1]

    @pytest.mark.parametrize("key", ["", "x" * 256])
    def test_a_bad_key(self, scope: Scope, key: str) -> None:
        with pytest.raises(InvalidInput):
            ingest(scope, [], idempotency_key=key)


class TestBadSources:
    @pytest.mark.parametrize(
        "source", ["no-such-file.ndjson", "ftp://example.com/x", "/", "http://", 5, None]
    )
    def test_nothing_is_begun(self, scope: Scope, source: Any) -> None:
        if source == "http://":
            with pytest.raises(InvalidSource):
                ingest(scope, source, trusted=False)
        else:
            with pytest.raises(InvalidInput):
                ingest(scope, source)
        assert list_uploads(scope) == []

    @pytest.mark.parametrize(
        "location",
        [
            "/etc/passwd",
            "file:///etc/passwd",
            "http://127.0.0.1:1/x",
            "http://localhost/x",
            "http://[::1]/x",
            "http://169.254.169.254/latest/meta-data",
            "http://10.0.0.1/x",
            "http://0.0.0.0/x",
            "http://[::ffff:127.0.0.1]/x",
            "http://2130706433/x",
        ],
    )
    def test_strangers_reach_nothing_private(self, scope: Scope, location: str) -> None:
        with pytest.raises(Forbidden):
            ingest(scope, location, trusted=False, allow_private=False)

    def test_a_redirect_to_a_private_address(self, scope: Scope) -> None:
        from katiml.ingest.locations import _pin

        httpx = pytest.importorskip("httpx")
        client = httpx.Client()
        _pin(client)
        # The check is made where the connection is, so a name or a redirect cannot go around it.
        with client, pytest.raises(Forbidden):
            client.get("http://127.0.0.1:9/")

    def test_an_unknown_upload(self, scope: Scope) -> None:
        for id_ in ("no-id", "01234567-89ab-7def-8123-456789abcdef"):
            with pytest.raises(NotFound):
                get_upload(scope, id_)

    def test_organizations_do_not_see_each_others_uploads(self, scope: Scope) -> None:
        upload = ingest(scope, [{"type": "SOUND"}])
        other = Scope(scope.store, "other")
        assert list_uploads(other) == []
        with pytest.raises(NotFound):
            get_upload(other, upload.id)


@pytest.fixture
def web_server(tmp_path: Path) -> Any:
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    (tmp_path / "records.ndjson.gz").write_bytes(gzip.compress(lines(30)))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_url(scope: Scope, web_server: str) -> None:
    upload = ingest(scope, f"{web_server}/records.ndjson.gz").wait(60)
    assert upload.counts["landed"] == 30
    missing = ingest(scope, f"{web_server}/missing").wait(60)
    assert missing.status == "FAILED"
    assert "answered 404" in (missing.error or {})["message"]
    allowed = ingest(
        scope, f"{web_server}/records.ndjson.gz", trusted=False, allow_private=True
    ).wait(60)
    assert allowed.status == "SUCCEEDED"


KILLED = """
    import os, signal, sys
    from katiml.ingest import ingest, sources, worker
    from katiml.store import Scope, open_store

    sources._READ_BYTES = 500
    worker._BATCH_RECORDS = 50
    worker.read_blocks = lambda raw: sources.read_blocks(raw, block_bytes=500)
    written = 0
    plain = worker._write
    def write(*args):
        global written
        state = plain(*args)
        written += 1
        if written == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return state
    worker._write = write
    ingest(Scope(open_store(sys.argv[1]), "default"), sys.argv[2]).wait()
"""


def test_an_upload_goes_on_where_a_killed_process_left_it(lake_url: str, tmp_path: Path) -> None:
    path = tmp_path / "many.ndjson"
    path.write_bytes(lines(1_000))
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), lake_url, str(path)],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    with open_store(lake_url) as store:
        scope = Scope(store, "default")
        (upload,) = list_uploads(scope)
        landed = upload.counts["landed"]
        assert 0 < landed < 1_000
        assert upload.status == "RUNNING"
        assert resume_uploads(scope) == 1
        upload.wait(60)
        assert upload.status == "SUCCEEDED"
        assert upload.counts["landed"] == 1_000
        assert texts(scope) == list(range(1_000))


ACKNOWLEDGED = """
    import sys, katiml
    from katiml.ingest import ingest
    from katiml.store import Scope, open_store

    scope = Scope(open_store(sys.argv[1]), "default")
    number = int(sys.argv[2])
    while True:
        ingest(scope, [{"type": "TEXT", "text": str(number), "tags": {"a": str(number)}},
                       {"type": "TEXT", "text": str(number), "groundtruths":
                           [{"task_type": "CLASSIFICATION", "class_name": str(number)}]}])
        print(number, flush=True)
        number += 1
"""


def test_acknowledged_records_survive_kill_9(lake_url: str) -> None:
    acknowledged: list[int] = []
    for attempt in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(ACKNOWLEDGED), lake_url, str(attempt * 10_000)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        acknowledged += [int(child.stdout.readline()) for _ in range(5 + 3 * attempt)]
        os.kill(child.pid, signal.SIGKILL)
        acknowledged.extend(int(line) for line in child.stdout.read().split())
        child.stdout.close()
        child.wait()
    with open_store(lake_url) as store:
        scope = Scope(store, "default")
        found = texts(scope)
        # Twice each: whole batches alone. One more than acknowledged may be there per kill.
        assert set(acknowledged) <= set(found)
        assert all(found.count(number) == 2 for number in found)
        assert len(set(found)) - len(acknowledged) <= 4
        for table, column in (("tags", "value"), ("groundtruths", "class_name")):
            values = scope.query(f"SELECT {column} FROM {{{table}}}").column(0).to_pylist()
            assert sorted(map(int, values)) == sorted(set(found))


def test_a_closed_lake_says_so(lake_url: str) -> None:
    store = open_store(lake_url)
    store.close()
    with pytest.raises(Conflict, match="closed"):
        ingest(Scope(store, "default"), [{"type": "TEXT"}])
