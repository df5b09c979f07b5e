"""Lakes of other versions: older ones are upgraded with a copy kept, newer ones refused."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from katiml import schema
from katiml.errors import LakeBusy, LakeTooNew, StoreError
from katiml.store import Moment, Scope, View, migrations, open_store
from katiml.store.ids import uuid7

from .processes import Script

UPGRADE = (schema.SCHEMA_VERSION + 1, ["ALTER TABLE lake.tags ADD COLUMN colour VARCHAR"])


@pytest.fixture
def older(lake_url: str) -> str:
    """A lake of this version, with a tag in it."""
    with open_store(lake_url) as store:
        Scope(store).transact(
            lambda tx: tx.append("tags", pa.table({"id": uuid7(1), "name": ["kept"]}))
        )
    return lake_url


@pytest.fixture
def newer_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """KatiML as it will be one schema version from now."""
    monkeypatch.setattr(schema, "SCHEMA_VERSION", UPGRADE[0])
    monkeypatch.setattr(migrations, "MIGRATIONS", [UPGRADE])


def test_an_older_lake_is_upgraded_and_kept(older: str, newer_code: None) -> None:
    for _ in range(2):  # the second time there is nothing left to do
        with open_store(older) as store:
            rows = Scope(store).query("SELECT name, colour FROM {tags}").to_pylist()
            assert rows == [{"name": "kept", "colour": None}]
            versions = store.query("SELECT value FROM lake.settings WHERE name = 'schema_version'")
            assert versions["value"].to_pylist() == [str(UPGRADE[0])]
            if older.startswith("ducklake:"):
                kept = store.query(
                    "SELECT value::BIGINT AS n FROM lake.settings "
                    f"WHERE name = 'snapshot_of_schema_{UPGRADE[0] - 1}'"
                )["n"].to_pylist()
                assert len(kept) == 1
                tags = store.query(f"SELECT * FROM lake.tags AT (VERSION => {kept[0]})")
                assert tags["name"].to_pylist() == ["kept"]
                assert "colour" not in tags.column_names
    if not older.startswith("ducklake:"):
        (copy,) = Path(older).glob("*.bak")
        assert copy.name == f"lake.duckdb.v{UPGRADE[0] - 1}.bak"
        with duckdb.connect(str(copy), read_only=True) as connection:
            assert connection.execute("SELECT name FROM tags").fetchall() == [("kept",)]


def test_a_failing_upgrade_changes_nothing(
    older: str, newer_code: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements = [*UPGRADE[1], "ALTER TABLE lake.nowhere ADD COLUMN x VARCHAR"]
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", [(UPGRADE[0], statements)])
        with pytest.raises(Exception, match="nowhere"):
            open_store(older)
    with open_store(older) as store:
        assert "colour" in store.query("SELECT * FROM lake.tags").column_names


def test_a_newer_lake_is_refused(
    older: str, newer_code: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(older).close()
    monkeypatch.setattr(schema, "SCHEMA_VERSION", UPGRADE[0] - 1)
    with pytest.raises(LakeTooNew, match="newer KatiML") as caught:
        open_store(older)
    assert caught.value.hint == "upgrade with: pip install --upgrade katiml"


def test_a_process_of_another_version_is_not_joined(
    tmp_path: Path, newer_code: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KATIML_BUSY_SECONDS", "0.3")
    script = "store = open_store(sys.argv[1]); say('open'); sys.stdin.readline()"
    with Script(script, tmp_path) as owner:
        owner.line()
        with pytest.raises(LakeBusy, match="another version"):
            open_store(tmp_path)


def test_a_database_that_is_no_lake_is_left_alone(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "lake.duckdb")) as connection:
        connection.execute("CREATE TABLE settings (name VARCHAR, value VARCHAR)")
    with pytest.raises(StoreError, match="no KatiML lake"):
        open_store(tmp_path)


def _before_history() -> dict[str, schema.Table]:
    """The tables of schema 1."""
    tables = {}
    for name in (*schema.RECORD_TABLES, "uploads", "rejected_records"):
        own = schema.TABLES[name]
        columns = {key: value for key, value in own.columns.items() if key != "since"}
        tables[name] = schema.Table(name, columns, own.parents)
    return tables


def test_history_begins_with_the_upgrade(
    lake_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lake_url.startswith("ducklake:"):
        lake_url += "&metadata_schema=older"  # the catalog of the fixture has the tables of now
    with monkeypatch.context() as patch:
        patch.setattr(schema, "SCHEMA_VERSION", 1)
        patch.setattr(schema, "TABLES", _before_history())
        with open_store(lake_url) as store:
            store.transact(
                lambda tx: tx.append(
                    "tags",
                    pa.table({"id": uuid7(1), "organization_id": ["default"], "name": ["old"]}),
                )
            )
    with open_store(lake_url) as store:
        scope = Scope(store)
        assert scope.query("SELECT name, since FROM {tags}").to_pylist() == [
            {"name": "old", "since": 0}
        ]
        view = View(moment=Moment.read(scope))
        scope.transact(lambda tx: tx.append("tags", pa.table({"id": uuid7(1), "name": ["new"]})))
        scope.transact(lambda tx: tx.remove("tags", "name = 'old'"))
        for own, names in ((scope, ["new"]), (scope.at(view), ["old"])):
            assert own.query("SELECT name FROM {tags}")["name"].to_pylist() == names
