"""SQL: ways around the organization's own rows, each tried against a lake with another's rows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from katiml.errors import InvalidInput, KatiMLError
from katiml.query import sql
from katiml.query.statements import parse_statement
from katiml.store import Scope, Store
from tests.query.rows import put

KELVIN = "\u212a"  # str.lower() makes k of it; DuckDB does not
ANGSTROM = "\u212b"
SECRET_ROW = 98_765_432_109_876


def run(scope: Scope, text: str, parameters: Any = None) -> list[dict[str, Any]]:
    return sql(scope, text, parameters, form="arrow").to_pylist()


# -- names that mean one thing to the checker and another to DuckDB --------------------------


@pytest.mark.parametrize(
    "text",
    [
        # A name that only looks like that of a query in WITH.
        f'WITH "duc{KELVIN}db_databases" AS (SELECT 1) SELECT * FROM duckdb_databases',
        f'WITH "{ANGSTROM}" AS (SELECT 1) SELECT * FROM "\u00e5"',
        f'SELECT * FROM "trac{KELVIN}s"',
        # What a recursive query starts from does not see its name.
        "WITH RECURSIVE api_keys AS (FROM api_keys UNION ALL SELECT 1 FROM api_keys) SELECT 1",
        "WITH RECURSIVE t AS (SELECT (SELECT 1 FROM t) UNION ALL SELECT 1 FROM t) SELECT 1",
        "WITH RECURSIVE t(a) USING KEY (a) AS (FROM t UNION SELECT 1 FROM t) SELECT 1",
        "WITH RECURSIVE t AS (FROM t) FROM t",
        "WITH RECURSIVE t AS (SELECT 1 UNION ALL SELECT 1 FROM recurring.tags) FROM t",
        # Names of files and of the system's views are given to no query.
        'WITH "x.csv" AS (SELECT 1) SELECT 1',
        'WITH RECURSIVE "/x" AS (SELECT 1 UNION ALL SELECT 1) SELECT 1',
        'SELECT (WITH "s3:x" AS (SELECT 1) SELECT 1)',
        "WITH duckdb_tables AS (SELECT 1) SELECT 1",
        "WITH PG_class AS (SELECT 1) SELECT 1",
        "WITH sqlite_master AS (SELECT 1) SELECT 1",
        # A name ends with the query that it belongs to.
        "SELECT * FROM (WITH api_keys AS (SELECT 1) SELECT 1), api_keys",
        "WITH a AS (WITH api_keys AS (SELECT 1) SELECT 1) SELECT * FROM api_keys",
        "(WITH api_keys AS (SELECT 1) SELECT 1) UNION ALL SELECT 1 FROM api_keys",
        "SELECT 1 ORDER BY (WITH api_keys AS (SELECT 1) SELECT 1), (SELECT 1 FROM api_keys)",
        "WITH lake AS (SELECT 1) SELECT * FROM lake.tags",
        # Texts that end the statement around them.
        "SELECT 1) AS result, lake.tags --",
        "SELECT 1 --\n) AS result, lake.tags",
        "SELECT 1; ) AS result, lake.tags --",
        "FROM lake.tags",
        "TABLE lake.tags",
        "FROM (DESCRIBE lake.tags)",
        "PIVOT lake.tags ON name USING count(*)",
        "UNPIVOT lake.tags ON name INTO NAME k VALUE v",
        "SELECT * REPLACE (getenv('HOME') AS name) FROM tags",
        "SELECT COLUMNS(lambda x: getenv('HOME') = x) FROM tags",
        "SELECT [getenv(x) FOR x IN ['HOME']]",
        "SELECT system.main.getenv('HOME')",
        "SELECT lag(name, (SELECT 1 FROM lake.tags)) OVER () FROM tags",
        "SELECT * FROM json_each((SELECT hash FROM api_keys))",
        "SELECT sum(1) OVER w WINDOW w AS (ORDER BY (SELECT 1 FROM api_keys))",
        "SELECT DISTINCT ON ((SELECT 1 FROM api_keys)) name FROM tags",
        "SELECT * FROM tags JOIN datapoints ON (SELECT true FROM api_keys)",
        "MERGE INTO tags USING tags ON true WHEN MATCHED THEN DELETE",
        "CREATE MACRO f() AS 1",
        "CREATE SECRET s (TYPE S3)",
        "SELECT $ORGANIZATION_ID",
        "SELECT $a, $A",
    ],
)
def test_refused_before_it_runs(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_statement(text)


def test_names_of_queries_still_work(scope: Scope) -> None:
    put(scope, "tags", [{"name": "a"}])
    for text, expected in [
        # A table of the lake may start a recursion of its own name, an outer query too.
        (
            "WITH RECURSIVE tags(n) AS (SELECT name FROM tags UNION ALL "
            "SELECT n || 'b' FROM tags WHERE length(n) < 3) SELECT max(n) FROM tags",
            "abb",
        ),
        (
            "WITH x AS (SELECT 1 AS a) SELECT * FROM (WITH RECURSIVE x AS (SELECT a FROM x "
            "UNION ALL SELECT a + 1 FROM x WHERE a < 3) SELECT max(a) FROM x)",
            3,
        ),
        ('WITH "My Daten ß" AS (SELECT 7) SELECT * FROM "my daten ß"', 7),
        ("WITH api_keys AS (SELECT 7) SELECT * FROM API_KEYS", 7),
        ("SELECT $t$ ) FROM lake.tags -- $t$", " ) FROM lake.tags -- "),
    ]:
        assert [list(row.values()) for row in run(scope, text)] == [[expected]]


# -- another organization's rows -------------------------------------------------------------


def test_nothing_of_another_organization_shows(store: Store, tmp_path: Path) -> None:
    ours, theirs = Scope(store, "ours"), Scope(store, "theirs")
    ids = put(theirs, "datapoints", [{"text": "SECRET", "row": SECRET_ROW} for _ in range(3000)])
    put(theirs, "tags", [{"datapoint": id, "name": "1", "value": "SECRET"} for id in ids])
    (own,) = put(ours, "datapoints", [{"text": "1", "row": 1}])
    put(ours, "tags", [{"datapoint": own, "name": "1", "value": "1"}])
    # An error may say the value that it met: rows of others must be gone before anything fails.
    for text in [
        "SELECT * FROM tags WHERE CAST(value AS INTEGER) > 0",
        "SELECT * FROM tags WHERE value::INT = 1 OR name::INT = 2",
        "SELECT * FROM tags WHERE name::INT > 0 AND value::INT > 0 AND organization_id = 'ours'",
        "SELECT * FROM tags t JOIN datapoints d ON t.value::INT = d.row",
        "SELECT * FROM tags t, datapoints d WHERE t.value::INT = d.text::INT",
        "SELECT * FROM tags WHERE json(value) IS NOT NULL",
        "SELECT * FROM tags WHERE strptime(value, '%H') IS NOT NULL",
        "SELECT * FROM datapoints WHERE row * 9223372036854775807 > 0",
        "SELECT * FROM tags QUALIFY row_number() OVER (PARTITION BY value::INT) = 1",
        "SELECT DISTINCT ON (value::INT) * FROM tags ORDER BY value::INT LIMIT 5",
        "SELECT count(*), min(row), max(row), max(text::INT) FROM datapoints",
        "SELECT * FROM tags TABLESAMPLE 100 PERCENT (system)",
        "SELECT list(t) FROM tags t",
        "SUMMARIZE datapoints",
        "SELECT t.value FROM tags t LEFT JOIN datapoints d ON d.id = t.datapoint",
        "SELECT (SELECT count(*) FROM datapoints x WHERE x.row > d.row) AS n FROM datapoints d",
        "WITH tags AS (SELECT * FROM tags WHERE true) SELECT * FROM tags WHERE value <> '1'",
    ]:
        found = run(ours, text)
        assert len(found) <= 20, text
        assert "SECRET" not in repr(found), text
        assert str(SECRET_ROW) not in repr(found), text
    for text in ["SELECT organization_id::INT FROM tags", "SELECT error FROM tags"]:
        with pytest.raises(KatiMLError) as raised:
            run(ours, text)
        assert "theirs" not in str(raised.value)
    # The lake's own files hold everybody's rows.
    files = [path for path in tmp_path.rglob("*") if path.suffix in (".parquet", ".duckdb")]
    for path in [*files, tmp_path / "lake" / "x.csv"]:
        for text in [
            f"SELECT * FROM '{path}'",
            f"WITH \"{path}\" AS (SELECT 1) SELECT * FROM '{path}'",
            f'WITH RECURSIVE "{path}" AS (FROM "{path}" UNION ALL FROM "{path}") SELECT 1',
            f"SELECT * FROM read_parquet('{path}')",
        ]:
            with pytest.raises(InvalidInput):
                run(ours, text)


# -- values ----------------------------------------------------------------------------------


def test_parameters(scope: Scope) -> None:
    moment = datetime(2024, 5, 1, tzinfo=UTC)
    for value, expected in [
        (moment, moment),
        (np.float32(0.5), 0.5),
        (np.arange(2), [0, 1]),
        (UUID(int=1), str(UUID(int=1))),
        ((1, None), [1, None]),
        (2**63 - 1, 2**63 - 1),
        (None, None),
        ({"a": [1]}, {"a": [1]}),
    ]:
        assert run(scope, "SELECT $v AS v", {"v": value}) == [{"v": expected}]
    for wrong in (object(), b"x", "\ud800", "a\0b", float("nan")):
        with pytest.raises(InvalidInput, match=r"^\$v: ") as raised:
            run(scope, "SELECT $v", {"v": wrong})
        assert raised.value.code == "invalid_input"
    for wrong in ("x", [1], 3, {1: 2}, {"v": 1, 2: 3}):
        with pytest.raises(InvalidInput, match="parameters are"):
            run(scope, "SELECT $v", wrong)


def test_what_pandas_cannot_hold_is_said(scope: Scope) -> None:
    for value in ("DATE 'infinity'", "[TIMESTAMP '200000-01-01']", "MAP {DATE '44-01-01 (BC)': 1}"):
        with pytest.raises(InvalidInput, match="year 9999") as raised:
            sql(scope, f"SELECT {value} AS v")
        assert "arrow" in str(raised.value.hint)
        assert sql(scope, f"SELECT {value} AS v", form="arrow").num_rows == 1
    frame = sql(scope, "SELECT 1::HUGEINT AS n, {'a': [1]} AS o, NULL::TIMESTAMPTZ AS t, 'x' AS s")
    assert str(frame["n"].dtype) == "int64"
    assert frame["o"].tolist() == [{"a": [1]}]
    assert frame["t"].isna().all()
    assert frame["s"].dtype == object


def test_the_order_asked_for_is_the_order_given(scope: Scope) -> None:
    put(scope, "datapoints", [{"row": (i * 7919) % 5003} for i in range(5003)])
    for text in (
        "SELECT row FROM datapoints ORDER BY row",
        "SELECT row FROM datapoints UNION ALL SELECT row FROM datapoints ORDER BY row",
        "SELECT d.row FROM datapoints d JOIN datapoints e ON d.row = e.row ORDER BY d.row",
    ):
        for table in (
            sql(scope, text, form="arrow"),
            sql(scope, text, form="batches").read_all(),
        ):
            values = table.column(0).to_pylist()
            assert values == sorted(values)
