"""An upload as HTTP shows it. (Imported by the SDK too: it needs no web framework.)"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from katiml.server.shapes import moment

if TYPE_CHECKING:
    from katiml.ingest import Upload

__all__ = ["as_answer", "as_execution"]


def as_execution(upload: Upload) -> dict[str, Any]:
    """The state of an upload under the names that clients know; all values are plain JSON.

    >>> import katiml
    >>> with katiml.connect(getfixture("tmp_path")) as lake:
    ...     state = as_execution(lake.ingest([{"type": "TEXT", "text": "hello"}]))
    >>> state["status"], state["counts"], state["errorMessage"]
    ('SUCCEEDED', {'read': 1, 'landed': 1, 'rejected': 0}, None)
    """
    state = upload.to_dict()
    error = state["error"] or {}
    counts, finished = state["counts"], state["finished_at"]
    # What follows the ? of a signed address is a secret.
    urls = [source.partition("?")[0] for source in state["sources"]]
    return {
        "id": state["id"],
        "status": state["status"],
        "input": {"urls": urls} if urls else {"records": counts["read"]},
        "output": counts if finished else None,
        "errorMessage": error.get("message"),
        "error": state["error"],
        "startDate": moment(state["started_at"] or state["created_at"]),
        "stopDate": moment(finished),
        "durationMs": round(state["duration"] * 1000),
        "counts": counts,
        "progress": state["progress"],
    }


def as_answer(upload: Upload) -> dict[str, Any]:
    """What ingesting answers with: the state of the upload, and `statusCode`.

    The original client takes `errorMessage`, whatever it holds, for a failure: it is there only
    where there was one.
    """
    state = {**as_execution(upload), "statusCode": 200}
    if state["errorMessage"] is None:
        del state["errorMessage"]
    return state
