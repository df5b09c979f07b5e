"""`lake.match`: files on this machine and the datapoints that are theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dioptra.lake import utils
from katiml.errors import InvalidInput, NotFound
from katiml.matching import sha256_of


def ids_of(lake: Any) -> dict[str, str]:
    rows = lake.datapoints.select(fields=["id", "request_id"])
    return dict(zip(rows["request_id"], rows["id"], strict=True))


def test_matches_misses_and_ambiguities(lake: Any, tmp_path: Path) -> None:
    path = tmp_path / "a b.png"
    path.write_bytes(b"one")
    uris = {
        "bare": str(path),
        "file": (tmp_path / "é.png").as_uri(),
        "cloud": "s3://bucket/x/a.png",
        "again": "s3://bucket/y/a.png",
        "twice": "s3://bucket/t.png",
        "twin": "s3://bucket/t.png",
    }
    lake.ingest(
        [
            {"type": "IMAGE", "request_id": name, "metadata": {"uri": uri}}
            for name, uri in uris.items()
        ]
        + [{"type": "TEXT", "text": "no uri"}]
        + [{"type": "IMAGE", "request_id": "hashed", "metadata": {"sha256": sha256_of(str(path))}}]
    )
    ids = ids_of(lake)
    items = [path, tmp_path / "é.png", uris["cloud"], uris["twice"], "s3://bucket/none.png"]
    found = lake.match(items)
    assert found["item"].tolist() == [str(item) for item in items]
    assert found["status"].tolist() == ["matched"] * 3 + ["ambiguous", "missing"]
    assert found["datapoint"].tolist() == [ids["bare"], ids["file"], ids["cloud"], None, None]
    assert sorted(found["matches"][3]) == sorted([ids["twice"], ids["twin"]])
    assert lake.match([path.as_uri()])["datapoint"].tolist() == [ids["bare"]]

    by_name = lake.match(["/elsewhere/a.png", "t.png", "/elsewhere/a b.png"], by="basename")
    assert by_name["status"].tolist() == ["ambiguous", "ambiguous", "matched"]
    by_content = lake.match([path], by="sha256")
    assert by_content["datapoint"].tolist() == [ids["hashed"]]
    own = lake.match(
        ["x/a.jpg", "y/a.jpg"],
        by=lambda uri: uri.rpartition(".")[0][-3:],
    )
    assert own["datapoint"].tolist() == [ids["cloud"], ids["again"]]
    assert lake.match([]).columns.tolist() == ["item", "status", "datapoint", "matches"]


def test_many_at_once(lake: Any) -> None:
    count = 3_000
    lake.ingest([{"type": "IMAGE", "metadata": {"uri": f"s3://b/{n}.png"}} for n in range(count)])
    for by in ("uri", "basename"):
        found = lake.match([f"s3://b/{n}.png" for n in reversed(range(count))], by=by)
        assert set(found["status"]) == {"matched"} and found["datapoint"].nunique() == count


def test_wrong_ways(lake: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="by is 'name'"):
        lake.match(["a"], by="name")
    with pytest.raises(NotFound, match="nothing"):
        lake.match([tmp_path / "nothing.png"], by="sha256")


def test_the_sdk_matches_too() -> None:
    utils.upload_to_lake([{"type": "IMAGE", "metadata": {"uri": "/data/1.png"}}])
    assert utils.match(["/data/1.png", "/data/2.png"])["status"].tolist() == ["matched", "missing"]
