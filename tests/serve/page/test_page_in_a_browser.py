"""The page in headless Chromium: nothing that axe finds, keys alone suffice, and what scripts do."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image
from serve_doubles import COPIED, ITEM, ORDINARY, THRESHOLDS, RunningServer

from steerclear.library import Library
from steerclear.records import Keep, Records

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
NARROW, WIDE = {"width": 390, "height": 800}, {"width": 1200, "height": 850}
SMALLEST = 24  # CSS pixels of a target: WCAG 2.5.8


class Reviewed(NamedTuple):
    """A server that keeps small pictures of what it has flagged.

    Attributes:
        url: where it listens.
        key: with every scope.
        records: its database.
    """

    url: str
    key: str
    records: Records


@pytest.fixture(scope="module")
def reviewed(assets, options) -> Iterator[Reviewed]:
    """A server whose library has a calibration with a curve, and whose incidents have pictures."""
    curve = [
        {"threshold": i / 10, "clean": max(0.0, 1 - i / 5), "copies": min(1.0, 2 - i / 5)} for i in range(11)
    ]
    evidence = {"made": "2026-01-01", "fpr": 0.01, "clean": 50, "copies": 40}
    by_filter = {name: {"curve": curve} for name in THRESHOLDS}
    library = Library.open(assets / "library")
    before = library.read_note("calibration")
    library.write_note(
        "calibration", {"thresholds": THRESHOLDS, "evidence": {**evidence, "by_filter": by_filter}}
    )
    key = os.urandom(32)
    os.environ["STEERCLEAR_RECORDS_KEY"] = base64.b64encode(key).decode()
    records = Records.open(f"sqlite:///{assets / 'reviewed.db'}", Keep(key=key))
    secret = records.keys.add("anna", ("generate", "review", "admin"))[1]
    database = ("--database", assets / "reviewed.db", "--keep-thumbnails", 1, "--most-steps", 999)
    server = RunningServer(assets / "reviewed.log", *options, *database)
    del os.environ["STEERCLEAR_RECORDS_KEY"]
    try:
        yield Reviewed(server.until_ready().url, secret, records)
    finally:
        records.close()
        server.stop()
        library.write_note("calibration", before)


@pytest.fixture
def page(chromium, reviewed) -> Iterator[Any]:
    """A browser's page, logged in by typing the key. What its console complains of fails the test."""
    import axe_playwright_python

    context = chromium.new_context(viewport=WIDE, base_url=reviewed.url)
    context.add_init_script(path=Path(axe_playwright_python.__file__).parent / "axe.min.js")
    context.set_default_timeout(60_000)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto("/login")
    opened.keyboard.type(reviewed.key)
    opened.keyboard.press("Enter")
    opened.wait_for_url("**/generate")
    yield opened
    context.close()
    assert complaints == []


def generate(page, prompt, **fields):
    """Fill the form, send it, and wait for the result."""
    page.goto("/generate")
    page.fill("#prompt", prompt)
    for name, value in {"seed": "0", **fields}.items():
        page.fill(f"#{name}", value)
    page.locator("form button.primary").click()
    page.wait_for_selector(".results, #run .error")


def incident(page):
    """The address of a new incident."""
    generate(page, COPIED)
    return page.get_by_role("link", name="Incident", exact=True).get_attribute("href")


def violations(page):
    """What axe finds, in words."""
    said = page.evaluate("(rules) => axe.run(document, {runOnly: {type: 'tag', values: rules}})", RULES)
    return [f"{v['id']}: {[n['html'][:120] for n in v['nodes']]}" for v in said["violations"]]


def small_targets(page):
    """What can be pressed and is smaller than it may be; links within a sentence may be."""
    return page.evaluate(
        """(smallest) => [...document.querySelectorAll("button, input, select, a, summary")]
            .filter((e) => e.checkVisibility() && !e.matches("p a, figcaption a, dd a, .skip"))
            .filter((e) => { const box = e.getBoundingClientRect();
                             return box.width < smallest || box.height < smallest; })
            .map((e) => e.outerHTML.slice(0, 120))""",
        SMALLEST,
    )


def check(page):
    """Every rule, light and dark, wide and narrow."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert violations(page) == [], (page.url, scheme)
    page.set_viewport_size(NARROW)
    assert violations(page) == [], (page.url, "narrow")
    assert small_targets(page) == [], page.url
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], page.url
    page.set_viewport_size(WIDE)


def test_a_steered_picture_is_compared_with_what_was_flagged_by_a_slider(page):
    generate(page, COPIED)
    slider = page.get_by_role("slider")
    assert slider.get_attribute("aria-valuenow") == "50"
    slider.focus()
    page.keyboard.press("ArrowRight", delay=300)
    assert int(slider.get_attribute("aria-valuenow")) > 50
    sizes = page.eval_on_selector_all(
        "img-comparison-slider img", "all => all.map((img) => img.naturalWidth)"
    )
    assert all(width > 0 for width in sizes)
    assert len(sizes) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generate", "library", "incidents", "calibration", "health"])
def test_axe_finds_nothing_on_any_page(page, name):
    page.goto(f"/{name}")
    check(page)


@pytest.mark.slow
def test_axe_finds_nothing_on_results_items_incidents_questions_and_errors(page):
    reported = incident(page)
    check(page)
    for path in (reported, f"/library/items/{ITEM}", f"/library/items/{ITEM}/remove"):
        page.goto(path)
        check(page)
    page.goto("/health")
    page.get_by_role("button", name="Verify the records").click()
    page.get_by_role("heading", name="The records are whole").wait_for()
    check(page)
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    check(page)


@pytest.mark.slow
def test_incidents_are_decided_by_keys_alone(page, reviewed):
    first, second = incident(page), incident(page)
    while reviewed.records.incidents.list(state="open", limit=1)[0].id not in first:
        claimed = reviewed.records.incidents.claim("somebody")
        reviewed.records.incidents.decide(claimed.id, "copy", "somebody")
    page.goto("/incidents")
    page.keyboard.press("j")
    page.wait_for_url(f"**{first}")
    page.keyboard.press("j")
    page.wait_for_url(f"**{second}")
    page.keyboard.press("k")
    page.wait_for_url(f"**{first}")
    page.focus("#note")
    page.keyboard.type("a joke about a fox")  # letters in a field are letters
    assert page.input_value("#note") == "a joke about a fox"
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("o")
    page.wait_for_url(f"**{second}")
    page.keyboard.press("a")
    page.wait_for_url("**/incidents")
    decided = [reviewed.records.incidents.get(path.split("/")[-1]).decided for path in (first, second)]
    assert [(d.decision, d.note) for d in decided] == [("no_copy", "a joke about a fox"), ("copy", "")]


@pytest.mark.slow
def test_the_keys_can_be_switched_off(page):
    path = incident(page)
    page.goto(path)
    page.uncheck("#keys")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("k")
    page.wait_for_timeout(300)
    assert page.url.endswith(path)
    page.reload()
    assert not page.is_checked("#keys")


@pytest.mark.slow
def test_progress_is_shown_and_a_request_is_cancelled_by_keyboard(page):
    page.goto("/generate")
    page.fill("#prompt", ORDINARY)
    page.fill("#num_inference_steps", "900")
    page.keyboard.press("Tab")
    page.locator("form button.primary").press("Enter")
    page.wait_for_selector("progress[max]")
    before = page.inner_text("#run .hint")
    page.locator("#cancel").focus()
    page.wait_for_function(
        "(before) => document.querySelector('#run .hint').innerText !== before", arg=before
    )
    assert page.evaluate("document.activeElement.id") == "cancel"  # the part that changes takes no focus away
    page.keyboard.press("Enter")
    page.get_by_text("the request was ended").wait_for()


@pytest.mark.slow
def test_pictures_are_added_by_drag_and_drop(page, tmp_path):
    file = tmp_path / "crane.png"
    Image.effect_noise((64, 64), 70).convert("RGB").save(file)
    page.goto("/library")
    dropped = page.evaluate_handle(
        """(bytes) => { const files = new DataTransfer();
            const raw = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
            files.items.add(new File([raw], "crane.png", {type: "image/png"})); return files; }""",
        base64.b64encode(file.read_bytes()).decode(),
    )
    page.dispatch_event("form.drop[action='/library']", "drop", {"dataTransfer": dropped})
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text("added: crane").wait_for()
    page.goto("/library/items/crane")
    page.get_by_role("link", name="Remove …").click()
    page.get_by_role("button", name="Remove it").click()
    page.get_by_text("removed: crane").wait_for()


@pytest.mark.slow
def test_another_threshold_is_counted_while_it_is_moved(page):
    page.goto("/calibration")
    page.locator("#panel-nearest svg").wait_for()
    slide = page.get_by_role("slider", name="nearest: threshold")
    slide.fill("0.6")
    page.locator("#panel-nearest caption", has_text="From 0.6 on").wait_for()
    row = page.locator("#panel-nearest tr", has_text=re.compile("^copies"))
    assert "80 %" in row.inner_text()


@pytest.mark.slow
def test_the_page_works_without_scripts(chromium, reviewed):
    context = chromium.new_context(java_script_enabled=False, base_url=reviewed.url)
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto("/generate")
    page.fill("#key", reviewed.key)
    page.get_by_role("button", name="Log in").click()
    page.fill("#prompt", ORDINARY)
    page.locator("form button.primary").click()
    page.wait_for_selector(".results")
    page.goto("/calibration")
    page.locator("#try-1").fill("0.5")
    page.locator("#try-1").press("Enter")
    page.get_by_text("From 0.5 on").wait_for()
    context.close()
