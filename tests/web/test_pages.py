"""Uploads, SQL, settings, the empty lake, the sign-in, and a server that is gone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

import katiml
from tests.web.conftest import Server, Watched, eventually, seed, served


@pytest.fixture
def empty(browser: Any, tmp_path: Path) -> Iterator[Server]:
    with served(tmp_path / "lake") as server:
        yield server


def test_the_demo_data_come_in_one_click(empty: Server, web: Watched) -> None:
    page = web.open(empty.url)
    expect(page.get_by_role("heading", name="This lake is empty")).to_be_visible()
    expect(page.get_by_text("katiml.connect()")).to_be_visible()
    page.get_by_role("button", name="Load the demo data").press("Enter")
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(page.get_by_role("status").first).to_contain_text("1,797 datapoints", timeout=60_000)
    eventually(
        page,
        "[...document.querySelectorAll('[role=grid] img')]"
        ".filter(image => image.naturalWidth === 64).length > 5",
    )


def test_a_file_with_a_wrong_record(empty: Server, web: Watched, tmp_path: Path) -> None:
    page = web.open(f"{empty.url}/uploads")
    expect(page.get_by_text("Nothing was uploaded yet")).to_be_visible()
    lines = [{"type": "TEXT", "text": "one"}, {"type": "image"}, {"type": "TEXT", "text": "two"}]
    file = tmp_path / "records.ndjson"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page.get_by_label("Files of records").set_input_files(file)
    expect(page).to_have_url(re.compile(r"/uploads/[0-9a-f-]{36}"))
    expect(page.get_by_text("Succeeded")).to_be_visible()
    table = page.get_by_role("region", name="Rejected records")
    expect(table.get_by_role("row").nth(1)).to_contain_text("unknown type 'image'")
    with page.expect_download() as download:
        page.get_by_role("link", name="To mend and send again").click()
    assert json.loads(Path(download.value.path()).read_text()) == {"type": "image"}
    page.get_by_role("link", name="All uploads").click()
    expect(page.get_by_role("row").nth(1)).to_contain_text("uploaded file")
    page.get_by_role("link", name="Explore", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("2 datapoints")


def test_an_address_that_may_not_be_read(empty: Server, web: Watched) -> None:
    web.expected = {403}
    page = web.open(f"{empty.url}/uploads")
    page.get_by_label("Address of a file of records").fill("http://127.0.0.1:1/records.ndjson")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("private address")
    # What was typed is still there.
    expect(page.get_by_label("Address of a file of records")).to_have_value(re.compile("127.0.0.1"))


def test_sql(shared: Server, web: Watched, records: Any) -> None:
    page = web.open(f"{shared.url}/sql")
    editor = page.get_by_role("textbox", name="SQL")
    editor.click()
    page.keyboard.press("Control+a")
    page.keyboard.type("select type, count(*) as rows from datap")
    option = page.get_by_role("option", name="datapoints")
    expect(option).to_be_visible()
    # A list that has just opened takes no Enter, lest it was meant for the text.
    page.wait_for_timeout(150)
    page.keyboard.press("Enter")
    page.keyboard.type(" group by all order by 2 desc")
    page.keyboard.press("Control+Enter")
    result = page.get_by_role("region", name="Result")
    expect(result.get_by_role("row").nth(1)).to_contain_text("IMAGE")
    page.get_by_role("button", name="Plot").click()
    expect(page.get_by_role("img", name="rows by type")).to_be_visible()
    eventually(
        page,
        "document.querySelector('.u-over') && document.querySelector('.uplot canvas').width > 100",
    )
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0] == "type,rows"
    images = sum(record["type"] == "IMAGE" for record in records)
    assert f"IMAGE,{images}" in lines
    with page.expect_download() as download:
        page.get_by_role("button", name="All rows as JSON").click()
    assert {"type": "IMAGE", "rows": images} in json.loads(Path(download.value.path()).read_text())


def test_wrong_sql(shared: Server, web: Watched) -> None:
    web.expected = {400}
    page = web.open(f"{shared.url}/sql?query=delete%20from%20datapoints")
    page.get_by_role("button", name=re.compile("^Run")).click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.reload()
    expect(page.get_by_role("textbox", name="SQL")).to_contain_text("delete from datapoints")


def test_a_key_is_shown_once(empty: Server, web: Watched) -> None:
    web.expected = {401}
    page = web.open(f"{empty.url}/settings")
    page.get_by_label("Name of the new key").fill("robot")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="The key robot")
    key = dialog.locator("pre").inner_text().strip()
    asked = {"headers": {"x-api-key": key}, "json": {}}
    assert httpx.post(f"{empty.url}/api/datapoints/count", **asked).json() == 0
    dialog.get_by_role("button", name="I have kept it").click()
    expect(page.get_by_text(key)).to_have_count(0)
    page.get_by_role("button", name="Delete the key robot").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete the key").click()
    expect(page.get_by_role("button", name="Delete the key robot")).to_have_count(0)
    assert httpx.post(f"{empty.url}/api/datapoints/count", **asked).status_code == 401


def test_the_theme_is_kept(empty: Server, web: Watched) -> None:
    page = web.open(f"{empty.url}/settings")
    page.get_by_role("radio", name="Dark").click()
    expect(page.locator("html")).to_have_class("dark")
    page.reload()
    expect(page.locator("html")).to_have_class("dark")
    expect(page.get_by_role("radio", name="Dark")).to_be_checked()


def test_a_key_is_asked_for_where_one_is_needed(
    browser: Any, web: Watched, records: Any, tmp_path: Path
) -> None:
    web.expected = {401, 403}
    seed(tmp_path / "lake", records[:5])
    with katiml.connect(tmp_path / "lake") as lake:
        key = lake.keys.create("browser").secret
    with served(tmp_path / "lake", KATIML_REQUIRE_KEY="true") as server:
        page = web.open(server.url)
        field = page.get_by_label("API key")
        expect(field).to_be_focused()
        page.keyboard.type("katiml_wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("wrong")
        field.fill(key)
        page.keyboard.press("Enter")
        expect(page.get_by_role("status").first).to_contain_text("5 datapoints")
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        # Local files are for whoever runs the server; a key may belong to anybody.
        expect(page.get_by_role("gridcell").first).to_contain_text("Not allowed")
        page.get_by_role("link", name="Settings").click()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_visible()
        web.close()


def test_a_session_that_is_over(browser: Any, web: Watched, records: Any, tmp_path: Path) -> None:
    web.expected = {401, 403}
    seed(tmp_path / "lake", records[:5])
    with katiml.connect(tmp_path / "lake") as lake:
        old, new = (lake.keys.create(name) for name in ("old", "new"))
    with served(tmp_path / "lake", KATIML_REQUIRE_KEY="true") as server:
        page = web.open(server.url)
        page.get_by_label("API key").fill(old.secret)
        page.keyboard.press("Enter")
        page.get_by_role("link", name="SQL").click()
        page.get_by_role("textbox", name="SQL").fill("select 41 + 1 as answer")
        deleted = httpx.delete(
            f"{server.url}/api/api-key/{old.id}", headers={"x-api-key": new.secret}
        )
        assert deleted.status_code == 200
        page.get_by_role("button", name=re.compile("^Run")).click()
        expect(page.get_by_role("heading", name="Your session is over")).to_be_visible()
        page.get_by_label("API key").fill(new.secret)
        page.keyboard.press("Enter")
        expect(page.get_by_role("textbox", name="SQL")).to_contain_text("41 + 1")
        page.get_by_role("button", name=re.compile("^Run")).click()
        expect(page.get_by_role("region", name="Result")).to_contain_text("42")
        web.close()


def test_a_server_that_is_gone_and_comes_back(own: Server, web: Watched) -> None:
    page = web.open(own.url)
    expect(page.get_by_role("gridcell").first).to_be_visible()
    own.stop()
    box = page.get_by_role("combobox", name="Add a filter")
    box.fill("type = TEXT")
    expect(page.get_by_role("alert").first).to_contain_text("does not answer")
    own.start()
    expect(page.get_by_text("The server does not answer.")).to_have_count(0, timeout=20_000)
    expect(box).to_have_value("type = TEXT")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("7 datapoints of")
    # That the connection was refused is written to the console by Chromium.
    web.wrong = [text for text in web.wrong if "ERR_CONNECTION" not in text]


def test_pages_that_are_not(shared: Server, web: Watched) -> None:
    page = web.open(f"{shared.url}/nowhere/at/all")
    expect(page.get_by_text("There is no such page")).to_be_visible()
    assert httpx.get(f"{shared.url}/api/nowhere").json()["error"]["code"] == "not_found"
    assert httpx.get(f"{shared.url}/missing.js").status_code == 404
