"""The vectors of a selection, as a matrix that is kept until the data changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyroaring import BitMap

from katiml.errors import InvalidFilter, InvalidInput, StorageFull
from katiml.store.views import View
from katiml.vectors import Select, estimate_vectors, load_vectors
from katiml.vectors.cache import Cache, cache_folder
from katiml.vectors.state import state_of

SPLIT = {"exists": "tags", "where": {"left": "value", "op": "=", "right": "train"}}


def record(number: int, **prediction: Any) -> dict[str, Any]:
    said = {"task_type": "CLASSIFICATION", "model_name": "net", **prediction}
    return {
        "type": "IMAGE",
        "metadata": {"number": number},
        "tags": {"split": "train" if number % 2 else "pool"},
        "predictions": [said],
    }


def vector(number: int) -> list[float]:
    return [float(number), -0.5 * number, 0.25]


def ids(lake: Any, order: str = "metadata.number") -> list[str]:
    found: list[str] = lake.datapoints.select(fields=["id"], order_by=order).id.tolist()
    return found


def filled(lake: Any, count: int = 20) -> list[str]:
    lake.ingest([record(n, embeddings={"last": vector(n)}) for n in range(count)])
    return ids(lake)


def by_id(vectors: Any) -> dict[str, list[float]]:
    names = [str(name, "ascii") for name in vectors.ids]
    assert names == sorted(names)
    return dict(zip(names, vectors.matrix.tolist(), strict=True))


def test_vectors_are_those_of_their_datapoints(lake: Any) -> None:
    names = filled(lake)
    expected = {name: vector(number) for number, name in enumerate(names)}
    vectors = load_vectors(lake.scope, model_name="net:last")
    assert by_id(vectors) == expected
    assert (vectors.name, vectors.field, dict(vectors.missing)) == ("net:last", "embeddings", {})
    assert vectors.matrix.dtype == np.float32 and not vectors.matrix.flags.writeable
    # A model with one layer, and a lake with one name, need not be spelt out.
    for name in ("net", None):
        assert load_vectors(lake.scope, model_name=name).name == "net:last"
    half = load_vectors(lake.scope, model_name="net", dtype="float16")
    assert half.matrix.dtype == np.float16 and by_id(half) == expected
    train = load_vectors(lake.scope, Select(SPLIT), model_name="net")
    assert by_id(train) == {name: vector(n) for n, name in enumerate(names) if n % 2}
    last = Select(order_by="metadata.number", desc=True, limit=3)
    assert set(by_id(load_vectors(lake.scope, last, model_name="net"))) == set(names[-3:])
    rest = Select(without=Select(SPLIT))
    assert set(by_id(load_vectors(lake.scope, rest, model_name="net"))) == set(names[::2])
    few = load_vectors(lake.scope, Select(order_by="RANDOM()", limit=5), model_name="net")
    assert len(few) == 5 and set(by_id(few)) < set(names)


def test_what_is_kept_is_dropped_when_data_changes(lake: Any) -> None:
    names = filled(lake, 6)
    first = load_vectors(lake.scope, model_name="net")
    again = load_vectors(lake.scope, model_name="net")
    assert (first.cached, again.cached) == (False, True)
    assert by_id(first) == by_id(again)
    folder = cache_folder(lake.scope.store.url)
    assert len(list(folder.iterdir())) == 1

    lake.ingest([{"id": names[0], "predictions": [{**record(0)["predictions"][0],
                  "embeddings": {"last": [7.0, 7.0, 7.0]}}]}])  # fmt: skip
    changed = load_vectors(lake.scope, model_name="net")
    assert not changed.cached and by_id(changed)[names[0]] == [7.0, 7.0, 7.0]
    assert len(list(folder.iterdir())) == 1  # the older state made room

    lake.ingest([record(99, embeddings={"last": vector(99)})])
    assert len(load_vectors(lake.scope, model_name="net")) == 7
    lake.datapoints.delete({"left": "id", "op": "=", "right": names[1]})
    assert names[1] not in by_id(load_vectors(lake.scope, model_name="net"))
    selected = load_vectors(lake.scope, Select(SPLIT), model_name="net")
    lake.ingest([{"id": names[2], "tags": {"split": "train"}}])
    assert len(load_vectors(lake.scope, Select(SPLIT), model_name="net")) == len(selected) + 1
    lake.predictions.delete({"left": "datapoint", "op": "=", "right": names[3]})
    assert names[3] not in by_id(load_vectors(lake.scope, model_name="net"))


def test_skip_caching_leaves_nothing_behind(lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(lake, 4)
    for _ in range(2):
        vectors = load_vectors(lake.scope, model_name="net", skip_caching=True)
        assert not vectors.cached
    folder = cache_folder(lake.scope.store.url)
    assert not folder.exists()
    assert vectors.matrix.sum() != 0  # still readable


def test_a_cache_that_cannot_be_written_is_done_without(
    lake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    filled(lake, 3)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KATIML_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        vectors = load_vectors(lake.scope, model_name="net")
        assert not vectors.cached and len(vectors) == 3


def test_a_view_has_files_of_its_own(lake: Any) -> None:
    filled(lake, 6)
    rows = lake.scope.query("SELECT row FROM {datapoints} ORDER BY row").column(0).to_pylist()
    for members in (rows[:2], rows[2:5], rows[:2]):
        view = lake.scope.at(View(members=BitMap(members)))
        assert len(load_vectors(view, model_name="net")) == len(members)
    assert len(load_vectors(lake.scope, model_name="net")) == 6


def test_two_organizations_never_share_a_file(lake: Any) -> None:
    filled(lake, 3)
    other = lake.for_organization("other")
    with pytest.raises(InvalidInput, match="no embeddings"):
        load_vectors(other.scope, model_name="net")
    other.ingest([record(5, embeddings={"last": vector(5)})])
    assert load_vectors(other.scope, model_name="net").matrix.tolist() == [vector(5)]
    assert len(load_vectors(lake.scope, model_name="net")) == 3


def test_what_is_missing_is_counted_with_the_reason(lake: Any) -> None:
    lake.ingest([
        record(0, embeddings={"last": vector(0)}),
        record(1, embeddings={"first": vector(1)}),
        record(2, model_name="other", embeddings={"last": vector(2)}),
        {"type": "IMAGE", "metadata": {"number": 3}},
    ])  # fmt: skip
    names = ids(lake)
    vectors = load_vectors(lake.scope, model_name="net:last")
    assert by_id(vectors) == {names[0]: vector(0)}
    missing = {
        reason: [str(name, "ascii") for name in own] for reason, own in vectors.missing.items()
    }
    assert missing == {
        "no predictions": [names[3]],
        "no predictions of the model of 'net:last'": [names[2]],
        "a prediction without embeddings called 'net:last'": [names[1]],
    }
    estimate = estimate_vectors(lake.scope, model_name="net:last")
    assert (estimate.datapoints, estimate.vectors, estimate.width) == (4, 1, 3)
    assert estimate.missing == dict.fromkeys(missing, 1)
    kept = load_vectors(lake.scope, model_name="net:last")
    assert kept.cached and kept.missing.keys() == missing.keys()


def test_names_that_are_not_there(lake: Any) -> None:
    lake.ingest([
        record(0, embeddings={"last": vector(0), "first": vector(1)}, logits=[1.0, 2.0]),
    ])  # fmt: skip
    for name, said in (
        ("nets", "no embeddings are called 'nets' .*'net:first', 'net:last'"),
        ("net", "'net' alone: it has 2 layers"),
        (None, "model_name is missing"),
        (3, "not a text"),
    ):
        with pytest.raises(InvalidInput, match=said):
            load_vectors(lake.scope, model_name=name)  # type: ignore[arg-type]
    # Logits have no layer; a name with one finds them.
    assert load_vectors(lake.scope, model_name="net:last", field="logits").name == "net"
    with pytest.raises(InvalidInput, match="there are no grad_embeddings"):
        load_vectors(lake.scope, field="grad_embeddings")
    with pytest.raises(InvalidInput, match="embeddings_field"):
        load_vectors(lake.scope, field="pixels")
    with pytest.raises(InvalidInput, match="dtype"):
        load_vectors(lake.scope, model_name="net", dtype="int8")
    with pytest.raises(InvalidFilter):
        load_vectors(lake.scope, Select({"left": "colour", "op": "=", "right": 1}))


def test_different_lengths_are_refused_with_how_many(lake: Any) -> None:
    lake.ingest([record(n, embeddings={"last": [1.0] * (3 if n else 5)}) for n in range(4)])
    with pytest.raises(InvalidInput, match=r"3 values \(3\), 5 values \(1\)"):
        load_vectors(lake.scope, model_name="net")
    longer = Select({"left": "metadata.number", "op": "=", "right": 0})
    assert load_vectors(lake.scope, longer, model_name="net").matrix.shape == (1, 5)


def test_logits_of_passes_become_their_mean_and_shapes_are_flattened(lake: Any) -> None:
    lake.ingest([
        record(0, logits=[[1.0, 2.0], [3.0, 6.0]]),
        record(1, logits=[5.0, 7.0]),
        record(2, model_name="wide", embeddings={"map": [[[1.0, 2.0]], [[3.0, 4.0]]]}),
    ])  # fmt: skip
    names = ids(lake)
    logits = load_vectors(lake.scope, model_name="net", field="logits")
    assert by_id(logits) == {names[0]: [2.0, 4.0], names[1]: [5.0, 7.0]}
    assert load_vectors(lake.scope, model_name="wide").matrix.tolist() == [[1.0, 2.0, 3.0, 4.0]]


def test_values_beyond_float16_and_two_predictions_of_one_model(lake: Any) -> None:
    two = record(0, embeddings={"last": [1e6, 1.0]})
    two["predictions"].append({**two["predictions"][0], "task_type": "COMPLETION"})
    lake.ingest([two, record(1, embeddings={"last": [3.0, 4.0]})])
    names = ids(lake)
    vectors = load_vectors(lake.scope, model_name="net")
    assert by_id(vectors) == {names[0]: [1e6, 1.0], names[1]: [3.0, 4.0]}


def test_progress_is_said_and_can_stop(lake: Any) -> None:
    filled(lake, 5)
    said: list[tuple[int, int]] = []
    load_vectors(
        lake.scope, model_name="net", progress=lambda done, all_: said.append((done, all_))
    )
    assert said[-1] == (5, 5)

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_vectors(lake.scope, Select(SPLIT), model_name="net", progress=stop)
    folder = cache_folder(lake.scope.store.url)
    assert not [entry for entry in folder.iterdir() if entry.name.startswith("draft")]


def test_the_state_is_that_of_the_tables_asked_about(lake: Any) -> None:
    filled(lake, 3)
    before = state_of(lake.scope, []), state_of(lake.scope, ["tags"])
    lake.tags.delete(all=True)
    assert state_of(lake.scope, []) == before[0]
    assert state_of(lake.scope, ["tags"]) != before[1]


# -- the cache -------------------------------------------------------------------------------


def keep(cache: Cache, key: str, state: str, size: int = 1000) -> None:
    with cache.put(key, state) as draft:
        draft.array("numbers", (size,), np.uint8)[:] = 1
        draft.describe({"size": size})


def test_a_key_holds_one_state(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 10**6)
    keep(cache, "a", "first")
    keep(cache, "b", "first")
    keep(cache, "a", "second")
    assert cache.get("a", "first") is None
    assert cache.get("a", "second") == {"size": 1000} == cache.get("b", "first")
    cache.forget("a")
    assert cache.get("a", "second") is None


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    import os

    cache = Cache(tmp_path, 3500)
    for number, key in enumerate("abc"):
        keep(cache, key, "s", 1000)
        os.utime(cache._place(key, "s"), (number, number))
    cache.get("a", "s")
    keep(cache, "d", "s", 1000)
    assert [key for key in "abcd" if cache.get(key, "s")] == ["a", "d"] or [
        key for key in "abcd" if cache.get(key, "s")
    ] == ["a", "c", "d"]
    keep(cache, "large", "s", 9000)  # larger than the limit: kept, and alone
    assert [key for key in ("a", "d", "large") if cache.get(key, "s")] == ["large"]


def test_a_draft_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10**6)
    with pytest.raises(RuntimeError), cache.put("a", "s") as draft:
        draft.array("numbers", (10,), np.uint8)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int, _start: int, _size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(StorageFull, match="no space"):
        keep(Cache(tmp_path, 10**6), "a", "s")
    assert list(tmp_path.iterdir()) == []


def test_two_writers_of_one_state_end_with_one(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10**6)
    with cache.put("a", "s") as first:
        first.describe({"size": 1})
        keep(cache, "a", "s", 5)
    assert cache.get("a", "s") == {"size": 5}


def test_where_and_how_much(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KATIML_CACHE", raising=False)
    assert cache_folder(str(tmp_path)) == tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("ducklake:postgres://db/lake?data_path=x").parent == tmp_path / "katiml"
    monkeypatch.setenv("KATIML_CACHE", str(tmp_path / "here"))
    assert cache_folder("/srv/lake").parent == tmp_path / "here"
    monkeypatch.setenv("KATIML_CACHE_LIMIT", "1.5 GB")
    assert Cache(tmp_path).limit == 1_500_000_000
    monkeypatch.setenv("KATIML_CACHE_LIMIT", "much")
    with pytest.raises(InvalidInput, match="KATIML_CACHE_LIMIT"):
        Cache(tmp_path)
