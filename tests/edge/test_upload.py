"""From a device to a lake: every record once, whatever fails on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import katiml
from katiml.edge import Miner, Sent, Spool, send
from katiml.errors import (
    Conflict,
    InvalidInput,
    LakeBusy,
    StoreError,
    TooLarge,
    Unauthorized,
)
from katiml.server import Settings, create_app
from tests.serving import client_of, serving

Record = dict[str, Any]


@pytest.fixture
def folder_lake(tmp_path: Path) -> Iterator[katiml.Lake]:
    with katiml.connect(tmp_path / "lake") as lake:
        yield lake


def frame(number: int, vector: Any = (0.0,), doubt: float = 0.0) -> Record:
    return {
        "type": "IMAGE",
        "request_id": f"frame-{number}",
        "predictions": [
            {
                "task_type": "CLASSIFICATION",
                "model_name": "net",
                "class_names": ["cat", "dog"],
                "logits": np.array([1.0 - doubt, 0.0]),
                "embeddings": {"pool": np.asarray(vector, np.float64)},
            }
        ],
    }


def arrived(lake: katiml.Lake) -> list[str]:
    return sorted(lake.datapoints.select(fields=["request_id"])["request_id"])


def test_over_http_with_vectors_and_derived_values(
    tmp_path: Path, folder_lake: katiml.Lake
) -> None:
    key = folder_lake.keys.create("device").secret
    with serving(create_app(folder_lake)) as url, Spool(tmp_path / "spool") as spool:
        for number in range(25):
            spool.append(frame(number, [number, 0.5]))
        shares: list[float] = []
        sent = spool.upload(url, api_key=key, batch_bytes=2_000, on_progress=shares.append)
        assert (sent.landed, sent.rejected) == (25, 0)
        assert len(sent.ids) > 2
        assert len(spool) == 0
        assert shares == sorted(shares) and shares[-1] == 1.0
        assert spool.upload(url, api_key=key).landed == 0
    assert len(set(arrived(folder_lake))) == 25
    assert folder_lake.predictions.count({"left": "metrics.entropy", "op": ">", "right": 0}) == 25
    assert folder_lake.feature_vectors.count() == 50


def test_an_answer_that_is_lost_makes_nothing_land_twice(
    tmp_path: Path, folder_lake: katiml.Lake
) -> None:
    def lose(body: bytes, key: str) -> Sent:
        folder_lake.ingest(json.loads(body)["records"], idempotency_key=key)
        raise ConnectionResetError("the line went dead")

    with Spool(tmp_path / "spool") as spool:
        spool.append(frame(0))
        with pytest.raises(ConnectionResetError):
            spool.upload(lose)
        spool.append(frame(1))
    with Spool(tmp_path / "spool") as spool:
        assert spool.upload(folder_lake).landed == 2
    assert arrived(folder_lake) == ["frame-0", "frame-1"]


def test_what_is_given_up_while_it_is_under_way(tmp_path: Path, folder_lake: katiml.Lake) -> None:
    with Spool(tmp_path / "spool") as spool:
        tickets = [spool.append(frame(number)) for number in range(3)]

        def lose(body: bytes, key: str) -> Sent:
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            spool.upload(lose)
        spool.discard(tickets[:2])
        assert spool.upload(folder_lake).landed == 1
        assert spool.upload(folder_lake).landed == 0
    assert arrived(folder_lake) == ["frame-2"]


def test_wrong_records_are_kept_by_the_lake_with_the_reason(
    tmp_path: Path, folder_lake: katiml.Lake
) -> None:
    key = folder_lake.keys.create("device").secret
    with serving(create_app(folder_lake)) as url, Spool(tmp_path / "spool") as spool:
        spool.append({"type": "SMELL"})
        sent = spool.upload(url, api_key=key)
        assert (sent.landed, sent.rejected, len(spool)) == (0, 1, 0)
        spool.append({"type": "SMELL"})
        spool.append(frame(0))
        sent = spool.upload(url, api_key=key)
        assert (sent.landed, sent.rejected) == (1, 1)
        assert folder_lake.uploads.get(sent.ids[0]).rejected["path"].tolist() == ["type"]


def test_a_batch_that_is_too_large_is_halved(tmp_path: Path, folder_lake: katiml.Lake) -> None:
    key = folder_lake.keys.create("device").secret
    settings = Settings(max_body_bytes=2_500)
    with serving(create_app(folder_lake, settings)) as url, Spool(tmp_path / "spool") as spool:
        for number in range(20):
            spool.append(frame(number))
        assert spool.upload(url, api_key=key).landed == 20
        spool.append({"type": "TEXT", "text": "x" * 5_000})
        with pytest.raises(TooLarge):
            spool.upload(url, api_key=key)
        assert len(spool) == 1
    assert len(arrived(folder_lake)) == 20


@pytest.mark.parametrize("address", ["ftp://lake", "lake.example", "http://", "file:///etc/passwd"])
def test_what_is_no_address(tmp_path: Path, address: str) -> None:
    with Spool(tmp_path) as spool, pytest.raises(InvalidInput, match="no address of a server"):
        spool.upload(address, api_key="k")


def test_keys_and_silence(
    tmp_path: Path, folder_lake: katiml.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "_TRIES", 2)
    monkeypatch.setattr(send, "time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.delenv("KATIML_API_KEY", raising=False)
    with Spool(tmp_path / "spool") as spool:
        spool.append(frame(0))
        with pytest.raises(Unauthorized, match="no API key"):
            spool.upload("http://127.0.0.1:9")
        with pytest.raises(LakeBusy, match="no answer from"):
            spool.upload("http://127.0.0.1:9", api_key="k")
        with serving(create_app(folder_lake)) as url, pytest.raises(Unauthorized):
            spool.upload(url, api_key="wrong")
        with pytest.raises(InvalidInput, match="cannot be sent to int"):
            spool.upload(3)
        assert len(spool) == 1


def _app(status: int, body: bytes, headers: list[tuple[bytes, bytes]], calls: list[Any]) -> Any:
    async def app(scope: Any, receive: Any, answer: Any) -> None:
        calls.append(dict(scope["headers"]))
        await answer({"type": "http.response.start", "status": status, "headers": headers})
        await answer({"type": "http.response.body", "body": body})

    return app


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (200, b"<html>", "no JSON"),
        (200, b"{}", "an answer that is no upload"),
        (200, b'{"id": "1", "status": "RUNNING", "counts": {"landed": 0, "rejected": 0}}', "RUNN"),
        (500, b'{"error": {"message": "broken", "code": "store_error"}}', "broken"),
        (302, b"", "answered 302"),
    ],
)
def test_answers_that_are_none_leave_everything_in_place(
    tmp_path: Path, status: int, body: bytes, problem: str
) -> None:
    calls: list[Any] = []
    headers = [(b"location", b"http://127.0.0.1:9/elsewhere")] if status == 302 else []
    with serving(_app(status, body, headers, calls)) as url, Spool(tmp_path) as spool:
        spool.append(frame(0))
        with pytest.raises(StoreError, match=problem):
            spool.upload(url, api_key="secret")
        assert len(spool) == 1
    # A redirect is not followed: the key goes nowhere else.
    assert len(calls) == 1


_CHILD = """
import sys
from katiml.edge import Spool
with Spool(sys.argv[1], segment_bytes=3_000) as spool:
    spool.upload(sys.argv[2], batch_bytes=300)
print("done")
"""


def test_uploads_killed_at_any_moment_land_once(tmp_path: Path, folder_lake: katiml.Lake) -> None:
    key = folder_lake.keys.create("device").secret
    with Spool(tmp_path / "spool", sync=False) as spool:
        for number in range(60):
            spool.append(frame(number))
    generator = random.Random(7)
    environment = {**os.environ, "KATIML_API_KEY": key}
    kills = 0
    with serving(create_app(folder_lake)) as url:
        while True:
            child = subprocess.Popen(
                [sys.executable, "-c", _CHILD, str(tmp_path / "spool"), url],
                env=environment,
                stdout=subprocess.PIPE,
            )
            before = len(arrived(folder_lake))
            while child.poll() is None and kills < 3 and len(arrived(folder_lake)) <= before + 3:
                time.sleep(0.05)
            if kills < 3 and child.poll() is None:
                time.sleep(generator.random() * 0.02)
                child.send_signal(signal.SIGKILL)
                kills += 1
            out, _ = child.communicate()
            if out.strip() == b"done":
                break
    assert kills >= 2
    assert arrived(folder_lake) == sorted(f"frame-{number}" for number in range(60))


# -- miners on a spool -----------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["ENTROPY", "CORESET", "MARGIN"])
def test_a_restart_goes_on_where_it_stopped(tmp_path: Path, strategy: str) -> None:
    generator = np.random.default_rng(2)
    stream = [
        frame(n, generator.normal(size=3) * (1 + n / 20), generator.random()) for n in range(80)
    ]
    name = "net:pool" if strategy == "CORESET" else "net"
    whole = Miner(strategy, size=6, model_name=name)
    for record in stream:
        whole.offer(record)
    decisions = []
    for start in range(0, 80, 16):
        with Spool(tmp_path / "spool") as spool:
            miner = Miner(strategy, size=6, model_name=name, spool=spool)
            decisions += [miner.offer(record) for record in stream[start : start + 16]]
            kept = [record["request_id"] for record in miner.records()]
    assert kept == [record["request_id"] for record in whole.records()]
    assert len(kept) <= 6 and sum(decisions) >= len(kept)


def test_a_reservoir_goes_on_after_a_restart(tmp_path: Path) -> None:
    first, last = 0, 0
    for seed in range(60):
        for part in range(2):
            with Spool(tmp_path / f"spool-{seed}", sync=False) as spool:
                miner = Miner("RANDOM", size=5, seed=seed, spool=spool)
                for number in range(20):
                    miner.offer({"type": "TEXT", "text": 100 * part + number})
                kept = [record["text"] for record in miner.records()]
        assert len(kept) == 5
        first += sum(number < 100 for number in kept)
        last += sum(number >= 100 for number in kept)
    # 300 draws, half of them from each part: 4 standard deviations are 35.
    assert abs(first - last) < 70


class _Dying(Spool):
    """Power goes before anything is given up."""

    def discard(self, tickets: Any) -> None:
        if list(tickets):
            raise KeyboardInterrupt


def test_power_that_goes_between_keeping_and_giving_up(tmp_path: Path) -> None:
    spool = _Dying(tmp_path / "spool")
    miner = Miner("ENTROPY", size=2, model_name="net", spool=spool)
    with pytest.raises(KeyboardInterrupt):
        for number in range(9):
            miner.offer(frame(number, doubt=number / 10))
    spool.close()
    with Spool(tmp_path / "spool") as again:
        assert len(again) == 3
        miner = Miner("ENTROPY", size=2, model_name="net", spool=again)
        assert [record["request_id"] for record in miner.records()] == ["frame-1", "frame-2"]


def test_a_spool_belongs_to_one_strategy(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool") as spool:
        Miner("ENTROPY", size=2, model_name="net", spool=spool).offer(frame(0))
        with pytest.raises(Conflict, match="the spool holds what ENTROPY kept, not MARGIN"):
            Miner("MARGIN", size=2, spool=spool)


def test_uploading_a_miner_makes_room(tmp_path: Path, folder_lake: katiml.Lake) -> None:
    with Spool(tmp_path / "spool") as spool:
        miner = Miner("ENTROPY", size=2, model_name="net", spool=spool)
        kept = [miner.offer(frame(number, doubt=doubt)) for number, doubt in enumerate((0.9, 0.8))]
        assert kept == [True, True] and not miner.judge(frame(2, doubt=0.1))
        assert miner.upload(folder_lake).landed == 2
        assert len(miner) == 0
        assert miner.offer(frame(3, doubt=0.1))
        miner.clear()
        assert len(spool) == 0
    with pytest.raises(InvalidInput, match="there is no spool"):
        Miner("ENTROPY", size=2).upload(folder_lake)


def test_a_gate_lets_only_what_it_keeps_reach_the_next(tmp_path: Path) -> None:
    unsure = Miner("MARGIN", threshold=0.8, model_name="net")
    with Spool(tmp_path / "spool") as spool:
        miner = Miner("CORESET", size=3, model_name="net:pool", gate=unsure, spool=spool)
        offered = [
            miner.offer(frame(0, [0.0], 0.1)),
            miner.offer(frame(1, [1.0], 0.9)),
            miner.offer(frame(2, [1.0], 0.95)),
            miner.offer(frame(3, [5.0], 0.95)),
        ]
    assert offered == [False, True, False, True]
    assert (miner.seen, miner.kept, unsure.seen) == (4, 2, 0)


def test_a_server_that_is_busy_is_asked_again(
    tmp_path: Path, folder_lake: katiml.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(send, "time", SimpleNamespace(sleep=pauses.append))
    calls: list[Any] = []
    busy = _app(503, b"{}", [(b"retry-after", b"7")], calls)
    key = folder_lake.keys.create("device").secret
    app = create_app(folder_lake)

    async def sometimes(scope: Any, receive: Any, answer: Any) -> None:
        await (busy if len(calls) < 2 else app)(scope, receive, answer)

    with client_of(sometimes) as client, Spool(tmp_path / "spool") as spool:
        spool.append(frame(0))
        assert spool.upload(str(client.base_url), api_key=key).landed == 1
    assert len(pauses) == 2 and all(3.5 <= pause <= 7 for pause in pauses)
