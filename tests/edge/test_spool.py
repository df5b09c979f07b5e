"""Records on a device's disk: they survive crashes, torn writes, flipped bytes and full disks."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katiml.edge import Sent, Spool
from katiml.edge.encode import encode_array, encode_record
from katiml.errors import Conflict, InvalidInput, InvalidRecord, KatiMLError, StorageFull
from katiml.records.arrays import decode


def texts(spool: Spool) -> list[Any]:
    return [record["text"] for _, record in spool.records()]


def record(number: int, padding: int = 0) -> dict[str, Any]:
    return {"type": "TEXT", "text": number, "tags": {"padding": "x" * padding}}


def test_records_notes_and_state_are_there_when_it_is_opened_again(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool") as spool:
        tickets = [spool.append(record(number), note={"score": number / 2}) for number in range(5)]
        spool.discard([tickets[1], tickets[3], 999])
        spool.remember({"bound": 0.1})
        assert texts(spool) == [0, 2, 4]
    with Spool(tmp_path / "spool") as again:
        assert texts(again) == [0, 2, 4]
        assert [note["score"] for *_, note in again.noted_records()] == [0.0, 1.0, 2.0]
        assert again.state == {"bound": 0.1}
        assert again.append(record(5)) > tickets[-1]
        assert again.damaged == 0


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        Spool(tmp_path / "spool"),
        pytest.raises(Conflict, match="another process uses the spool"),
    ):
        Spool(tmp_path / "spool")
    Spool(tmp_path / "spool").close()


def test_a_closed_spool_says_so(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.close()
    with pytest.raises(InvalidInput, match="closed"):
        spool.append(record(0))


def test_wherever_the_file_ends_whole_records_are_read(tmp_path: Path) -> None:
    with Spool(tmp_path / "whole", sync=False) as spool:
        ends = [0]
        for number in range(4):
            spool.append(record(number))
            ends.append(spool.disk_bytes)
    (segment,) = (tmp_path / "whole").glob("*.spool")
    data = segment.read_bytes()
    folder = tmp_path / "torn"
    folder.mkdir()
    for length in range(len(data)):
        (folder / segment.name).write_bytes(data[:length])
        whole = sum(end <= length for end in ends[1:])
        with Spool(folder, sync=False) as torn:
            assert texts(torn) == list(range(whole))
            torn.append(record(99))
        with Spool(folder, sync=False) as again:
            assert texts(again) == [*range(whole), 99]
            assert again.damaged == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_flipped_byte_costs_one_record_at_most_and_is_counted(
    tmp_path_factory: pytest.TempPathFactory, place: int, flip: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    with Spool(folder, sync=False) as spool:
        for number in range(6):
            spool.append(record(number))
    (segment,) = folder.glob("*.spool")
    data = bytearray(segment.read_bytes())
    data[place % len(data)] ^= flip
    segment.write_bytes(data)
    with Spool(folder, sync=False) as damaged:
        left = texts(damaged)
        assert len(left) >= 5
        assert left == sorted(set(left)) and set(left) <= set(range(6))
        # The last entry may be taken for one that was never finished.
        assert damaged.damaged == (len(left) < 6 and 5 in left)


def test_damage_that_comes_later_is_counted_when_it_is_met(tmp_path: Path) -> None:
    with Spool(tmp_path, sync=False) as spool:
        spool.append(record(0))
        spool.append(record(1))
        (segment,) = tmp_path.glob("*.spool")
        segment.write_bytes(segment.read_bytes().replace(b'"text":0', b'"text":7'))
        assert texts(spool) == [1]
        assert (spool.damaged, len(spool)) == (1, 1)


def test_space_of_discarded_records_comes_back(tmp_path: Path) -> None:
    with Spool(tmp_path, segment_bytes=2_000, sync=False) as spool:
        spool.remember({"bound": 3.0})
        first = spool.append(record(-1, 100))
        live = [first]
        for number in range(500):
            live.append(spool.append(record(number, 100)))
            if len(live) > 4:
                spool.discard([live.pop(1)])
        assert spool.disk_bytes < 12_000
        kept = texts(spool)
        assert kept[0] == -1 and kept[1:] == [497, 498, 499]
    with Spool(tmp_path, sync=False) as again:
        assert texts(again) == kept
        assert again.state == {"bound": 3.0}


def test_discarded_records_stay_away_whichever_files_are_gone(tmp_path: Path) -> None:
    generator = random.Random(3)
    live: dict[int, int] = {}
    for start in range(0, 300, 40):
        with Spool(tmp_path, segment_bytes=600, sync=False) as spool:
            assert texts(spool) == [live[ticket] for ticket in sorted(live)]
            for number in range(start, start + 40):
                live[spool.append(record(number, 50))] = number
                while len(live) > 5 or (live and generator.random() < 0.3):
                    ticket = generator.choice(list(live))
                    spool.discard([ticket])
                    del live[ticket]
                assert texts(spool) == [live[ticket] for ticket in sorted(live)]


def test_it_takes_no_more_than_it_may(tmp_path: Path) -> None:
    with Spool(tmp_path, max_bytes=3_000, segment_bytes=1_000, sync=False) as spool:
        with pytest.raises(StorageFull, match="has reached 3,000 bytes"):
            for number in range(100):
                spool.append(record(number, 200))
        tickets = spool.tickets
        assert spool.disk_bytes <= 3_000
        kept = texts(spool)
        assert kept == list(range(len(tickets))) and len(kept) > 5
        spool.discard(tickets[::2])
        spool.append(record(1_000, 200))
        assert texts(spool) == [*kept[1::2], 1_000]


def test_a_full_disk_is_an_error_and_nothing_is_half_written(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from katiml.edge import Spool
from katiml.errors import StorageFull
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
with Spool(sys.argv[1]) as spool:
    count = 0
    try:
        while True:
            spool.append({"type": "TEXT", "text": count, "tags": {"padding": "x" * 300}})
            count += 1
    except StorageFull as error:
        print(count, len(spool), error.hint)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "spool")],
        capture_output=True,
        text=True,
        check=True,
    )
    count, length, *_ = done.stdout.split()
    assert int(count) == int(length) > 5
    with Spool(tmp_path / "spool") as spool:
        assert texts(spool) == list(range(int(count)))
        assert spool.damaged == 0


_CHILD = """
import sys
from katiml.edge import Spool
with Spool(sys.argv[1], segment_bytes=4_000) as spool:
    start = max([record["text"] for _, record in spool.records()], default=-1) + 1
    live = spool.tickets
    for number in range(start, 100_000):
        live.append(spool.append({"type": "TEXT", "text": number}, note={"score": number}))
        gone = live.pop(0) if len(live) > 20 else None
        print(number, flush=True)
        if gone:
            spool.discard([gone])
"""


def test_every_acknowledged_record_survives_kill_9(tmp_path: Path) -> None:
    generator = random.Random(5)
    newest = -1
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(tmp_path / "spool")], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        for _ in range(generator.randrange(1, 60)):
            line = child.stdout.readline()
            newest = int(line) if line else newest
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate()
        newest = int(rest.split()[-1]) if rest.split() else newest
        with Spool(tmp_path / "spool") as spool:
            kept = texts(spool)
            assert spool.damaged == 0
        # All of the last 20 that were acknowledged; one more may have been under way.
        assert kept == list(range(kept[0], kept[-1] + 1))
        assert kept[-1] >= newest
        assert len(kept) >= min(20, newest + 1)


# -- encoding --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (70_000,), (33, 1_000)])
@pytest.mark.parametrize("dtype", ["u1", "f2", "f4", "f8", "i4", "?"])
def test_arrays_are_read_by_the_lake(shape: tuple[int, ...], dtype: str) -> None:
    array = (np.random.default_rng(0).random(shape) * 100).astype(dtype)
    found = decode(encode_array(array))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_records_become_json_that_the_lake_takes() -> None:
    text = encode_record(
        {
            "type": "IMAGE",
            "metadata": {"width": np.int64(3), "path": Path("/tmp/a")},
            "predictions": [
                {
                    "logits": np.array([0.5, 2.0]),
                    "embeddings": {"pool": np.array([0.1, 7e4])},
                    "bboxes": [{"coco_polygon": np.array([0.0, 1.0])}],
                }
            ],
        }
    )
    prediction = json.loads(text)["predictions"][0]
    assert decode(prediction["logits"]).tolist() == [0.5, 2.0]
    assert decode(prediction["embeddings"]["pool"]).dtype == np.float32
    assert prediction["bboxes"] == [{"coco_polygon": [0.0, 1.0]}]


@pytest.mark.parametrize(
    "wrong", [float("nan"), np.array([np.inf]), np.array(["a"]), object(), {"a": object()}]
)
def test_what_json_cannot_hold_is_refused_and_nothing_is_kept(tmp_path: Path, wrong: Any) -> None:
    with Spool(tmp_path) as spool:
        with pytest.raises(InvalidRecord, match="cannot be written as JSON"):
            spool.append({"type": "TEXT", "metadata": {"x": wrong}})
        assert len(spool) == 0


def test_a_record_may_not_be_larger_than_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("katiml.edge.journal.MAX_ENTRY_BYTES", 1_000)
    with Spool(tmp_path) as spool, pytest.raises(InvalidInput, match="a record of"):
        spool.append(record(0, 2_000))


def test_one_thread_uploads_while_another_appends(tmp_path: Path) -> None:
    arrived: list[int] = []

    def send(body: bytes, key: str) -> Sent:
        numbers = [one["text"] for one in json.loads(body)["records"]]
        arrived.extend(numbers)
        return Sent(key, len(numbers), 0)

    with Spool(tmp_path, sync=False, segment_bytes=5_000) as spool:

        def fill() -> None:
            for number in range(400):
                spool.append(record(number))

        thread = threading.Thread(target=fill)
        thread.start()
        while thread.is_alive():
            spool.upload(send, batch_bytes=500)
        thread.join()
        spool.upload(send)
        assert arrived == list(range(400))
        assert len(spool) == 0


def test_nothing_is_opened_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((KatiMLError, OSError)):
        Spool(tmp_path / "file")
    with pytest.raises(InvalidInput):
        Spool(tmp_path / "spool", max_bytes=0)
    assert os.listdir(tmp_path) == ["file"]
