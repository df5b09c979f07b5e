"""Work in the background: durable in the lake, with progress, cancelled or taken over cleanly.

Names are imported when first asked for: miners on a device need `executors` with NumPy alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from katiml.tasks.bodies import register
    from katiml.tasks.pool import finish_tasks, release_tasks
    from katiml.tasks.queue import Task, Tasks, resume_tasks, submit
    from katiml.tasks.run import Done, Run, Stopped

__all__ = [
    "Done",
    "Run",
    "Stopped",
    "Task",
    "Tasks",
    "finish_tasks",
    "register",
    "release_tasks",
    "resume_tasks",
    "submit",
]

_HOMES = {
    "bodies": ("register",),
    "pool": ("finish_tasks", "release_tasks"),
    "queue": ("Task", "Tasks", "resume_tasks", "submit"),
    "run": ("Done", "Run", "Stopped"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"katiml.tasks.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
