"""One folder, several processes: nobody asks, nobody sees a lock, nothing is lost."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from katiml.errors import InvalidInput, LakeBusy
from katiml.store import Scope, open_store

from .processes import Script

COUNT = "SELECT count(*) AS n FROM {datapoints}"

WRITE = """
    scope = Scope(open_store(sys.argv[1]))
    say("open")
    sys.stdin.readline()
    for _ in range(int(sys.argv[2])):
        scope.transact(lambda tx: tx.append("datapoints", datapoints(2)))
    say("done")
    sys.stdin.readline()
"""


def count(scope: Scope) -> int:
    return int(scope.query(COUNT)["n"][0].as_py())


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "lake")


def test_processes_opening_at_once_all_write(folder: str) -> None:
    with Script(WRITE, folder, 20) as one, Script(WRITE, folder, 20) as two:
        for script in (one, two):
            assert script.line() == "open"
        with open_store(folder) as store:
            for script in (one, two):
                script.tell()
            Scope(store).transact(lambda tx: tx.append("datapoints", _rows()))
            for script in (one, two):
                assert script.line() == "done"
            assert count(Scope(store)) == 81


def _rows() -> object:
    import pyarrow as pa

    from katiml.store.ids import uuid7

    return pa.table({"id": uuid7(1)})


def test_a_client_takes_over_when_the_owner_closes(folder: str) -> None:
    with open_store(folder) as store, Script(WRITE, folder, 5) as client:
        assert client.line() == "open"
        Scope(store).transact(lambda tx: tx.append("datapoints", _rows()))
        store.close()
        client.tell()
        assert client.line() == "done"
    with open_store(folder) as store:
        assert count(Scope(store)) == 11


def test_clients_take_over_when_the_owner_is_killed(folder: str) -> None:
    owner = Script(WRITE, folder, 0)
    with owner:
        assert owner.line() == "open"
        with Script(WRITE, folder, 100) as one, Script(WRITE, folder, 100) as two:
            for client in (one, two):
                assert client.line() == "open"
                client.tell()
            time.sleep(0.15)
            owner.process.send_signal(signal.SIGKILL)
            owner.process.wait()
            for client in (one, two):
                assert client.line() == "done"
            with open_store(folder) as store:
                assert count(Scope(store)) == 400


def test_a_client_that_dies_inside_a_transaction_is_undone(folder: str) -> None:
    script = """
        scope = Scope(open_store(sys.argv[1]))
        def work(tx):
            tx.append("datapoints", datapoints(5))
            say("inside")
            sys.stdin.readline()
        scope.transact(work)
    """
    with open_store(folder) as store, Script(script, folder) as client:
        assert client.line() == "inside"
        client.process.kill()
        scope = Scope(store)
        scope.transact(lambda tx: tx.append("datapoints", _rows()))
        assert count(scope) == 1


def test_a_hung_client_does_not_keep_others_waiting(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KATIML_TRANSACTION_IDLE_SECONDS", "0.3")
    script = """
        scope = Scope(open_store(sys.argv[1]))
        def work(tx):
            tx.append("datapoints", datapoints(5))
            say("inside")
            sys.stdin.readline()
        scope.transact(work)
        say("done")
    """
    with open_store(folder) as store, Script(script, folder) as client:
        assert client.line() == "inside"
        scope = Scope(store)
        scope.transact(lambda tx: tx.append("datapoints", _rows()))
        assert count(scope) == 1
        # When it goes on, its transaction simply runs again.
        client.tell()
        assert client.line() == "inside"
        client.tell()
        assert client.line() == "done"
        assert count(scope) == 6


def test_an_error_of_the_owner_arrives_as_itself(folder: str) -> None:
    script = """
        from katiml.errors import InvalidInput
        scope = Scope(open_store(sys.argv[1]))
        def spoil(tx):
            tx.append("datapoints", pa.table({"id": ["not an id"]}))
        for ask in (
            lambda: scope.query("SELECT nothing FROM {datapoints}"),
            lambda: scope.stream("SELECT nothing FROM {datapoints}"),
            lambda: scope.transact(spoil),
        ):
            try:
                ask()
            except InvalidInput as error:
                say(error.code)
        say(scope.query("SELECT 1 AS n").to_pylist())
    """
    with open_store(folder), Script(script, folder) as client:
        assert client.finish() == ["invalid_input"] * 3 + ["[{'n': 1}]"]


def test_a_client_gets_the_same_answers(folder: str) -> None:
    script = """
        import datetime, decimal, uuid
        import numpy as np
        scope = Scope(open_store(sys.argv[1]))
        values = {
            "t": datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC),
            "d": datetime.date(2024, 5, 1),
            "n": datetime.datetime(2024, 5, 1), "u": uuid.UUID(int=7), "x": decimal.Decimal("1.50"),
            "i": 2**70, "b": b"\\x00", "l": [1.5, None], "v": datetime.timedelta(days=1), "o": None,
            "a": np.arange(3),
        }
        sql = "SELECT " + ", ".join(f"${name} AS {name}" for name in values)
        say(scope.query(sql, values).to_pylist())
        rows = scope.stream("SELECT range AS n FROM range(10000)").read_all()
        say(rows.num_rows, sum(rows["n"].to_pylist()))
        say(scope.stream("SELECT 1 AS n WHERE false").read_all().num_rows)
    """
    with Script(script, folder) as owner:
        alone = owner.finish()
    with open_store(folder), Script(script, folder) as client:
        assert client.finish() == alone
    assert alone[1:] == ["10000 49995000", "0"]


def test_row_numbers_are_given_once(folder: str) -> None:
    script = """
        scope = Scope(open_store(sys.argv[1]))
        for size in (1, 2000, 3, 1024):
            first = scope.reserve_rows(size)
            say(first, first + size)
        sys.stdin.readline()
    """
    taken: list[int] = []
    scripts = [Script(script, folder) for _ in range(3)]
    for process in scripts:
        for _ in range(4):
            first, end = map(int, process.line().split())
            taken += range(first, end)
        process.tell()
        process.finish()
        process.__exit__()
    assert len(taken) == len(set(taken)) == 3 * 3028


def test_a_forked_child_becomes_a_client(folder: str) -> None:
    script = """
        store = open_store(sys.argv[1])
        scope = Scope(store)
        scope.transact(lambda tx: tx.append("datapoints", datapoints(1, "parent")))
        scope.reserve_rows(1)
        child = os.fork()
        row = scope.reserve_rows(1)
        text = f"{'parent' if child else 'child'} {row}"
        scope.transact(lambda tx: tx.append("datapoints", datapoints(1, text)))
        if not child:
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        scope.transact(lambda tx: tx.append("datapoints", datapoints(1, "parent again")))
        rows = scope.query("SELECT text FROM {datapoints} ORDER BY text")["text"].to_pylist()
        assert len({row.split()[-1] for row in rows if row[-1].isdigit()}) == 2
        say([row.rstrip("0123456789 ") for row in rows])
        store.close()
        store = open_store(sys.argv[1])
        say(store.query("SELECT count(*) AS n FROM lake.datapoints").to_pylist())
    """
    with Script(script, folder) as process:
        assert process.finish() == [
            "['child', 'parent', 'parent', 'parent again']",
            "[{'n': 4}]",
        ]


def test_an_owner_killed_while_its_forked_child_lives_is_noticed(folder: str) -> None:
    script = """
        store = open_store(sys.argv[1])
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        say(child)
        sys.stdin.readline()
    """
    with Script(script, folder) as owner, open_store(folder) as store:
        child = int(owner.line())
        try:
            scope = Scope(store)
            assert count(scope) == 0
            owner.process.kill()
            owner.process.wait()
            begun = time.monotonic()
            scope.transact(lambda tx: tx.append("datapoints", _rows()))
            assert count(scope) == 1
            assert time.monotonic() - begun < 5
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_stranger_holding_the_file_is_named(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KATIML_BUSY_SECONDS", "0.3")
    script = """
        import duckdb
        os.makedirs(sys.argv[1])
        connection = duckdb.connect(sys.argv[1] + "/lake.duckdb")
        say("holding")
        sys.stdin.readline()
    """
    with Script(script, folder) as stranger:
        stranger.line()
        with pytest.raises(LakeBusy, match=str(stranger.process.pid)):
            open_store(folder)


def test_the_endpoint_is_for_this_user_alone(folder: str) -> None:
    with open_store(folder):
        mode = (Path(folder) / "owner.json").stat().st_mode
        assert mode & 0o777 == 0o600
    assert not (Path(folder) / "owner.json").exists()


def test_without_the_secret_nobody_gets_in(folder: str) -> None:
    import json

    from katiml.store.loopback import Endpoint, connect

    with open_store(folder):
        fields = json.loads((Path(folder) / "owner.json").read_text())
        assert connect(Endpoint(**{**fields, "secret": "0" * 64})) is None
        accepted = connect(Endpoint(**fields))
        assert accepted is not None
        accepted.close()


def test_a_parameter_of_a_strange_type_is_refused(folder: str) -> None:
    from katiml.store.wire import pack_parameters

    with pytest.raises(InvalidInput, match="object cannot be a parameter"):
        pack_parameters({"p": object()})


def test_acknowledged_transactions_survive_kill_9(folder: str) -> None:
    script = """
        import random
        store = open_store(sys.argv[1])
        scope = Scope(store)
        name = sys.argv[2]
        for number in range(1_000_000):
            rows = datapoints(50, f"{name}-{number}")
            scope.transact(lambda tx: tx.append("datapoints", rows))
            say(number)
    """
    acknowledged: dict[str, int] = {}
    for round_ in range(4):
        names = [f"{round_}-{letter}" for letter in "ab"]
        scripts = [Script(script, folder, name) for name in names]
        for name, process in zip(names, scripts, strict=True):
            acknowledged[name] = int(process.line())
        time.sleep(0.1 + 0.13 * round_)
        for process in scripts:
            process.process.kill()
        for name, process in zip(names, scripts, strict=True):
            said = process.out.read().splitlines()
            if said:
                acknowledged[name] = int(said[-1])
            process.__exit__()
    with open_store(folder) as store:
        sizes = Scope(store).query("SELECT text, count(*) AS n FROM {datapoints} GROUP BY text")
    assert set(sizes["n"].to_pylist()) == {50}, "a transaction is there whole or not at all"
    landed = set(sizes["text"].to_pylist())
    for name, last in acknowledged.items():
        assert {f"{name}-{number}" for number in range(last + 1)} <= landed
        assert len([text for text in landed if text.startswith(name)]) <= last + 2


CLIENT_WRITES_ONCE = """
    scope = Scope(open_store(sys.argv[1]))
    say("open")
    sys.stdin.readline()
    scope.transact(lambda tx: tx.append("datapoints", datapoints(1)))
    say(scope.query("SELECT count(*) AS n FROM {datapoints}")["n"][0].as_py())
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_commit_whose_answer_is_lost_happens_once(folder: str, moment: str) -> None:
    script = """
        from katiml.store import owner
        commit = owner._Session._do_commit
        def dying(session, token):
            if sys.argv[2] == "after":
                commit(session, token)
            os._exit(9)
        owner._Session._do_commit = dying
        store = open_store(sys.argv[1])
        say("open")
        sys.stdin.readline()
    """
    with Script(script, folder, moment) as owner, Script(CLIENT_WRITES_ONCE, folder) as client:
        assert owner.line() == "open"
        assert client.line() == "open"
        client.tell()
        assert client.line() == "1"


def test_an_owner_that_dies_while_rows_are_read_is_said(folder: str) -> None:
    script = """
        from katiml.errors import LakeBusy
        scope = Scope(open_store(sys.argv[1]))
        reader = scope.stream("SELECT repeat('x', 100000) AS x FROM range(20000)")
        say(reader.read_next_batch().num_rows > 0)
        sys.stdin.readline()
        try:
            reader.read_all()
        except LakeBusy as error:
            say(error.hint)
        say(scope.query("SELECT 1 AS n").to_pylist())
    """
    with Script("open_store(sys.argv[1]); say(1); sys.stdin.readline()", folder) as owner:
        owner.line()
        with Script(script, folder) as client:
            assert client.line() == "True"
            owner.process.kill()
            owner.process.wait()
            client.tell()
            assert client.finish() == ["run the query again", "[{'n': 1}]"]


def test_an_owner_that_is_stopped_is_named(folder: str) -> None:
    script = """
        from katiml.errors import LakeBusy
        from katiml.store import client, loopback
        client._PATIENCE_SECONDS = client._SILENCE_SECONDS = loopback.HANDSHAKE_SECONDS = 0.3
        scope = Scope(open_store(sys.argv[1]))
        say("open")
        sys.stdin.readline()
        try:
            scope.query("SELECT 1")
        except LakeBusy as error:
            say(error)
    """
    with Script("open_store(sys.argv[1]); say(1); sys.stdin.readline()", folder) as owner:
        owner.line()
        with Script(script, folder) as client:
            assert client.line() == "open"
            owner.process.send_signal(signal.SIGSTOP)
            client.tell()
            assert str(owner.process.pid) in client.line()


def test_an_owner_at_long_work_is_waited_for(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
        from katiml.store import client
        client._PATIENCE_SECONDS, client._SILENCE_SECONDS = 0.05, 0.1
        scope = Scope(open_store(sys.argv[1]))
        say("open")
        scope.transact(lambda tx: tx.append("datapoints", datapoints(1)))
        say("done")
    """
    with open_store(folder) as store:

        def work(tx: object) -> None:
            client.line()
            time.sleep(0.5)

        with Script(script, folder) as client:
            store.transact(work)
            assert client.line() == "done"


def test_a_reader_that_stops_early_disturbs_nobody(folder: str) -> None:
    script = """
        scope = Scope(open_store(sys.argv[1]))
        for _ in range(3):
            reader = scope.stream("SELECT repeat('x', 1000) AS x FROM range(1000000)")
            reader.read_next_batch()
            del reader
        scope.transact(lambda tx: tx.append("datapoints", datapoints(1)))
        say(scope.query("SELECT count(*) AS n FROM {datapoints}").to_pylist())
    """
    with open_store(folder), Script(script, folder) as client:
        assert client.finish() == ["[{'n': 1}]"]
