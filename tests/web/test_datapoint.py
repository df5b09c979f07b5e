"""The page of one datapoint."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

import httpx
from playwright.sync_api import expect

from tests.web.conftest import Server, Watched, eventually


def api(server: Server) -> httpx.Client:
    """A client with the session of whoever runs the server."""
    client = httpx.Client(base_url=server.url, headers={"x-katiml-web": "1"})
    session = client.post("/api/session", json={})
    assert session.json()["local"]
    cookies = dict(client.cookies)
    client.close()
    return httpx.Client(base_url=server.url, headers={"x-katiml-web": "1"}, cookies=cookies)


def first(server: Server, *filters: Any) -> str:
    with api(server) as client:
        body = {"selectColumns": ["id"], "filters": list(filters), "limit": 1}
        return str(client.post("/api/datapoints/select", json=body).json()[0]["id"])


def tagged(value: str) -> dict[str, Any]:
    return {"left": "tags.value", "op": "=", "right": value}


# Pixels of the image in the middle of the canvas, and how many of them differ from their neighbour.
_INK = """() => {
  const canvas = document.querySelector('main canvas');
  if (!canvas || !canvas.width) return 0;
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = 0;
  for (let i = 0; i < data.length; i += 97 * 4)
    sum = (sum * 31 + data[i] + data[i + 1] * 3 + data[i + 3]) % 1000003;
  return sum;
}"""


def test_an_image_with_its_layers(shared: Server, web: Watched) -> None:
    page = web.open(f"{shared.url}/datapoints/{first(shared, tagged('streets'))}")
    expect(page.get_by_role("heading", name="street-0000.jpg")).to_be_visible()
    before = eventually(page, f"({_INK})()")
    for layer in ("Masks", "Ground truths", "Predictions of street-l"):
        page.get_by_role("switch", name=layer).press("Space")
        before = eventually(page, f"(now => now !== {before} && now)(({_INK})())")
    page.keyboard.press("+")
    expect(page.get_by_text("140 %")).to_be_visible()
    box = page.locator("main canvas").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.wheel(0, -400)
    expect(page.get_by_text("140 %")).to_have_count(0)
    page.get_by_role("button", name="The whole image (0)").click()
    expect(page.get_by_text("100 %")).to_be_visible()


def test_predictions_side_by_side_and_the_raw_record(shared: Server, web: Watched) -> None:
    identity = first(shared, tagged("streets"))
    page = web.open(f"{shared.url}/datapoints/{identity}")
    details = page.get_by_role("complementary", name="Details")
    for model in ("street-s", "street-l"):
        expect(details.get_by_text(model).nth(1)).to_be_visible()
    expect(details.get_by_text("Ground truth", exact=True).first).to_be_visible()
    page.get_by_role("button", name="Show the JSON").click()
    record = json.loads(details.locator("pre").inner_text())
    assert record["id"] == identity
    assert {row["task_type"] for row in record["groundtruths"]} >= {
        "SEGMENTATION",
        "LANE_DETECTION",
    }


def test_previous_and_next_follow_the_query(shared: Server, web: Watched) -> None:
    search = f"filters={quote(json.dumps([tagged('photographs')]))}&order=id&desc=true"
    page = web.open(f"{shared.url}/datapoints/{first(shared, tagged('photographs'))}?{search}")
    # The first made is the last of the descending order; a link from elsewhere has to find out.
    expect(page.get_by_role("button", name="Next (→)")).to_be_disabled()
    page.get_by_role("button", name="Previous (←)").click()
    expect(page.get_by_role("button", name="Next (→)")).to_be_enabled()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="Next (→)")).to_be_disabled()


def test_a_region_is_a_part_of_its_image(shared: Server, web: Watched) -> None:
    part = first(shared, {"left": "tags.value", "op": "=", "right": "region"})
    with api(shared) as client:
        answer = client.get(f"/api/datapoints/{part}/thumbnail?size=512")
    width, height = map(int, answer.headers["x-image-size"].split("x"))
    # A third of 640 x a half of 427.
    assert (width, height) == (213, 214)
    web.open(f"{shared.url}/datapoints/{part}")


def test_text_with_its_completions(shared: Server, web: Watched) -> None:
    page = web.open(f"{shared.url}/datapoints/{first(shared, tagged('questions'))}")
    expect(page.get_by_role("region", name="Text")).to_contain_text("largest moon of Saturn")
    details = page.get_by_role("complementary", name="Details")
    expect(details).to_contain_text("Ganymede")
    expect(details).to_contain_text("hallucination_score 0.71")


def test_a_sound_is_played(shared: Server, web: Watched) -> None:
    page = web.open(f"{shared.url}/datapoints/{first(shared, tagged('chords'))}")
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    eventually(page, "document.querySelector('audio').currentTime > 0.1")
    # The wave has peaks of different heights once the file was decoded.
    eventually(
        page,
        "new Set([...document.querySelectorAll('main svg rect')]"
        ".map(bar => bar.getAttribute('height'))).size > 20",
    )


def test_tags_are_changed(own: Server, web: Watched) -> None:
    identity = first(own, tagged("streets"))
    page = web.open(f"{own.url}/datapoints/{identity}")
    page.get_by_label("Add a tag, as name = value").fill("seen = yes")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Remove the tag seen")).to_be_visible()
    page.get_by_role("button", name="Remove the tag source").click()
    expect(page.get_by_role("button", name="Remove the tag source")).to_have_count(0)
    with api(own) as client:
        rows = client.post(
            "/api/tags/select",
            json={"filters": [{"left": "datapoint", "op": "=", "right": identity}]},
        ).json()
    names = {row["name"] for row in rows}
    assert "seen" in names
    assert "source" not in names


def test_what_is_not_there(shared: Server, web: Watched) -> None:
    web.expected = {404, 422}
    page = web.open(f"{shared.url}/datapoints/01890a5d-0000-7000-8000-000000000000")
    expect(page.get_by_role("heading", name="No such datapoint")).to_be_visible()
    page.get_by_role("link", name="Back to the grid").click()
    expect(page.get_by_role("grid")).to_be_visible()
    expect(page).not_to_have_url(re.compile("datapoints"))
