"""`Lake`: the one object that the library, the command line and the server use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from katiml.authors import author_of
from katiml.errors import KatiMLError
from katiml.ingest import Upload, finish_uploads, get_upload, ingest, list_uploads, resume_uploads
from katiml.query import Collection, sql
from katiml.query.collection import Form
from katiml.store import open_store
from katiml.store.scope import Scope
from katiml.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from katiml.history import Outcome, Purge, Undo
    from katiml.keys import Keys
    from katiml.store import View

__all__ = ["Lake", "Uploads", "connect"]


def connect(url: str | os.PathLike[str] | None = None, *, organization_id: str = "default") -> Lake:
    """Open the lake at `url`, making it if it is new.

    `url` is a folder, or `ducklake:postgres://…?data_path=…`; by default the environment variable
    KATIML_LAKE, or `~/.katiml`. Any number of processes may open one lake.

    Raises StoreError or one of its kinds (LakeTooNew, LakeReadOnly, StorageFull).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, connect(folder) as lake:
    ...     _ = lake.ingest([{"type": "TEXT", "text": "hello", "tags": {"split": "train"}}])
    ...     lake.datapoints.count({"left": "tags.value", "op": "=", "right": "train"})
    1
    """
    return Lake(open_store(url), organization_id)


class Lake:
    """One organization's datapoints with everything attached to them.

    Each of `datapoints`, `predictions`, `groundtruths`, `bboxes`, `lanes`, `completions`, `tags`
    and `feature_vectors` is a `Collection` with select, count, distinct, distribution and delete.
    """

    def __init__(
        self, store: Store, organization_id: str = "default", author: str | None = None
    ) -> None:
        self._store = store
        self.scope = Scope(store, organization_id, author=author_of(author))
        self.datapoints = Collection(self.scope, "datapoints")
        self.predictions = Collection(self.scope, "predictions")
        self.groundtruths = Collection(self.scope, "groundtruths")
        self.bboxes = Collection(self.scope, "bboxes")
        self.lanes = Collection(self.scope, "lanes")
        self.completions = Collection(self.scope, "completions")
        self.tags = Collection(self.scope, "tags")
        self.feature_vectors = Collection(self.scope, "feature_vectors")
        self.uploads = Uploads(self.scope)

    def __repr__(self) -> str:
        return f"katiml.connect({self.url!r}, organization_id={self.organization_id!r})"

    def __enter__(self) -> Lake:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where the lake lives; passwords are left out."""
        return self._store.url

    @property
    def organization_id(self) -> str:
        """Whose rows this lake shows."""
        return self.scope.organization_id

    @property
    def keys(self) -> Keys:
        """The API keys of this organization."""
        from katiml.keys import Keys

        return Keys(self._store, self.organization_id)

    def for_organization(self, organization_id: str, *, author: str | None = None) -> Lake:
        """The same lake as another organization sees it; `author` makes its changes."""
        return Lake(self._store, organization_id, author or self.scope.author)

    def ingest(
        self,
        source: Any,
        *,
        idempotency_key: str | None = None,
        trusted: bool = True,
        allow_private: bool | None = None,
    ) -> Upload:
        """Ingest records: dicts, files, URLs or streams; see `katiml.ingest.ingest`.

        Records given as dicts are committed when this returns; files are read in the background:
        `.wait()` for them.
        """
        return ingest(
            self.scope,
            source,
            idempotency_key=idempotency_key,
            trusted=trusted,
            allow_private=allow_private,
        )

    def sql(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        form: Form = "pandas",
    ) -> Any:
        """Run one read-only SQL statement over this organization's rows.

        `parameters` are named `$name` in the text. `form`: "pandas" (a DataFrame), "arrow" (a
        pyarrow.Table) or "batches" (an iterator of pyarrow.RecordBatch). Raises InvalidInput for
        anything that is not a reading statement.
        """
        run: Any = sql  # its overloads tell the forms apart; here the form is any of them
        return run(self.scope, query, parameters, form=form)

    # -- history ------------------------------------------------------------------------------

    def changes(
        self, limit: int | None = 100, *, kind: str | None = None, upload: str | None = None
    ) -> pd.DataFrame:
        """What happened, the latest first: who added and removed how many rows of which table.

        One row a transaction. `undone_by` is the change that undid it, missing where it stands.
        `kind` ("ingest", "delete", "undo", ...) and `upload` narrow it down.
        """
        from katiml.history import changes_frame, list_changes

        return changes_frame(list_changes(self.scope, limit, kind=kind, upload=upload))

    def undo(
        self, change: int | str | None = None, *, dry_run: bool = False, author: str | None = None
    ) -> Undo:
        """Undo a change: by its number, all of an upload by that one's id, or whatever was last.

        What it wrote is taken away, what it took away comes back; what later changes have touched
        is left alone and told. With `dry_run` nothing happens, and the result says what would. An
        undo is a change too: undoing it is redoing. Raises NotFound and Conflict.
        """
        from katiml.history import forgotten_before, undo, undo_records

        forgotten = forgotten_before(self.scope)
        return undo(
            self.scope,
            [undo_records],
            change,
            dry_run=dry_run,
            author=author,
            forgotten=forgotten,
        )

    def restore(
        self,
        filters: Any = None,
        *,
        ids: Any = None,
        change: int | None = None,
        all: bool = False,
        dry_run: bool = False,
        author: str | None = None,
    ) -> Outcome:
        """Put deleted datapoints back, with all that was deleted with them.

        `filters` see them as they were; `ids` and `change`, the delete, narrow further. Raises
        InvalidInput where nothing says which and `all` is not True, NotFound for other ids.
        """
        from katiml.history import restore

        return restore(
            self.scope, filters, ids=ids, change=change, all=all, dry_run=dry_run, author=author
        )

    @property
    def deleted(self) -> Collection:
        """The datapoints that `restore` can put back, as they were when they were deleted."""
        from katiml.history import DELETED

        return Collection(self.scope.at(DELETED), "datapoints")

    def purge(
        self,
        filters: Any = None,
        *,
        ids: Any = None,
        all: bool = False,
        dry_run: bool = False,
        author: str | None = None,
    ) -> Purge:
        """Delete datapoints for good, deleted ones among them: out of all tables and files.

        Nothing brings them back. Versions of datasets go on counting them. Raises InvalidInput
        where nothing says which and `all` is not True, NotFound for ids that are not there.
        """
        from katiml.history import purge

        return purge(self.scope, filters, ids=ids, all=all, dry_run=dry_run, author=author)

    @property
    def retention(self) -> str:
        """How long what was removed can come back: an ISO 8601 duration (P90D), or "forever".

        Set it for this organization; None goes back to KATIML_RETENTION, or P90D.
        """
        from katiml.history import retention

        return retention(self.scope)

    @retention.setter
    def retention(self, duration: str | None) -> None:
        from katiml.history import set_retention

        set_retention(self.scope, duration)

    def forget(self) -> dict[str, int]:
        """Drop what was removed longer ago than the retention; returns how many rows, by table.

        What a version of a dataset shows stays. `katiml serve` does so once a day.
        """
        from katiml.history import forget

        return forget(self.scope, self._remembered())

    def forget_if_due(self) -> dict[str, int]:
        """`forget`, where that was not done for a day."""
        from katiml.history import forget_if_due

        return forget_if_due(self.scope, self._remembered)

    def _remembered(self) -> list[View]:
        """What `forget` has to leave."""
        return []

    def status(self) -> dict[str, Any]:
        """How many rows each table holds, and where the lake lives."""
        from katiml.schema import RECORD_TABLES, SCHEMA_VERSION

        counts = self.scope.query(
            " UNION ALL ".join(
                f"SELECT {number} AS number, '{name}' AS name, count(*) AS rows FROM {{{name}}}"
                for number, name in enumerate(RECORD_TABLES)
            )
            + " ORDER BY number"
        )
        return {
            "url": self.url,
            "organization_id": self.organization_id,
            "schema_version": SCHEMA_VERSION,
            "rows": dict(zip(counts["name"].to_pylist(), counts["rows"].to_pylist(), strict=True)),
        }

    def close(self) -> None:
        """Let the lake go. Uploads that this process is reading go on to their end first.

        Who has changed the lake also tidies up once a day (see `forget`).
        """
        finish_uploads(self._store)
        with suppress(KatiMLError):
            if self.scope.has_changed():
                self.forget_if_due()
        self._store.close()


class Uploads:
    """The uploads of one organization: `get`, `list`, `resume`."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def get(self, upload_id: str) -> Upload:
        """The upload of that id; raises NotFound."""
        return get_upload(self._scope, upload_id)

    def list(self, limit: int = 100) -> list[Upload]:
        """The latest uploads, the newest first."""
        return list_uploads(self._scope, limit)

    def resume(self) -> int:
        """Take over the uploads whose process is gone; returns how many."""
        return resume_uploads(self._scope)
