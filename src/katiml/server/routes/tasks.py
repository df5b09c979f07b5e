"""`/api/tasks`: work in the background."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from katiml.server.answers import json_response
from katiml.server.auth import CallerLake
from katiml.server.shapes import as_task, moment

__all__ = ["router"]

router = APIRouter(prefix="/api/tasks", tags=["tasks"])


@router.get("", summary="The latest tasks, the newest first")
def list_tasks(
    lake: CallerLake,
    limit: Annotated[int, Query(ge=0, le=10_000)] = 100,
    kind: Annotated[str | None, Query(max_length=100)] = None,
    status: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    found = lake.tasks.list(limit, kind=kind, status=status)
    return json_response([as_task(task, whole=False) for task in found])


@router.get("/{task_id}", summary="The state of a task")
def one_task(lake: CallerLake, task_id: str) -> Response:
    return json_response(as_task(lake.tasks.get(task_id)))


@router.get("/{task_id}/logs", summary="The lines of a task's log")
def logs(lake: CallerLake, task_id: str) -> Response:
    lines = lake.tasks.get(task_id).log_lines()
    return json_response([{**line, "created_at": moment(line["created_at"])} for line in lines])


@router.post("/{task_id}/cancel", summary="Stop a task: REVOKED, unless it had come to its end")
def cancel(lake: CallerLake, task_id: str) -> Response:
    return json_response(as_task(lake.tasks.get(task_id).cancel()))
