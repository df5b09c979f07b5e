"""Explore: the grid, filters, distributions, layers and what is done with a selection."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from playwright.sync_api import expect

from tests.web.conftest import Server, Watched, eventually

STREETS = [
    {
        "exists": "tags",
        "where": [
            {"left": "name", "op": "=", "right": "source"},
            {"left": "value", "op": "=", "right": "streets"},
        ],
    }
]


def address(server: Server, **search: Any) -> str:
    return f"{server.url}/?" + "&".join(f"{k}={quote(json.dumps(v))}" for k, v in search.items())


def filters_in(page: Any) -> Any:
    found = parse_qs(urlsplit(page.url).query).get("filters", ["[]"])
    return json.loads(found[0])


def count_of(page: Any) -> Any:
    return page.get_by_role("status").filter(has_text=re.compile("datapoint")).first


def write(page: Any, *parts: str) -> None:
    box = page.get_by_role("combobox", name=re.compile("filter"))
    box.focus()
    for part in parts:
        page.keyboard.type(part)
        # What is suggested is there a moment after it is typed.
        page.wait_for_timeout(350)
        page.keyboard.press("Enter")


def test_everything_is_there(shared: Server, web: Watched, records: Any) -> None:
    page = web.open(shared.url)
    expect(count_of(page)).to_contain_text(f"{len(records)} datapoints")
    grid = page.get_by_role("grid", name="Datapoints")
    expect(grid.get_by_role("gridcell").first).to_be_visible()
    eventually(
        page,
        "[...document.querySelectorAll('[role=grid] img')]"
        ".filter(image => image.naturalWidth > 0).length > 5",
    )


def test_a_filter_is_written_with_the_keyboard_and_stays_in_the_address(
    shared: Server, web: Watched
) -> None:
    page = web.open(shared.url)
    expect(count_of(page)).to_be_visible()
    write(page, "tags.source", "=", "streets")
    expect(count_of(page)).to_contain_text("40 datapoints of")
    assert filters_in(page) == STREETS
    page.reload()
    expect(count_of(page)).to_contain_text("40 datapoints of")
    expect(page.get_by_role("button", name="Filter: tags.source = streets")).to_be_visible()
    page.go_back()
    expect(count_of(page)).not_to_contain_text("of")


def test_alternatives_and_negation(shared: Server, web: Watched, records: Any) -> None:
    page = web.open(address(shared, filters=STREETS))
    chip = page.get_by_role("button", name="Filter: tags.source = streets")
    chip.press("Enter")
    page.get_by_role("menuitem", name="Or …").press("Enter")
    write(page, "type", "=", "AUDIO")
    expect(count_of(page)).to_contain_text("43 datapoints of")
    page.get_by_role("button", name=re.compile("^Filter: tags.source")).click()
    page.get_by_role("menuitem", name="Must not hold").click()
    expect(count_of(page)).to_contain_text(f"{len(records) - 43} datapoints of")
    assert "any" in filters_in(page)[0]["not"]


def test_a_wrong_filter_is_marked(shared: Server, web: Watched) -> None:
    web.expected = {400}
    wrong = {"left": "metadta.width", "op": ">", "right": 3}
    page = web.open(address(shared, filters=[*STREETS, wrong]))
    expect(page.get_by_role("alert").first).to_contain_text("metadta.width")
    expect(page.get_by_role("button", name=re.compile("which is wrong"))).to_contain_text("metadta")
    page.get_by_role("button", name=re.compile("Remove the filter metadta")).click()
    expect(count_of(page)).to_contain_text("40 datapoints")


def test_nothing_passes(shared: Server, web: Watched) -> None:
    page = web.open(address(shared, filters=[{"left": "type", "op": "=", "right": "VIDEO"}]))
    expect(page.get_by_text("Nothing passes these filters")).to_be_visible()
    page.get_by_role("button", name="Clear all filters").click()
    expect(page.get_by_role("grid")).to_be_visible()


def test_a_bar_is_a_filter(shared: Server, web: Watched, records: Any) -> None:
    page = web.open(address(shared, open=["tags.hour", "groundtruths"]))
    bar = page.get_by_role("complementary", name="Distributions").get_by_role(
        "button", name=re.compile(r"^dusk\s*:")
    )
    expect(bar).to_have_count(2)
    dusk = sum(record["tags"].get("hour") == "dusk" for record in records)
    bar.last.click()
    expect(count_of(page)).to_contain_text(f"{dusk} datapoints of")
    expect(bar.last).to_have_attribute("aria-pressed", "true")
    # The same number is beside the bar: what it says is what the filter finds.
    expect(bar.last).to_have_accessible_name(re.compile(rf"^dusk\s*:\s*{dusk}\s*of {dusk}"))
    bar.last.click()
    expect(count_of(page)).not_to_contain_text("of")


def test_every_bar_of_classes_finds_what_it_says(shared: Server, web: Watched) -> None:
    page = web.open(address(shared, filters=STREETS, open=["groundtruths"]))
    bars = page.get_by_role("complementary", name="Distributions").get_by_role(
        "button", name=re.compile(r"^(car|dusk|person|road)\s*:")
    )
    expect(bars.nth(3)).to_be_visible()
    for index in range(bars.count()):
        bar = bars.nth(index)
        name = bar.inner_text()
        bar.click()
        expect(bar).to_have_attribute("aria-pressed", "true")
        expect(page.get_by_role("grid")).to_be_visible()
        if name.startswith("dusk"):
            expect(count_of(page)).to_contain_text(
                f"{re.findall(r'[0-9]+', name)[0]} datapoints of"
            )
        bar.click()
        expect(bar).to_have_attribute("aria-pressed", "false")


def test_a_range_of_numbers_is_brushed(shared: Server, web: Watched) -> None:
    page = web.open(address(shared, open=["latency_ms"]))
    group = page.get_by_role("group", name="latency_ms: choose a range")
    page.get_by_role("button", name="street-l").click()
    expect(group.get_by_role("button").first).to_be_visible()
    box = group.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 40)
    page.mouse.up()
    expect(count_of(page)).to_contain_text("of")
    (made,) = filters_in(page)
    assert made["exists"] == "predictions"
    assert [one["op"] for one in made["where"]] == ["=", ">=", "<"]
    group.get_by_role("button").nth(2).press("Enter")
    expect(page.get_by_role("button", name=re.compile("clear$"))).to_be_visible()


def test_images_that_cannot_be_shown_say_why(shared: Server, web: Watched) -> None:
    web.expected = {404, 422}
    among = {"left": "tags.value", "op": "in", "right": ["missing", "broken"]}
    page = web.open(address(shared, filters=[among]))
    cells = page.get_by_role("gridcell")
    expect(cells.filter(has_text="Missing")).to_contain_text("no file")
    expect(cells.filter(has_text="Not readable")).to_contain_text("not an image")


def test_layers_are_drawn(shared: Server, web: Watched) -> None:
    page = web.open(address(shared, filters=STREETS))
    painted = """() => [...document.querySelectorAll('[role=grid] canvas')].slice(0, 6)
        .map(canvas => {
          const copy = new OffscreenCanvas(canvas.width, canvas.height);
          const context = copy.getContext('2d');
          context.drawImage(canvas, 0, 0);
          const { data } = context.getImageData(0, 0, copy.width, copy.height);
          return data.filter((value, place) => place % 4 === 3 && value).length;
        })"""
    eventually(page, f"({painted})().filter(n => n > 300).length === 6")
    before = page.evaluate(painted)
    page.get_by_role("button", name="Layers").press("Enter")
    page.get_by_role("switch", name="Masks").press("Space")
    eventually(page, f"({painted})().every(n => n > {max(before)} * 3)")
    page.get_by_role("switch", name="Ground truths").press("Space")
    eventually(page, "document.querySelectorAll('[role=grid] canvas').length === 0")
    page.get_by_role("switch", name="Predictions of street-l").press("Space")
    eventually(page, f"({painted})().filter(n => n > 50).length > 3")
    assert "models=" in page.url
    assert "truth=false" in page.url


def test_keyboard_alone(shared: Server, web: Watched) -> None:
    page = web.open(address(shared, filters=STREETS))
    first = page.locator("[data-index='0']")
    expect(first).to_be_visible()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.index") == "0":
            break
    expect(first).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    expect(page.get_by_text("1 selected")).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+Space")
    expect(page.get_by_role("toolbar", name="Selection")).not_to_contain_text("1 selected")
    page.keyboard.press("End")
    expect(page.locator("[data-index='39']")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/datapoints/"))
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("heading", name="street-0038.jpg")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("grid")).to_be_visible()
    assert filters_in(page) == STREETS


def test_sorting(shared: Server, web: Watched) -> None:
    page = web.open(address(shared, filters=STREETS))
    page.get_by_role("combobox", name="Sort by").select_option("metadata.camera")
    page.get_by_role("button", name="Smallest first").click()
    expect(page.get_by_role("gridcell").first).to_contain_text("cam-4")


def test_all_of_the_query_is_tagged_and_taken_back(own: Server, web: Watched) -> None:
    page = web.open(address(own, filters=STREETS, open=["tags.split"]))
    page.get_by_role("button", name="Select all", exact=True).click()
    expect(page.get_by_text("40 selected")).to_be_visible()
    # One is left out again: all but one.
    page.get_by_role("checkbox", name="Select datapoint 2", exact=True).click()
    expect(page.get_by_text("39 selected")).to_be_visible()
    page.get_by_role("button", name="Tag", exact=True).click()
    page.get_by_role("dialog").get_by_label("Name").fill("split")
    page.get_by_role("dialog").get_by_label("Value").fill("review")
    page.get_by_role("button", name="Tag 39 datapoints").click()
    bar = page.get_by_role("button", name=re.compile(r"^review\s*:"))
    expect(bar).to_have_accessible_name(re.compile(r"^review\s*:\s*39\s*of 39"))
    page.get_by_role("button", name="Undo").click()
    expect(bar).to_have_count(0)
    expect(page.get_by_role("button", name=re.compile(r"^train\s*:"))).to_be_visible()


def test_deleting_says_how_many_first(own: Server, web: Watched, records: Any) -> None:
    page = web.open(own.url)
    expect(page.get_by_role("gridcell").first).to_be_visible()
    for number in (1, 2):
        page.get_by_role("checkbox", name=f"Select datapoint {number}", exact=True).click()
    page.get_by_role("button", name="Delete", exact=True).click()
    dialog = page.get_by_role("dialog", name="Delete 2 datapoints?")
    dialog.get_by_role("button", name="Keep them").click()
    expect(count_of(page)).to_contain_text(f"{len(records)} datapoints")
    page.get_by_role("button", name="Delete", exact=True).click()
    dialog.get_by_role("button", name="Delete 2 datapoints").click()
    expect(count_of(page)).to_contain_text(f"{len(records) - 2} datapoints")
    expect(dialog).to_have_count(0)
