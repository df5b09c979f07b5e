"""`Lake`: the one object that the library, the command line and the server use."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from katiml.ingest import Upload, finish_uploads, get_upload, ingest, list_uploads, resume_uploads
from katiml.query import Collection, sql
from katiml.query.collection import Form
from katiml.store import open_store
from katiml.store.scope import Scope
from katiml.store.store import Store

if TYPE_CHECKING:
    from katiml.backtest import Backtest
    from katiml.edge import Miner
    from katiml.evaluation import Comparison, Evaluation
    from katiml.keys import Keys
    from katiml.miners import Strategy

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

    def __init__(self, store: Store, organization_id: str = "default") -> None:
        self._store = store
        self.scope = Scope(store, organization_id)
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

    def for_organization(self, organization_id: str) -> Lake:
        """The same lake as another organization sees it."""
        return Lake(self._store, organization_id)

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

    @overload
    def evaluate(
        self,
        model_name: str,
        filters: Any = None,
        *,
        task_type: str | None = None,
        iou_threshold: float = 0.5,
        min_confidence: float = 0.5,
        ignore_classes: Sequence[str] = (),
        count_missing: bool = False,
        on_progress: Callable[[float], None] | None = None,
    ) -> Evaluation: ...

    @overload
    def evaluate(
        self,
        model_name: list[str] | tuple[str, ...],
        filters: Any = None,
        *,
        task_type: str | None = None,
        iou_threshold: float = 0.5,
        min_confidence: float = 0.5,
        ignore_classes: Sequence[str] = (),
        count_missing: bool = False,
        on_progress: Callable[[float], None] | None = None,
    ) -> Comparison: ...

    def evaluate(
        self,
        model_name: str | list[str] | tuple[str, ...],
        filters: Any = None,
        *,
        task_type: str | None = None,
        iou_threshold: float = 0.5,
        min_confidence: float = 0.5,
        ignore_classes: Sequence[str] = (),
        count_missing: bool = False,
        on_progress: Callable[[float], None] | None = None,
    ) -> Evaluation | Comparison:
        """Compare a model's predictions with the ground truths of the datapoints that pass
        `filters`; see `katiml.evaluation.evaluate`.

        A list of models gives a Comparison, on the datapoints that all of them have predicted.
        """
        from katiml.evaluation import compare, evaluate

        options: dict[str, Any] = {
            "task_type": task_type,
            "iou_threshold": iou_threshold,
            "min_confidence": min_confidence,
            "ignore_classes": ignore_classes,
            "count_missing": count_missing,
            "on_progress": on_progress,
        }
        if isinstance(model_name, list | tuple):
            return compare(self.scope, model_name, filters, **options)
        return evaluate(self.scope, model_name, filters, **options)

    def backtest(
        self,
        strategies: Sequence[str | Strategy] | Mapping[str, str | Strategy] = ("RANDOM", "MARGIN"),
        *,
        model_name: str | None = None,
        filters: Any = None,
        test_filters: Any = None,
        embeddings_field: str = "embeddings",
        **settings: Any,
    ) -> Backtest:
        """Simulate labelling the labelled datapoints that pass `filters`, by several strategies.

        `model_name` names their embeddings, `model:layer`. What passes `test_filters` is what
        models are scored on, and is never chosen; otherwise a random share of each seed. Further
        settings are those of `katiml.backtest.backtest`: model, initial, batch, budget, seeds…
        """
        from katiml.backtest import backtest
        from katiml.backtest.labelled import read_labelled

        pool_filters, test = filters, None
        if test_filters is not None:
            pool_filters = [*_listed(filters), {"not": test_filters}]
            tested = read_labelled(
                self.scope,
                model_name,
                [*_listed(filters), *_listed(test_filters)],
                embeddings_field=embeddings_field,
            )
            test = (tested.embeddings, tested.labels)
        pool = read_labelled(
            self.scope, model_name, pool_filters, embeddings_field=embeddings_field
        )
        return backtest(
            pool.embeddings, pool.labels, strategies, ids=pool.ids, test=test, **settings
        )

    def edge_miner(self, strategy: str, filters: Any = None, **settings: Any) -> Miner:
        """A miner for devices, with a threshold from the scores of the datapoints that pass
        `filters` and a reference from this lake; see `katiml.edge.export.export`.

        `save(path)` writes it as the file that `katiml.edge.load` reads.
        """
        from katiml.edge.export import export

        return export(self.scope, strategy, filters, **settings)

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
        """Let the lake go. Uploads that this process is reading go on to their end first."""
        finish_uploads(self._store)
        self._store.close()


def _listed(filters: Any) -> list[Any]:
    if filters is None:
        return []
    return list(filters) if isinstance(filters, list | tuple) else [filters]


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
