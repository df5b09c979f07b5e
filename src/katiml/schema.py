"""The tables of a lake: columns, types, and what belongs to what. The only place that knows.

>>> TABLES["groundtruths"].columns["class_name"].type
'VARCHAR'
>>> link("datapoints", "tags"), link("groundtruths", "bboxes")
(('id', 'datapoint'), ('id', 'groundtruth'))
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "DATAPOINT_TYPES",
    "LOOKUPS",
    "RECORD_TABLES",
    "REMOVED",
    "SCHEMA_VERSION",
    "SYSTEM_TABLES",
    "TABLES",
    "TASK_TYPES",
    "VECTOR_TYPES",
    "Column",
    "Table",
    "link",
]

SCHEMA_VERSION = 2

DATAPOINT_TYPES = ("IMAGE", "VIDEO", "AUDIO", "TEXT")
TASK_TYPES = (
    "CLASSIFICATION",
    "OBJECT_DETECTION",
    "INSTANCE_SEGMENTATION",
    "SEGMENTATION",
    "LANE_DETECTION",
    "COMPLETION",
    "NER",
)
# Old names of values, mapped before a value is stored or compared.
LOOKUPS = {"task_type": {"SEMANTIC_SEGMENTATION": "SEGMENTATION"}}
VECTOR_TYPES = ("EMBEDDINGS", "GRAD_EMBEDDINGS", "LOGITS", "PXL_ENTROPY", "PXL_VARIANCE")


@dataclass(frozen=True)
class Column:
    """One column: `type` is DuckDB's; `hidden` columns are left out of `*`."""

    name: str
    type: str
    hidden: bool = False
    # SQL over the other columns of the row; such a column is computed when read and never stored.
    computed: str | None = None

    @property
    def is_json(self) -> bool:
        """Whether dotted paths below this column (`metadata.uri`) mean something."""
        return self.type == "JSON"


@dataclass(frozen=True)
class Table:
    """One table. `parents` maps a parent table to the column here that holds the parent's id."""

    name: str
    columns: dict[str, Column]
    parents: dict[str, str] = field(default_factory=dict)
    # Whether a transaction that writes here is a change, which gets a row of `changes`.
    counts: bool = True

    @property
    def stored(self) -> list[Column]:
        """The columns that exist on disk."""
        return [column for column in self.columns.values() if column.computed is None]

    @property
    def visible(self) -> list[Column]:
        """What `*` stands for."""
        return [column for column in self.columns.values() if not column.hidden]

    def create_statement(self) -> str:
        """The statement that makes this table in a new lake."""
        columns = ", ".join(f'"{column.name}" {column.type}' for column in self.stored)
        return f"CREATE TABLE IF NOT EXISTS lake.{self.name} ({columns})"


def _table(
    name: str,
    *columns: Column,
    parents: dict[str, str] | None = None,
    counts: bool = True,
) -> Table:
    return Table(name, {column.name: column for column in columns}, parents or {}, counts)


def _attachment(name: str, *columns: Column, parents: tuple[str, ...] = ("datapoints",)) -> Table:
    keys = {parent: parent.removesuffix("s") for parent in parents}
    return _table(
        name,
        Column("id", "UUID"),
        Column("organization_id", "VARCHAR"),
        *(Column(key, "UUID") for key in keys.values()),
        Column("created_at", "TIMESTAMPTZ"),
        *columns,
        _SINCE,
        parents=keys,
    )


def _removed(table: Table) -> Table:
    """The twin of a table of records: what was there, and the change that took it away."""
    columns = {**table.columns, "until": Column("until", "BIGINT", hidden=True)}
    return Table(REMOVED + table.name, columns, counts=False)


# The number of the change that wrote a row; 0 for rows that are older than history.
_SINCE = Column("since", "BIGINT", hidden=True)
# What the name of a twin begins with: `removed_tags`.
REMOVED = "removed_"

_BOX = tuple(Column(side, "DOUBLE") for side in ("top", "left", "height", "width"))
_CLASS = (Column("class_name", "VARCHAR"), Column("class_names", "VARCHAR[]"))
_CONFIDENCE = (Column("confidence", "DOUBLE"), Column("confidences", "DOUBLE[]"))
_CLASS_MASK = (
    Column("encoded_segmentation_class_mask", "VARCHAR"),
    Column("encoded_resized_segmentation_class_mask", "VARCHAR"),
)
_METRICS = Column("metrics", "JSON")
_CHILD_PARENTS = ("datapoints", "groundtruths", "predictions")

# What a user's records become, parents before children.
RECORD_TABLES = (
    "datapoints",
    "tags",
    "groundtruths",
    "predictions",
    "bboxes",
    "lanes",
    "completions",
    "feature_vectors",
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        _table(
            "datapoints",
            Column("id", "UUID"),
            Column("organization_id", "VARCHAR"),
            Column("parent_datapoint", "UUID"),
            Column("type", "VARCHAR"),
            Column("metadata", "JSON"),
            Column("created_at", "TIMESTAMPTZ"),
            Column("text", "VARCHAR"),
            Column("request_id", "VARCHAR"),
            Column("timestamp", "TIMESTAMPTZ"),
            Column("gps_coordinates", "JSON"),
            Column("row", "BIGINT", hidden=True),
            Column("updated_at", "TIMESTAMPTZ", hidden=True),
            _SINCE,
        ),
        _attachment("tags", Column("name", "VARCHAR"), Column("value", "VARCHAR")),
        _attachment(
            "groundtruths", Column("task_type", "VARCHAR"), *_CLASS, *_BOX, *_CLASS_MASK, _METRICS
        ),
        _attachment(
            "predictions",
            Column("task_type", "VARCHAR"),
            Column("model_name", "VARCHAR"),
            *_CLASS,
            *_CONFIDENCE,
            *_BOX,
            *_CLASS_MASK,
            _METRICS,
        ),
        _attachment(
            "bboxes",
            *_CLASS,
            *_CONFIDENCE,
            *_BOX,
            Column("objectness", "DOUBLE"),
            Column("coco_polygon", "DOUBLE[]"),
            Column("encoded_segmentation_mask", "VARCHAR"),
            Column("encoded_resized_segmentation_mask", "VARCHAR"),
            _METRICS,
            parents=_CHILD_PARENTS,
        ),
        _attachment(
            "lanes",
            Column("coco_polyline", "DOUBLE[]"),
            Column("confidence", "DOUBLE"),
            Column("classifications", "JSON"),
            _METRICS,
            parents=_CHILD_PARENTS,
        ),
        _attachment(
            "completions",
            Column("text", "VARCHAR"),
            Column("confidence", "DOUBLE"),
            _METRICS,
            parents=_CHILD_PARENTS,
        ),
        _attachment(
            "feature_vectors",
            Column("type", "VARCHAR"),
            Column("model_name", "VARCHAR"),
            Column("dtype", "VARCHAR"),
            Column("shape", "INTEGER[]"),
            Column("data", "BLOB", hidden=True),
            # katiml_encode is registered on every connection by the store.
            Column("encoded_value", "VARCHAR", computed="katiml_encode(dtype, shape, data)"),
            parents=("datapoints", "predictions"),
        ),
        _table(
            "uploads",
            Column("id", "UUID"),
            Column("organization_id", "VARCHAR"),
            Column("created_at", "TIMESTAMPTZ"),
            Column("started_at", "TIMESTAMPTZ"),
            Column("updated_at", "TIMESTAMPTZ"),
            Column("finished_at", "TIMESTAMPTZ"),
            Column("status", "VARCHAR"),
            Column("sources", "JSON"),
            Column("idempotency_key", "VARCHAR"),
            Column("worker", "VARCHAR"),
            Column("source_position", "BIGINT"),
            Column("records_read", "BIGINT"),
            Column("records_landed", "BIGINT"),
            Column("records_rejected", "BIGINT"),
            Column("bytes_read", "BIGINT"),
            Column("bytes_total", "BIGINT"),
            Column("error", "JSON"),
            counts=False,
        ),
        _table(
            "rejected_records",
            Column("id", "UUID"),
            Column("organization_id", "VARCHAR"),
            Column("upload", "UUID"),
            Column("created_at", "TIMESTAMPTZ"),
            Column("source", "VARCHAR"),
            Column("line", "BIGINT"),
            Column("path", "VARCHAR"),
            Column("reason", "VARCHAR"),
            Column("record", "VARCHAR"),
            parents={"uploads": "upload"},
            counts=False,
        ),
        # What happened: a row for each transaction that wrote records (or datasets).
        _table(
            "changes",
            Column("number", "BIGINT"),
            Column("id", "UUID"),
            Column("organization_id", "VARCHAR"),
            Column("created_at", "TIMESTAMPTZ"),
            Column("kind", "VARCHAR"),
            Column("author", "VARCHAR"),
            Column("summary", "JSON"),
            Column("upload", "UUID"),
            Column("undoes", "BIGINT[]"),
            counts=False,
        ),
        # Datapoints that were deleted for good.
        _table(
            "tombstones",
            Column("row", "BIGINT"),
            Column("datapoint", "UUID"),
            Column("organization_id", "VARCHAR"),
            Column("created_at", "TIMESTAMPTZ"),
            Column("change", "BIGINT"),
            counts=False,
        ),
        # Tables of datasets follow here: columns `id` and `organization_id` first, and no `since`,
        # since their rows are never rewritten. A lake of an older schema gets every table of this
        # file that it lacks (store/migrations.py).
    )
}
TABLES |= {f"{REMOVED}{name}": _removed(TABLES[name]) for name in RECORD_TABLES}

# Tables that belong to the lake itself rather than to one organization.
SYSTEM_TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        _table("settings", Column("name", "VARCHAR"), Column("value", "VARCHAR")),
        _table("counters", Column("name", "VARCHAR"), Column("value", "BIGINT")),
        _table("commits", Column("id", "UUID"), Column("created_at", "TIMESTAMPTZ")),
        _table(
            "organizations",
            Column("id", "VARCHAR"),
            Column("name", "VARCHAR"),
            Column("created_at", "TIMESTAMPTZ"),
        ),
        _table(
            "api_keys",
            Column("id", "UUID"),
            Column("organization_id", "VARCHAR"),
            Column("name", "VARCHAR"),
            Column("prefix", "VARCHAR"),
            Column("hash", "VARCHAR"),
            Column("created_at", "TIMESTAMPTZ"),
        ),
    )
}


def link(root: str, other: str) -> tuple[str, str] | None:
    """How rows of `other` belong to rows of `root`: (column of root, column of other), or None.

    A child names its parent; a parent is named by its child; two attachments of one
    datapoint meet on that datapoint.
    """
    if root in TABLES[other].parents:
        return ("id", TABLES[other].parents[root])
    if other in TABLES[root].parents:
        return (TABLES[root].parents[other], "id")
    if "datapoints" in TABLES[root].parents and "datapoints" in TABLES[other].parents:
        return ("datapoint", "datapoint")
    return None
