"""Every page in light and dark, as axe-core judges it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.web.conftest import AXE, Server, Watched
from tests.web.test_datapoint import first, tagged

STREETS = quote(json.dumps([tagged("streets")]))
OPEN = quote(json.dumps(["groundtruths", "predictions", "tags.hour", "latency_ms"]))


def violations(page: Any) -> list[str]:
    """Serious and critical findings, each with the first place it was found at."""
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {one['help']}: {one['nodes'][0]['html'][:200]} ({len(one['nodes'])})"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: `make web`")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_finding(theme: str, shared: Server, web: Watched) -> None:
    street, text = first(shared, tagged("streets")), first(shared, tagged("questions"))
    pages = {
        f"/?filters={STREETS}&open={OPEN}": ("grid", "Datapoints"),
        "/": ("grid", "Datapoints"),
        f"/datapoints/{street}": ("button", "Zoom in (+)"),
        f"/datapoints/{text}": ("region", "Text"),
        "/uploads": ("heading", "History"),
        "/sql": ("textbox", "SQL"),
        "/settings": ("heading", "API keys"),
    }
    found = {}
    for path, (role, name) in pages.items():
        page = web.open(shared.url + path, theme=theme)
        page.get_by_role(role, name=name).first.wait_for()
        page.wait_for_timeout(700)
        found[path] = violations(page)
        page.context.close()
    web._contexts.clear()
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: `make web`")
def test_what_opens_over_a_page(shared: Server, web: Watched) -> None:
    page = web.open(f"{shared.url}/?filters={STREETS}")
    page.get_by_role("button", name="Layers").click()
    page.get_by_role("switch", name="Masks").wait_for()
    found = {"layers": violations(page)}
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Select all", exact=True).click()
    for name in ("Tag", "Delete"):
        page.get_by_role("button", name=name, exact=True).click()
        page.get_by_role("dialog").wait_for()
        page.wait_for_timeout(300)
        found[name] = violations(page)
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
    page.get_by_role("combobox", name="Add a filter").fill("tags")
    page.get_by_role("option").first.wait_for()
    found["suggestions"] = violations(page)
    assert {where: wrong for where, wrong in found.items() if wrong} == {}
