"""Where inside a record something is wrong."""

from __future__ import annotations

from katiml.errors import InvalidRecord

__all__ = ["join", "within"]


def join(step: str, path: str) -> str:
    """One path from an outer step and the path inside it.

    >>> join("predictions[0]", "logits"), join("logits", "[3]"), join("tags", "")
    ('predictions[0].logits', 'logits[3]', 'tags')
    """
    if not path or not step or path.startswith("["):
        return step + path
    return f"{step}.{path}"


def within(error: InvalidRecord, step: str) -> InvalidRecord:
    """The same error, seen from one level further out.

    >>> within(InvalidRecord("wrong", path="logits"), "predictions[0]").path
    'predictions[0].logits'
    """
    error.path = join(step, error.path)
    error.details["path"] = error.path
    return error
