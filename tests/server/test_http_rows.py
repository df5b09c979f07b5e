"""Rows over HTTP: select, count, delete, distinct, suggestions, SQL, distributions."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pytest

from katiml.schema import RECORD_TABLES
from katiml.server.answers import ARROW
from tests.server.conftest import Api, picture

PUG = [{"left": "groundtruths.class_name", "op": "=", "right": "pug"}]


@pytest.fixture
def dogs(api: Api) -> Api:
    """Five pictures of dogs."""
    api.lake.ingest([picture(number) for number in range(5)])
    return api


def test_every_table_selects_and_counts_in_each_home(api_of_home: Api) -> None:
    api = api_of_home
    api.lake.ingest(
        [
            picture(0),
            {
                "type": "IMAGE",
                "predictions": [
                    {"task_type": "LANE_DETECTION", "lanes": [{"coco_polyline": [0, 1, 2, 3]}]},
                    {"task_type": "COMPLETION", "completions": [{"text": "hello"}]},
                ],
            },
        ]
    )
    for table in RECORD_TABLES:
        rows = api.rows(f"/api/{table}/select")
        assert rows, table
        assert api.rows(f"/api/{table}/count") == len(rows)
        arrow = api.post(f"/api/{table}/select", {}, headers={"accept": ARROW})
        assert arrow.headers["content-type"] == ARROW
        read = pa.ipc.open_stream(arrow.content).read_all()
        assert set(read.column_names) == set(rows[0]), table
        assert read["id"].to_pylist() == [row["id"] for row in rows]
        for row in rows:
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["created_at"])


def test_select__page(dogs: Api) -> None:
    body = {
        "selectColumns": ["metadata.width", "groundtruths.class_name"],
        "filters": [{"left": "metadata.width", "op": ">", "right": 100}],
        "orderBy": "metadata.width",
        "desc": True,
        "limit": 2,
        "offset": 1,
    }
    rows = dogs.rows("/api/datapoints/select", body)
    assert [row["metadata.width"] for row in rows] == [103, 102]
    assert [row["groundtruths"][0]["class_name"] for row in rows] == ["chihuahua", "pug"]


def test_select__page_after_page(dogs: Api) -> None:
    body: dict[str, Any] = {"limit": 2, "orderBy": "metadata.width", "desc": True}
    widths: list[int] = []
    while rows := dogs.rows("/api/datapoints/select", body):
        widths += [row["metadata"]["width"] for row in rows]
        body["after"] = rows[-1]["id"]
    assert widths == [104, 103, 102, 101, 100]
    assert dogs.post("/api/datapoints/select", {"after": "nonsense"}).status_code == 400


def test_select__nulls_mean_the_usual(dogs: Api) -> None:
    body = dict.fromkeys(("selectColumns", "filters", "orderBy", "desc", "limit", "offset"))
    assert len(dogs.rows("/api/datapoints/select", {**body, "datasetId": None})) == 5
    assert len(dogs.client.post("/api/datapoints/select").json()) == 5


def test_count(dogs: Api) -> None:
    assert dogs.rows("/api/datapoints/count", {"filters": PUG}) == 3


def test_get_datapoints(dogs: Api) -> None:
    rows = dogs.client.get("/api/datapoints").json()
    assert len(rows) == 5
    one = dogs.client.get(f"/api/datapoints/{rows[0]['id']}")
    assert one.json() == rows[0]
    for unknown in ("00000000-0000-0000-0000-000000000000", "nonsense", "'"):
        assert dogs.client.get(f"/api/datapoints/{unknown}").status_code == 404


def test_delete__answers_with_the_deleted_rows(dogs: Api) -> None:
    rows = dogs.rows(
        "/api/datapoints/delete", {"filters": PUG, "orderBy": "metadata.width", "limit": 2}
    )
    assert [row["metadata"]["width"] for row in rows] == [100, 102]
    assert dogs.rows("/api/datapoints/count") == 3
    assert dogs.rows("/api/predictions/count") == 6
    assert (
        dogs.rows("/api/datapoints/delete", {"filters": [{"left": "id", "op": "in", "right": []}]})
        == []
    )
    assert len(dogs.rows("/api/predictions/delete", {"filters": []})) == 6
    assert len(dogs.rows("/api/groundtruths/delete")) == 3
    assert len(dogs.rows("/api/datapoints/delete", {"filters": []})) == 3
    assert dogs.rows("/api/tags/count") == 0


def test_delete__counts_want_all_for_everything(dogs: Api) -> None:
    body: dict[str, Any] = {"filters": [], "returning": "counts"}
    refused = dogs.post("/api/datapoints/delete", body)
    assert refused.status_code == 400
    assert dogs.rows("/api/datapoints/count") == 5
    assert dogs.post("/api/tags/delete", {"filters": []}).status_code == 400
    assert (
        dogs.rows(
            "/api/tags/delete", {"filters": [{"left": "name", "op": "=", "right": "number"}]}
        )["tags"]
        == 5
    )
    counts = dogs.rows("/api/datapoints/delete", {**body, "all": True})
    assert counts["datapoints"] == 5 and counts["predictions"] == 10


def test_vector_ids(dogs: Api) -> None:
    vectors = dogs.rows("/api/feature_vectors/select")
    ids = dogs.rows(
        "/api/datapoints/find-vector-ids",
        {"filters": PUG, "type": "EMBEDDINGS", "modelName": "net:layer"},
    )
    assert len(ids) == 3
    assert set(ids) < {row["id"] for row in vectors}
    page = {"filters": PUG, "limit": 1, "orderBy": "metadata.width", "desc": True}
    assert len(dogs.rows("/api/datapoints/find-vector-ids", page)) == 2


def test_from_event_uuids(api: Api) -> None:
    api.lake.ingest([picture(0, request_id="event-1"), picture(1)])
    rows = api.rows("/api/datapoints/from-event-uuids", {"eventUuids": ["event-1", "none"]})
    assert [row["request_id"] for row in rows] == ["event-1"]


@pytest.mark.parametrize("table", ["predictions", "groundtruths"])
def test_get_attachments(dogs: Api, table: str) -> None:
    ids = [row["id"] for row in dogs.rows("/api/datapoints/select", {"limit": 2})]
    rows = dogs.rows(f"/api/{table}/get", {"datapointIds": ids})
    assert {row["datapoint"] for row in rows} == set(ids)
    assert not any(name.startswith("encoded") for name in rows[0])
    assert rows[0]["task_type"]


def test_distinct_names(dogs: Api) -> None:
    few = {"datapointFilters": [{"left": "metadata.width", "op": "=", "right": 100}]}
    assert dogs.rows("/api/predictions/select-distinct-model-names") == ["boxes", "net"]
    assert dogs.rows("/api/predictions/select-distinct-model-names", {**few, "limit": 1}) == [
        "boxes"
    ]
    named = {"filters": [{"left": "metrics.loss", "op": ">=", "right": 1}]}
    assert dogs.rows("/api/predictions/select-distinct-model-names", named) == ["net"]
    assert dogs.rows("/api/tags/select-distinct-names", few) == ["number", "source"]
    assert dogs.rows("/api/predictions/select-distinct-embedding-names") == ["net:layer"]
    metrics = dogs.rows("/api/predictions/select-distinct-metrics", few)
    assert set(metrics) >= {"entropy", "loss"}
    nothing = {"datapointFilters": [{"left": "type", "op": "=", "right": "AUDIO"}]}
    for path in ("model-names", "embedding-names", "metrics"):
        assert dogs.rows(f"/api/predictions/select-distinct-{path}", nothing) == []


def test_suggestions(dogs: Api) -> None:
    keys = dogs.rows("/api/suggestions/get-keys-suggestions", {"key": "groundtruths.cl"})
    assert "groundtruths.class_name" in keys
    assert "tags.name" in dogs.rows("/api/suggestions/get-keys-suggestions", {"key": ""})
    values = dogs.rows(
        "/api/suggestions/get-values-suggestions", {"key": "groundtruths.class_name", "value": "p"}
    )
    assert values == ["pug"]
    every = dogs.rows("/api/suggestions/get-values-suggestions", {"key": "groundtruths.class_name"})
    assert sorted(every) == ["chihuahua", "pug"]


def ids_by_bucket(dogs: Api, path: str, body: Any = None) -> dict[str, int]:
    found = dogs.rows(f"/api/analytics/distribution/{path}", body)
    return {name: len(bucket["datapoints"]) for name, bucket in found["histogram"].items()}


def test_distributions(dogs: Api) -> None:
    assert ids_by_bucket(dogs, "groundtruths") == {"pug": 3, "chihuahua": 2}
    assert ids_by_bucket(dogs, "groundtruths", {"filters": PUG}) == {"pug": 3}
    net = {"modelName": "net"}
    assert sum(ids_by_bucket(dogs, "predictions", net).values()) == 5
    assert ids_by_bucket(dogs, "predictions", {"modelName": "boxes"}) == {"dog": 5}
    assert ids_by_bucket(dogs, "tag/source") == {"dogs": 5}
    loss = ids_by_bucket(dogs, "loss", net)
    assert len(loss) == 10 and sum(loss.values()) == 5
    assert next(iter(loss)) == "0.00 - 0.20"
    assert list(loss.values())[-1] == 1, "the maximum is in the last bin"
    whole = dogs.rows("/api/analytics/distribution/groundtruths")
    assert whole["task_type"] == "CLASSIFICATION"
    known = {row["id"] for row in dogs.rows("/api/datapoints/select")}
    assert {id for bucket in whole["histogram"].values() for id in bucket["datapoints"]} == known


def test_distribution__of_nothing(api: Api) -> None:
    for path in ("groundtruths", "predictions", "tag/none", "entropy"):
        assert api.rows(f"/api/analytics/distribution/{path}")["histogram"] == {}


def test_sql(dogs: Api) -> None:
    query = {"query": "SELECT count(*) AS n, max(created_at) AS at FROM datapoints"}
    (row,) = dogs.rows("/api/sql", query)
    assert row["n"] == 5
    response = dogs.post("/api/sql", query, headers={"accept": ARROW})
    assert pa.ipc.open_stream(response.content).read_all()["n"].to_pylist() == [5]
    for bad in (
        "DELETE FROM datapoints",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM lake.api_keys",
        "SELECT * FROM nowhere",
        "SELECT 1; SELECT 2",
        "",
        "x" * 100_001,
    ):
        assert 400 <= dogs.post("/api/sql", {"query": bad}).status_code < 500, bad
    assert dogs.rows("/api/datapoints/count") == 5


@pytest.mark.parametrize(
    ("body", "status", "mentions"),
    [
        ({"limit": -1}, 422, "limit"),
        ({"limit": "3"}, 422, "limit"),
        ({"limit": 2**70}, 422, "limit"),
        ({"offset": -1}, 422, "offset"),
        ({"selectColumns": "*"}, 422, "selectColumns"),
        ({"order_by": "id"}, 422, "order_by"),
        ({"filters": {"left": "id"}}, 422, "filters"),
        ({"filters": [3]}, 400, "filter"),
        ({"filters": [{"left": "colour", "op": "=", "right": 1}]}, 400, "colour"),
        ({"filters": [{"left": "id", "op": "~=~", "right": 1}]}, 400, "~=~"),
        ({"filters": [{"left": "id", "op": "=", "right": "no uuid"}]}, None, ""),
        ({"filters": [{"left": "id'; --", "op": "=", "right": "x"}]}, 400, ""),
        ({"orderBy": "groundtruths.class_name"}, 400, "groundtruths"),
        ({"orderBy": "id; DROP TABLE datapoints"}, 400, ""),
        ({"selectColumns": ["colour"]}, 400, "colour"),
        ([], 422, "object"),
        ("text", 422, "object"),
    ],
)
def test_bad_select(dogs: Api, body: Any, status: int | None, mentions: str) -> None:
    response = dogs.client.post("/api/datapoints/select", json=body)
    if status is None:
        assert response.status_code < 500
        return
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "code", "hint", "details"}
    assert mentions in error["message"]
    assert len(dogs.rows("/api/datapoints/select")) == 5


@pytest.mark.parametrize(
    "content", [b"{", b"\xff\xfe", b'{"limit": NaN}', b'{"filters": ' + b"[" * 100_000]
)
def test_broken_json(api: Api, content: bytes) -> None:
    response = api.client.post("/api/datapoints/select", content=content)
    assert response.status_code == 400
    assert "JSON" in response.json()["error"]["message"]


def test_organizations_are_apart(dogs: Api) -> None:
    stranger = dogs.stranger
    mine = dogs.rows("/api/datapoints/select")[0]["id"]
    for table in RECORD_TABLES:
        assert stranger.post(f"/api/{table}/select", json={}).json() == []
        assert stranger.post(f"/api/{table}/count", json={}).json() == 0
    assert stranger.get("/api/datapoints").json() == []
    assert stranger.get(f"/api/datapoints/{mine}").status_code == 404
    assert stranger.post("/api/predictions/get", json={"datapointIds": [mine]}).json() == []
    assert stranger.post("/api/datapoints/find-vector-ids", json={}).json() == []
    assert stranger.post("/api/predictions/select-distinct-model-names", json={}).json() == []
    assert stranger.post("/api/tags/select-distinct-names", json={}).json() == []
    suggested = {"key": "groundtruths.class_name", "value": ""}
    assert stranger.post("/api/suggestions/get-values-suggestions", json=suggested).json() == []
    distribution = stranger.post("/api/analytics/distribution/groundtruths", json={})
    assert distribution.json()["histogram"] == {}
    query = {"query": "SELECT count(*) AS n FROM datapoints"}
    assert stranger.post("/api/sql", json=query).json() == [{"n": 0}]
    for table in ("datapoints", "predictions", "groundtruths"):
        assert stranger.post(f"/api/{table}/delete", json={"filters": []}).json() == []
    assert stranger.get("/api/ingestion/executions").json() == []
    upload = dogs.client.get("/api/ingestion/executions").json()[0]["id"]
    for path in (upload, f"{upload}/rejected"):
        assert stranger.get(f"/api/ingestion/executions/{path}").status_code == 404
    update = {"records": [{"id": mine, "text": "theirs"}]}
    answer = stranger.post("/api/ingestion/ingest", json=update).json()
    assert answer["counts"] == {"read": 1, "landed": 0, "rejected": 1}
    assert dogs.rows("/api/datapoints/count") == 5
    assert dogs.client.get(f"/api/datapoints/{mine}").json()["text"] is None
