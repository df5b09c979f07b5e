"""Work in the background: durable in the lake, with progress, cancelled or taken over cleanly."""

from __future__ import annotations

from katiml.tasks.bodies import register
from katiml.tasks.follow import follow
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
    "follow",
    "register",
    "release_tasks",
    "resume_tasks",
    "submit",
]
