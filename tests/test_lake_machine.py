"""Random histories of a lake against a model of plain dicts, in both homes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

import katiml
from katiml.lake import Lake

NAMES = st.sampled_from(["a", "b", "c'; DROP TABLE tags; --", "é"])
VALUES = st.sampled_from(["1", "2", "", "x" * 40])
TASKS = st.sampled_from(["CLASSIFICATION", "OBJECT_DETECTION"])
MODELS = st.sampled_from(["", "m1", "m2"])
METADATA = st.dictionaries(NAMES, st.integers(0, 3), max_size=2)
TAGS = st.dictionaries(NAMES, st.none() | VALUES, max_size=3)

_organizations = itertools.count()


class Machine(RuleBasedStateMachine):
    """Each history has an organization of its own, so that one lake serves them all."""

    url: str
    lakes: list[Lake]
    datapoints = Bundle("datapoints")

    def __init__(self) -> None:
        super().__init__()
        self.organization = f"o{next(_organizations)}"
        self.lake = self.lakes[0].for_organization(self.organization)
        self.model: dict[str, dict[str, Any]] = {}

    def send(self, *records: dict[str, Any]) -> None:
        upload = self.lake.ingest(list(records))
        assert upload.status == "SUCCEEDED", upload.rejected.to_dict("records")

    @rule(
        target=datapoints,
        count=st.integers(1, 3),
        metadata=METADATA,
        tags=TAGS,
        class_name=st.none() | NAMES,
    )
    def create(
        self, count: int, metadata: dict[str, int], tags: dict[str, Any], class_name: str | None
    ) -> Any:
        record: dict[str, Any] = {"type": "TEXT", "metadata": metadata, "tags": tags}
        truths = {}
        if class_name is not None:
            record["groundtruths"] = [{"task_type": "CLASSIFICATION", "class_name": class_name}]
            truths["CLASSIFICATION"] = class_name
        self.send(*[record] * count)
        new = set(self.lake.datapoints.select(fields=["id"])["id"]) - set(self.model)
        assert len(new) == count
        for id_ in new:
            self.model[id_] = {
                "metadata": dict(metadata),
                "text": None,
                "tags": {name: value for name, value in tags.items() if value is not None},
                "truths": dict(truths),
                "predictions": {},
            }
        return multiple(*sorted(new))

    @rule(id_=datapoints, metadata=METADATA, text=st.none() | VALUES)
    def update(self, id_: str, metadata: dict[str, int], text: str | None) -> None:
        self.send({"id": id_, "metadata": metadata, "text": text})
        self.model[id_] |= {"metadata": dict(metadata), "text": text}

    @rule(id_=datapoints, tags=TAGS)
    def tag(self, id_: str, tags: dict[str, Any]) -> None:
        self.send({"id": id_, "tags": tags})
        merged = {**self.model[id_]["tags"], **tags}
        self.model[id_]["tags"] = {n: v for n, v in merged.items() if v is not None}

    @rule(id_=datapoints)
    def clear_tags(self, id_: str) -> None:
        self.send({"id": id_, "tags": None})
        self.model[id_]["tags"] = {}

    @rule(id_=datapoints, task=TASKS, class_name=NAMES)
    def label(self, id_: str, task: str, class_name: str) -> None:
        self.send({"id": id_, "groundtruths": [{"task_type": task, "class_name": class_name}]})
        self.model[id_]["truths"][task] = class_name

    @rule(id_=datapoints, task=TASKS, model=MODELS, score=st.integers(0, 9))
    def predict(self, id_: str, task: str, model: str, score: int) -> None:
        prediction = {"task_type": task, "model_name": model, "metrics": {"score": score}}
        self.send({"id": id_, "predictions": [prediction]})
        self.model[id_]["predictions"][task, model] = {"score": score}

    @rule(first=datapoints, second=datapoints, tags=TAGS)
    def two_records_in_one_upload(self, first: str, second: str, tags: dict[str, Any]) -> None:
        self.send({"id": first, "tags": tags}, {"id": second, "tags": {"a": "last"}})
        for id_, sent in ((first, tags), (second, {"a": "last"})):
            merged = {**self.model[id_]["tags"], **sent}
            self.model[id_]["tags"] = {n: v for n, v in merged.items() if v is not None}

    @rule(id_=datapoints, metric=NAMES, score=st.integers(0, 9))
    def patch(self, id_: str, metric: str, score: int) -> None:
        predictions = self.model[id_]["predictions"]
        if not predictions:
            return
        task, model = min(predictions)
        frame = self.lake.predictions.select(
            [
                {"left": "datapoint", "op": "=", "right": id_},
                {"left": "task_type", "op": "=", "right": task},
                {"left": "model_name", "op": "=", "right": model},
            ],
            fields=["id"],
        )
        patched = {"id": frame["id"].item(), "metrics": {metric: score}}
        self.send({"id": id_, "predictions": [patched]})
        predictions[task, model][metric] = score

    @rule(id_=consumes(datapoints))
    def delete(self, id_: str) -> None:
        counts = self.lake.datapoints.delete({"left": "id", "op": "=", "right": id_})
        gone = self.model.pop(id_)
        assert counts["datapoints"] == 1
        assert counts.get("tags", 0) == len(gone["tags"])
        assert counts.get("predictions", 0) == len(gone["predictions"])
        upload = self.lake.ingest([{"id": id_, "tags": {"a": "b"}}])
        assert upload.status == "FAILED"

    @rule()
    def reopen(self) -> None:
        self.lakes[0].close()
        self.lakes[0] = katiml.connect(self.url)
        self.lake = self.lakes[0].for_organization(self.organization)

    @invariant()
    def lake_equals_model(self) -> None:
        found: dict[str, dict[str, Any]] = {}
        for row in self.lake.datapoints.select().to_dict("records"):
            found[row["id"]] = {
                "metadata": row["metadata"] or {},
                "text": row["text"],
                "tags": {},
                "truths": {},
                "predictions": {},
            }
        for row in self.lake.tags.select().to_dict("records"):
            own = found[row["datapoint"]]["tags"]
            assert row["name"] not in own
            own[row["name"]] = row["value"]
        for row in self.lake.groundtruths.select().to_dict("records"):
            own = found[row["datapoint"]]["truths"]
            assert row["task_type"] not in own
            own[row["task_type"]] = row["class_name"]
        for row in self.lake.predictions.select().to_dict("records"):
            own = found[row["datapoint"]]["predictions"]
            key = row["task_type"], row["model_name"]
            assert key not in own
            own[key] = row["metrics"]
        assert json.dumps(_plain(found), sort_keys=True) == json.dumps(
            _plain(self.model), sort_keys=True
        )


def _plain(model: dict[str, dict[str, Any]]) -> Any:
    return {
        id_: {**own, "predictions": sorted((*key, _floats(value)) for key, value in _items(own))}
        for id_, own in model.items()
    }


def _items(own: dict[str, Any]) -> Any:
    return own["predictions"].items()


def _floats(metrics: dict[str, Any]) -> str:
    return json.dumps({name: float(value) for name, value in metrics.items()}, sort_keys=True)


@pytest.fixture
def machine(lake_url: str) -> Iterator[type[Machine]]:
    lakes = [katiml.connect(lake_url)]
    yield type("Machine", (Machine,), {"url": lake_url, "lakes": lakes})
    lakes[0].close()


def test_any_history(machine: type[Machine], lake_url: str) -> None:
    remote = lake_url.startswith("ducklake:")
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=3 if remote else 12,
            stateful_step_count=15 if remote else 25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
