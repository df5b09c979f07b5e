"""Commits, what they show later, checkout, branches, merges, tags and drafts."""

from __future__ import annotations

from typing import Any

import pytest

from katiml.datasets import Dataset
from katiml.errors import Conflict, InvalidInput, NotFound
from katiml.lake import Lake
from tests.datasets.conftest import Label, texts


def classes(rows: Any) -> dict[str, int]:
    frame = rows.distribution("class_name")
    return dict(zip(frame["bucket"], frame["count"], strict=True))


def test_a_version_shows_what_was_true_at_its_commit(
    lake: Lake, dataset: Dataset, ids: list[str], label: Label
) -> None:
    dataset.add(ids[:8])
    version = dataset.commit("eight", author="ann")
    assert (version.size, version.added, version.removed) == (8, 8, 0)
    assert (version.message, version.author, version.parents) == ("eight", "ann", [])
    hash_then = version.content_hash()

    label(ids[0], "bird")
    lake.ingest([{"id": ids[1], "tags": {"half": None, "new": "x"}, "text": "changed"}])
    lake.ingest([{"id": ids[9], "tags": {"half": "none"}}])
    lake.datapoints.delete({"left": "id", "op": "=", "right": ids[7]})
    lake.groundtruths.delete({"left": "datapoint", "op": "=", "right": ids[6]})
    dataset.remove(ids[2:4])

    assert classes(version.groundtruths) == {"cat": 6, "dog": 2}
    assert texts(version.datapoints) == {f"t{number}" for number in range(8)}
    assert set(version.tags()["name"]) == {"half"} and version.tags.count() == 8
    assert set(version.ids()) == set(ids[:8])
    assert version.content_hash() == hash_then
    assert classes(dataset.groundtruths) == {"bird": 1, "cat": 3}
    second = dataset.commit("later")
    assert classes(second.groundtruths) == {"bird": 1, "cat": 3}
    assert second.parents == [version.id]
    again = lake.datasets.version(version.id)
    assert again == version and classes(again.groundtruths) == {"cat": 6, "dog": 2}


def test_predictions_of_a_version_are_those_of_now(
    lake: Lake, dataset: Dataset, ids: list[str]
) -> None:
    dataset.add(ids[:2])
    version = dataset.commit("train on these")
    made = {"task_type": "CLASSIFICATION", "model_name": "net", "class_name": "cat"}
    lake.ingest([{"id": id_, "predictions": [made]} for id_ in ids[:4]])
    assert version.predictions.count() == 2


def test_nothing_to_commit(lake: Lake, dataset: Dataset, ids: list[str], label: Label) -> None:
    with pytest.raises(Conflict, match="empty"):
        dataset.commit("none")
    dataset.add(ids[:2])
    first = dataset.commit("two")
    dataset.add(ids[2])
    dataset.remove(ids[2])
    with pytest.raises(Conflict, match="nothing to commit") as caught:
        dataset.commit("the same")
    assert caught.value.code == "conflict" and caught.value.status == 409
    assert caught.value.details["head"] == first.id
    empty = dataset.commit("the same", allow_empty=True)
    assert empty.members_hash == first.members_hash and empty.parents == [first.id]
    assert empty.content_hash() == first.content_hash()
    label(ids[5], "bird")  # no member
    with pytest.raises(Conflict):
        dataset.commit("the same")
    label(ids[0], "cat")  # as it was
    with pytest.raises(Conflict):
        dataset.commit("the same")
    label(ids[0], "bird")
    relabelled = dataset.commit("relabelled")
    assert (relabelled.added, relabelled.removed) == (0, 0)
    assert relabelled.members_hash == first.members_hash
    assert relabelled.content_hash() != first.content_hash()
    lake.ingest([{"id": ids[0], "tags": {"half": "neither"}}])
    retagged = dataset.commit("retagged")
    assert retagged.parents == [relabelled.id]
    lake.ingest([{"id": ids[0], "metadata": {"width": 5}}])
    assert dataset.commit("edited").parents == [retagged.id]


def test_a_message_is_a_text(dataset: Dataset, ids: list[str]) -> None:
    dataset.add(ids)
    messages: list[Any] = ["", "   \n", None, 5, "x" * 10_001, "a\0"]
    for message in messages:
        with pytest.raises(InvalidInput):
            dataset.commit(message)
    assert dataset.head is None


def test_checkout_of_a_commit_is_the_identity(dataset: Dataset, ids: list[str]) -> None:
    dataset.add(ids[:3])
    first = dataset.commit("one")
    dataset.add(ids[3:6])
    second = dataset.commit("two")
    assert dataset.checkout(first) == first
    assert dataset.head == first and set(dataset.ids()) == set(ids[:3])
    assert dataset.status().clean
    dataset.checkout(second.short_id)
    assert set(dataset.ids()) == set(ids[:6]) and dataset.status().clean


def test_a_checkout_does_not_throw_work_away(dataset: Dataset, ids: list[str]) -> None:
    dataset.add(ids[:3])
    with pytest.raises(NotFound, match="no version yet"):
        dataset.checkout("HEAD")
    first = dataset.commit("one")
    dataset.add(ids[3:6])
    second = dataset.commit("two")
    dataset.remove(ids[0])
    with pytest.raises(Conflict, match="uncommitted"):
        dataset.checkout(first)
    with pytest.raises(Conflict, match="uncommitted"):
        dataset.merge(first)
    assert dataset.drafts().empty
    dataset.checkout(first, force=True)
    assert set(dataset.ids()) == set(ids[:3])
    (draft,) = dataset.drafts().to_dict("records")
    assert (draft["head"], draft["size"], draft["added"], draft["removed"]) == (second.id, 5, 0, 1)
    dataset.add(ids[10])
    with pytest.raises(Conflict):
        dataset.restore()
    with pytest.raises(NotFound, match="no discarded draft 99"):
        dataset.restore(99)
    status = dataset.restore(draft["draft"], force=True)
    assert status.head is not None and status.head.id == second.id
    assert set(dataset.ids()) == set(ids[1:6])
    # What the restore put away can be had again too.
    dataset.checkout(first, force=True)
    dataset.restore(int(dataset.drafts()["draft"][1]))
    assert set(dataset.ids()) == {*ids[:3], ids[10]}


def test_a_commit_on_an_older_version_makes_a_branch(dataset: Dataset, ids: list[str]) -> None:
    dataset.add(ids[:2])
    root = dataset.commit("root")
    dataset.add(ids[2])
    left = dataset.commit("left")
    dataset.checkout(root)
    dataset.add(ids[3])
    right = dataset.commit("right")
    history = dataset.history()
    assert history["message"].tolist() == ["right", "left", "root"]
    assert history["parents"].tolist() == [[root.id], [root.id], []]
    assert history["is_head"].tolist() == [True, False, False]
    assert dataset.branches()["id"].tolist() == [right.id, left.id]
    assert dataset.versions() == [right, left, root]


def test_merges_are_three_way(dataset: Dataset, ids: list[str]) -> None:
    dataset.add(ids[:4])
    root = dataset.commit("root")
    dataset.add(ids[4:6])
    dataset.remove(ids[0])
    left = dataset.commit("left")
    dataset.checkout(root)
    dataset.add(ids[5:7])
    dataset.remove(ids[:2])
    right = dataset.commit("right")
    merge = dataset.merge(left, author="ann")
    assert set(dataset.ids()) == set(ids[2:7])
    assert merge.version.parents == [right.id, left.id] and merge.base == root.id
    assert (merge.added_by_ours, merge.removed_by_ours) == (2, 2)
    assert (merge.added_by_theirs, merge.removed_by_theirs) == (2, 1)
    assert (merge.added_by_both, merge.removed_by_both) == (1, 1)
    assert not merge.fast_forward and dataset.head == merge.version
    assert (merge.version.added, merge.version.removed) == (1, 0)
    assert left.short_id in merge.version.message
    # Merging what is in already changes nothing.
    revision = dataset.revision
    again = dataset.merge(left)
    assert again.fast_forward and again.version == merge.version and dataset.revision == revision
    # And a head that comes from nothing else goes forward.
    dataset.checkout(root)
    forward = dataset.merge(merge.version)
    assert forward.fast_forward and dataset.head == merge.version
    assert dataset.history().shape[0] == 4


def test_merging_leaves_out_what_was_deleted(lake: Lake, dataset: Dataset, ids: list[str]) -> None:
    dataset.add(ids[:2])
    root = dataset.commit("root")
    dataset.add(ids[2])
    left = dataset.commit("left")
    dataset.checkout(root)
    dataset.add(ids[3])
    dataset.commit("right")
    lake.datapoints.delete({"left": "id", "op": "=", "right": ids[2]})
    merge = dataset.merge(left, message="both")
    assert merge.version.size == 3 and merge.version.message == "both"
    assert set(merge.version.ids()) == {ids[0], ids[1], ids[3]}


def test_versions_have_many_names(dataset: Dataset, ids: list[str]) -> None:
    versions = []
    for number in range(4):
        dataset.add(ids[number])
        versions.append(dataset.commit(f"version {number}"))
    dataset.tag("v1.0", versions[1])
    dataset.tag("latest")
    for name, version in [
        ("HEAD", versions[3]),
        (None, versions[3]),
        ("HEAD~", versions[2]),
        ("HEAD~3", versions[0]),
        ("~1", versions[2]),
        ("v1.0", versions[1]),
        ("v1.0~1", versions[0]),
        (versions[2].id, versions[2]),
        (versions[2].id[:6], versions[2]),
        (versions[2].id[:8].upper(), versions[2]),
        (f"{versions[2].short_id}~1", versions[1]),
        ("latest", versions[3]),
    ]:
        assert dataset.at(name) == version, name
    assert dataset.version_tags() == {"v1.0": versions[1].id, "latest": versions[3].id}
    assert dataset.history()["tags"].tolist() == [["latest"], [], ["v1.0"], []]
    for name in ("HEAD~4", "v2.0", "abcdef", "v1.0~9"):
        with pytest.raises(NotFound):
            dataset.at(name)
    for name in ("draft", "", 5, "a\0", dataset.draft_id):
        with pytest.raises(InvalidInput):
            dataset.at(name)  # type: ignore[arg-type]


def test_a_tag_names_one_version(dataset: Dataset, ids: list[str]) -> None:
    dataset.add(ids[0])
    first = dataset.commit("one")
    dataset.add(ids[1])
    second = dataset.commit("two")
    dataset.tag("best", first)
    dataset.tag("best", first)
    with pytest.raises(Conflict, match="already names"):
        dataset.tag("best", second)
    dataset.tag("best", second, force=True)
    assert dataset.at("best") == second
    dataset.untag("best")
    with pytest.raises(NotFound):
        dataset.at("best")
    with pytest.raises(NotFound):
        dataset.untag("best")
    for name in ("HEAD", "draft", "abcd", "a b", "a~1", "a..b", "", "x" * 101):
        with pytest.raises(InvalidInput):
            dataset.tag(name)


def test_versions_of_another_dataset_are_refused(
    lake: Lake, dataset: Dataset, ids: list[str]
) -> None:
    dataset.add(ids[0])
    version = dataset.commit("one")
    other = lake.datasets.create("other")
    other.add(ids[1])
    other.commit("two")
    for ask in (
        lambda: other.checkout(version),
        lambda: other.at(version.id),
        lambda: other.merge(version),
        lambda: other.tag("x", version),
        lambda: lake.datapoints.count(dataset=other, version=version),
    ):
        with pytest.raises(InvalidInput, match="another dataset"):
            ask()
    assert other.revision == 3


def test_equal_members_have_equal_hashes(lake: Lake, dataset: Dataset, ids: list[str]) -> None:
    dataset.add(ids[:5])
    first = dataset.commit("five")
    other = lake.datasets.create("other")
    for id_ in reversed(ids[:7]):
        other.add(id_)
    other.remove(ids[5:7])
    second = other.commit("the same five")
    assert first.members_hash == second.members_hash
    assert first.content_hash() == second.content_hash()
    other.add(ids[6])
    assert other.commit("six").members_hash != first.members_hash
