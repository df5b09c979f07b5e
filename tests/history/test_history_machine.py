"""Random histories against a model that remembers every moment, in both homes.

In the model a datapoint is a set of units: its text, each tag, each ground truth with its boxes. A
unit has a stack of entries, one for each change of it that stands; its value is that of the last.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from pyroaring import BitMap

import katiml
from katiml.errors import Conflict
from katiml.lake import Lake
from katiml.store import Moment, View

NAMES = st.sampled_from(["a", "b"])
VALUES = st.sampled_from(["1", "2", "3"])
TASKS = st.sampled_from(["CLASSIFICATION", "OBJECT_DETECTION"])
TAGS = st.dictionaries(NAMES, st.none() | VALUES, max_size=2)
BOXES = st.lists(st.sampled_from(["car", "dog"]), max_size=2)
PLACES = st.integers(0, 10**6)

Unit = tuple[str, ...]  # ("text", datapoint), ("tag", datapoint, name), ("truth", datapoint, task)
_organizations = itertools.count()


@dataclass(eq=False)
class Entry:
    """What a change made of a unit; None: it took it away."""

    value: Any


@dataclass
class Step:
    """A change as the model knows it: what it pushed on stacks and popped from them."""

    number: int
    undoes: int | None = None
    pushed: list[tuple[Unit, Entry]] = field(default_factory=list)
    popped: list[tuple[Unit, Entry]] = field(default_factory=list)


class Model:
    """Units with their stacks, and the changes."""

    def __init__(self) -> None:
        self.stacks: dict[Unit, list[Entry]] = {}
        self.steps: dict[int, Step] = {}
        # What each change left on top of the stacks it worked on.
        self.left: dict[int, dict[Unit, Entry | None]] = {}

    def top(self, unit: Unit) -> Entry | None:
        stack = self.stacks.get(unit)
        return stack[-1] if stack else None

    def value(self, unit: Unit) -> Any:
        top = self.top(unit)
        return top.value if top else None

    def state(self) -> dict[Unit, Any]:
        values = {unit: self.value(unit) for unit in self.stacks}
        return {unit: value for unit, value in values.items() if value is not None}

    def write(self, step: Step, unit: Unit, value: Any) -> None:
        if value is None and self.value(unit) is None:
            return
        entry = Entry(value)
        self.stacks.setdefault(unit, []).append(entry)
        step.pushed.append((unit, entry))

    def purge(self, id_: str) -> None:
        self.stacks = {unit: own for unit, own in self.stacks.items() if unit[1] != id_}
        for step in self.steps.values():
            step.pushed = [one for one in step.pushed if one[0][1] != id_]
            step.popped = [one for one in step.popped if one[0][1] != id_]

    def is_undone(self, number: int) -> bool:
        return any(
            step.undoes == number and not self.is_undone(step.number)
            for step in self.steps.values()
        )

    def successor(self, number: int) -> int:
        """The last redoing of a change."""
        for undo in reversed(self.steps.values()):
            if undo.undoes == number:
                for redo in reversed(self.steps.values()):
                    if redo.undoes == undo.number and not self.is_undone(redo.number):
                        return self.successor(redo.number)
        return number

    def undo(self, number: int, own: int) -> Step:
        """Turn back what a change did, where that is still what there is."""
        step, result = self.steps[number], Step(own, undoes=number)
        # What each unit would become; a unit that others have changed since is not among them.
        back: dict[Unit, tuple[str, Entry]] = {}
        for unit, entry in step.pushed:
            if self.top(unit) is entry:
                back[unit] = ("pop", entry)
        for unit, entry in step.popped:
            # The stack is as the pop has left it: what was below the entry lies on top.
            if self.left[number].get(unit) is self.top(unit):
                back[unit] = ("push", entry)
        self.leave_alone(step, back)
        for unit, (action, entry) in back.items():
            if action == "pop":
                self.stacks[unit].pop()
                result.popped.append((unit, entry))
            else:
                self.stacks[unit].append(entry)
                result.pushed.append((unit, entry))
        self.remember(result)
        return result

    def leave_alone(self, step: Step, back: dict[Unit, tuple[str, Entry]]) -> None:
        """Drop datapoints that others use from `back`, and what would have no datapoint."""
        for id_ in {unit[1] for unit, _ in [*step.pushed, *step.popped]}:
            if self.made(step, id_) and not self.can_go(step, id_):
                for unit in [unit for unit in back if unit[1] == id_]:
                    del back[unit]
        for unit in [unit for unit in back if unit[0] != "text"]:
            owner = ("text", unit[1])
            if self.after(unit, back) is not None and self.after(owner, back) is None:
                del back[unit]

    def after(self, unit: Unit, back: dict[Unit, tuple[str, Entry]]) -> Any:
        """What the value of a unit will be."""
        if unit not in back:
            return self.value(unit)
        action, entry = back[unit]
        if action == "push":
            return entry.value
        stack = self.stacks[unit]
        return stack[-2].value if len(stack) > 1 else None

    def remember(self, step: Step) -> None:
        self.steps[step.number] = step
        units = {unit for unit, _ in [*step.pushed, *step.popped]}
        self.left[step.number] = {unit: self.top(unit) for unit in units}

    def restore(self, step: Step, id_: str) -> None:
        """Turn back what the last change did to a datapoint that went with it."""
        last = next(
            own
            for own in reversed(self.steps.values())
            if any(unit == ("text", id_) for unit, _ in [*own.pushed, *own.popped])
        )
        for unit, entry in last.pushed:
            if unit[1] == id_:
                assert self.stacks[unit].pop() is entry
                step.popped.append((unit, entry))
        for unit, entry in last.popped:
            if unit[1] == id_:
                self.stacks[unit].append(entry)
                step.pushed.append((unit, entry))

    def made(self, step: Step, id_: str) -> bool:
        """Whether the change made the datapoint, or brought it back."""
        pushed = [entry for unit, entry in step.pushed if unit == ("text", id_)]
        popped = [entry for unit, entry in step.popped if unit == ("text", id_)]
        if pushed and pushed[0].value is not None:
            return self.before(("text", id_), pushed[0]) is None
        return bool(popped) and popped[0].value is None

    def before(self, unit: Unit, entry: Entry) -> Any:
        stack = self.stacks[unit]
        place = next((n for n, own in enumerate(stack) if own is entry), None)
        if place is None:
            return "not standing"
        return stack[place - 1].value if place else None

    def can_go(self, step: Step, id_: str) -> bool:
        """Whether a datapoint that the change made has nothing that others have added since."""
        left = self.left[step.number]
        if self.top(("text", id_)) is not left.get(("text", id_)):
            return False
        return all(
            self.value(unit) is None or (unit in left and self.top(unit) is left[unit])
            for unit in self.stacks
            if unit[1] == id_
        )


class Machine(RuleBasedStateMachine):
    """Each history has an organization of its own, so that one lake serves them all."""

    url: str
    lakes: list[Lake]
    datapoints = Bundle("datapoints")

    def __init__(self) -> None:
        super().__init__()
        self.lake = self.lakes[0].for_organization(f"o{next(_organizations)}", author="ann")
        self.model = Model()
        self.rows: dict[str, int] = {}
        self.moments: list[tuple[Moment, dict[Unit, Any]]] = []
        self.last = 0

    # -- what the model and the lake have --------------------------------------------------

    def seen(self, moment: Moment | None = None, members: BitMap | None = None) -> dict[Unit, Any]:
        scope = self.lake.scope.at(View(members, moment))
        state: dict[Unit, Any] = {}
        for row in scope.query("SELECT id, text FROM {datapoints}").to_pylist():
            assert ("text", str(row["id"])) not in state
            state["text", str(row["id"])] = row["text"]
        for row in scope.query("SELECT datapoint, name, value FROM {tags}").to_pylist():
            unit = ("tag", str(row["datapoint"]), row["name"])
            assert unit not in state
            state[unit] = row["value"]
        truths = scope.query(
            "SELECT datapoint, task_type, class_name, (SELECT list(b.class_name ORDER BY "
            "b.class_name) FROM {bboxes} b WHERE b.groundtruth = g.id) AS boxes "
            "FROM {groundtruths} g"
        )
        for row in truths.to_pylist():
            unit = ("truth", str(row["datapoint"]), row["task_type"])
            assert unit not in state
            state[unit] = (row["class_name"], tuple(row["boxes"] or ()))
        return state

    def send(self, *records: dict[str, Any]) -> None:
        upload = self.lake.ingest(list(records))
        assert upload.status == "SUCCEEDED", upload.rejected.to_dict("records")

    def step(self) -> Step:
        """The change that was made just now, as a step of the model."""
        (latest,) = self.lake.changes(1).to_dict("records")
        assert latest["change"] != self.last
        self.last = latest["change"]
        return Step(self.last)

    def alive(self) -> list[str]:
        return sorted(unit[1] for unit in self.model.state() if unit[0] == "text")

    def pick(self, place: int) -> str | None:
        alive = self.alive()
        return alive[place % len(alive)] if alive else None

    def finish(self, step: Step) -> None:
        self.model.remember(step)
        self.moments.append((Moment.read(self.lake.scope), self.model.state()))

    # -- what can happen --------------------------------------------------------------------

    @rule(target=datapoints, count=st.integers(1, 3), tags=TAGS, name=st.none() | VALUES)
    def create(self, count: int, tags: dict[str, Any], name: str | None) -> Any:
        record: dict[str, Any] = {"type": "TEXT", "text": "new", "tags": tags}
        if name is not None:
            record["groundtruths"] = [{"task_type": "CLASSIFICATION", "class_name": name}]
        self.send(*[record] * count)
        step = self.step()
        rows = self.lake.datapoints.select(fields=["id", "row"]).to_dict("records")
        new = {row["id"]: row["row"] for row in rows if row["id"] not in self.rows}
        assert len(new) == count
        self.rows |= new
        for id_ in new:
            self.model.write(step, ("text", id_), "new")
            for tag, value in tags.items():
                self.model.write(step, ("tag", id_, tag), value)
            if name is not None:
                self.model.write(step, ("truth", id_, "CLASSIFICATION"), (name, ()))
        self.finish(step)
        return multiple(*new)

    @rule(place=PLACES, text=VALUES)
    def rewrite(self, place: int, text: str) -> None:
        id_ = self.pick(place)
        if id_ is None:
            return
        self.send({"id": id_, "text": text})
        step = self.step()
        self.model.write(step, ("text", id_), text)
        self.finish(step)

    @rule(place=PLACES, tags=TAGS)
    def tag(self, place: int, tags: dict[str, Any]) -> None:
        id_ = self.pick(place)
        if id_ is None:
            return
        before = {name for name in tags if self.model.value(("tag", id_, name)) is not None}
        self.send({"id": id_, "tags": tags})
        if not before and all(value is None for value in tags.values()):
            return  # nothing was there to be taken away: no change
        step = self.step()
        for name, value in tags.items():
            self.model.write(step, ("tag", id_, name), value)
        self.finish(step)

    @rule(place=PLACES, task=TASKS, name=VALUES, boxes=BOXES)
    def label(self, place: int, task: str, name: str, boxes: list[str]) -> None:
        id_ = self.pick(place)
        if id_ is None:
            return
        drawn = [self.box(one) for one in boxes] if task == "OBJECT_DETECTION" else []
        truth = {"task_type": task, "class_name": name, "bboxes": drawn}
        self.send({"id": id_, "groundtruths": [truth]})
        step = self.step()
        value = (name, tuple(sorted(boxes)) if drawn else ())
        self.model.write(step, ("truth", id_, task), value)
        self.finish(step)

    @rule(place=PLACES, name=st.none() | VALUES, boxes=st.none() | BOXES)
    def relabel(self, place: int, name: str | None, boxes: list[str] | None) -> None:
        """A patch by id, which keeps what it does not mention."""
        truths = [
            unit
            for unit in sorted(self.model.state())
            if unit[0] == "truth" and unit[2] == "OBJECT_DETECTION"
        ]
        if not truths:
            return
        unit = truths[place % len(truths)]
        frame = self.lake.groundtruths.select(
            [
                {"left": "datapoint", "op": "=", "right": unit[1]},
                {"left": "task_type", "op": "=", "right": unit[2]},
            ],
            fields=["id"],
        )
        patch: dict[str, Any] = {"id": frame["id"].item()}
        before = self.model.value(unit)
        if name is not None:
            patch["class_name"] = name
        if boxes is not None:
            patch["bboxes"] = [self.box(one) for one in boxes]
        self.send({"id": unit[1], "groundtruths": [patch]})
        step = self.step()
        after = (name or before[0], before[1] if boxes is None else tuple(sorted(boxes)))
        self.model.write(step, unit, after)
        self.finish(step)

    @staticmethod
    def box(name: str) -> dict[str, Any]:
        return {"class_name": name, "top": 1, "left": 1, "height": 2, "width": 2}

    @rule(place=PLACES)
    def delete(self, place: int) -> None:
        id_ = self.pick(place)
        if id_ is None:
            return
        self.lake.datapoints.delete({"left": "id", "op": "=", "right": id_})
        step = self.step()
        for unit in [unit for unit in self.model.stacks if unit[1] == id_]:
            self.model.write(step, unit, None)
        self.finish(step)

    @rule(name=NAMES)
    def delete_tags(self, name: str) -> None:
        counts = self.lake.tags.delete({"left": "name", "op": "=", "right": name})
        if not counts["tags"]:
            return
        step = self.step()
        for unit in [unit for unit in self.model.stacks if unit[0] == "tag" and unit[2] == name]:
            self.model.write(step, unit, None)
        self.finish(step)

    @rule(place=PLACES)
    def undo(self, place: int) -> None:
        numbers = sorted(self.model.steps)
        if not numbers:
            return
        # The latest are undone most often.
        number = numbers[-1 - min(place % 4, len(numbers) - 1)]
        if self.model.is_undone(number):
            with pytest.raises(Conflict, match="undone already"):
                self.lake.undo(number)
            return
        before = self.seen()
        preview = self.lake.undo(number, dry_run=True)
        assert preview.change is None
        assert self.seen() == before
        result = self.lake.undo(number)
        assert (result.restored, result.removed) == (preview.restored, preview.removed)
        if result.change is None:
            assert result.is_empty
            trial = copy.deepcopy(self.model)
            undone = trial.undo(trial.successor(number), 0)
            assert (undone.pushed, undone.popped) == ([], [])
            return
        step = self.step()
        assert step.number == result.change
        self.model.undo(self.model.successor(number), step.number)
        self.moments.append((Moment.read(self.lake.scope), self.model.state()))

    @rule(place=PLACES)
    def restore(self, place: int) -> None:
        gone = sorted(id_ for id_ in self.rows if id_ not in self.alive())
        found = set(self.lake.deleted.select(fields=["id"])["id"])
        assert found == set(gone)
        if not gone:
            return
        id_ = gone[place % len(gone)]
        self.lake.restore(ids=id_)
        step = self.step()
        self.model.restore(step, id_)
        self.finish(step)

    @rule(place=PLACES)
    def purge(self, place: int) -> None:
        everything = sorted(self.rows)
        if not everything or place % 3:
            return
        id_ = everything[place % len(everything)]
        assert self.lake.purge(ids=id_).datapoints == 1
        self.last = self.lake.changes(1)["change"].item()
        del self.rows[id_]
        self.model.purge(id_)
        self.moments = [
            (moment, {unit: value for unit, value in state.items() if unit[1] != id_})
            for moment, state in self.moments
        ]

    # -- what always holds --------------------------------------------------------------------

    @invariant()
    def lake_equals_model(self) -> None:
        assert self.seen() == self.model.state()

    @rule(place=PLACES, whole=st.booleans())
    def look_back(self, place: int, whole: bool) -> None:
        if not self.moments:
            return
        moment, state = self.moments[place % len(self.moments)]
        if whole:
            assert self.seen(Moment.from_bytes(moment.to_bytes())) == state
            return
        chosen = {id_: row for id_, row in self.rows.items() if (row + place) % 2}
        wanted = {unit: value for unit, value in state.items() if unit[1] in chosen}
        assert self.seen(moment, BitMap(chosen.values())) == wanted


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
            max_examples=3 if remote else 15,
            stateful_step_count=12 if remote else 25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
