"""Random histories of a dataset against a model of Python sets and dicts, in both homes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
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
    precondition,
    rule,
    run_state_machine_as_test,
)

import katiml
from katiml.datasets import Dataset
from katiml.datasets.graph import ancestors
from katiml.errors import Conflict
from katiml.lake import Lake

CLASSES = st.sampled_from(["cat", "dog", "é'"])
VALUES = st.sampled_from(["1", "2"])
_organizations = itertools.count()


@dataclass(frozen=True)
class Content:
    """What a version shows of a datapoint: its class and the value of its tag."""

    class_name: str | None
    tag: str | None


@dataclass
class Committed:
    """A version of the model."""

    contents: dict[str, Content]
    parents: list[str]
    number: int
    content_hash: str | None = None


class Machine(RuleBasedStateMachine):
    """Each history has an organization of its own, so that one lake serves them all."""

    url: str
    lakes: list[Lake]
    datapoints = Bundle("datapoints")
    versions = Bundle("versions")

    def __init__(self) -> None:
        super().__init__()
        self.organization = f"o{next(_organizations)}"
        self.open()
        self.dataset: Dataset = self.lake.datasets.create("pets")
        self.live: dict[str, Content] = {}
        self.purged: set[str] = set()
        self.draft: set[str] = set()
        self.head: str | None = None
        self.committed: dict[str, Committed] = {}
        self.discarded: list[tuple[str | None, set[str]]] = []

    def open(self) -> None:
        self.lake = self.lakes[0].for_organization(self.organization)

    def snapshot(self) -> dict[str, Content]:
        return {id_: self.live[id_] for id_ in self.draft}

    def known(self, ids: list[str]) -> list[str]:
        return [id_ for id_ in ids if id_ in self.live]

    # -- datapoints --------------------------------------------------------------------------

    @rule(target=datapoints, count=st.integers(1, 4), class_name=st.none() | CLASSES)
    def create(self, count: int, class_name: str | None) -> Any:
        record: dict[str, Any] = {"type": "TEXT"}
        if class_name is not None:
            record["groundtruths"] = [{"task_type": "CLASSIFICATION", "class_name": class_name}]
        assert self.lake.ingest([record] * count).status == "SUCCEEDED"
        new = set(self.lake.datapoints.select(fields=["id"])["id"]) - set(self.live)
        for id_ in new:
            self.live[id_] = Content(class_name, None)
        return multiple(*sorted(new))

    @rule(id_=datapoints, class_name=CLASSES)
    def relabel(self, id_: str, class_name: str) -> None:
        if id_ in self.live:
            truth = {"task_type": "CLASSIFICATION", "class_name": class_name}
            self.lake.ingest([{"id": id_, "groundtruths": [truth]}])
            self.live[id_] = Content(class_name, self.live[id_].tag)

    @rule(id_=datapoints, value=st.none() | VALUES)
    def retag(self, id_: str, value: str | None) -> None:
        if id_ in self.live:
            self.lake.ingest([{"id": id_, "tags": {"split": value}}])
            self.live[id_] = Content(self.live[id_].class_name, value)

    @rule(id_=consumes(datapoints))
    def delete(self, id_: str) -> None:
        self.lake.datapoints.delete({"left": "id", "op": "=", "right": id_})
        self.live.pop(id_, None)
        self.draft.discard(id_)

    @rule(id_=consumes(datapoints))
    def purge(self, id_: str) -> None:
        if id_ not in self.live:
            return
        self.lake.purge(ids=[id_])
        self.live.pop(id_)
        self.draft.discard(id_)
        self.purged.add(id_)

    # -- members -----------------------------------------------------------------------------

    @rule(ids=st.lists(datapoints, max_size=5))
    def add(self, ids: list[str]) -> None:
        ids = self.known(ids)
        assert self.dataset.add(ids) == len(set(ids) - self.draft)
        self.draft |= set(ids)

    @rule(class_name=CLASSES)
    def add_by_filter(self, class_name: str) -> None:
        filters = {"left": "groundtruths.class_name", "op": "=", "right": class_name}
        found = {id_ for id_, own in self.live.items() if own.class_name == class_name}
        assert self.dataset.add(filters=filters) == len(found - self.draft)
        self.draft |= found

    @rule(ids=st.lists(datapoints, max_size=3))
    def remove(self, ids: list[str]) -> None:
        ids = self.known(ids)
        assert self.dataset.remove(ids) == len(set(ids) & self.draft)
        self.draft -= set(ids)

    # -- versions ----------------------------------------------------------------------------

    @rule(target=versions, allow_empty=st.booleans())
    def commit(self, allow_empty: bool) -> Any:
        before = self.committed[self.head].contents if self.head else {}
        if self.snapshot() == before and not allow_empty:
            with pytest.raises(Conflict):
                self.dataset.commit("x")
            return multiple()
        version = self.dataset.commit("x", allow_empty=allow_empty)
        assert version.parents == ([self.head] if self.head else [])
        assert version.added == len(self.draft - before.keys())
        assert version.removed == len(before.keys() - self.draft)
        self.made(version.id, version.parents)
        return version.id

    def made(self, version: str, parents: list[str]) -> None:
        self.committed[version] = Committed(self.snapshot(), parents, len(self.committed))
        self.head = version

    def dirty(self) -> bool:
        """Whether somebody's edits are uncommitted: a deleted datapoint is nobody's edit."""
        before = self.committed[self.head].contents if self.head else {}
        return {id_ for id_ in before if id_ in self.live} != self.draft

    @rule(version=versions, force=st.booleans())
    def checkout(self, version: str, force: bool) -> None:
        if self.dirty() and not force:
            with pytest.raises(Conflict):
                self.dataset.checkout(version)
            return
        if self.dirty():
            self.discarded.append((self.head, set(self.draft)))
        self.dataset.checkout(version, force=True)
        self.head = version
        self.draft = {id_ for id_ in self.committed[version].contents if id_ in self.live}
        assert self.dataset.status().added == 0

    @precondition(lambda self: self.discarded)
    @rule()
    def restore(self) -> None:
        draft = self.dataset.drafts()["draft"][0]
        head, members = self.discarded[-1]
        if self.dirty():
            self.discarded.append((self.head, set(self.draft)))
        self.dataset.restore(int(draft), force=True)
        self.head, self.draft = head, {id_ for id_ in members if id_ in self.live}

    @rule(target=versions, theirs=versions)
    def merge(self, theirs: str) -> Any:
        if self.dirty() or self.head is None:
            return multiple()
        parents = {id_: own.parents for id_, own in self.committed.items()}
        shared = ancestors(parents, self.head) & ancestors(parents, theirs)
        base = max(shared, key=lambda id_: self.committed[id_].number, default=None)
        merge = self.dataset.merge(theirs)
        assert merge.base == base
        start = set(self.committed[base].contents) if base else set()
        ours, other = (set(self.committed[one].contents) for one in (self.head, theirs))
        if base in (self.head, theirs):
            assert merge.fast_forward
            self.head = self.head if base == theirs else theirs
            kept = set(self.committed[self.head].contents)
            self.draft = {id_ for id_ in kept if id_ in self.live}
            return multiple()
        merged = (ours & other) | (ours - start) | (other - start)
        self.draft = {id_ for id_ in merged if id_ in self.live}
        assert merge.added_by_theirs == len(other - start)
        assert merge.removed_by_ours == len(start - ours)
        self.made(merge.version.id, [self.head, theirs])
        return merge.version.id

    @rule(one=versions, other=versions)
    def diff(self, one: str, other: str) -> None:
        forth, back = self.dataset.diff(one, other), self.dataset.diff(other, one)
        before, after = self.committed[one].contents, self.committed[other].contents
        assert set(forth.ids("added")) == after.keys() - before.keys()
        assert set(forth.ids("removed")) == before.keys() - after.keys()
        both = {id_ for id_ in before.keys() & after.keys() if id_ not in self.purged}
        relabelled = {id_ for id_ in both if before[id_].class_name != after[id_].class_name}
        retagged = {id_ for id_ in both if before[id_].tag != after[id_].tag}
        assert set(forth.ids("relabelled")) == relabelled
        assert set(forth.ids("retagged")) == retagged
        assert back.added_rows == forth.removed_rows and back.removed_rows == forth.added_rows
        assert back.relabelled_rows == forth.relabelled_rows
        for frame, reverse in ((forth.groundtruths, back.groundtruths), (forth.tags, back.tags)):
            assert (frame["change"] == -reverse["change"]).all()

    @rule(version=versions)
    def version_is_what_was_committed(self, version: str) -> None:
        self.check(version)

    @rule()
    def reopen(self) -> None:
        self.lakes[0].close()
        self.lakes[0] = katiml.connect(self.url)
        self.open()
        self.dataset = self.lake.datasets.get(self.dataset.id)

    def check(self, id_: str) -> None:
        model = self.committed[id_]
        version = self.dataset.at(id_)
        readable = {id_: own for id_, own in model.contents.items() if id_ not in self.purged}
        assert version.size == len(model.contents) and version.parents == model.parents
        assert set(version.ids()) == readable.keys()
        truths = version.groundtruths.select(fields=["datapoint", "class_name"])
        assert dict(zip(truths["datapoint"], truths["class_name"], strict=True)) == {
            one: own.class_name for one, own in readable.items() if own.class_name is not None
        }
        tags = version.tags.select(fields=["datapoint", "value"])
        assert dict(zip(tags["datapoint"], tags["value"], strict=True)) == {
            one: own.tag for one, own in readable.items() if own.tag is not None
        }
        if len(readable) == len(model.contents):
            found = version.content_hash()
            assert model.content_hash in (None, found)
            model.content_hash = found

    @invariant()
    def members_are_those_of_the_model(self) -> None:
        assert set(self.dataset.ids()) == self.draft and len(self.dataset) == len(self.draft)
        head = self.dataset.head
        assert (head.id if head else None) == self.head

    def teardown(self) -> None:
        hashes: dict[frozenset[str], set[str]] = {}
        contents: dict[frozenset[Any], set[str | None]] = {}
        for id_, own in self.committed.items():
            self.check(id_)
            members = self.dataset.at(id_).members_hash
            hashes.setdefault(frozenset(own.contents), set()).add(members)
            if own.content_hash is not None:
                contents.setdefault(frozenset(own.contents.items()), set()).add(own.content_hash)
        for found in (hashes, contents):
            # Equal sets have one hash, and different sets different ones.
            assert all(len(own) == 1 for own in found.values())
            assert len(set.union(set(), *found.values())) == len(found)
        history = self.dataset.history()
        assert history["id"].tolist() == list(self.committed)[::-1]


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
            max_examples=2 if remote else 12,
            stateful_step_count=15 if remote else 30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
