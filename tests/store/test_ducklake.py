"""What only a DuckLake has: several writers at once, PostgreSQL, an object store."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest

from katiml.errors import InvalidInput, MissingExtra, StoreError
from katiml.store import Scope, open_store
from katiml.store.ids import uuid7

from .processes import Script

INCREMENT = """
    store = open_store(sys.argv[1])
    scope = Scope(store)
    say("open")
    sys.stdin.readline()
    def increment(tx):
        value = tx.query("SELECT value FROM lake.counters WHERE name = 'rows'")["value"][0].as_py()
        tx.execute("UPDATE lake.counters SET value = $v WHERE name = 'rows'", {"v": value + 1})
    def replace(tx):
        # One row, written over by everybody: it must stay one.
        tx.delete("datapoints", "text = 'shared'")
        tx.append("datapoints", datapoints(1, "shared"))
    for number in range(int(sys.argv[2])):
        store.transact(increment)
        scope.transact(replace)
        scope.transact(lambda tx: tx.append("tags", pa.table({"id": uuid7(1)})))
    say("done")
"""


def test_writers_of_the_same_rows_lose_and_double_nothing(ducklake_url: str) -> None:
    with Script(INCREMENT, ducklake_url, 10) as one, Script(INCREMENT, ducklake_url, 10) as two:
        for script in (one, two):
            assert script.line() == "open"
        for script in (one, two):
            script.tell()
        for script in (one, two):
            assert script.line() == "done"
    with open_store(ducklake_url) as store:
        counters = store.query("SELECT value FROM lake.counters WHERE name = 'rows'")
        assert counters["value"].to_pylist() == [20]
        scope = Scope(store)
        assert scope.query("SELECT text FROM {datapoints}")["text"].to_pylist() == ["shared"]
        assert scope.query("SELECT id FROM {tags}").num_rows == 20


def test_threads_of_one_process_lose_and_double_nothing(ducklake_url: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with open_store(ducklake_url) as store:

        def insert_once(_: int) -> None:
            def work(tx: Any) -> None:
                tx.serialize("once")
                if not tx.query("SELECT 1 FROM {datapoints}").num_rows:
                    tx.append("datapoints", pa.table({"id": uuid7(1)}))

            Scope(store).transact(work)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(insert_once, range(8)))
        assert Scope(store).query("SELECT id FROM {datapoints}").num_rows == 1


def test_reserved_rows_of_two_processes_never_overlap(ducklake_url: str) -> None:
    script = """
        scope = Scope(open_store(sys.argv[1]))
        say("open")
        sys.stdin.readline()
        for _ in range(4):
            say(scope.reserve_rows(1024))
    """
    with Script(script, ducklake_url) as one, Script(script, ducklake_url) as two:
        for process in (one, two):
            process.line()
        for process in (one, two):
            process.tell()
        firsts = [int(line) for process in (one, two) for line in process.finish()]
    assert sorted(firsts) == [1024 * number for number in range(8)]


def test_a_new_lake_is_made(new_ducklake_url: str) -> None:
    with open_store(new_ducklake_url) as store:
        organizations = store.query("SELECT id FROM lake.organizations")
        assert organizations["id"].to_pylist() == ["default"]
    with open_store(new_ducklake_url) as store:
        assert store.query("SELECT id FROM lake.organizations").num_rows == 1


def test_two_processes_may_make_one_lake_at_once(new_ducklake_url: str) -> None:
    script = """
        store = open_store(sys.argv[1])
        say(store.query("SELECT count(*) AS n FROM lake.counters").to_pylist())
    """
    with Script(script, new_ducklake_url) as one, Script(script, new_ducklake_url) as two:
        assert one.finish() == two.finish() == ["[{'n': 9}]"]


def test_a_lost_connection_is_made_again(ducklake_url: str, postgres: Any) -> None:
    with open_store(ducklake_url) as store:
        scope = Scope(store)
        scope.transact(lambda tx: tx.append("datapoints", pa.table({"id": uuid7(1)})))
        for _ in range(2):
            postgres.psql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend';"
            )
            scope.transact(lambda tx: tx.append("datapoints", pa.table({"id": uuid7(1)})))
        assert scope.query("SELECT id FROM {datapoints}").num_rows == 3


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_commit_whose_answer_is_lost_happens_once(
    ducklake_url: str, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    from katiml.store import engine
    from katiml.store.failures import Lost

    commit = engine.EngineTransaction.commit
    failures = [Lost("server closed the connection")]

    def losing(transaction: Any, token: str) -> None:
        if failures and moment == "before":
            raise failures.pop()
        commit(transaction, token)
        if failures:
            raise failures.pop()

    with open_store(ducklake_url) as store:
        scope = Scope(store)
        with monkeypatch.context() as patch:
            patch.setattr(engine.EngineTransaction, "commit", losing)
            scope.transact(lambda tx: tx.append("datapoints", pa.table({"id": uuid7(1)})))
        assert not failures
        assert scope.query("SELECT id FROM {datapoints}").num_rows == 1


def test_a_forked_child_has_its_own_connection(ducklake_url: str) -> None:
    script = """
        store = open_store(sys.argv[1])
        scope = Scope(store)
        child = os.fork()
        scope.transact(lambda tx: tx.append("datapoints", datapoints(1)))
        if not child:
            store.close()
            os._exit(0)  # as multiprocessing ends its children
        assert os.waitpid(child, 0)[1] == 0
        say(scope.query("SELECT count(*) AS n FROM {datapoints}").to_pylist())
    """
    with Script(script, ducklake_url) as process:
        assert process.finish() == ["[{'n': 2}]"]


def test_acknowledged_transactions_survive_kill_9(ducklake_url: str) -> None:
    script = """
        scope = Scope(open_store(sys.argv[1]))
        for number in range(1_000_000):
            scope.transact(lambda tx: tx.append("datapoints", datapoints(20, str(number))))
            say(number)
    """
    with Script(script, ducklake_url) as process:
        process.line()
        time.sleep(0.5)
        process.process.send_signal(signal.SIGKILL)
        said = process.out.read().splitlines()
    with open_store(ducklake_url) as store:
        rows = Scope(store).query("SELECT text, count(*) AS n FROM {datapoints} GROUP BY text")
    assert set(rows["n"].to_pylist()) == {20}
    assert set(said) <= set(rows["text"].to_pylist())
    assert rows.num_rows <= len(said) + 2


def test_an_unreachable_server_is_named_without_the_password(tmp_path: Path) -> None:
    url = f"ducklake:postgres://ann:hunter2@127.0.0.1:1/db?data_path={quote(str(tmp_path))}"
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1/db") as caught:
        open_store(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.hint


def test_the_password_is_not_shown(socket_folder: str, ducklake_url: str) -> None:
    url = ducklake_url.replace("postgres@", "postgres:hunter2@")
    with open_store(url) as store:
        assert "hunter2" not in repr(store) + store.url + repr(store.home.__dict__)


@pytest.mark.parametrize(
    "url",
    [
        "ducklake:postgres://host/db",
        "ducklake:mysql://host/db?data_path=x",
        "ducklake:postgres://host:port/db?data_path=x",
        "s3://bucket/lake",
        "postgres://host/db",
    ],
)
def test_urls_of_no_home_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        open_store(url)
    assert "data_path" in (caught.value.hint or "")


def test_the_missing_extra_is_named(ducklake_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "duckdb_extension_ducklake", None)
    with pytest.raises(MissingExtra) as caught:
        open_store(ducklake_url)
    assert caught.value.hint == "pip install 'katiml[cloud]'"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket on a stand-in for S3."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3").create_bucket(Bucket="lake")
    yield "s3://lake/team"
    server.stop()


def test_data_and_objects_live_in_a_bucket(new_ducklake_url: str, bucket: str) -> None:
    url = new_ducklake_url.partition("data_path=")[0] + f"data_path={quote(bucket)}"
    rows = pa.table({"id": uuid7(100)})
    with open_store(url) as store:
        Scope(store).transact(lambda tx: tx.append("datapoints", rows))
        name = store.objects.put("default", b"three")
    with open_store(url) as store:
        assert Scope(store).query("SELECT id FROM {datapoints}").num_rows == 100
        assert store.objects.size("default", name) == 5
        with store.objects.open("default", name) as file:
            assert file.read() == b"three"
        store.objects.delete("default", name)
        with pytest.raises(Exception, match="no object"):
            store.objects.open("default", name)
    import boto3

    keys = [item["Key"] for item in boto3.client("s3").list_objects(Bucket="lake")["Contents"]]
    assert keys and all(key.startswith("team/") and key.endswith(".parquet") for key in keys)


def test_old_snapshots_expire_but_for_copies_of_the_lake(
    ducklake_url: str, postgres: Any, tmp_path: Path
) -> None:
    database = ducklake_url.partition("postgres@/")[2].partition("?")[0]
    with open_store(ducklake_url) as store:
        scope = Scope(store)
        rows = pa.table({"id": uuid7(200), "name": ["x"] * 200})
        scope.transact(lambda tx: tx.append("tags", rows))
        kept = store.query("SELECT max(snapshot_id) AS n FROM lake.snapshots()")["n"][0].as_py()
        store.transact(
            lambda tx: tx.execute(
                "INSERT INTO lake.settings VALUES ('snapshot_of_schema_1', $kept)",
                {"kept": str(kept)},
            )
        )
        scope.transact(lambda tx: tx.delete("tags", "true"))
        postgres.psql(
            f"\\c {database}\n"
            "UPDATE ducklake_snapshot SET snapshot_time = snapshot_time - interval '2 days';"
        )
        scope.transact(lambda tx: tx.append("tags", rows.slice(0, 1)))
        store.tidy()
        left = store.query("SELECT snapshot_id AS n FROM lake.snapshots()")["n"].to_pylist()
        assert kept in left
        assert not {number for number in left if number < kept}
        assert scope.query("SELECT name FROM {tags}").num_rows == 1
        then = store.query(f"SELECT * FROM lake.tags AT (VERSION => {kept})")
        assert then.num_rows == 200
