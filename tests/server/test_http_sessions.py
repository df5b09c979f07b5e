"""Browsers without a key in every request: who gets a session, and what a cookie is good for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import katiml
from katiml.server import Settings, create_app
from katiml.server import local as own_machine
from katiml.server.sessions import LOCAL, Sessions
from katiml.server.webapp import WebApp
from tests.serving import client_of, serving

WEB = {"x-katiml-web": "1"}


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[katiml.Lake]:  # type: ignore[override]
    with katiml.connect(tmp_path / "lake") as opened:
        yield opened


@pytest.fixture
def client(lake: katiml.Lake) -> Iterator[httpx.Client]:
    with client_of(create_app(lake, Settings(local_sessions=True))) as opened:
        yield opened


def count(client: httpx.Client, **options: Any) -> httpx.Response:
    return client.post("/api/datapoints/count", json={}, **options)


def test_whoever_runs_the_server_needs_no_key(client: httpx.Client) -> None:
    state = client.get("/api/session").json()
    assert (state["signedIn"], state["mayBeLocal"]) == (False, True)
    assert count(client).status_code == 401
    made = client.post("/api/session", json={}, headers=WEB)
    assert made.json()["local"]
    cookie = made.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert count(client, headers=WEB).json() == 0
    assert client.delete("/api/session").json()["signedIn"] is False
    assert count(client, headers=WEB).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-for": "203.0.113.7"},
        {"forwarded": "for=203.0.113.7"},
        {"via": "1.1 proxy"},
        {"host": "lake.example.com"},
        {"host": "127.0.0.1.example.com:4004"},
    ],
)
def test_not_through_a_proxy_nor_by_another_name(
    headers: dict[str, str], client: httpx.Client
) -> None:
    assert client.post("/api/session", json={}, headers={**WEB, **headers}).status_code == 401
    # Nor is a cookie that was made well any good there.
    client.post("/api/session", json={}, headers=WEB)
    assert count(client, headers={**WEB, **headers}).status_code == 401


def test_not_for_another_user_of_the_machine(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_machine._same_user.cache_clear()
    monkeypatch.setattr(own_machine.os, "geteuid", lambda: 54_321)
    assert client.post("/api/session", json={}, headers=WEB).status_code == 401
    own_machine._same_user.cache_clear()


def test_not_where_a_key_is_required(lake: katiml.Lake) -> None:
    with client_of(create_app(lake)) as client:
        assert client.get("/api/session").json()["mayBeLocal"] is False
        assert client.post("/api/session", json={}, headers=WEB).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**WEB, "origin": "https://evil.example"},
        {**WEB, "origin": "http://127.0.0.1:1"},
        {**WEB, "sec-fetch-site": "cross-site"},
        {**WEB, "sec-fetch-site": "same-site"},
    ],
)
def test_a_page_elsewhere_changes_nothing(headers: dict[str, str], client: httpx.Client) -> None:
    assert client.post("/api/session", json={}, headers=WEB).status_code == 200
    for answer in (
        count(client, headers=headers),
        client.post("/api/session", json={}, headers=headers),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


def test_a_key_makes_a_session_of_its_organization(lake: katiml.Lake) -> None:
    lake.ingest([{"type": "TEXT", "text": "mine"}])
    mine, theirs = (lake.for_organization(name).keys.create("k") for name in ("default", "other"))
    with client_of(create_app(lake)) as client:
        assert (
            client.post("/api/session", json={"key": "wrong-key"}, headers=WEB).status_code == 401
        )
        for key, rows in ((mine, 1), (theirs, 0)):
            state = client.post("/api/session", json={"key": key.secret}, headers=WEB).json()
            assert (state["signedIn"], state["local"]) == (True, False)
            assert count(client, headers=WEB).json() == rows
        lake.for_organization("other").keys.delete(theirs.id)
        assert count(client, headers=WEB).status_code == 401


def test_cookies_that_were_not_made_here(
    client: httpx.Client, lake: katiml.Lake, tmp_path: Path
) -> None:
    name = Sessions(lake.scope.store).cookie
    value, _ = Sessions(lake.scope.store).make(LOCAL, "default")
    with katiml.connect(tmp_path / "other") as other:
        foreign, _ = Sessions(other.scope.store).make(LOCAL, "default")
        assert Sessions(other.scope.store).cookie != name
    parts = value.split(".")
    wrong = [
        foreign, value[:-1], value + "0", "", ".", "1.local.default.9999999999.x.", "é" * 20,
        ".".join([*parts[:2], "other", *parts[3:]]),
        ".".join([*parts[:3], "9999999999", *parts[4:]]),
        value * 20,
    ]  # fmt: skip
    for one in wrong:
        answer = count(client, headers={**WEB, "cookie": f"{name}={one}".encode()})
        assert answer.status_code == 401, one
    assert count(client, headers={**WEB, "cookie": f"{name}={value}"}).status_code == 200


def test_a_session_ends(lake: katiml.Lake) -> None:
    now = [1_000_000.0]
    sessions = Sessions(lake.scope.store, clock=lambda: now[0])
    value, seconds = sessions.make(LOCAL, "default")
    now[0] += seconds - 1
    assert sessions.read(value)
    now[0] += 2
    assert sessions.read(value) is None


def test_every_server_of_a_lake_knows_its_cookies(lake_url: str) -> None:
    with katiml.connect(lake_url) as one, katiml.connect(lake_url) as two:
        value, _ = Sessions(one.scope.store).make("some-key", "default")
        found = Sessions(two.scope.store).read(value)
        assert found
        assert found.subject == "some-key"


def test_the_app_is_served(tmp_path: Path, lake: katiml.Lake) -> None:
    static = tmp_path / "static"
    (static / "assets").mkdir(parents=True)
    (static / "index.html").write_text("<html nonce=__NONCE__>")
    (static / "assets" / "index-1.js").write_text("1")
    (static / "assets" / "index-1.js.gz").write_bytes(b"packed")
    (tmp_path / "secret.txt").write_text("secret")
    app = create_app(lake)
    app.router.default = WebApp(static)
    with serving(app) as url:
        pages = [httpx.get(url + path) for path in ("/datapoints/1", "/sql", "/settings/")]
        assert {page.headers["cache-control"] for page in pages} == {"no-cache"}
        nonces = {page.text for page in pages}
        assert len(nonces) == len(pages)
        assert all("script-src 'self'" in page.headers["content-security-policy"] for page in pages)
        asset = httpx.get(f"{url}/assets/index-1.js", headers={"accept-encoding": "identity"})
        assert asset.text == "1"
        assert "immutable" in asset.headers["cache-control"]
        packed = httpx.stream("GET", f"{url}/assets/index-1.js")
        with packed as answer:
            assert answer.headers["content-encoding"] == "gzip"
        for path in ("/missing.js", "/assets/missing.js", "/%2e%2e/secret.txt", "/..%2fsecret.txt",
                     "/api/nothing", "/events/x", "/docs/x"):  # fmt: skip
            answer = httpx.get(url + path)
            assert answer.status_code == 404, path
            assert answer.json()["error"]["code"] == "not_found"
        assert httpx.get(f"{url}/api/sql").status_code == 405
        assert httpx.post(f"{url}/sql").status_code == 404


def test_a_checkout_that_was_not_built_says_how(tmp_path: Path, lake: katiml.Lake) -> None:
    app = create_app(lake)
    app.router.default = WebApp(tmp_path / "nothing")
    with serving(app) as url:
        page = httpx.get(f"{url}/sql")
        assert page.status_code == 200
        assert "make web" in page.text
