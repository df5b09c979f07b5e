"""Retention: what is forgotten, and what versions keep, in both homes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyroaring import BitMap

from katiml.errors import Conflict, InvalidInput
from katiml.history import duration_of, forget
from katiml.lake import Lake
from katiml.store import Moment, View

from .conftest import Writer


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let time pass."""

    def pass_days(days: float) -> None:
        moment = datetime.now(UTC) + timedelta(days=days)
        monkeypatch.setattr("katiml.history.forgetting._now", lambda: moment)

    return pass_days


def test_what_is_older_than_the_retention_is_dropped(
    lake: Lake, writer: Writer, later: Any
) -> None:
    (id_,) = writer.new(tags={"a": "1"})
    writer.send({"id": id_, "tags": {"a": "2"}})
    later(89)
    assert lake.forget() == {}
    later(91)
    assert lake.forget() == {"tags": 1}
    assert writer.tags() == ["2"]
    with pytest.raises(Conflict, match="older than the lake remembers"):
        lake.undo()
    writer.send({"id": id_, "tags": {"a": "3"}})


def test_what_a_version_shows_stays(lake: Lake, writer: Writer, later: Any) -> None:
    members = writer.new(2, tags={"a": "1"})
    others = writer.new(2, tags={"a": "1"})
    rows = BitMap(lake.datapoints.select(limit=2, fields=["row"])["row"])
    version = View(rows, Moment.read(lake.scope))
    for id_ in (*members, *others):
        writer.send({"id": id_, "tags": {"a": "2"}})
        writer.send({"id": id_, "tags": {"a": "3"}})
    lake.datapoints.delete(all=True)
    later(100)
    # Of the four datapoints the rows of two, as they were; their last state is no version's.
    assert forget(lake.scope, [version]) == {"tags": 4 * 3 - 2, "datapoints": 2}
    seen = lake.scope.at(version)
    assert seen.query("SELECT value FROM {tags}")["value"].to_pylist() == ["1", "1"]
    assert seen.query("SELECT id FROM {datapoints}").num_rows == 2
    assert forget(lake.scope, [View(None, version.moment)]) == {}
    assert forget(lake.scope, []) == {"tags": 2, "datapoints": 2}


def test_predictions_stay_with_their_datapoint(lake: Lake, writer: Writer, later: Any) -> None:
    (id_,) = writer.new()
    version = View(BitMap(lake.datapoints.select(fields=["row"])["row"]), Moment.read(lake.scope))
    prediction = {"task_type": "CLASSIFICATION", "model_name": "m", "logits": [1.0, 0.0]}
    writer.send({"id": id_, "predictions": [prediction]})
    lake.datapoints.delete(all=True)
    later(100)
    assert forget(lake.scope, [version]) == {}
    assert lake.scope.at(version).query("SELECT id FROM {feature_vectors}").num_rows == 1


def test_forever_is_forever(lake: Lake, writer: Writer, later: Any) -> None:
    (id_,) = writer.new(tags={"a": "1"})
    writer.send({"id": id_, "tags": {"a": "2"}})
    lake.retention = "forever"
    later(100_000)
    assert lake.forget() == {}
    lake.undo()
    assert writer.tags() == ["1"]


def test_each_organization_has_its_own(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    other = lake.for_organization("other")
    other.retention = "P1Y"
    assert (lake.retention, other.retention) == ("P90D", "P1Y")
    monkeypatch.setenv("KATIML_RETENTION", "PT12H")
    assert (lake.retention, other.retention) == ("PT12H", "P1Y")
    other.retention = None
    assert other.retention == "PT12H"
    monkeypatch.setenv("KATIML_RETENTION", "soon")
    with pytest.raises(InvalidInput, match="KATIML_RETENTION"):
        assert lake.retention


def test_once_a_day_is_enough(lake: Lake, writer: Writer, later: Any) -> None:
    (id_,) = writer.new(tags={"a": "1"})
    writer.send({"id": id_, "tags": {"a": "2"}})
    assert lake.forget_if_due() == {}
    later(100)
    assert lake.forget_if_due() == {"tags": 1}
    later(100.5)
    lake.retention = "PT1H"
    writer.send({"id": id_, "tags": {"a": "3"}})
    assert lake.forget_if_due() == {}
    later(101.1)
    assert lake.forget_if_due() == {"tags": 1}


@pytest.mark.parametrize(
    "wrong", ["", "P", "PT", "90", "90D", "P90", "P-1D", "P1.5D", "PD", "p90d", "P1D ", 90, None]
)
def test_other_texts_are_no_durations(wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="not a duration"):
        duration_of(wrong)


@pytest.mark.parametrize("long", ["P9999Y", "P99999999999999999999D"])
def test_longer_than_there_is_time_is_forever(
    lake: Lake, writer: Writer, later: Any, long: str
) -> None:
    (id_,) = writer.new(tags={"a": "1"})
    writer.send({"id": id_, "tags": {"a": "2"}})
    lake.retention = long
    later(1000)
    assert lake.forget() == {}
