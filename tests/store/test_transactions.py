"""Queries and transactions, in both homes."""

from __future__ import annotations

import pyarrow as pa
import pytest

from katiml.errors import InvalidInput
from katiml.store import Scope, Store
from katiml.store.ids import uuid7

from .processes import Script


def datapoints(count: int) -> pa.Table:
    return pa.table({"id": uuid7(count), "type": ["IMAGE"] * count, "row": range(count)})


def test_appended_rows_are_read_back(scope: Scope) -> None:
    rows = datapoints(3)
    scope.transact(lambda tx: tx.append("datapoints", rows))
    found = scope.query("SELECT id, type, metadata, created_at FROM {datapoints} ORDER BY id")
    assert found["id"].to_pylist() == [str(id) for id in rows["id"].to_pylist()]
    assert found["metadata"].null_count == 3
    assert found.schema.field("created_at").type == pa.timestamp("us", "UTC")
    assert found["created_at"].null_count == 0


def test_an_error_in_the_work_undoes_everything(scope: Scope) -> None:
    def work(tx: object) -> None:
        tx.append("datapoints", datapoints(2))  # type: ignore[attr-defined]
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        scope.transact(work)
    assert scope.query("SELECT count(*) AS n FROM {datapoints}").to_pylist() == [{"n": 0}]


def test_text_becomes_the_type_of_the_column(scope: Scope) -> None:
    rows = pa.table(
        {
            "id": ["0190a000-0000-7000-8000-000000000000"],
            "metadata": ['{"uri": "a.png"}'],
            "timestamp": ["2024-05-01T12:00:00+02:00"],
        }
    )
    scope.transact(lambda tx: tx.append("datapoints", rows))
    (row,) = scope.query(
        "SELECT metadata->>'uri' AS uri, timestamp::VARCHAR AS t FROM {datapoints}"
    ).to_pylist()
    assert row == {"uri": "a.png", "t": "2024-05-01 10:00:00+00"}


def test_a_value_of_the_wrong_type_is_invalid_input(scope: Scope) -> None:
    rows = pa.table({"id": ["not an id"]})
    with pytest.raises(InvalidInput, match="not an id"):
        scope.transact(lambda tx: tx.append("datapoints", rows))


def test_staged_tables_serve_statements(scope: Scope) -> None:
    rows = datapoints(5)

    def work(tx: object) -> int:
        tx.append("datapoints", rows)  # type: ignore[attr-defined]
        tx.stage("chosen", rows.select(["id"]).slice(0, 2))  # type: ignore[attr-defined]
        return tx.delete("datapoints", "id IN (SELECT id FROM chosen)")  # type: ignore[attr-defined]

    assert scope.transact(work) == 2
    assert scope.query("SELECT count(*) AS n FROM {datapoints}").to_pylist() == [{"n": 3}]


def test_update_counts_rows(scope: Scope) -> None:
    scope.transact(lambda tx: tx.append("datapoints", datapoints(5)))
    touched = scope.transact(
        lambda tx: tx.update("datapoints", "text = $text", "row < $row", {"text": "x", "row": 2})
    )
    assert touched == 2
    texts = scope.query("SELECT text FROM {datapoints} ORDER BY row")["text"].to_pylist()
    assert texts == ["x", "x", None, None, None]


def test_organizations_do_not_see_each_other(store: Store) -> None:
    ours, theirs = Scope(store, "ours"), Scope(store, "theirs")
    for scope, count in ((ours, 2), (theirs, 3)):
        scope.transact(lambda tx, count=count: tx.append("datapoints", datapoints(count)))
    count = "SELECT count(*) AS n FROM {datapoints}"
    assert ours.query(count).to_pylist() == [{"n": 2}]
    assert ours.transact(lambda tx: tx.update("datapoints", "text = 'x'", "true")) == 2
    assert ours.transact(lambda tx: tx.delete("datapoints", "true")) == 2
    assert theirs.query(count).to_pylist() == [{"n": 3}]
    assert theirs.query("SELECT text FROM {datapoints}")["text"].null_count == 3


def test_rows_cannot_be_given_to_another_organization(scope: Scope) -> None:
    rows = datapoints(1).append_column("organization_id", pa.array(["theirs"]))
    scope.transact(lambda tx: tx.append("datapoints", rows))
    owners = scope.query("SELECT organization_id FROM {datapoints}")
    assert owners["organization_id"].to_pylist() == ["default"]


def test_scoped_sql_cannot_name_the_tables_of_all(scope: Scope) -> None:
    with pytest.raises(ValueError, match=r"lake\.table"):
        scope.query("SELECT * FROM lake.datapoints")


@pytest.mark.parametrize("organization", ["", "a b", "a'", "../x", "x" * 65, "a\n"])
def test_organization_ids_are_checked(store: Store, organization: str) -> None:
    with pytest.raises(InvalidInput, match="organization id"):
        Scope(store, organization)


def test_queries_cannot_write(store: Store) -> None:
    with pytest.raises(InvalidInput, match="read-only"):
        store.query("DELETE FROM lake.settings")


def test_files_of_the_machine_cannot_be_read(store: Store) -> None:
    with pytest.raises(InvalidInput, match="disabled"):
        store.query("SELECT * FROM read_text('/etc/hostname')")


def test_streams_hold_one_snapshot(scope: Scope) -> None:
    scope.transact(lambda tx: tx.append("datapoints", datapoints(20_000)))
    reader = scope.stream("SELECT id FROM {datapoints}")
    first = reader.read_next_batch()
    assert scope.transact(lambda tx: tx.delete("datapoints", "true")) == 20_000
    assert first.num_rows + sum(batch.num_rows for batch in reader) == 20_000


def test_a_failing_stream_says_why(scope: Scope) -> None:
    with pytest.raises(InvalidInput, match="nothing"):
        scope.stream("SELECT nothing FROM {datapoints}")


def test_reserved_rows_never_overlap(scope: Scope) -> None:
    taken = [(scope.reserve_rows(count), count) for count in (1, 1, 5000, 3, 1020, 7)]
    rows = [row for first, count in taken for row in range(first, first + count)]
    assert len(set(rows)) == len(rows)


def test_a_transaction_inside_a_transaction_is_refused(store: Store) -> None:
    with pytest.raises(RuntimeError, match="inside"):
        store.transact(lambda tx: store.transact(lambda inner: None))


def test_rows_are_not_reserved_inside_a_transaction(scope: Scope) -> None:
    scope.reserve_rows(1)
    with pytest.raises(RuntimeError, match="inside"):
        scope.transact(lambda tx: scope.reserve_rows(1))


def test_streams_of_long_texts_stay_in_bounded_memory(lake_url: str) -> None:
    script = """
        import psutil, threading
        own, peak, done = psutil.Process(), [0], threading.Event()
        def watch():
            while not done.wait(0.01):
                peak[0] = max(peak[0], own.memory_info().rss)
        # ru_maxrss would count what the process that started this one holds.
        watcher = threading.Thread(target=watch)
        watcher.start()
        scope = Scope(open_store(sys.argv[1]))
        reader = scope.stream("SELECT repeat('x', 20000) AS x FROM range(100000)")
        size = sum(batch.num_rows for batch in reader)
        done.set()
        watcher.join()
        say(size, peak[0] // 2**20)
    """
    with Script(script, lake_url) as process:
        rows, megabytes = map(int, process.finish()[-1].split())
    assert rows == 100_000
    assert megabytes < 700, "2 GB of text passed through"
