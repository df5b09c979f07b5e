"""What the tests of ingest share."""

from __future__ import annotations

from typing import Any

import pytest

from katiml.ingest import Upload, ingest
from katiml.store import Scope


class Loader:
    """Ingests records and looks at tables."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def __call__(self, *records: Any) -> Upload:
        upload = ingest(self.scope, list(records))
        assert not len(upload.rejected), upload.rejected.to_dict("records")
        return upload

    def rejected(self, *records: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = ingest(self.scope, list(records)).rejected.to_dict("records")
        return rows

    def rows(self, table: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.scope.query(
            f"SELECT * FROM {{{table}}} ORDER BY created_at, id"
        ).to_pylist()
        return rows

    def one(self, table: str) -> dict[str, Any]:
        (row,) = self.rows(table)
        return row

    def new(self, **fields: Any) -> str:
        """A new datapoint; returns its id."""
        before = {row["id"] for row in self.rows("datapoints")}
        self({"type": "IMAGE", **fields})
        (id_,) = {row["id"] for row in self.rows("datapoints")} - before
        return str(id_)

    def tags(self) -> dict[str, str]:
        return {row["name"]: row["value"] for row in self.rows("tags")}


@pytest.fixture
def load(scope: Scope) -> Loader:
    return Loader(scope)
