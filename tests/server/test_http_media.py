"""Thumbnails, files and masks over HTTP: what is shown to whom, and why something is not."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import katiml
from katiml.server import Settings, create_app
from tests.serving import serving


class Seen:
    """A served lake: `me` runs the server, `key` and `stranger` have keys of two organizations."""

    def __init__(self, lake: katiml.Lake, url: str) -> None:
        self.lake, self.url = lake, url
        self.me = httpx.Client(base_url=url, headers={"x-katiml-web": "1"}, timeout=30)
        assert self.me.post("/api/session", json={}).status_code == 200
        self.key, self.stranger = (
            httpx.Client(
                base_url=url,
                headers={"x-api-key": lake.for_organization(name).keys.create(name).secret},
                timeout=30,
            )
            for name in ("default", "other")
        )

    def close(self) -> None:
        for client in (self.me, self.key, self.stranger):
            client.close()

    def add(self, uri: Any, **record: Any) -> str:
        metadata = {**record.pop("metadata", {}), "uri": str(uri)}
        self.lake.ingest([{"type": "IMAGE", "metadata": metadata, "request_id": "r", **record}])
        rows = self.lake.datapoints.select(order_by="created_at", desc=True, limit=1)
        return str(rows["id"].item())


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[Seen]:
    (tmp_path / "shared").mkdir()
    settings = Settings(
        local_sessions=True,
        media_roots=(str(tmp_path / "shared"),),
        cache_folder=str(tmp_path / "cache"),
        requests_per_minute=0,
    )
    with katiml.connect(tmp_path / "lake") as lake, serving(create_app(lake, settings)) as url:
        found = Seen(lake, url)
        yield found
        found.close()


def picture(path: Path, size: tuple[int, int] = (300, 200)) -> Path:
    Image.effect_noise(size, 60).save(path)
    return path


def code(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


def test_local_files_are_for_whoever_runs_the_server(seen: Seen, tmp_path: Path) -> None:
    private = seen.add(picture(tmp_path / "private.png"))
    shared = seen.add(picture(tmp_path / "shared" / "open.png"))
    for address in (f"/api/datapoints/{private}/thumbnail", f"/api/datapoints/{private}/media"):
        assert seen.me.get(address).status_code == 200
        answer = seen.key.get(address)
        assert (answer.status_code, code(answer)) == (403, "media_forbidden")
    assert seen.key.get(f"/api/datapoints/{shared}/thumbnail").status_code == 200
    # Another organization does not even learn that there is such a datapoint.
    assert code(seen.stranger.get(f"/api/datapoints/{shared}/thumbnail")) == "not_found"


@pytest.mark.parametrize("way", ["link", "dots", "prefix"])
def test_no_way_out_of_the_roots(way: str, seen: Seen, tmp_path: Path) -> None:
    secret = picture(tmp_path / "secret.png")
    if way == "link":
        (tmp_path / "shared" / "link.png").symlink_to(secret)
        uri = tmp_path / "shared" / "link.png"
    elif way == "dots":
        uri = tmp_path / "shared" / ".." / "secret.png"
    else:
        (tmp_path / "shared-not").mkdir()
        uri = picture(tmp_path / "shared-not" / "1.png")
    assert code(seen.key.get(f"/api/datapoints/{seen.add(uri)}/thumbnail")) == "media_forbidden"


def test_a_relative_path_is_looked_for_in_the_roots(seen: Seen, tmp_path: Path) -> None:
    picture(tmp_path / "shared" / "1.png")
    assert seen.key.get(f"/api/datapoints/{seen.add('1.png')}/thumbnail").status_code == 200
    assert code(seen.key.get(f"/api/datapoints/{seen.add('2.png')}/thumbnail")) == "media_missing"
    assert (
        code(seen.key.get(f"/api/datapoints/{seen.add('../2.png')}/thumbnail")) == "media_forbidden"
    )


def test_files_that_are_no_media_never_leave(seen: Seen, tmp_path: Path) -> None:
    text = tmp_path / "passwd"
    text.write_text("root:x:0:0:root:/root:/bin/bash\n")
    for what in ("thumbnail", "media"):
        answer = seen.me.get(f"/api/datapoints/{seen.add(text)}/{what}")
        assert (answer.status_code, code(answer)) == (422, "media_broken")


def test_reasons(seen: Seen, tmp_path: Path) -> None:
    reasons = {
        str(tmp_path / "gone.png"): "media_missing",
        "object://01890a5d-0000-7000-8000-000000000000": "media_missing",
        "http://127.0.0.1:9/1.png": "media_forbidden",
        "http://169.254.169.254/latest/meta-data": "media_forbidden",
        "https://no-such-host.invalid/1.png": "media_unreachable",
        "gopher://example.com/1.png": "media_unreachable",
        str(tmp_path): "media_missing",
    }
    for uri, reason in reasons.items():
        answer = seen.me.get(f"/api/datapoints/{seen.add(uri)}/thumbnail")
        assert code(answer) == reason, uri
        assert answer.json()["error"]["message"]
    nothing = seen.add("x", metadata={})
    seen.lake.ingest([{"id": nothing, "metadata": {"other": 1}}])
    assert code(seen.me.get(f"/api/datapoints/{nothing}/thumbnail")) == "media_missing"


def test_the_lakes_own_objects(seen: Seen) -> None:
    file = io.BytesIO()
    Image.new("RGB", (640, 480), "red").save(file, "PNG")
    stored = seen.lake.scope.store.objects.put("default", file.getvalue())
    answer = seen.key.get(f"/api/datapoints/{seen.add(f'object://{stored}')}/thumbnail?size=200")
    assert answer.headers["x-image-size"] == "640x480"
    assert Image.open(io.BytesIO(answer.content)).size == (256, 192)


def test_answers_are_kept_only_where_their_address_changes(seen: Seen, tmp_path: Path) -> None:
    path = picture(tmp_path / "1.png")
    address = f"/api/datapoints/{seen.add(path)}/thumbnail"
    assert "immutable" in seen.me.get(address, params={"v": "1"}).headers["cache-control"]
    before = seen.me.get(address)
    assert "no-cache" in before.headers["cache-control"]
    assert before.headers["content-security-policy"].endswith("sandbox")
    # A file that was written again is another image.
    Image.new("L", (300, 200), 0).save(path)
    os.utime(path, (1, 1))
    assert seen.me.get(address).content != before.content


def test_a_file_is_sent_by_ranges(seen: Seen, tmp_path: Path) -> None:
    data = picture(tmp_path / "1.png").read_bytes()
    address = f"/api/datapoints/{seen.add(tmp_path / '1.png')}/media"
    whole = seen.me.get(address)
    assert (whole.status_code, whole.content) == (200, data)
    assert whole.headers["content-type"] == "image/png"
    for header, expected in {
        "bytes=10-19": data[10:20],
        "bytes=100-": data[100:],
        "bytes=-7": data[-7:],
        "bytes=5-999999999": data[5:],
    }.items():
        answer = seen.me.get(address, headers={"range": header})
        assert (answer.status_code, answer.content) == (206, expected), header
        assert answer.headers["content-range"].endswith(f"/{len(data)}")
    for header in ("bytes=9-3", "lines=1-2", "bytes=x-", "bytes=", "bytes=99999999-"):
        assert seen.me.get(address, headers={"range": header}).content == data


def test_masks(seen: Seen, tmp_path: Path) -> None:
    classes = np.array([[0, 1, 2], [2, 2, 1]])
    one, two = np.zeros((2, 3), int), np.zeros((2, 3), int)
    one[0, 0] = two[1, 2] = 1
    seen.add(
        tmp_path / "1.png",
        groundtruths=[
            {"task_type": "SEGMENTATION", "segmentation_class_mask": classes.tolist()},
            {
                "task_type": "INSTANCE_SEGMENTATION",
                "bboxes": [{"segmentation_mask": mask.tolist()} for mask in (one, two)],
            },
            {"task_type": "CLASSIFICATION", "class_name": "none"},
        ],
    )
    rows = seen.lake.groundtruths.select(fields=["id", "task_type"]).set_index("task_type")["id"]

    def plane(task: str) -> Any:
        answer = seen.key.get(f"/api/groundtruths/{rows[task]}/mask")
        assert answer.status_code == 200, answer.text
        return np.asarray(Image.open(io.BytesIO(answer.content)))

    assert plane("SEGMENTATION").tolist() == (classes + 1).tolist()
    boxes = seen.lake.bboxes.select(fields=["id", "left"], order_by="id")["left"].tolist()
    found = plane("INSTANCE_SEGMENTATION")
    assert found[0, 0] == boxes.index(0) + 1
    assert found[1, 2] == boxes.index(2) + 1
    assert seen.key.get(f"/api/groundtruths/{rows['CLASSIFICATION']}/mask").status_code == 404
    assert seen.stranger.get(f"/api/groundtruths/{rows['SEGMENTATION']}/mask").status_code == 404


def test_the_entropy_of_each_pixel(seen: Seen, tmp_path: Path) -> None:
    logits = np.zeros((2, 2, 2))
    logits[0, 0, 0] = 50.0
    seen.add(
        tmp_path / "1.png",
        predictions=[{"task_type": "SEGMENTATION", "model_name": "m", "logits": logits.tolist()}],
    )
    identity = seen.lake.predictions.select(fields=["id"])["id"].item()
    answer = seen.key.get(f"/api/predictions/{identity}/uncertainty")
    plane = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert [plane[0, 0], plane[0, -1], plane[-1, 0], plane[-1, -1]] == [0, 255, 255, 255]
