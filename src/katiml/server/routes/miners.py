"""`/api/tasks/miners…`: miners kept in the lake, their runs and what they picked."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from katiml.errors import InvalidInput
from katiml.miners.registry import STRATEGIES, strategy_class
from katiml.miners.strategy import Parameter
from katiml.server.answers import json_response
from katiml.server.auth import CallerLake
from katiml.server.bodies import Miner, MinerId, body, schema_of, wrong_body
from katiml.server.shapes import as_miner

__all__ = ["router"]

router = APIRouter(prefix="/api/tasks", tags=["miners"])


async def _told(request: Request) -> dict[str, Any]:
    """The body as it is: which names it may have depends on the strategy."""
    data = await request.body()
    return await run_in_threadpool(_object, data)


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(data or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(
            f"the body is not JSON: {error}", hint='send {"strategy": "RANDOM", "size": 10, …}'
        ) from None
    if not isinstance(found, dict):
        raise wrong_body("the body is not an object", 'send {"strategy": "RANDOM", "size": 10, …}')
    return found


Told = Annotated[dict[str, Any], Depends(_told)]


@router.get("/miners/strategies", summary="The strategies, what they need and can be told")
def strategies(_: CallerLake) -> Response:
    return json_response([_strategy(name) for name in STRATEGIES])


@router.get("/miners", summary="The miners, the newest first, with the state of their last run")
def list_miners(
    lake: CallerLake, limit: Annotated[int | None, Query(ge=0, le=100_000)] = None
) -> Response:
    return json_response([as_miner(miner) for miner in lake.miners.list(limit)])


@router.post(
    "/miners",
    summary="Keep a miner; with `_id`, tell an existing one something else and reset it",
    openapi_extra=schema_of(Miner),
)
def create_miner(lake: CallerLake, told: Told) -> Response:
    miner_id = told.pop("_id", None)
    if miner_id is None:
        miner = lake.miners.create_as_told(told)
    else:
        miner = lake.miners.get(str(miner_id)).edit(**told)
    return json_response({"miner_id": miner.id})


@router.post(
    "/miners/estimate",
    summary="What a run would take: how many vectors, what is missing and why, memory",
    openapi_extra=schema_of(Miner),
)
def estimate_miner(lake: CallerLake, told: Told) -> Response:
    return json_response(vars(lake.miners.estimate_as_told(told)))


@router.post("/miners/delete", summary="Delete a miner", openapi_extra=schema_of(MinerId))
def delete_miner(lake: CallerLake, wanted: Annotated[Any, Depends(body(MinerId))]) -> Response:
    lake.miners.get(wanted.miner_id).delete()
    return json_response({"miner_id": wanted.miner_id})


@router.get("/miners/inspect/{miner_id}", summary="A miner with what its last run picked")
def inspect_miner(lake: CallerLake, miner_id: str) -> Response:
    return json_response(as_miner(lake.miners.get(miner_id), results=True))


@router.get(
    "/miners/results/{miner_id}",
    summary="What the last run picked, the best first, with scores and reasons; as CSV too",
)
def results(
    lake: CallerLake,
    miner_id: str,
    as_csv: bool = False,
    fields: Annotated[
        str | None,
        Query(max_length=10_000, description="columns of the datapoints, as 'text,tags.*'"),
    ] = None,
) -> Response:
    names = [name.strip() for name in fields.split(",")] if fields else None
    found = lake.miners.get(miner_id).picked.to_pandas(names)
    found = found.rename(columns={"id": "datapoint"})
    if not as_csv:
        return json_response(found.astype(object).where(found.notna(), None).to_dict("records"))
    return Response(
        found.to_csv(index=False),
        media_type="text/csv",
        headers={"Content-Disposition": f'attachment; filename="miner-{miner_id}.csv"'},
    )


@router.get("/miners/{miner_id}", summary="What a miner is told, and the state of its last run")
def one_miner(lake: CallerLake, miner_id: str) -> Response:
    return json_response(as_miner(lake.miners.get(miner_id)))


@router.post(
    "/miner/run",
    summary="Have a miner run in the background; a run under way is joined",
    openapi_extra=schema_of(MinerId),
)
def run_miner(lake: CallerLake, wanted: Annotated[Any, Depends(body(MinerId))]) -> Response:
    return _answer(lake.miners.get(wanted.miner_id).run(wait=False))


@router.post(
    "/miner/reset",
    summary="Forget what a miner picked; a run under way is stopped",
    openapi_extra=schema_of(MinerId),
)
def reset_miner(lake: CallerLake, wanted: Annotated[Any, Depends(body(MinerId))]) -> Response:
    return _answer(lake.miners.get(wanted.miner_id).reset())


@router.post(
    "/miner/cancel", summary="Stop a miner's run: REVOKED", openapi_extra=schema_of(MinerId)
)
def cancel_miner(lake: CallerLake, wanted: Annotated[Any, Depends(body(MinerId))]) -> Response:
    return _answer(lake.miners.get(wanted.miner_id).cancel())


def _answer(miner: Any) -> Response:
    return json_response({"miner_id": miner.id, **as_miner(miner)})


def _strategy(name: str) -> dict[str, Any]:
    kind = strategy_class(name)
    return {
        "name": name,
        "summary": kind.summary,
        "paper": kind.paper,
        "needs": kind.needs,
        "uses": kind.uses,
        "parameters": [_parameter(own) for own in kind.parameters],
    }


def _parameter(own: Parameter) -> dict[str, Any]:
    return {
        "name": own.name,
        "type": own.type.__name__,
        "default": own.default,
        "help": own.help,
        "low": own.low,
        "high": own.high,
        "choices": own.choices,
    }
