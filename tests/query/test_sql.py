"""SQL: what runs, what is refused, and that nobody sees another's rows."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

from katiml.errors import InvalidInput
from katiml.query import sql
from katiml.query.statements import SQL_TABLES, _functions, parse_statement
from katiml.store import Scope, Store
from tests.query.rows import put


@pytest.fixture
def filled(scope: Scope) -> Scope:
    a, b = put(
        scope,
        "datapoints",
        [{"text": "a", "metadata": {"w": 1}, "row": 1}, {"text": "b", "row": 2}],
    )
    put(scope, "tags", [{"datapoint": a, "name": "n", "value": "x"}, {"datapoint": b, "name": "n"}])
    return scope


def rows(scope: Scope, text: str, /, **parameters: Any) -> list[dict[str, Any]]:
    return sql(scope, text, parameters, form="arrow").to_pylist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT count(*) AS n, sum(row) AS s FROM datapoints", [{"n": 2, "s": 3}]),
        ("select text from datapoints order by text desc;", [{"text": "b"}, {"text": "a"}]),
        ("FROM datapoints SELECT text LIMIT 1 -- all ;", [{"text": "a"}]),
        (
            "SELECT d.text, t.value FROM datapoints d JOIN tags t ON t.datapoint = d.id ORDER BY 1",
            [{"text": "a", "value": "x"}, {"text": "b", "value": None}],
        ),
        ("SELECT metadata->>'w' AS w FROM datapoints WHERE metadata IS NOT NULL", [{"w": "1"}]),
        (
            "WITH datapoints AS (SELECT * FROM datapoints WHERE text = 'a') "
            "SELECT count(*) AS n FROM datapoints",
            [{"n": 1}],
        ),
        (
            "WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS x FROM a) SELECT x FROM b",
            [{"x": 2}],
        ),
        (
            "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 3) "
            "SELECT max(n) AS n FROM t",
            [{"n": 3}],
        ),
        ("SELECT text FROM datapoints UNION SELECT 'c' ORDER BY text LIMIT 1", [{"text": "a"}]),
        ("VALUES (1)", [{"col0": 1}]),
        ("SELECT 'lake.tags {tags} {{ $x ; --' AS t", [{"t": "lake.tags {tags} {{ $x ; --"}]),
        ("SELECT x FROM range(2) r(x), unnest([7]) u(y) ORDER BY x", [{"x": 0}, {"x": 1}]),
        ("SELECT list_transform([1], lambda x: x + 1) AS l", [{"l": [2]}]),
        ("SELECT count(*) AS n FROM uploads, rejected_records", [{"n": 0}]),
        ("SELECT text FROM \"Datapoints\" WHERE text = 'a'", [{"text": "a"}]),
        (
            "SELECT (SELECT count(*) FROM tags t WHERE t.datapoint = d.id) AS n, "
            "rank() OVER (ORDER BY text) AS r FROM datapoints d ORDER BY r",
            [{"n": 1, "r": 1}, {"n": 1, "r": 2}],
        ),
    ],
)
def test_what_runs(filled: Scope, text: str, expected: list[dict[str, Any]]) -> None:
    assert rows(filled, text) == expected


def test_describe_and_every_table(filled: Scope) -> None:
    names = {row["column_name"] for row in rows(filled, "DESCRIBE tags")}
    assert {"id", "datapoint", "name", "value"} <= names
    for table in SQL_TABLES:
        assert rows(filled, f"SELECT count(*) AS n FROM {table}")[0]["n"] >= 0
        assert rows(filled, f"SUMMARIZE {table}")


def test_parameters_are_values(filled: Scope) -> None:
    text = "SELECT count(*) AS n FROM datapoints WHERE text = $text OR row IN (SELECT unnest($r))"
    assert rows(filled, text, text="' OR 1=1 --", r=[2, 3]) == [{"n": 1}]
    with pytest.raises(InvalidInput, match=r"\$text has no value"):
        rows(filled, "SELECT $text")
    with pytest.raises(InvalidInput, match=r"no \$text"):
        rows(filled, "SELECT 1", text=1)


def test_forms(filled: Scope) -> None:
    text = "SELECT text, row, created_at FROM datapoints ORDER BY text"
    frame = sql(filled, text)
    assert frame["text"].tolist() == ["a", "b"]
    assert str(frame["created_at"].dtype).endswith("UTC]")
    assert sum(batch.num_rows for batch in sql(filled, text, form="batches")) == 2
    with pytest.raises(InvalidInput, match="form"):
        sql(filled, text, form="csv")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no SQL"),
        ("  ", "no SQL"),
        ("SELECT 1\0", "no SQL"),
        (3, "no SQL"),
        ("-- nothing", "0 statements"),
        (";", "0 statements"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("SELECT 1; DROP TABLE tags", "only SELECT"),
        ("SELECT 1 +", "cannot be read"),
        ("SELECT (1", "cannot be read"),
        ("SELECT 1) AS x, (SELECT 2", "cannot be read"),
        ("SELECT 1 /* open", "cannot be read"),
        ("INSERT INTO tags VALUES (1)", "only SELECT"),
        ("UPDATE tags SET name = 1", "only SELECT"),
        ("DELETE FROM tags", "only SELECT"),
        ("DROP TABLE tags", "only SELECT"),
        ("CREATE TABLE t AS SELECT 1", "only SELECT"),
        ("COPY tags TO 'x.csv'", "only SELECT"),
        ("COPY (SELECT 1) TO 'x.csv'", "only SELECT"),
        ("ATTACH 'x.db'", "only SELECT"),
        ("DETACH lake", "only SELECT"),
        ("INSTALL httpfs", "only SELECT"),
        ("LOAD httpfs", "only SELECT"),
        ("SET threads = 1", "only SELECT"),
        ("SET VARIABLE x = 1", "only SELECT"),
        ("PRAGMA database_list", "only SELECT"),
        ("CALL pragma_version()", "only SELECT"),
        ("USE lake", "only SELECT"),
        ("CHECKPOINT", "only SELECT"),
        ("EXPORT DATABASE 'x'", "only SELECT"),
        ("BEGIN", "only SELECT"),
        ("EXPLAIN ANALYZE SELECT 1", "only SELECT"),
        ("PREPARE p AS SELECT 1", "only SELECT"),
        ("WITH x AS (DELETE FROM tags RETURNING *) SELECT * FROM x", "only SELECT|cannot be read"),
        ("SHOW TABLES", "SHOW"),
        ("SHOW ALL TABLES", "SHOW"),
        ("SELECT * FROM lake.tags", "no table here"),
        ("SELECT * FROM lake.main.tags", "no table here"),
        ("SELECT * FROM main.tags", "no table here"),
        ("SELECT * FROM 'file.csv'", "no table here"),
        ('SELECT * FROM "https://example.com/x.parquet"', "no table here"),
        ("SELECT * FROM api_keys", "no table here"),
        ("SELECT * FROM settings", "no table here"),
        ("SELECT * FROM sqlite_master", "no table here"),
        ("SELECT * FROM information_schema.tables", "no table here"),
        ("SELECT * FROM duckdb_secrets", "no table here"),
        ("SELECT 1 IN (SELECT 1 FROM pg_tables)", "no table here"),
        ("SELECT * FROM tags t, LATERAL (SELECT * FROM settings)", "no table here"),
        ("WITH settings AS (SELECT * FROM settings) SELECT 1", "no table here"),
        ("WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a", "no table here"),
        ("SELECT (WITH api_keys AS (SELECT 1) SELECT 1), (SELECT 1 FROM api_keys)", "no table"),
        ("SELECT 1 UNION SELECT hash FROM api_keys", "no table here"),
        ("SELECT 1 ORDER BY (SELECT hash FROM api_keys)", "no table here"),
        ("SELECT 1 LIMIT (SELECT count(*) FROM api_keys)", "no table here"),
        ("VALUES ((SELECT hash FROM api_keys))", "no table here"),
        ("DESCRIBE api_keys", "no table here"),
        ("SUMMARIZE 'file.csv'", "no table here"),
        ("SELECT count(*) FILTER (WHERE (SELECT true FROM api_keys)) FROM tags", "no table here"),
        ("SELECT sum(1) OVER (ORDER BY (SELECT 1 FROM api_keys))", "no table here"),
        ("SELECT CASE WHEN EXISTS (FROM api_keys) THEN 1 END", "no table here"),
        ("SELECT * FROM tags AT (VERSION => 1)", "AT"),
        ("SELECT * FROM read_csv('/etc/passwd')", "makes no table"),
        ("SELECT * FROM read_text('/etc/passwd')", "makes no table"),
        ("SELECT * FROM glob('*')", "makes no table"),
        ("SELECT * FROM duckdb_settings()", "makes no table"),
        ("SELECT * FROM query('SELECT 1')", "makes no table"),
        ("SELECT * FROM query_table('api_keys')", "makes no table"),
        ("SELECT * FROM json_execute_serialized_sql('{}')", "makes no table"),
        ("SELECT * FROM unnest([getenv('HOME')])", "not allowed"),
        ("SELECT getenv('HOME')", "not allowed"),
        ("SELECT current_setting('threads')", "not allowed"),
        ("SELECT getvariable('x')", "not allowed"),
        ("SELECT write_log('x')", "not allowed"),
        ("SELECT nextval('x')", "not allowed"),
        ("SELECT pg_sleep(9)", "not allowed"),
        ("SELECT sleep_ms(9)", "not allowed"),
        ("SELECT json_serialize_plan('SELECT 1')", "not allowed"),
        ("SELECT list_transform([1], lambda x: getenv('HOME'))", "not allowed"),
        ("SELECT ('HOME').getenv()", "not allowed"),
        ("SELECT name.getenv() FROM tags", "not allowed"),
        ("SELECT katiml_encode('float16', [1], 'x'::BLOB)", "not allowed"),
        ("SELECT lake.main.upper('x')", "not allowed"),
        ("SELECT ?", "parameter"),
        ("SELECT $1", "parameter"),
        ("SELECT $organization_id", "parameter"),
        ("SELECT 1" + " + 1" * 5000, "cannot be read|nested|Max expression"),
        ("SELECT " + "1, " * 100_000 + "1", "characters long"),
    ],
)
def test_what_is_refused(text: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as raised:
        parse_statement(text)
    assert raised.value.hint


def test_a_refusal_says_where() -> None:
    with pytest.raises(InvalidInput, match="line 2, column 6") as raised:
        parse_statement("SELECT 'é'\nFROM datapoint")
    assert "did you mean 'datapoints'" in str(raised.value.hint)


def test_what_duckdb_says_counts_the_lines_of_the_text(filled: Scope) -> None:
    with pytest.raises(InvalidInput, match="LINE 2:") as raised:
        rows(filled, "SELECT *\nFROM tags WHERE colour = 1")
    assert "colour" in str(raised.value)
    with pytest.raises(InvalidInput, match="Could not convert"):
        rows(filled, "SELECT CAST(text AS INTEGER) FROM datapoints")


def test_only_the_own_rows_are_there(store: Store) -> None:
    ours, theirs = Scope(store, "ours"), Scope(store, "theirs")
    for table in ("datapoints", "tags", "groundtruths"):
        put(theirs, table, [{}])
    for table in SQL_TABLES:
        assert rows(ours, f"SELECT * FROM {table}") == []
    everything = "SELECT * FROM tags WHERE true OR organization_id = 'theirs'"
    assert rows(ours, everything) == []
    assert len(rows(theirs, everything)) == 1


def test_functions_were_looked_through() -> None:
    """A DuckDB with other functions fails here: look through the new ones, then change these."""
    with duckdb.connect(":memory:") as connection:
        found = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() "
            "WHERE function_type IN ('scalar', 'aggregate', 'macro')"
        ).fetchall()
    every = {name for (name,) in found}
    refused = every - _functions()
    assert duckdb.__version__ == "1.5.5"
    assert len(_functions()) == 590
    dangerous = {"current_setting", "getvariable", "nextval", "currval", "write_log", "stats"}
    assert dangerous <= refused
    assert {"sum", "list_transform", "json_extract", "nullif", "random", "rank"} <= _functions()
