"""A report in a real browser: opened from disk, searched, clicked, typed at, and read aloud.

Needs Chromium with its driver, and for accessibility axe-core: `make browser`. Where they are not
there the tests are skipped, but never with BROWSER_TESTS=required.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.report import write
from pipeline.report.choice import Choice
from pipeline.report.stored import StoredRun
from pipeline.report.write import write_report
from tests.report.conftest import HOSTILE
from tests.report.test_pages import data_of

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = ("serious", "critical")


def absent(what: str) -> None:
    """Skip the test, or fail it where everything has to be there."""
    reason = f"{what} is not installed: make browser"
    pytest.fail(reason) if os.environ.get("BROWSER_TESTS") == "required" else pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window, of 1280 x 900 pixels, that may reach no host."""
    selenium = pytest.importorskip("selenium.webdriver")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        absent("Chromium or chromedriver")
    options = selenium.ChromeOptions()
    options.binary_location = program
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    try:
        yield found
    finally:
        found.quit()


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Page]:
    """The report in the browser; afterwards no host was asked and no error was logged."""
    opened = Page(browser, report)
    opened.size(1280, 900)
    yield opened
    errors = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    assert errors == []
    assert opened.asked_hosts() == []


class Page:
    """A page of a report, and what a person does with it."""

    def __init__(self, browser: Any, folder: Path) -> None:
        self.browser, self.folder = browser, folder

    def open(self, place: str) -> None:
        self.browser.get("about:blank")
        self.browser.get(f"{self.folder.as_uri()}/{place}")

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements("css selector", selector)  # type: ignore[no-any-return]

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.all(selector)]

    def run(self, script: str, *values: Any) -> Any:
        return self.browser.execute_script(script, *values)

    def choose(self, selector: str, value: str) -> None:
        from selenium.webdriver.support.select import Select

        Select(self.find(selector)).select_by_value(value)

    def key(self, name: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        ActionChains(self.browser).send_keys(getattr(Keys, name, name)).perform()
        self.painted()

    def painted(self) -> None:
        """Wait until what an event changes is drawn, such as the address."""
        frames = "requestAnimationFrame(() => requestAnimationFrame(() => done()));"
        self.browser.execute_async_script(f"const done = arguments[0]; {frames}")

    def fragment(self) -> str:
        return str(self.run("return decodeURIComponent(location.hash)"))

    def is_shown(self, selector: str) -> bool:
        return any(element.is_displayed() for element in self.all(selector))

    def asked_hosts(self) -> list[str]:
        events = [
            json.loads(each["message"])["message"] for each in self.browser.get_log("performance")
        ]
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [p["request"]["url"] for p in sent if p["request"]["url"].startswith("http")]


def test_results_open_and_follow_a_choice(page: Page) -> None:
    page.open("index.html")
    assert all(page.run("return !!arguments[0].data", chart) for chart in page.all(".chart"))
    rows = len(page.all("#class-table tbody tr"))
    assert rows == len(data_of(page.folder, "index.html")["classes"]["labels"])
    name = page.texts("#class-table tbody th")[0]
    page.find("#class-search").send_keys(name.upper())
    assert name in page.texts("#class-table tbody th")
    page.find("#class-search").send_keys("no such class")
    assert page.texts("#class-table tbody th") == []
    page.run("document.getElementById('class-search').value = ''; drawClasses()")
    page.find('#class-table button[data-by="name"]').click()
    assert page.texts("#class-table tbody th") == sorted(page.texts("#class-table tbody th"))
    page.choose("#base", "abs")
    assert "ABS" in page.run(
        "return document.getElementById('chart-tests').layout.xaxis.title.text"
    )


def test_images_are_filtered_and_searched(page: Page) -> None:
    page.open("crops.html")
    entries = data_of(page.folder, "crops.html")["entries"]
    assert len(page.all("#gallery a")) == len(entries)
    wrong = [entry for entry in entries if not entry["correct"]]
    page.choose("#group", "wrong")
    assert len(page.all("#gallery a")) == len(wrong)
    page.choose("#group", "")
    page.find("#search").send_keys(entries[-1]["id"])
    assert len(page.all("#gallery a")) == 1
    assert page.find(".path").text == entries[-1]["id"]
    page.find("#search").send_keys("?")
    assert "No image is found" in page.find("#detail").text


def test_a_click_on_a_crop_shows_what_it_saw_and_matched(page: Page) -> None:
    page.open("crops.html")
    page.find('button[data-crop="feature-1"]').click()
    assert "crop=feature-1" in page.fragment()
    assert page.find("#matched").text == "What feature 1 saw"
    first = data_of(page.folder, "crops.html")["entries"][0]
    number, *_ = first["branches"]["feature"]["crops"][0]["texts"][0]
    text = data_of(page.folder, "crops.html")["texts"][number][1]
    assert page.texts(".matched bdi")[0] == text
    box = page.find('g[data-crop="raw-1"] rect')
    page.run("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", box)
    assert page.find("#matched").text == "What raw 1 saw"


def test_boxes_are_drawn_where_the_crops_lie(page: Page) -> None:
    entries = data_of(page.folder, "crops.html")["entries"]
    entry = next(e for e in entries if e["width"] != e["height"])
    page.open(f"crops.html#image={entry['row']}")
    tokens = data_of(page.folder, "crops.html")["tokens"]
    left, top, right, bottom = entry["seen"]
    for place, crop in enumerate(entry["branches"]["feature"]["crops"][:4]):
        drawn = page.find(f'g[data-crop="feature-{place + 1}"] rect')
        found = [float(drawn.get_attribute(name)) for name in ("x", "y", "width", "height")]
        box = crop["box"]
        wide, high = (right - left) / tokens, (bottom - top) / tokens
        expected = [
            left + box[0] * wide,
            top + box[1] * high,
            (box[2] - box[0]) * wide,
            (box[3] - box[1]) * high,
        ]
        assert found == pytest.approx(expected)
    box = entry["branches"]["raw"]["crops"][0]["box"]
    drawn = page.find('g[data-crop="raw-1"] rect')
    assert [float(drawn.get_attribute(n)) for n in ("x", "y")] == pytest.approx(box[:2])


def test_keys_walk_through_images_crops_and_layers(page: Page) -> None:
    page.open("crops.html")
    ids = [entry["id"] for entry in data_of(page.folder, "crops.html")["entries"]]
    page.key("ARROW_RIGHT")
    assert page.find(".path").text == ids[1]
    page.key("ARROW_LEFT")
    assert page.find(".path").text == ids[0]
    page.key("ARROW_DOWN")
    page.key("ARROW_DOWN")
    pressed = page.all('.crop-list button[aria-pressed="true"]')
    assert len(pressed) == 1
    assert pressed[0].get_attribute("data-crop") == page.all(".crop-list button")[1].get_attribute(
        "data-crop"
    )
    assert page.is_shown("#attention")
    page.key("1")
    assert not page.all("#attention")
    page.key("/")
    assert page.browser.switch_to.active_element.get_attribute("id") == "search"
    page.key("1")  # typed, not a command
    assert page.find("#search").get_attribute("value") == "1"


def test_a_link_opens_one_image_and_back_leads_back(page: Page) -> None:
    entries = data_of(page.folder, "crops.html")["entries"]
    page.open(f"crops.html#image={entries[2]['row']}&crop=raw-2")
    assert page.find(".path").text == entries[2]["id"]
    assert page.find("#matched").text == "What raw 2 saw"
    page.all("#gallery a")[0].click()
    page.painted()
    assert page.find(".path").text == entries[0]["id"]
    page.browser.back()
    page.painted()
    assert page.find(".path").text == entries[2]["id"]
    assert page.find("#matched").text == "What raw 2 saw"


def test_a_narrow_screen_shows_the_list_or_an_image(page: Page) -> None:
    page.size(390, 800)
    for place in ("index.html", "crops.html"):
        page.open(place)
        assert page.run("return document.documentElement.scrollWidth") <= 390
    assert page.is_shown("#gallery")
    assert not page.is_shown("#detail")
    page.all("#gallery a")[1].click()
    assert page.is_shown(".stage")
    assert not page.is_shown("#gallery")
    assert page.run("return document.documentElement.scrollWidth") <= 390
    page.browser.back()
    assert page.is_shown("#gallery")
    assert not page.is_shown("#detail")


def test_names_that_look_like_markup_are_shown_as_they_are(
    browser: Any, report: Path, run: StoredRun, tmp_path: Path
) -> None:
    shutil.copytree(report, tmp_path / "report")
    for name in ("index.html", "crops.html"):
        data = data_of(report, name)
        names = {str(label): text for label, text in enumerate(HOSTILE[:2])}
        if name == "index.html":
            data["names"], data["classes"]["names"] = list(HOSTILE[:2]), list(HOSTILE[:2])
            data["remarks"] = [{"text": text, "files": []} for text in HOSTILE]
        else:
            data["names"], data["texts"] = (
                names,
                [[label, HOSTILE[3]] for label, _ in data["texts"]],
            )
            data["entries"][0]["id"] = HOSTILE[2] + HOSTILE[3]
        (tmp_path / "report" / name).write_bytes(write._rendered(name, run, data))
    page = Page(browser, tmp_path / "report")
    for width in (1280, 390):
        page.size(width, 800)
        page.open("index.html")
        assert set(page.texts("#class-table tbody th")) == set(HOSTILE[:2])
        page.open(f"crops.html#image={data_of(report, 'crops.html')['entries'][0]['row']}")
        assert page.find("h1").text in HOSTILE[:2]
        assert page.run("return document.documentElement.scrollWidth") <= width
        assert page.run("return window.broken") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", ["index.html", "crops.html#crop=raw-1", "single"])
def test_nothing_serious_stands_in_the_way_of_reading_it(
    page: Page, run: StoredRun, tmp_path: Path, place: str, scheme: str
) -> None:
    if not AXE.is_file():
        absent("axe-core")
    if place == "single":
        write_report(run, tmp_path / "single", Choice(images=["1"]), say=lambda _: None)
        page.folder, place = tmp_path / "single", "crops.html"
        page.size(390, 800)
    features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
    page.open(place)
    page.run("for (const each of document.querySelectorAll('details')) each.open = true")
    page.run(AXE.read_text())
    found = page.browser.execute_async_script(
        "axe.run(document, {preload: false}).then(arguments[0])"
    )
    serious = [
        (each["id"], node["html"][:200], node["failureSummary"])
        for each in found["violations"]
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert serious == []
    assert found["passes"]


def test_a_link_to_an_image_below_shows_the_page_from_its_top(page: Page) -> None:
    page.size(1280, 500)
    last = data_of(page.folder, "crops.html")["entries"][-1]
    page.open(f"crops.html#image={last['row']}")
    chosen, listed = (
        page.run("return arguments[0].getBoundingClientRect().toJSON()", page.find(selector))
        for selector in ("#gallery [aria-current]", "#gallery")
    )
    assert listed["top"] <= chosen["top"]
    assert chosen["bottom"] <= listed["bottom"] + 1
    assert page.run("return scrollY") == 0
