"""`katiml ingest` and `katiml uploads`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from katiml.cli import output
from katiml.cli.files import write_stream
from katiml.cli.options import JsonOption, LakeOption, OrganizationOption, open_lake
from katiml.cli.progress import follow
from katiml.errors import KatiMLError

if TYPE_CHECKING:
    from katiml.ingest import Upload
    from katiml.lake import Lake

__all__ = ["ingest", "uploads"]

_SHOWN = 10  # rejected records that a table shows

uploads = typer.Typer(
    help="What was ingested, and what was rejected.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_UploadId = Annotated[str, typer.Argument(help="Its id, as `katiml uploads list` shows it.")]


def ingest(
    context: typer.Context,
    files: Annotated[
        list[str], typer.Argument(help="Files or URLs of records; - is standard input.")
    ],
    rejected_to: Annotated[
        Path | None,
        typer.Option(
            "--rejected-to",
            metavar="FILE",
            dir_okay=False,
            help="Write the rejected records there, to mend and send again.",
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key",
            metavar="KEY",
            help="The same key again is the same upload, not a second one.",
        ),
    ] = None,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Put records in, from files and URLs.

    Newline-delimited JSON, a JSON array or Parquet, plain or compressed. A wrong record
    is rejected alone, the others land. The exit code is 1 when nothing of a file landed.

    Examples:

        katiml ingest records.ndjson more.parquet

        katiml ingest records.ndjson.gz --rejected-to rejected.ndjson

        my-exporter | katiml ingest -
    """
    if idempotency_key is not None and len(files) > 1:
        raise typer.BadParameter("a key is for one file", param_hint="--idempotency-key")
    opened = open_lake(context, lake, organization)
    done: list[Upload] = []
    failed = False
    for file in files:
        try:
            done.append(_ingest_one(opened, file, idempotency_key))
        except KatiMLError as error:
            output.complain(f"{file}: {error.message}", error.hint)
            failed = True
    if rejected_to is not None:
        write_stream(rejected_to, _as_sent(done))
    if json:
        output.print_json([upload.to_dict() for upload in done])
    else:
        _show(done)
    if failed or any(upload.status != "SUCCEEDED" for upload in done):
        raise typer.Exit(1)


@uploads.command("list")
def list_uploads(
    context: typer.Context,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, metavar="N", help="At most this many.")
    ] = 20,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """The latest uploads.

    Examples:

        katiml uploads list --limit 5
    """
    found = open_lake(context, lake, organization).uploads.list(limit=limit)
    if json:
        output.print_json([upload.to_dict() for upload in found])
    else:
        output.show_rows([_line(upload) for upload in found])


@uploads.command("show")
def show_upload(
    context: typer.Context,
    id: _UploadId,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """One upload: how far it is, what landed, what was rejected and why."""
    upload = open_lake(context, lake, organization).uploads.get(id)
    if json:
        output.print_json(upload.to_dict())
    else:
        output.show_values(_line(upload))
        _show_rejected(upload)


@uploads.command("wait")
def wait_for_upload(
    context: typer.Context,
    id: _UploadId,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Follow an upload until it is done; the exit code is 1 unless it succeeded."""
    upload = open_lake(context, lake, organization).uploads.get(id)
    _show([follow(upload, id, output.messages())])
    if upload.status != "SUCCEEDED":
        raise typer.Exit(1)


@uploads.command("cancel")
def cancel_upload(
    context: typer.Context,
    id: _UploadId,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """Stop an upload that is running; the records that have landed stay."""
    upload = open_lake(context, lake, organization).uploads.get(id).cancel()
    _show([upload])


@uploads.command("rejected")
def rejected_records(
    context: typer.Context,
    id: _UploadId,
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", dir_okay=False, help="Write them there."),
    ] = None,
    json: JsonOption = False,
    lake: LakeOption = None,
    organization: OrganizationOption = None,
) -> None:
    """The rejected records of an upload, as they were sent; --json adds line, path and reason.

    Examples:

        katiml uploads rejected 0190c1f2-… --output again.ndjson
    """
    upload = open_lake(context, lake, organization).uploads.get(id)
    if json:
        output.print_json([*_rejected(upload)])
    elif file is not None:
        write_stream(file, _as_sent([upload]))
    else:
        output.print_chunks(_as_sent([upload]))


def _ingest_one(lake: Lake, file: str, idempotency_key: str | None) -> Upload:
    source = sys.stdin.buffer if file == "-" else file
    upload = lake.ingest(source, idempotency_key=idempotency_key)
    try:
        return follow(upload, "standard input" if file == "-" else file, output.messages())
    except KeyboardInterrupt:
        upload.cancel()
        landed = upload.counts["landed"]
        output.complain(f"{file}: stopped; {landed:,} records have landed and stay", None)
        raise typer.Exit(130) from None


def _show(done: list[Upload]) -> None:
    if done:
        output.show_rows([_line(upload) for upload in done])
    for upload in done:
        _show_rejected(upload)


def _line(upload: Upload) -> dict[str, Any]:
    described = upload.to_dict()
    return {
        "id": upload.id,
        "source": ", ".join(described["sources"]) or "records",
        "status": upload.status,
        **upload.counts,
        "seconds": round(upload.duration, 2),
        "created_at": described["created_at"],
    }


def _show_rejected(upload: Upload) -> None:
    number = upload.counts["rejected"]
    if upload.error:
        output.complain(upload.error["message"], upload.error.get("hint"))
    if number:
        rows = list(islice(_rejected(upload), _SHOWN))
        more = "" if number <= _SHOWN else f"the first {_SHOWN} of {number:,}; "
        output.console().print(f"\nrejected by {upload.id}:", style="bold")
        output.show_rows(
            [{name: row[name] for name in ("line", "path", "reason", "record")} for row in rows],
            note=f"{more}`katiml uploads rejected {upload.id}` gives them all",
        )


def _rejected(upload: Upload) -> Iterator[dict[str, Any]]:
    return map(orjson.loads, upload.rejected_lines())


def _as_sent(uploads: Iterable[Upload]) -> Iterator[bytes]:
    """The rejected records of some uploads, a line each."""
    for upload in uploads:
        for rejected in _rejected(upload):
            yield rejected["record"].rstrip("\r\n").encode() + b"\n"
