"""Datasets over HTTP: the shapes of the original, and what is beside them."""

from __future__ import annotations

import uuid
from typing import Any

import pyarrow as pa
import pytest

from tests.datasets.conftest import EVEN, records
from tests.server.conftest import Api

CAT = {"left": "groundtruths.class_name", "op": "=", "right": "cat"}


def get(api: Api, path: str, **options: Any) -> Any:
    response = api.client.get(path, **options)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture
def ids(api: Api) -> list[str]:
    """The ids of twelve datapoints in the served lake."""
    api.lake.ingest(records())
    found: list[str] = api.lake.datapoints.select(fields=["id"], order_by="text")["id"].tolist()
    return found


@pytest.fixture
def path(api: Api) -> str:
    """The address of a dataset."""
    made = api.rows("/api/dataset", {"displayName": "pets"})
    return f"/api/dataset/{made['uuid']}"


def test_the_life_of_a_dataset(api: Api, path: str, ids: list[str]) -> None:
    row = get(api, path)
    assert row["display_name"] == "pets" and row["organization_id"] == "default"
    assert {"uuid", "created_at", "created_by", "display_name"} <= set(row)
    assert row["created_by"] == "default"  # the name of the key
    assert api.rows(f"{path}/add", {"datapointIds": ids[:4]}) == {"count": 4}
    assert api.rows(f"{path}/remove", {"datapointIds": ids[3:5]}) == {"count": 1}
    assert set(get(api, f"{path}/datapoint-ids")) == set(ids[:3])
    assert {one["id"] for one in get(api, f"{path}/datapoints")} == set(ids[:3])

    draft = get(api, f"{path}/uncommitted-version")
    assert (draft["dirty"], draft["committed"], draft["size"]) == (True, False, 3)
    first = api.rows(f"{path}/commit", {"message": "three"})
    assert (first["message"], first["dirty"], first["committed"]) == ("three", False, True)
    assert first["dataset_uuid"] == row["uuid"] and first["created_by"] == "default"
    assert get(api, f"/api/dataset/version/{first['uuid']}")["message"] == "three"
    assert set(get(api, f"/api/dataset/version/{first['uuid']}/datapoint-ids")) == set(ids[:3])

    api.rows(f"{path}/add", {"datapointIds": ids[5:7]})
    second = api.rows(f"{path}/commit", {"message": "five", "author": "ann"})
    assert second["created_by"] == "ann" and second["parents"] == [first["uuid"]]
    history = get(api, f"{path}/versions")
    assert [one["message"] for one in history] == ["", "five", "three"]
    assert [one["uuid"] for one in history] == [draft["uuid"], second["uuid"], first["uuid"]]
    assert history[0]["dirty"] is False

    diff = get(api, f"/api/dataset/diff/{first['uuid']}/{second['uuid']}")
    assert set(diff) == {"added", "removed", "version1", "version2", "dataset1", "dataset2"}
    assert set(diff["added"]) == set(ids[5:7]) and diff["removed"] == []
    assert diff["version1"]["uuid"] == first["uuid"] and diff["dataset2"]["uuid"] == row["uuid"]

    assert api.rows(f"{path}/checkout/{first['uuid']}") == first["uuid"]
    assert set(get(api, f"{path}/datapoint-ids")) == set(ids[:3])
    assert api.rows("/api/dataset", {"displayName": "animals", "uuid": row["uuid"]})["uuid"]
    assert [one["display_name"] for one in get(api, "/api/dataset")] == ["animals"]
    assert api.client.delete(path).status_code == 200
    assert get(api, "/api/dataset") == [] and api.client.get(path).status_code == 404


def test_the_old_addresses_never_refuse_work(api: Api, path: str, ids: list[str]) -> None:
    """Commits without changes and checkouts over them are what old clients do; nothing is lost."""
    api.rows(f"{path}/add", {"datapointIds": ids[:2]})
    first = api.rows(f"{path}/commit", {"message": "two"})
    assert api.rows(f"{path}/commit", {"message": "two again"})["parents"] == [first["uuid"]]
    api.rows(f"{path}/add", {"datapointIds": ids[5:6]})
    api.rows(f"{path}/checkout/{first['uuid']}")
    (draft,) = get(api, f"{path}/drafts")
    assert (draft["added"], draft["removed"], draft["size"]) == (1, 0, 3)
    status = api.rows(f"{path}/restore", {"draft": draft["draft"]})
    assert status["size"] == 3 and status["clean"] is False
    # The same name again is allowed too.
    assert api.rows("/api/dataset", {"displayName": "pets"})["uuid"] not in path


def test_members_by_filter(api: Api, path: str, ids: list[str]) -> None:
    assert api.rows(f"{path}/add", {"filters": EVEN}) == {"count": 6}
    assert api.rows(f"{path}/remove", {"filters": [CAT]}) == {"count": 3}
    assert api.rows(f"{path}/add", {"all": True}) == {"count": 9}
    for wrong in ({}, {"filters": []}, {"datapointIds": ids, "all": True}):
        assert api.post(f"{path}/add", wrong).status_code == 400


def test_races_and_refusals_are_409(api: Api, path: str, ids: list[str]) -> None:
    seen = get(api, f"{path}/status")["revision"]
    api.rows(f"{path}/add", {"datapointIds": ids[:2]})
    first = api.rows(f"{path}/commit", {"message": "two"})
    for address, body in [
        ("add", {"datapointIds": ids[:1], "revision": seen}),
        ("commit", {"message": "x", "revision": seen}),
        (f"checkout/{first['uuid']}", {"revision": seen}),
        ("commit", {"message": "nothing new", "allowEmpty": False}),
    ]:
        response = api.post(f"{path}/{address}", body)
        assert response.status_code == 409, response.text
        assert response.json()["error"]["hint"]
    api.rows(f"{path}/add", {"datapointIds": ids[2:3]})
    refused = api.post(f"{path}/checkout/{first['uuid']}", {"force": False})
    assert refused.status_code == 409 and "uncommitted" in refused.json()["error"]["message"]
    assert get(api, f"{path}/status")["size"] == 3


def test_unknown_ids_are_listed(api: Api, path: str, ids: list[str]) -> None:
    absent = str(uuid.uuid4())
    response = api.post(f"{path}/add", {"datapointIds": [ids[0], absent]})
    assert response.status_code == 404
    assert response.json()["error"]["details"] == {"unknown": [absent], "count": 1}
    assert get(api, f"{path}/status")["size"] == 0


def test_wrong_requests_are_said(api: Api, path: str, ids: list[str]) -> None:
    other = api.rows("/api/dataset", {"displayName": "other"})
    api.rows(f"/api/dataset/{other['uuid']}/add", {"datapointIds": ids[:1]})
    foreign = api.rows(f"/api/dataset/{other['uuid']}/commit", {"message": "one"})
    absent = str(uuid.uuid4())
    for method, address, body, status in [
        ("POST", "/api/dataset", {"displayName": " "}, 400),
        ("POST", "/api/dataset", {}, 422),
        ("POST", "/api/dataset", {"displayName": "x", "uuid": absent}, 404),
        ("GET", f"/api/dataset/{absent}", None, 404),
        ("GET", "/api/dataset/nonsense", None, 404),
        ("POST", f"{path}/commit", {"message": ""}, 400),
        ("POST", f"{path}/commit", {}, 422),
        ("POST", f"{path}/add", {"datapointIds": [5]}, 422),
        ("POST", f"{path}/checkout/{foreign['uuid']}", {}, 400),
        ("POST", f"{path}/checkout/{absent}", {}, 404),
        ("POST", f"{path}/merge", {"theirs": foreign["uuid"]}, 400),
        ("POST", f"{path}/tags", {"name": "HEAD"}, 400),
        ("DELETE", f"{path}/tags/nothing", None, 404),
        ("POST", f"{path}/restore", {}, 404),
        ("GET", "/api/dataset/version/nonsense", None, 404),
        ("GET", f"/api/dataset/version/{absent}", None, 404),
        ("GET", f"/api/dataset/diff/{absent}/{foreign['uuid']}", None, 404),
        ("GET", f"{path}/diff?before=nothing", None, 404),
    ]:
        response = api.client.request(method, address, json=body)
        assert response.status_code == status, (address, body, response.text)


def test_what_is_beside_the_old_addresses(api: Api, path: str, ids: list[str]) -> None:
    api.rows(f"{path}/add", {"datapointIds": ids[:4]})
    root = api.rows(f"{path}/commit", {"message": "root"})["uuid"]
    api.rows(f"{path}/add", {"datapointIds": ids[4:5]})
    left = api.rows(f"{path}/commit", {"message": "left"})["uuid"]
    api.rows(f"{path}/checkout/HEAD~1")
    api.rows(f"{path}/remove", {"datapointIds": ids[:1]})
    api.rows(f"{path}/commit", {"message": "right"})
    merged = api.rows(f"{path}/merge", {"theirs": left, "message": "both"})
    assert merged["base"] == root and merged["version"]["size"] == 4
    assert api.rows(f"{path}/tags", {"name": "v1/final"}) == {"v1/final": merged["version"]["id"]}
    assert get(api, f"{path}/versions")[1]["tags"] == ["v1/final"]
    found = get(api, f"{path}/diff", params={"before": root[:8], "after": "v1/final"})
    assert found["counts"] == {
        "added": 1,
        "removed": 1,
        "relabelled": 0,
        "retagged": 0,
        "edited": 0,
    }
    assert found["added"] == ids[4:5] and found["distributions"]["tags"]
    body = {"before": root, "after": merged["version"]["id"], "ids": False, "distributions": False}
    assert set(api.rows("/api/dataset/diff", body)) == {"before", "after", "counts"}
    assert api.client.delete(f"{path}/tags/v1/final").json() == {}


def test_rows_are_those_of_a_dataset_or_a_version(api: Api, path: str, ids: list[str]) -> None:
    api.lake.ingest(
        [
            {
                "id": ids[0],
                "predictions": [
                    {
                        "task_type": "CLASSIFICATION",
                        "model_name": "net",
                        "logits": [0.5, 1.5],
                        "class_names": ["cat", "dog"],
                        "embeddings": {"layer": [1.0, 2.0]},
                    }
                ],
            }
        ]
    )
    api.rows(f"{path}/add", {"datapointIds": ids[:6]})
    version = api.rows(f"{path}/commit", {"message": "six"})["uuid"]
    api.rows(f"{path}/remove", {"datapointIds": ids[:5]})
    now, then = {"datasetId": path.rsplit("/", maxsplit=1)[-1]}, {"versionId": version}
    for body, count in ((now, 1), (then, 6), ({**now, **then}, 6), ({}, 12)):
        assert len(api.rows("/api/datapoints/select", body)) == count
        assert api.rows("/api/datapoints/count", {**body, "filters": []}) == count
        assert len(api.rows("/api/groundtruths/select", {**body, "limit": 100})) == count
        assert api.rows("/api/tags/count", body) == count
        groups = api.rows("/api/analytics/distribution/tag/half", body)["histogram"]
        assert sum(len(group["datapoints"]) for group in groups.values()) == count
    for body, names in ((now, []), (then, ["net"])):
        assert api.rows("/api/predictions/select-distinct-model-names", body) == names
        assert len(api.rows("/api/predictions/select-distinct-embedding-names", body)) == len(names)
        assert len(api.rows("/api/datapoints/find-vector-ids", {**body, "limit": 6})) == 2 * len(
            names
        )
        values = {**body, "key": "predictions.model_name", "value": ""}
        assert api.rows("/api/suggestions/get-values-suggestions", values) == names
    assert api.rows("/api/tags/select-distinct-names", now) == ["half"]
    assert "tags.name" in api.rows("/api/suggestions/get-keys-suggestions", {**now, "key": "tags"})
    refused = api.post("/api/datapoints/delete", {**then, "filters": []})
    assert refused.status_code == 400
    gone = api.rows("/api/datapoints/delete", {**now, "filters": []})
    assert len(gone) == 1 and api.lake.datapoints.count() == 11
    for wrong in ("nonsense", str(uuid.uuid4())):
        for name in ("datasetId", "versionId"):
            assert api.post("/api/datapoints/count", {name: wrong}).status_code == 404


def test_a_version_is_read_as_it_was(api: Api, path: str, ids: list[str]) -> None:
    api.rows(f"{path}/add", {"datapointIds": ids[:2]})
    version = api.rows(f"{path}/commit", {"message": "two"})["uuid"]
    api.lake.ingest([{"id": ids[0], "text": "changed"}])
    rows = get(api, f"/api/dataset/version/{version}/datapoints")
    assert {row["text"] for row in rows} == {"t0", "t1"}
    arrow = {"accept": "application/vnd.apache.arrow.stream"}
    response = api.client.get(f"/api/dataset/version/{version}/datapoints", headers=arrow)
    assert pa.ipc.open_stream(response.content).read_all().num_rows == 2
    draft = get(api, f"{path}/uncommitted-version")["uuid"]
    rows = get(api, f"/api/dataset/version/{draft}/datapoints")
    assert {row["text"] for row in rows} == {"changed", "t1"}


def test_strangers_see_nothing(api: Api, path: str, ids: list[str]) -> None:
    api.rows(f"{path}/add", {"datapointIds": ids[:2]})
    version = api.rows(f"{path}/commit", {"message": "two"})["uuid"]
    assert api.stranger.get("/api/dataset").json() == []
    for address in (
        path,
        f"{path}/status",
        f"{path}/versions",
        f"{path}/datapoints",
        f"/api/dataset/version/{version}",
        f"/api/dataset/version/{version}/datapoint-ids",
        f"/api/dataset/diff/{version}/{version}",
    ):
        assert api.stranger.get(address).status_code == 404, address
        assert api.anybody.get(address).status_code == 401, address
    for address, body in (
        (f"{path}/add", {"all": True}),
        (f"{path}/commit", {"message": "x"}),
        (f"{path}/checkout/{version}", {}),
        ("/api/datapoints/count", {"versionId": version}),
    ):
        assert api.stranger.post(address, json=body).status_code == 404, address
    assert api.stranger.delete(path).status_code == 404
    mine = api.stranger.post("/api/dataset", json={"displayName": "mine"}).json()["uuid"]
    response = api.stranger.post(f"/api/dataset/{mine}/add", json={"datapointIds": ids})
    assert response.status_code == 404
    assert api.stranger.post(f"/api/dataset/{mine}/checkout/{version}").status_code == 404
