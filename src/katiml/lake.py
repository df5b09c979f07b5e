"""`Lake`: the one object that the library, the command line and the server use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from katiml.authors import author_of
from katiml.errors import KatiMLError
from katiml.ingest import Upload, finish_uploads, get_upload, ingest, list_uploads, resume_uploads
from katiml.query import Collection, sql
from katiml.query.collection import Form
from katiml.store import open_store
from katiml.store.scope import Scope
from katiml.store.store import Store
from katiml.tasks import Tasks, finish_tasks

if TYPE_CHECKING:
    import pandas as pd

    from katiml.backtest import Backtest
    from katiml.datasets import Datasets
    from katiml.edge import Miner
    from katiml.evaluation import Comparison, Evaluation
    from katiml.formats import Report
    from katiml.history import Outcome, Purge, Undo
    from katiml.keys import Keys
    from katiml.miners import Strategy
    from katiml.mining import Miners, Picked
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
        self.datapoints = Collection(self.scope, "datapoints", self._seen)
        self.predictions = Collection(self.scope, "predictions", self._seen)
        self.groundtruths = Collection(self.scope, "groundtruths", self._seen)
        self.bboxes = Collection(self.scope, "bboxes", self._seen)
        self.lanes = Collection(self.scope, "lanes", self._seen)
        self.completions = Collection(self.scope, "completions", self._seen)
        self.tags = Collection(self.scope, "tags", self._seen)
        self.feature_vectors = Collection(self.scope, "feature_vectors", self._seen)
        self.uploads = Uploads(self.scope)
        self.tasks = Tasks(self.scope)

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
    def datasets(self) -> Datasets:
        """The datasets of this organization: collections of datapoints with versions."""
        from katiml.datasets import Datasets

        return Datasets(self.scope)

    def _seen(self, dataset: Any, version: Any) -> Scope:
        return self.datasets.scope(dataset, version)

    @property
    def keys(self) -> Keys:
        """The API keys of this organization."""
        from katiml.keys import Keys

        return Keys(self._store, self.organization_id)

    @property
    def miners(self) -> Miners:
        """The miners of this organization, which choose what to label next."""
        from katiml.mining import Miners

        return Miners(self.scope)

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

    def mine(self, strategy: str, size: int, filters: Any = None, **told: Any) -> Picked:
        """Choose `size` datapoints to label next, at once, from those that pass `filters`.

        `told` are the other arguments of `lake.miners.create`: `model_name`, `reference_filters`,
        `seed`, parameters of the strategy … Raises InvalidInput and InvalidFilter for what cannot
        be done, with what there is instead.
        """
        from katiml.mining.miners import mine, told_of

        return mine(self.scope, told_of(strategy, size, filters, **told))

    def project(
        self,
        filters: Any = None,
        *,
        model_name: str | None = None,
        embeddings_field: str = "embeddings",
        method: str = "pca",
        limit: int | None = None,
        order_by: str | None = None,
        desc: bool | None = None,
        seed: int = 0,
        skip_caching: bool = False,
    ) -> pd.DataFrame:
        """The vectors of the datapoints that pass `filters` as points of a plane: id, x, y.

        `method` is "pca", "tsne" or "umap" (the last two need the extra `plots`); `model_name` and
        `embeddings_field` are those of `lake.miners.create`. A task does it, with a bar on a
        terminal; Ctrl-C stops it. Raises InvalidInput, InvalidFilter, MissingExtra, TooLarge.
        """
        from katiml.tasks.follow import follow
        from katiml.vectors.task import begin_projection, read_points

        task = begin_projection(
            self.scope,
            select={"filters": filters, "limit": limit, "order_by": order_by, "desc": desc},
            model_name=model_name,
            embeddings_field=embeddings_field,
            method=method,
            seed=seed,
            skip_caching=skip_caching,
        )
        points = read_points(self.scope, follow(task, method))
        frame: pd.DataFrame = points.select(["datapoint", "x", "y"]).to_pandas()
        return frame.rename(columns={"datapoint": "id"})

    def import_dataset(
        self,
        format: str,
        path: str | os.PathLike[str],
        *,
        tags: Mapping[str, str] | None = None,
        **options: Any,
    ) -> tuple[Upload, Report]:
        """Ingest a data set of another tool; the upload, and what was left out.

        `format` is coco, yolo, voc, folder, csv, parquet or jsonl; `tags` are given to every
        datapoint. Options are the format's own (see `katiml.formats`). Raises InvalidSource for
        what is no such data set.
        """
        from katiml.formats import Report, read

        report = Report(format)
        records: Iterable[Any] = read(format, path, report, **options)
        if tags:
            own = dict(tags)
            records = ({**record, "tags": {**record.get("tags", {}), **own}} for record in records)
        return self.ingest(records), report

    def export_dataset(
        self,
        format: str,
        path: str | os.PathLike[str],
        filters: Any = None,
        *,
        order_by: str | None = None,
        desc: bool = False,
        limit: int | None = None,
        **options: Any,
    ) -> Report:
        """Write the datapoints that pass `filters`, with their ground truths, for another tool.

        Returns what the format could not hold. Raises Conflict where `path` holds anything; what
        is written is whole or not there.
        """
        from katiml.formats import Report, write
        from katiml.formats.items import lake_items

        report = Report(format)
        items = lake_items(self, filters, order_by=order_by, desc=desc, limit=limit)
        write(format, items, path, report, **options)
        return report

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

    def match(self, items: Iterable[Any], by: str | Callable[[str], Any] = "uri") -> pd.DataFrame:
        """The datapoint of each path or URI, in their order.

        A DataFrame of `item`, `status` (matched, missing or ambiguous), `datapoint` (its id, None
        unless matched) and `matches` (all ids). `by` is "uri" (`metadata.uri`, however the path is
        spelled), "basename" (its last part), "sha256" (of the file, against `metadata.sha256`), or
        a function that makes a key of a path or URI.
        """
        from katiml.matching import match

        def select(filters: list[Any], fields: list[str]) -> Any:
            return self.datapoints.select(filters, fields, form="arrow")

        return match(select, items, by)

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
        from katiml.datasets.undo import undo_edits
        from katiml.history import forgotten_before, undo, undo_records

        forgotten = forgotten_before(self.scope)
        return undo(
            self.scope,
            [undo_records, undo_edits],
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
        return self.datasets.views()

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
        """Let the lake go. Uploads and tasks of this process go on to their end first.

        Who has changed the lake also tidies up once a day (see `forget`).
        """
        finish_uploads(self._store)
        finish_tasks(self._store)
        with suppress(KatiMLError):
            if self.scope.has_changed():
                self.forget_if_due()
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
