"""`katiml select | count | delete | sql`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import pyarrow as pa
import typer

from katiml.cli import output
from katiml.cli.files import format_of, write_rows, write_stream
from katiml.cli.filters import parse_filters
from katiml.cli.options import (
    DatasetOption,
    DescOption,
    FieldsOption,
    FilterOption,
    FiltersOption,
    JsonOption,
    LakeOption,
    LimitOption,
    OffsetOption,
    OrderByOption,
    OrganizationOption,
    OutputOption,
    TableArgument,
    TableName,
    VersionOption,
    open_lake,
)

if TYPE_CHECKING:
    from katiml.lake import Lake
    from katiml.query import Collection

__all__ = ["count", "delete", "give_file", "give_json", "select", "sql"]

_SHOWN = 20  # rows of a table when no limit is given


def select(
    context: typer.Context,
    table: TableArgument = TableName.datapoints,
    filter: FilterOption = None,
    filters: FiltersOption = None,
    fields: FieldsOption = None,
    order_by: OrderByOption = None,
    desc: DescOption = False,
    limit: LimitOption = None,
    offset: OffsetOption = 0,
    json: JsonOption = False,
    file: OutputOption = None,
    dataset: DatasetOption = None,
    version: VersionOption = None,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Show rows: datapoints unless another table is named.

    A table shows the first 20 rows unless --limit says otherwise; --json and --output give all.

    Examples:

        katiml select --filter "tags.name = split" --filter "tags.value = train"

        katiml select predictions --order-by metrics.entropy --desc -n 10

        katiml select --fields "id,groundtruths.*" --output train.parquet

        katiml select groundtruths --dataset train --version HEAD~1
    """
    if file is not None:
        format_of(file)
    conditions = parse_filters(filter or [], filters)
    collection = _collection(open_lake(context, lake, organization), table)
    columns = [name.strip() for name in fields.split(",")] if fields else None
    chosen: dict[str, Any] = {
        "filters": conditions,
        "fields": columns,
        "order_by": order_by,
        "desc": desc,
        "limit": limit,
        "offset": offset,
        "dataset": dataset,
        "version": version,
    }
    if json or (file is not None and format_of(file) == ".json"):
        give_json(collection.select_json(**chosen), file)
    elif file is not None:
        give_file(file, lambda: collection.select(**chosen, form="batches"))
    else:
        _show_page(collection, chosen)


def count(
    context: typer.Context,
    table: TableArgument = TableName.datapoints,
    filter: FilterOption = None,
    filters: FiltersOption = None,
    json: JsonOption = False,
    dataset: DatasetOption = None,
    version: VersionOption = None,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Count rows.

    Examples:

        katiml count

        katiml count groundtruths --filter "class_name = cat"
    """
    conditions = parse_filters(filter or [], filters)
    collection = _collection(open_lake(context, lake, organization), table)
    number = collection.count(conditions, dataset=dataset, version=version)
    if json:
        output.print_json({"count": number})
    else:
        typer.echo(number)


def delete(
    context: typer.Context,
    table: TableArgument = TableName.datapoints,
    filter: FilterOption = None,
    filters: FiltersOption = None,
    order_by: OrderByOption = None,
    desc: DescOption = False,
    limit: LimitOption = None,
    offset: OffsetOption = 0,
    everything: Annotated[
        bool, typer.Option("--all", help="Needed to delete without any filter.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
    dataset: DatasetOption = None,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Delete rows and what belongs to them.

    Says how many first, and asks.

    Examples:

        katiml delete predictions --filter "model_name = old"

        katiml delete -f "tags.name = source" -f "tags.value = test" --yes
    """
    conditions = parse_filters(filter or [], filters)
    if not conditions and not everything:
        raise typer.BadParameter(
            f"without a filter this deletes all {table.value}; add --all if that is meant",
            param_hint="--filter",
        )
    collection = _collection(open_lake(context, lake, organization), table)
    number = max(collection.count(conditions, dataset=dataset) - offset, 0)
    number = number if limit is None else min(number, limit)
    if number == 0:
        output.messages().print(f"no {table.value} match; nothing was deleted")
        if json:
            output.print_json({})
        return
    if not yes:
        typer.confirm(
            f"Delete {number:,} {table.value} and everything that belongs to them?",
            abort=True,
            err=True,
        )
    counts = collection.delete(
        conditions,
        order_by=order_by,
        desc=desc,
        limit=limit,
        offset=offset,
        all=everything,
        dataset=dataset,
    )
    if json:
        output.print_json(counts)
    else:
        output.messages().print("deleted")
        output.show_values({name: deleted for name, deleted in counts.items() if deleted})


def sql(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="One SELECT; - reads it from standard input.")],
    json: JsonOption = False,
    file: OutputOption = None,
    limit: LimitOption = None,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Ask the lake in SQL (DuckDB's), read-only.

    The tables are those of `katiml select`: datapoints, tags, groundtruths, predictions, bboxes,
    lanes, completions, feature_vectors.

    Examples:

        katiml sql "SELECT name, count(*) FROM tags GROUP BY name"

        katiml sql "FROM predictions WHERE confidence < 0.5" --output unsure.csv
    """
    suffix = format_of(file) if file is not None else None
    text = typer.get_text_stream("stdin").read() if query == "-" else query
    batches = open_lake(context, lake, organization).sql(text, form="batches")
    if json or suffix == ".json":
        give_json(output.json_rows(_head(batches, limit)), file)
    elif file is not None:
        give_file(file, lambda: _reader(batches, limit))
    else:
        shown = _SHOWN if limit is None else limit
        rows = [row for batch in _head(batches, shown + 1) for row in batch.to_pylist()]
        more = f"the first {shown} rows; --limit shows more, --output writes all"
        cut = len(rows) > shown and limit is None
        output.show_rows(rows[:shown], note=more if cut else "", keep_empty=True)


def _collection(lake: Lake, table: TableName) -> Collection:
    collection: Collection = getattr(lake, table.value)
    return collection


def _show_page(collection: Collection, chosen: dict[str, Any]) -> None:
    """One more row than is shown is asked for: it tells whether there are more."""
    shown = _SHOWN if chosen["limit"] is None else chosen["limit"]
    rows = orjson.loads(b"".join(collection.select_json(**{**chosen, "limit": shown + 1})))
    note = ""
    if len(rows) > shown and chosen["limit"] is None:
        total = collection.count(
            chosen["filters"], dataset=chosen["dataset"], version=chosen["version"]
        )
        note = f"{shown} of {total:,} rows; --limit shows more, --output writes all"
    output.show_rows(rows[:shown], note=note)


def give_json(chunks: Iterator[bytes], file: Path | None) -> None:
    """Print a JSON document, or write it to a file."""
    if file is None:
        output.print_chunks(chunks)
        typer.echo()
    else:
        write_stream(file, chunks)
        output.messages().print(f"wrote {file}")


def give_file(file: Path, rows: Callable[[], pa.RecordBatchReader]) -> None:
    """Write rows to a Parquet or CSV file."""
    number = write_rows(file, rows())
    output.messages().print(f"wrote {number:,} rows to {file}")


def _head(batches: pa.RecordBatchReader, limit: int | None) -> Iterator[pa.RecordBatch]:
    """The first rows, without reading further than they need."""
    left = limit
    for batch in batches:
        if left is None:
            yield batch
            continue
        if left <= 0:
            return
        yield batch.slice(0, left)
        left -= batch.num_rows


def _reader(batches: pa.RecordBatchReader, limit: int | None) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(batches.schema, _head(batches, limit))
