"""Changes, moments and views: what a reader sees of the lake as it was, in both homes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from katiml.errors import InvalidInput
from katiml.store import Moment, Scope, ScopedTransaction, Store, View, open_store
from katiml.store.ids import uuid7
from katiml.store.views import inside

from .processes import Script


def add(scope: Scope, rows: range) -> list[str]:
    """Datapoints with these row numbers, each with a tag that says its row."""
    ids = uuid7(len(rows))

    def work(tx: ScopedTransaction) -> None:
        tx.note("test")
        tx.append("datapoints", pa.table({"id": ids, "row": list(rows)}))
        values = [str(row) for row in rows]
        tx.append("tags", pa.table({"id": uuid7(len(rows)), "datapoint": ids, "value": values}))

    scope.transact(work)
    return [str(id_) for id_ in ids.to_pylist()]


def retag(scope: Scope, id_: str, value: str) -> None:
    def work(tx: ScopedTransaction) -> None:
        tx.remove("tags", "datapoint = $id::UUID", {"id": id_})
        tx.append("tags", pa.table({"id": uuid7(1), "datapoint": [id_], "value": [value]}))

    scope.transact(work)


def delete(scope: Scope, id_: str) -> None:
    def work(tx: ScopedTransaction) -> None:
        tx.remove("tags", "datapoint = $id::UUID", {"id": id_})
        tx.remove("datapoints", "id = $id::UUID", {"id": id_})

    scope.transact(work)


def tags(scope: Scope, view: View) -> list[str]:
    found = scope.at(view).query("SELECT value FROM {tags} ORDER BY value")
    return list(found["value"].to_pylist())


def rows(scope: Scope, view: View) -> list[int]:
    found = scope.at(view).query('SELECT "row" FROM {datapoints} ORDER BY "row"')
    return list(found["row"].to_pylist())


def test_a_change_has_a_number_and_says_what_it_did(scope: Scope) -> None:
    def work(tx: ScopedTransaction) -> int:
        tx.note("mine", "ann", summary={"why": "test"})
        tx.append("tags", pa.table({"id": uuid7(3), "name": ["a", "b", "b"]}))
        tx.remove("tags", "name = 'b'")
        return tx.change

    numbers = [scope.transact(work), scope.transact(work)]
    assert numbers == [1, 2]
    first, second = scope.query(
        "SELECT number, kind, author, summary, undoes FROM {changes} ORDER BY number"
    ).to_pylist()
    assert first["summary"] == '{"why":"test","rows":{"tags":{"added":3,"removed":2}}}'
    assert (second["number"], second["kind"], second["author"]) == (2, "mine", "ann")
    assert scope.query("SELECT since FROM {tags} ORDER BY since")["since"].to_pylist() == [1, 2]
    assert scope.query("SELECT * FROM {removed_tags}").num_rows == 0  # nobody saw them


def test_a_transaction_that_writes_nothing_is_no_change(scope: Scope) -> None:
    def nothing(tx: ScopedTransaction) -> None:
        tx.note("nothing")
        tx.remove("tags", "true")

    scope.transact(nothing)
    with pytest.raises(KeyError):
        scope.transact(lambda tx: {}["x"])
    assert scope.query("SELECT * FROM {changes}").num_rows == 0
    assert scope.transact(lambda tx: tx.change) == 1
    assert scope.transact(lambda tx: tx.change) == 2


def test_numbers_count_for_each_organization(store: Store) -> None:
    for name in ("ours", "theirs"):
        own = Scope(store, name)
        add(own, range(2))
        add(own, range(2, 3))
        numbers = own.query("SELECT number FROM {changes} ORDER BY number")["number"]
        assert numbers.to_pylist() == [1, 2]


def test_numbers_of_two_processes_differ(lake_url: str) -> None:
    script = """
        scope = Scope(open_store(sys.argv[1]))
        for _ in range(5):
            say(scope.transact(lambda tx: tx.change))
    """
    with open_store(lake_url) as store:
        scope = Scope(store)
        with Script(script, lake_url) as other:
            own = [scope.transact(lambda tx: tx.change) for _ in range(5)]
            theirs = [int(line) for line in other.finish()]
    assert len({*own, *theirs}) == 10


def test_a_moment_remembers_tags_and_datapoints(scope: Scope) -> None:
    first, second = add(scope, range(2))
    moments = [Moment.read(scope)]
    retag(scope, first, "new")
    moments.append(Moment.read(scope))
    delete(scope, second)
    moments.append(Moment.read(scope))
    add(scope, range(2, 4))
    seen = [tags(scope, View(moment=moment)) for moment in moments]
    assert seen == [["0", "1"], ["1", "new"], ["new"]]
    assert [rows(scope, View(moment=moment)) for moment in moments] == [[0, 1], [0, 1], [0]]
    assert tags(scope, View()) == ["2", "3", "new"]
    assert tags(scope, View(BitMap([1, 3]), moments[1])) == ["1"]
    assert tags(scope, View(BitMap([0, 1]), moments[0])) == ["0", "1"]


def test_a_moment_inside_a_transaction_has_its_own_changes(scope: Scope) -> None:
    def work(tx: ScopedTransaction) -> Moment:
        tx.append("tags", pa.table({"id": uuid7(1), "value": ["a"]}))
        return Moment.read(tx)

    moment = scope.transact(work)
    scope.transact(lambda tx: tx.remove("tags", "true"))
    assert tags(scope, View(moment=moment)) == ["a"]


def test_what_commits_later_is_not_in_the_moment(scope: Scope) -> None:
    """Whatever its number: the set has what was committed."""
    late = scope.transact(lambda tx: tx.change)  # taken, and never written
    add(scope, range(1))
    moment = Moment.read(scope)
    assert late not in moment.changes
    assert moment == Moment.from_bytes(moment.to_bytes())


def test_a_writer_that_commits_late_is_not_in_the_moment(ducklake_url: str) -> None:
    """Although its number is lower than one that is in it."""
    with open_store(ducklake_url) as store:
        scope = Scope(store)
        seen: list[Moment] = []

        def overtaken(tx: ScopedTransaction) -> int:
            tx.append("tags", pa.table({"id": uuid7(1), "value": ["late"]}))
            if not seen:
                early = threading.Thread(target=lambda: seen.append(_early(scope)))
                early.start()
                early.join()
            return tx.change

        late = scope.transact(overtaken)
        assert late < max(seen[0].changes)
        assert tags(scope, View(moment=seen[0])) == ["early"]
        assert tags(scope, View(moment=Moment.read(scope))) == ["early", "late"]


def _early(scope: Scope) -> Moment:
    scope.transact(lambda tx: tx.append("tags", pa.table({"id": uuid7(1), "value": ["early"]})))
    return Moment.read(scope)


def test_organizations_share_no_past(store: Store) -> None:
    ours, theirs = Scope(store, "ours"), Scope(store, "theirs")
    for own in (ours, theirs):
        (id_,) = add(own, range(1))
        moment = Moment.read(own)
        delete(own, id_)
    assert tags(ours, View(moment=moment)) == ["0"]
    ours.transact(lambda tx: tx.delete("removed_tags", "true"))
    assert tags(ours, View(moment=moment)) == []
    assert tags(theirs, View(moment=moment)) == ["0"]


@pytest.mark.parametrize(
    "members",
    [
        BitMap(),
        BitMap([3]),
        BitMap(range(10, 90)),
        BitMap(range(0, 100, 2)),  # bits
        BitMap([*range(0, 60, 3), 10_000]),  # a list
        BitMap([0, 2**32 - 1]),
    ],
    ids=["none", "one", "range", "bits", "list", "far"],
)
def test_members_are_those_of_the_set(scope: Scope, members: BitMap) -> None:
    add(scope, range(100))
    wanted = [row for row in range(100) if row in members]
    view = View(members)
    assert rows(scope, view) == wanted
    assert sorted(map(int, tags(scope, view))) == wanted
    assert rows(scope, View(members, Moment.read(scope))) == wanted
    streamed = scope.at(view).stream("SELECT id FROM {datapoints}")
    assert sum(batch.num_rows for batch in streamed) == len(wanted)


def test_transactions_change_members_only(scope: Scope) -> None:
    add(scope, range(10))
    inside_ = scope.at(View(BitMap([1, 3, 5])))

    def work(tx: ScopedTransaction) -> Any:
        (found,) = tx.query("SELECT count(*) AS n FROM {tags}").to_pylist()
        return found["n"], tx.remove("tags", "value <> $value", {"value": "3"})

    assert inside_.transact(work) == (3, 2)
    assert inside_.transact(lambda tx: tx.update("datapoints", "text = 'x'", "true")) == 3
    assert scope.query("SELECT * FROM {tags}").num_rows == 8
    with pytest.raises(InvalidInput, match="past"):
        scope.at(View(moment=Moment.read(scope))).transact(lambda tx: None)


def test_a_client_reads_through_a_view(tmp_path: Any) -> None:
    script = """
        from pyroaring import BitMap
        from katiml.store import Moment, View
        scope = Scope(open_store(sys.argv[1]))
        view = View(BitMap(range(0, 100, 2)), Moment.read(scope))
        scope.transact(lambda tx: tx.remove("tags", "true"))
        table = scope.at(view).query("SELECT * FROM {tags}")
        streamed = scope.at(view).stream("SELECT * FROM {datapoints}").read_all()
        say(table.num_rows, streamed.num_rows)
    """
    with open_store(tmp_path) as store:
        add(Scope(store), range(100))
        with Script(script, tmp_path) as client:
            assert client.finish()[-1] == "50 50"


def children(scope: Scope) -> dict[str, str]:
    """A datapoint with a ground truth and a prediction, each with a box, and a vector."""
    (id_,) = add(scope, range(1))
    truth, prediction = (str(one) for one in uuid7(2).to_pylist())

    def work(tx: ScopedTransaction) -> None:
        tx.append("groundtruths", pa.table({"id": [truth], "datapoint": [id_]}))
        tx.append("predictions", pa.table({"id": [prediction], "datapoint": [id_]}))
        owners = {"groundtruth": [truth, None], "prediction": [None, prediction]}
        boxes = {"id": uuid7(2), "datapoint": [id_, id_], **owners, "class_name": ["t", "p"]}
        tx.append("bboxes", pa.table(boxes))
        vector = {"id": uuid7(1), "datapoint": [id_], "prediction": [prediction]}
        tx.append("feature_vectors", pa.table(vector))

    scope.transact(work)
    return {"datapoint": id_, "groundtruth": truth, "prediction": prediction}


def counts(scope: Scope, view: View) -> dict[str, int]:
    tables = ("groundtruths", "predictions", "bboxes", "feature_vectors")
    own = scope.at(view)
    return {name: own.query(f"SELECT id FROM {{{name}}}").num_rows for name in tables}


def test_predictions_of_the_past_are_those_of_now(scope: Scope) -> None:
    (id_,) = add(scope, range(1))
    before = View(BitMap([0]), Moment.read(scope))

    def predict(tx: ScopedTransaction) -> None:
        tx.append("predictions", pa.table({"id": uuid7(1), "datapoint": [id_]}))
        tx.append("groundtruths", pa.table({"id": uuid7(1), "datapoint": [id_]}))

    scope.transact(predict)
    found = counts(scope, before)
    assert (found["predictions"], found["groundtruths"]) == (1, 0)


def test_deleted_datapoints_keep_what_was_deleted_with_them(scope: Scope) -> None:
    ids = children(scope)
    view = View(moment=Moment.read(scope))

    def everything(tx: ScopedTransaction) -> None:
        for name in ("tags", "groundtruths", "predictions", "bboxes", "feature_vectors"):
            tx.remove(name, "datapoint = $id::UUID", {"id": ids["datapoint"]})
        tx.remove("datapoints", "id = $id::UUID", {"id": ids["datapoint"]})

    scope.transact(everything)
    wanted = {"groundtruths": 1, "predictions": 1, "bboxes": 2, "feature_vectors": 1}
    assert counts(scope, view) == wanted
    assert counts(scope, View(moment=Moment.read(scope))) == dict.fromkeys(wanted, 0)


def test_predictions_deleted_on_their_own_are_gone(scope: Scope) -> None:
    children(scope)
    view = View(moment=Moment.read(scope))

    def forget(tx: ScopedTransaction) -> None:
        tx.remove("predictions", "true")
        tx.remove("bboxes", "prediction IS NOT NULL")

    scope.transact(forget)
    assert counts(scope, view)["predictions"] == 0
    assert counts(scope, view)["bboxes"] == 1


NUMBERS = st.one_of(
    st.sets(st.integers(0, 80), max_size=60),
    st.sets(st.integers(0, 2**32 - 1), max_size=40),
    st.builds(lambda first, count: set(range(first, first + count)), *[st.integers(0, 50)] * 2),
)


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with open_store(tmp_path_factory.mktemp("lake")) as store:
        yield store.query


@given(chosen=NUMBERS, others=NUMBERS)
@settings(max_examples=60, deadline=None)
def test_any_set_of_numbers_becomes_a_condition(
    ask: Callable[..., pa.Table], chosen: set[int], others: set[int]
) -> None:
    condition, parameters = inside("n", BitMap(chosen), "set")
    asked = sorted({*list(chosen)[:10], *others})
    found = ask(
        f"SELECT n FROM (SELECT unnest($asked::BIGINT[]) AS n) WHERE {condition} ORDER BY n",
        {**parameters, "asked": asked},
    )
    assert found["n"].to_pylist() == [n for n in asked if n in chosen]
