"""When the place of a lake fails: full, read-only, no folder, spoilt. Nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from katiml.errors import Conflict, InvalidInput, LakeReadOnly, StorageFull, StoreError
from katiml.store import Scope, open_store
from katiml.store.failures import Interfered, Lost, redact, translate
from katiml.store.ids import uuid7

from .processes import Script

FILL = """
    import resource, signal
    from katiml.errors import StorageFull
    from katiml.store import folder
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    folder.LOG_BYTES = int(sys.argv[2])
    store = open_store(sys.argv[1])
    scope = Scope(store)
    def write(count):
        rows = pa.table({"id": uuid7(count), "text": [os.urandom(500).hex() for _ in range(count)]})
        scope.transact(lambda tx: tx.append("datapoints", rows))
        return count
    landed, failed = write(100), 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))
    for count in [500] * 10 + [100] * 5:
        try:
            landed += write(count)
        except StorageFull as error:
            failed += 1
            assert error.hint
        found = scope.query("SELECT count(*) AS n FROM {datapoints}")["n"][0].as_py()
        assert found == landed, (found, landed)
    assert failed
    say(landed)
    if sys.argv[3] == "dies":
        os._exit(0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    say(landed + write(100))
    store.close()
"""


# The limit is met by the log, or when the log is written into the file.
@pytest.mark.parametrize("log_bytes", [16_000_000, 1_000_000])
@pytest.mark.parametrize("end", ["dies", "recovers"])
def test_a_full_disk_loses_nothing(tmp_path: Path, log_bytes: int, end: str) -> None:
    with Script(FILL, tmp_path, log_bytes, end) as process:
        landed = int(process.finish()[-1])
    with open_store(tmp_path) as store:
        assert Scope(store).query("SELECT id FROM {datapoints}").num_rows == landed


def test_objects_on_a_full_disk_leave_nothing(tmp_path: Path) -> None:
    script = """
        import resource, signal
        from katiml.errors import StorageFull
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = open_store(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
        try:
            store.objects.put("default", bytes(2_000_000))
        except StorageFull as error:
            say(error.code)
    """
    with Script(script, tmp_path) as process:
        assert process.finish() == ["storage_full"]
    assert list((tmp_path / "objects" / "default").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(LakeReadOnly, match="cannot be written") as caught:
        open_store(tmp_path / "lake")
    assert caught.value.hint


def test_a_file_system_that_takes_no_file_is_an_error_of_the_store() -> None:
    with pytest.raises(StoreError):
        open_store("/proc/katiml")
    with pytest.raises(StoreError):
        open_store("/sys")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ('Cannot open file "x/lake.duckdb": Permission denied', LakeReadOnly),
        ('Cannot open file "x/lake.duckdb": Read-only file system', LakeReadOnly),
        ('Could not write file "x": No space left on device', StorageFull),
        ("server closed the connection unexpectedly", Lost),
    ],
)
def test_what_duckdb_says_is_understood(error: str, kind: type[Exception]) -> None:
    import duckdb

    assert type(translate(duckdb.IOException(f"IO Error: {error}"), "lake")) is kind


def test_a_conflict_is_tried_again() -> None:
    import duckdb

    text = "Failed to commit: Transaction conflict - another transaction has deleted from it"
    assert type(translate(duckdb.TransactionException(text), "lake")) is Interfered


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("mine")
    with pytest.raises(StoreError, match="not a folder"):
        open_store(tmp_path / "lake")
    with pytest.raises(StoreError, match="not a folder"):
        open_store(tmp_path / "lake" / "below")
    assert (tmp_path / "lake").read_text() == "mine"


def test_a_spoilt_file_is_named_and_left_alone(tmp_path: Path) -> None:
    spoilt = b"this is no database" * 1000
    (tmp_path / "lake.duckdb").write_bytes(spoilt)
    with pytest.raises(StoreError, match="lake") as caught:
        open_store(tmp_path)
    assert type(caught.value) is StoreError
    assert (tmp_path / "lake.duckdb").read_bytes() == spoilt


def test_a_wrong_memory_limit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KATIML_MEMORY_LIMIT", "plenty")
    with pytest.raises(InvalidInput, match="plenty"):
        open_store(tmp_path)


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.close()
    store.close()
    with pytest.raises(Conflict, match="closed"):
        store.query("SELECT 1")


def test_closing_one_of_two_stores_leaves_the_other(tmp_path: Path) -> None:
    one, two = open_store(tmp_path), open_store(tmp_path)
    Scope(one).transact(lambda tx: tx.append("datapoints", pa.table({"id": uuid7(1)})))
    one.close()
    assert Scope(two).query("SELECT id FROM {datapoints}").num_rows == 1
    two.close()


def test_the_log_is_written_back_while_others_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from katiml.store import folder

    monkeypatch.setattr(folder, "LOG_BYTES", 100_000)
    with open_store(tmp_path) as store:
        scope = Scope(store)

        def write() -> None:
            rows = pa.table({"id": uuid7(1000), "text": ["x" * 100] * 1000})
            scope.transact(lambda tx: tx.append("datapoints", rows))

        write()
        reader = scope.stream("SELECT text FROM {datapoints}")
        for _ in range(10):
            write()
        assert reader.read_all().num_rows == 1000
        write()
        log = tmp_path / "lake.duckdb.wal"
        assert not log.exists() or log.stat().st_size < 1_000_000
        assert scope.query("SELECT id FROM {datapoints}").num_rows == 12_000


def test_passwords_are_blanked() -> None:
    for text in (
        "host=db password=hunter2 x",
        "password = 'hun\\'ter2' x",
        "postgres://ann:hunter2@db/x",
        "ducklake:postgres://db/x?password=hunter2&data_path=x",
    ):
        assert "ter2" not in redact(text)
