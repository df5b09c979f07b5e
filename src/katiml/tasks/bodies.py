"""What a task of each kind does: a function that takes a `Run`, found by the kind's name.

The row of a task names its kind alone, so that any process of the lake can go on with it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from katiml.errors import InvalidInput
from katiml.tasks.run import Done, Run

__all__ = ["Body", "body_of", "is_known", "register"]

Body = Callable[[Run], Done]

# Imported when the first task of the kind runs.
_PLACES = {
    "miner": "katiml.mining.task:run_miner",
    "projection": "katiml.vectors.task:project_task",
}
_registered: dict[str, Body] = {}


def register(kind: str, body: Body) -> None:
    """Let this process run tasks of another kind.

    >>> register("greeting", lambda run: Done({"said": f"hello {run.arguments['name']}"}))
    >>> is_known("greeting")
    True
    """
    _registered[kind] = body


def is_known(kind: str) -> bool:
    """Whether this process can run tasks of that kind."""
    return kind in _registered or kind in _PLACES


def body_of(kind: str) -> Body:
    """The function that does a task of that kind; raises InvalidInput for an unknown kind."""
    if kind in _registered:
        return _registered[kind]
    if kind not in _PLACES:
        known = ", ".join(sorted({*_PLACES, *_registered}))
        raise InvalidInput(f"tasks of the kind {kind!r} are not known", hint=f"kinds are: {known}")
    module, _, name = _PLACES[kind].partition(":")
    body: Body = getattr(import_module(module), name)
    return body
