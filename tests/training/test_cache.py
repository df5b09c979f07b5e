"""The cache of files: whole or not at all, by content, within a limit, never in the way."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from katiml.training.cache import FileCache


def test_fetched_once_and_equal_contents_are_kept_once(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    fetched = []

    def fetch() -> bytes:
        fetched.append(1)
        return b"same"

    for name in ("a", "a", "b", "a"):
        assert cache.get(name, fetch) == b"same"
    assert len(fetched) == 2 and cache.holds("a") and not cache.holds("c")
    assert len(list((tmp_path / "content").glob("*/*"))) == 1
    assert FileCache(tmp_path).get("b", fetch) == b"same" and len(fetched) == 2


@pytest.mark.parametrize("kind", ["content", "names"])
@pytest.mark.parametrize("damage", [b"", b"rubbish", b"\xff" * 64, None])
def test_what_is_damaged_is_fetched_again(tmp_path: Path, kind: str, damage: bytes | None) -> None:
    cache = FileCache(tmp_path)
    cache.get("a", lambda: b"good")
    (path,) = (tmp_path / kind).glob("*/*")
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    assert cache.get("a", lambda: b"good") == b"good"
    assert FileCache(tmp_path).get("a", lambda: b"other") == b"good"


def test_past_its_limit_the_oldest_goes(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, max_bytes=1000)
    for number in range(20):
        content = bytes([number]) * 100
        assert cache.get(str(number), lambda content=content: content) == content
        cache.get("0", lambda: bytes(100))  # in use all the time
        for path in (tmp_path / "content").glob("*/*"):
            os.utime(path, ns=(path.stat().st_mtime_ns - 10**9,) * 2)
    assert sum(path.stat().st_size for path in (tmp_path / "content").glob("*/*")) <= 1000
    assert cache.holds("0") and cache.holds("19") and not cache.holds("2")
    assert cache.get("huge", lambda: bytes(5000)) == bytes(5000) and not cache.holds("huge")


def test_a_full_disk_is_said_once_and_all_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = FileCache(tmp_path)
    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match="nothing more is cached") as warned:
        assert [cache.get(name, lambda: b"x") for name in "abc"] == [b"x"] * 3
    assert len(warned) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_threads_share_it(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, max_bytes=3_000)
    wrong = []

    def work(seed: int) -> None:
        for number in range(50):
            name = str((number * seed) % 17)
            expected = name.encode() * 100
            if cache.get(name, lambda expected=expected: expected) != expected:
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 3, 5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
