"""`katiml serve` as a process: keys, addresses, shutting down."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import katiml


class Served:
    """A `katiml serve` process."""

    def __init__(self, lake: str, *arguments: str, **environment: str) -> None:
        kept = {name: value for name, value in os.environ.items() if name != "KATIML_API_KEY"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "katiml", "serve", "--lake", lake, "--port", "0", *arguments],
            env={**kept, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""
        assert self.process.stderr
        for line in self.process.stderr:
            self.said += line
            if found := re.search(r"at (http://\S+:\d+)", line):
                self.url = found[1]
                break

    def first_line(self) -> str:
        """What it printed: the key, where one was made."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def stop(self) -> int:
        """End it as a service manager would."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def served(lake: str, *arguments: str, **environment: str) -> Iterator[Served]:
    server = Served(lake, *arguments, **environment)
    try:
        assert server.process.poll() is None, server.said
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate()


def count(server: Served, key: str) -> httpx.Response:
    return httpx.post(f"{server.url}/api/datapoints/count", headers={"x-api-key": key}, json={})


def test_first_start_prints_a_key_and_the_second_does_not(tmp_path: Path) -> None:
    lake = str(tmp_path / "lake")
    with served(lake) as server:
        key = server.first_line()
        assert key.startswith("katiml_")
        assert server.process.stderr
        assert "not shown again" in server.process.stderr.readline()
        assert count(server, key).json() == 0
        assert count(server, "wrong").status_code == 401
        assert httpx.get(f"{server.url}/health").json()["status"] == "ok"
        assert server.stop() == 0
    with served(lake) as server:
        assert count(server, key).json() == 0
        assert server.stop() == 0
        assert server.process.stdout and server.process.stdout.read() == ""


def test_preset_key(tmp_path: Path) -> None:
    with served(str(tmp_path / "lake"), KATIML_API_KEY="my_api_key") as server:
        assert count(server, "my_api_key").json() == 0
        assert server.stop() == 0


@pytest.mark.parametrize("key", [None, "my_api_key"])
def test_beyond_loopback__refused_without_a_good_key(tmp_path: Path, key: str | None) -> None:
    environment = {"KATIML_API_KEY": key} if key else {}
    server = Served(str(tmp_path / "lake"), "--host", "0.0.0.0", **environment)
    output, errors = server.process.communicate(timeout=60)
    assert server.process.returncode not in (0, None)
    said = server.said + errors
    assert "0.0.0.0" in said and "KATIML_API_KEY" in said
    assert "Traceback" not in said and "my_api_key" not in said
    assert output == ""


def test_beyond_loopback__with_a_good_key(tmp_path: Path) -> None:
    key = "k" * 32
    with served(str(tmp_path / "lake"), "--host", "0.0.0.0", KATIML_API_KEY=key) as server:
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert count(server, key).json() == 0
        assert server.stop() == 0


def test_taken_port__is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        server = Served(str(tmp_path / "lake"), "--port", port)
        _, errors = server.process.communicate(timeout=60)
    said = server.said + errors
    assert server.process.returncode not in (0, None)
    assert port in said and "Traceback" not in said


def test_this_process_and_the_server_share_the_lake(tmp_path: Path) -> None:
    url = str(tmp_path / "lake")
    with served(url, KATIML_API_KEY="my_api_key") as server:
        with katiml.connect(url) as lake:
            lake.ingest([{"type": "TEXT", "text": "from the library"}])
            assert count(server, "my_api_key").json() == 1
            key = lake.keys.create("second")
            assert count(server, key.secret).json() == 1
            lake.keys.delete(key.id)
            assert count(server, key.secret).status_code == 401
        assert server.stop() == 0


def test_request_under_way_is_finished_when_told_to_stop(tmp_path: Path) -> None:
    with served(str(tmp_path / "lake"), KATIML_API_KEY="my_api_key") as server:
        record = b'{"type": "TEXT", "text": "slow"}'
        started = threading.Event()
        answers: list[Any] = []

        def body() -> Iterator[bytes]:
            yield b'{"records": ['
            started.set()
            time.sleep(1.0)
            yield record + b"]}"

        def send() -> None:
            headers = {"x-api-key": "my_api_key"}
            answers.append(httpx.post(f"{server.url}/events", headers=headers, content=body()))

        thread = threading.Thread(target=send)
        thread.start()
        assert started.wait(10)
        time.sleep(0.2)
        assert server.stop() == 0
        thread.join()
        assert answers[0].json()["counts"]["landed"] == 1
    with katiml.connect(tmp_path / "lake") as lake:
        assert lake.datapoints.count() == 1


def test_killed_server__its_upload_goes_on_in_the_next(tmp_path: Path) -> None:
    url = str(tmp_path / "lake")
    number = 60_000
    lines = b"".join(b'{"type": "TEXT", "text": "%d"}\n' % n for n in range(number))
    headers = {"x-api-key": "my_api_key"}
    with served(url, KATIML_API_KEY="my_api_key") as server:
        stored = httpx.post(
            f"{server.url}/api/ingestion/upload", headers=headers, files={"file": lines}
        ).json()
        body = {"urls": [stored["url"]]}
        upload = httpx.post(f"{server.url}/events", headers=headers, json=body).json()
        assert upload["status"] == "RUNNING"
        server.process.kill()
        server.process.wait()
    with served(url, KATIML_API_KEY="my_api_key") as server:
        address = f"{server.url}/api/ingestion/executions/{upload['id']}"
        for _ in range(600):
            state = httpx.get(address, headers=headers).json()
            if state["status"] != "RUNNING":
                break
            time.sleep(0.1)
        assert state["status"] == "SUCCEEDED", state
        assert state["counts"] == {"read": number, "landed": number, "rejected": 0}
        assert count(server, "my_api_key").json() == number
        assert server.stop() == 0


def test_a_run_goes_on_in_the_next_server__and_miners_run_by_their_schedule(
    tmp_path: Path,
) -> None:
    url, headers = str(tmp_path / "lake"), {"x-api-key": "my_api_key"}
    vectors = np.random.default_rng(0).normal(size=(6_000, 4)).round(3).tolist()
    records = [
        {
            "type": "TEXT",
            "text": "a",
            "predictions": [
                {"task_type": "CLASSIFICATION", "model_name": "net", "embeddings": {"last": vector}}
            ],
        }
        for vector in vectors
    ]
    with katiml.connect(url) as lake:
        lake.ingest(records)
        slow = lake.miners.create("CORESET", 5_000, model_name="net:last").id
        due = lake.miners.create("RANDOM", 2, evaluation_period="PT1H").id
        lake.scope.transact(
            lambda transaction: transaction.update(
                "miners", "next_run_at = now()", "next_run_at IS NOT NULL"
            )
        )

    def inspect(server: Served, miner: str) -> Any:
        path = f"{server.url}/api/tasks/miners/inspect/{miner}"
        return httpx.get(path, headers=headers).json()["task"]

    def until(server: Served, miner: str, *statuses: str) -> Any:
        for _ in range(1_200):
            task = inspect(server, miner)
            if task["status"] in statuses and (task["progress"] or "STARTED" not in statuses):
                return task
            time.sleep(0.05)
        raise AssertionError(task)

    with served(url, KATIML_API_KEY="my_api_key") as server:
        assert until(server, due, "SUCCESS")["result_size"] == 2
        body = {"miner_id": slow}
        httpx.post(f"{server.url}/api/tasks/miner/run", headers=headers, json=body)
        until(server, slow, "STARTED")
        assert server.stop() == 0
    with katiml.connect(url) as lake:
        task = lake.miners.get(slow).task
        assert task is not None
        state = task.refresh()
        assert (state.status, state.worker, state.attempt) == ("PENDING", None, 0)
    with served(url, KATIML_API_KEY="my_api_key") as server:
        assert until(server, slow, "SUCCESS", "FAILURE")["result_size"] == 5_000
        assert server.stop() == 0
