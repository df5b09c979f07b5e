"""No request that the OpenAPI document allows, or nearly allows, is answered with a 5xx."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error

import katiml
import katiml.schema
from katiml.server import Settings, create_app
from tests.server.conftest import picture
from tests.serving import serving

_EXAMPLES = 12
_PARTS = 4


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a lake with some data, and a key."""
    with katiml.connect(tmp_path_factory.mktemp("fuzz") / "lake") as lake:
        lake.ingest([picture(number) for number in range(3)])
        key = lake.keys.create("fuzz").secret
        settings = Settings(requests_per_minute=0)
        with serving(create_app(lake, settings)) as url:
            yield url, key


@pytest.fixture(scope="module")
def document(fuzzed: tuple[str, str]) -> Any:
    return schemathesis.openapi.from_url(f"{fuzzed[0]}/openapi.json")


@pytest.mark.parametrize("part", range(_PARTS))
def test_no_server_error(part: int, document: Any, fuzzed: tuple[str, str]) -> None:
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) > 40
    for operation in operations[part::_PARTS]:
        fuzz(operation, fuzzed[1])


def fuzz(operation: Any, key: str) -> None:
    @hypothesis.given(case=operation.as_strategy())
    @hypothesis.settings(
        max_examples=_EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    def check(case: Any) -> None:
        response = case.call(headers={"x-api-key": key}, timeout=30)
        # 501 is said on purpose, of what is not built yet.
        if response.status_code != 501:
            case.validate_response(response, checks=[not_a_server_error])
        if response.status_code >= 400:
            error = response.json()["error"]
            assert set(error) == {"message", "code", "hint", "details"}
            assert error["message"]

    check()


def test_document(fuzzed: tuple[str, str], document: Any) -> None:
    raw = document.raw_schema
    paths = raw["paths"]
    for table in katiml.schema.RECORD_TABLES:
        for verb in ("select", "count", "delete"):
            body = paths[f"/api/{table}/{verb}"]["post"]["requestBody"]
            name = body["content"]["application/json"]["schema"]["$ref"].rsplit("/")[-1]
            assert name in raw["components"]["schemas"]
    ids = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
    assert len(ids) == len(set(ids))
    for path, methods in paths.items():
        for operation in methods.values():
            assert operation["summary"], path
            secured = operation.get("security")
            assert bool(secured) != (path in ("/health", "/api/session")), path


def test_requests_at_once(fuzzed: tuple[str, str]) -> None:
    import httpx

    url, key = fuzzed
    wrong: list[str] = []

    def ask(number: int) -> None:
        with httpx.Client(base_url=url, headers={"x-api-key": key}, timeout=60) as client:
            for _ in range(5):
                record = {"type": "TEXT", "text": f"thread {number}"}
                for path, body in (
                    ("/events", {"records": [record]}),
                    ("/api/datapoints/select", {}),
                    ("/api/predictions/count", {}),
                ):
                    response = client.post(path, json=body)
                    if response.status_code != 200:
                        wrong.append(response.text)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    with httpx.Client(base_url=url, headers={"x-api-key": key}) as client:
        body = {"filters": [{"left": "text", "op": "like", "right": "thread %"}]}
        assert client.post("/api/datapoints/count", json=body).json() == 40
