"""What the web app asks for at once: attachments, counts by bucket, tags of many, demo data."""

from __future__ import annotations

import time

import pytest

from tests.server.conftest import Api, picture


def test_attachments_of_a_page(api_of_home: Api) -> None:
    api = api_of_home
    api.lake.ingest([picture(number) for number in range(4)])
    rows = api.rows("/api/datapoints/select", {"selectColumns": ["id"]})
    ids = [row["id"] for row in rows[:2]]
    found = api.rows("/api/datapoints/attachments", {"datapointIds": ids})
    assert set(found) == {"tags", "groundtruths", "predictions", "bboxes", "lanes", "completions"}
    for table in ("tags", "groundtruths", "predictions"):
        assert {row["datapoint"] for row in found[table]} == set(ids)
    assert len(found["tags"]) == 4
    assert "encoded_segmentation_class_mask" not in found["groundtruths"][0]
    stranger = api.stranger.post("/api/datapoints/attachments", json={"datapointIds": ids})
    assert stranger.json()["tags"] == []
    assert api.post("/api/datapoints/attachments", {"datapointIds": ids * 1001}).status_code == 422


def test_counts_by_bucket(api: Api) -> None:
    api.lake.ingest([picture(number) for number in range(6)])
    found = api.rows("/api/datapoints/distribution", {"field": "groundtruths"})
    assert found == {
        "buckets": [{"bucket": "chihuahua", "count": 3}, {"bucket": "pug", "count": 3}],
        "total": 2,
        "numeric": False,
    }
    bins = api.rows("/api/datapoints/distribution", {"field": "loss", "bins": 5})
    assert bins["numeric"]
    assert [bucket["count"] for bucket in bins["buckets"]] == [1, 1, 1, 1, 2]
    one = api.rows("/api/datapoints/distribution", {"field": "tags.number", "limit": 1})
    assert (len(one["buckets"]), one["total"]) == (1, 6)
    assert api.post("/api/datapoints/distribution", {}).status_code == 422


def test_tags_of_many_and_back(api_of_home: Api) -> None:
    api = api_of_home
    api.lake.ingest([picture(number) for number in range(5)])
    api.lake.ingest([{"type": "TEXT", "text": "no tags"}])

    def values() -> list[str]:
        return sorted(api.lake.tags.select({"left": "name", "op": "=", "right": "source"})["value"])

    body = {"name": "source", "value": "cats", "all": True}
    done = api.rows("/api/datapoints/tag", body)
    assert done["datapoints"] == 6
    assert values() == ["cats"] * 6
    had = [(before["value"] or "", len(before["datapointIds"])) for before in done["previous"]]
    assert sorted(had) == [
        ("", 1), ("dogs", 5),
    ]  # fmt: skip
    for before in done["previous"]:
        named = {"left": "id", "op": "in", "right": before["datapointIds"]}
        api.rows(
            "/api/datapoints/tag", {"name": "source", "value": before["value"], "filters": [named]}
        )
    assert values() == ["dogs"] * 5


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a", "value": "b"},
        {"name": "", "value": "b", "all": True},
        {"name": "a", "value": "", "all": True},
        {"name": "a\0", "value": "b", "all": True},
        {"name": "a" * 1_001, "value": "b", "all": True},
        {"value": "b", "all": True},
    ],
)
def test_wrong_tags_are_refused(body: dict[str, object], api: Api) -> None:
    api.lake.ingest([picture()])
    before = len(api.lake.tags.select())
    assert api.post("/api/datapoints/tag", body).status_code in (400, 422)
    assert len(api.lake.tags.select()) == before


def test_tags_of_another_organization_stay(api: Api) -> None:
    api.lake.ingest([picture()])
    done = api.stranger.post(
        "/api/datapoints/tag", json={"name": "source", "value": "x", "all": True}
    )
    assert done.json()["datapoints"] == 0
    assert api.lake.tags.distinct("value", {"left": "name", "op": "=", "right": "source"}) == [
        "dogs"
    ]


def test_the_demo_data(api: Api) -> None:
    assert api.client.get("/api/demo").json()["status"] == "IDLE"
    assert api.rows("/api/demo")["status"] == "RUNNING"
    for _ in range(600):
        state = api.client.get("/api/demo").json()
        if state["status"] != "RUNNING":
            break
        time.sleep(0.1)
    assert (state["status"], state["done"], state["total"]) == ("SUCCEEDED", 1797, 1797)
    assert api.lake.datapoints.count() == 1797
    identity = api.lake.datapoints.select(fields=["id"], limit=1)["id"].item()
    assert (
        api.client.get(f"/api/datapoints/{identity}/thumbnail").headers["x-image-size"] == "64x64"
    )
    assert api.stranger.get("/api/demo").json()["status"] == "IDLE"


def test_the_tables_of_sql(api: Api) -> None:
    tables = api.client.get("/api/sql/tables").json()
    assert "row" not in tables["datapoints"]
    assert {"datapoint", "name", "value"} <= set(tables["tags"])
