"""Who may ask, and how often."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import katiml
from katiml.errors import InvalidInput
from katiml.server import Settings, create_app
from katiml.server.run import prepare_keys, settings_from_environment
from tests.server.conftest import Api, serve_lake

OPEN = {"/", "/health", "/docs", "/docs/oauth2-redirect", "/openapi.json", "/api/session"}


def test_every_address_but_the_open_ones_wants_a_key(api: Api) -> None:
    document = api.anybody.get("/openapi.json").json()
    asked = 0
    for path, methods in document["paths"].items():
        if path in OPEN:
            continue
        for method in methods:
            address = path.replace("{", "").replace("}", "")
            response = api.anybody.request(method, address)
            if response.status_code == 429:
                # Whoever asks often without a key is told to wait; an open address would answer.
                asked += 1
                continue
            assert response.status_code == 401, (method, path)
            error = response.json()["error"]
            assert error["code"] == "unauthorized"
            assert "x-api-key" in error["hint"]
            asked += 1
            api.anybody.headers.update({})
    assert asked > 40


@pytest.mark.parametrize("key", ["wrong", "katiml_" + "x" * 43, "' OR 1=1 --", "x" * 5000])
def test_wrong_key(api: Api, key: str) -> None:
    response = api.anybody.post("/api/datapoints/select", headers={"x-api-key": key}, json={})
    assert response.status_code == 401
    assert "wrong or was deleted" in response.json()["error"]["message"]
    assert response.headers["www-authenticate"] == "ApiKey"


def test_keys_over_http(api_of_home: Api) -> None:
    api = api_of_home
    made = api.rows("/api/api-key", {"name": "ci"})
    assert set(made) == {"id", "name", "key"}
    headers = {"x-api-key": made["key"]}
    assert api.anybody.get("/api/datapoints", headers=headers).status_code == 200
    listed = api.client.get("/api/api-key").json()
    assert {one["name"] for one in listed} == {"default", "ci"}
    assert made["key"] not in str(listed)
    assert api.stranger.delete(f"/api/api-key/{made['id']}").status_code == 404
    assert api.client.delete(f"/api/api-key/{made['id']}").status_code == 200
    assert api.anybody.get("/api/datapoints", headers=headers).status_code == 401
    assert api.client.delete(f"/api/api-key/{made['id']}").status_code == 404
    assert [one["name"] for one in api.stranger.get("/api/api-key").json()] == ["other"]


def test_health_and_home(api: Api) -> None:
    health = api.anybody.get("/health")
    assert health.json() == {"status": "ok", "version": katiml.__version__, "lake": "ok"}
    home = api.anybody.get("/")
    # The web app, or how to build it.
    assert "KatiML" in home.text and "/docs" in home.text
    assert "default-src 'none'" in home.headers["content-security-policy"]
    assert api.anybody.get("/docs").status_code == 200


def test_health__of_a_closed_lake(tmp_path: Path) -> None:
    with katiml.connect(tmp_path / "lake") as lake:
        for api in serve_lake(lake):
            lake.close()
            health = api.anybody.get("/health")
            assert health.status_code == 503
            assert health.json()["status"] == "error"
            response = api.client.post("/api/datapoints/select", json={})
            assert response.status_code < 600
            assert set(response.json()["error"]) == {"message", "code", "hint", "details"}


def test_rate_limit__is_each_keys_own(tmp_path: Path) -> None:
    with katiml.connect(tmp_path / "lake") as lake:
        for api in serve_lake(lake, Settings(requests_per_minute=5)):
            statuses = [api.post("/api/datapoints/count").status_code for _ in range(7)]
            assert statuses == [200] * 5 + [429] * 2
            response = api.post("/api/datapoints/count")
            assert int(response.headers["retry-after"]) >= 1
            assert response.json()["error"]["code"] == "too_many_requests"
            assert api.stranger.post("/api/datapoints/count", json={}).status_code == 200


def test_wrong_keys_cannot_be_tried_without_end(api: Api) -> None:
    statuses = {
        api.anybody.get("/api/datapoints", headers={"x-api-key": f"wrong-{number}"}).status_code
        for number in range(80)
    }
    assert statuses == {401, 429}
    assert api.client.get("/api/datapoints").status_code == 200


def test_mistake_of_ours__tells_the_client_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(type(api.lake.datapoints), "count", fails)
    with caplog.at_level(logging.ERROR):
        response = api.post("/api/datapoints/count")
    assert response.status_code == 500
    assert "hunter2" not in response.text
    assert response.json()["error"]["details"]["id"] in caplog.text


def test_prepare_keys(lake: katiml.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KATIML_API_KEY", raising=False)
    with pytest.raises(InvalidInput, match="no API key is set up"):
        prepare_keys(lake, "0.0.0.0")
    assert lake.keys.list() == []
    made = prepare_keys(lake)
    assert made is not None and lake.keys.verify(made) == "default"
    assert prepare_keys(lake) is None
    assert prepare_keys(lake, "0.0.0.0") is None
    assert len(lake.keys.list()) == 1


def test_prepare_keys__preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with katiml.connect(tmp_path / "lake") as lake:
        monkeypatch.setenv("KATIML_API_KEY", "my_api_key")
        with pytest.raises(InvalidInput, match="10 characters") as caught:
            prepare_keys(lake, "0.0.0.0")
        assert "my_api_key" not in str(caught.value)
        assert prepare_keys(lake) is None
        assert lake.keys.verify("my_api_key") == "default"
        monkeypatch.setenv("KATIML_API_KEY", "a" * 32)
        assert prepare_keys(lake, "0.0.0.0") is None
        assert lake.keys.verify("my_api_key") is None
        monkeypatch.setenv("KATIML_API_KEY", "short")
        with pytest.raises(InvalidInput):
            prepare_keys(lake)


def test_settings_from_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KATIML_CACHE", str(tmp_path))
    usual = Settings(local_sessions=True, cache_folder=str(tmp_path))
    assert settings_from_environment() == usual
    # Beyond this machine nobody comes in without a key.
    assert settings_from_environment("0.0.0.0") == Settings(cache_folder=str(tmp_path))
    monkeypatch.setenv("KATIML_ALLOW_PRIVATE_URLS", "true")
    monkeypatch.setenv("KATIML_REQUESTS_PER_MINUTE", "0")
    monkeypatch.setenv("KATIML_MAX_UPLOAD_BYTES", "1000")
    monkeypatch.setenv("KATIML_REQUIRE_KEY", "true")
    monkeypatch.setenv("KATIML_MEDIA_ROOTS", str(tmp_path))
    monkeypatch.setenv("KATIML_MAX_IMAGE_PIXELS", "7")
    assert settings_from_environment() == Settings(
        requests_per_minute=0,
        max_upload_bytes=1000,
        allow_private_urls=True,
        media_roots=(str(tmp_path),),
        cache_folder=str(tmp_path),
        max_image_pixels=7,
    )
    monkeypatch.setenv("KATIML_ALLOW_PRIVATE_URLS", "perhaps")
    with pytest.raises(InvalidInput, match="perhaps"):
        settings_from_environment()


def test_create_app__closes_nothing(tmp_path: Path) -> None:
    with katiml.connect(tmp_path / "lake") as lake:
        create_app(lake)
        assert lake.datapoints.count() == 0
