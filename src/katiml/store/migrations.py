"""The schema of a lake: made when the lake is new, brought up to date when it is older."""

from __future__ import annotations

from katiml import schema
from katiml.errors import InvalidInput, LakeTooNew, StoreError
from katiml.store.engine import SERIAL_COUNTERS, Engine, EngineTransaction

__all__ = ["MIGRATIONS", "prepare"]

# (version, statements that bring a lake of the version before to it), oldest first. Tables that are
# new in a version are not named here: `_upgrade` makes those that are missing.
MIGRATIONS: list[tuple[int, list[str]]] = [
    (
        2,
        [
            f"ALTER TABLE lake.{name} ADD COLUMN since BIGINT DEFAULT 0"
            for name in schema.RECORD_TABLES
        ],
    ),
]


def prepare(engine: Engine) -> None:
    """Make the tables of a new lake, or upgrade an older one after keeping a copy of it.

    Raises LakeTooNew for a lake that a newer KatiML wrote.
    """
    version = stored_version(engine)
    if version is None:
        _create(engine)
    elif version > schema.SCHEMA_VERSION:
        raise LakeTooNew(
            f"the lake {engine.place} was written by a newer KatiML "
            f"(schema {version}; this one knows up to {schema.SCHEMA_VERSION})",
            hint="upgrade with: pip install --upgrade katiml",
        )
    elif version < schema.SCHEMA_VERSION:
        engine.keep_copy(version)
        _upgrade(engine, version)


def stored_version(engine: Engine) -> int | None:
    """The schema version of the lake, None where no lake has been made yet."""
    try:
        values = engine.query("SELECT value FROM lake.settings WHERE name = 'schema_version'", {})
    except InvalidInput:  # no such table
        return None
    if values.num_rows != 1:
        raise StoreError(
            f"{engine.place} holds tables but no KatiML lake",
            hint="name an empty folder, or an empty metadata_schema",
        )
    return int(values.column(0)[0].as_py())


def _create(engine: Engine) -> None:
    transaction = engine.begin(alone=True)
    try:
        _create_tables(transaction)
        transaction.execute(
            "INSERT INTO lake.settings (name, value) VALUES ('schema_version', $version)",
            {"version": str(schema.SCHEMA_VERSION)},
        )
        transaction.execute(
            "INSERT INTO lake.counters (name, value) SELECT 'rows', 0 "
            "UNION ALL SELECT 'serialize:' || range, 0 FROM range($count)",
            {"count": SERIAL_COUNTERS},
        )
        transaction.execute(
            "INSERT INTO lake.organizations (id, name, created_at) "
            "VALUES ('default', 'default', now())",
            {},
        )
        transaction.commit("")
    finally:
        transaction.rollback()


def _create_tables(transaction: EngineTransaction) -> None:
    for table in (*schema.SYSTEM_TABLES.values(), *schema.TABLES.values()):
        transaction.execute(table.create_statement(), {})


def _upgrade(engine: Engine, version: int) -> None:
    transaction = engine.begin(alone=True)
    try:
        for target, statements in MIGRATIONS:
            if version < target <= schema.SCHEMA_VERSION:
                for statement in statements:
                    transaction.execute(statement, {})
        _create_tables(transaction)
        transaction.execute(
            "UPDATE lake.settings SET value = $version WHERE name = 'schema_version'",
            {"version": str(schema.SCHEMA_VERSION)},
        )
        transaction.commit("")
    finally:
        transaction.rollback()
