"""`/docs` in a real browser: it stays on this host, and a delete made through it is one."""

import json
import os
import re

import pytest

from tests.browser import HOST, Browser, find_chromium

OPERATION = "#operations-tasks-deleteTask"
SCHEMA = f"{OPERATION} [data-code='500'] .response-col_description"


@pytest.fixture(name="database_url")
def _database_url(sqlite_url):
    """One database will do: the page knows of none."""
    return sqlite_url


@pytest.fixture(scope="module")
def chromium():
    """A browser; where none is installed, the tests are skipped, unless one is required."""
    program = find_chromium()
    if program is None:
        message = "no Chromium or Chrome: `apt-get install chromium` has one"
        required = os.environ.get("RECOUP_REQUIRE_CHROMIUM") == "1"
        pytest.fail(message) if required else pytest.skip(message)
    with Browser(program) as browser:
        yield browser


@pytest.fixture(name="browser")
def _browser(chromium):
    """The browser, with a new page."""
    with chromium.page():
        yield chromium


@pytest.fixture(name="url")
def _url(url):
    """The address as it would be elsewhere, with a host name."""
    return url.replace("127.0.0.1", HOST)


def outside(requests, url):
    """Return the requests that went to another host than ours."""
    return [address for address in requests if not address.startswith((f"{url}/", "data:"))]


@pytest.mark.parametrize("path", ["", "/", "/docs", "/docs/"])
def test_the_page_loads_from_this_host_alone_and_without_a_complaint(browser, url, path):
    """It is there by the bare address too, shows the document, asks nobody else and is well."""
    browser.open(f"{url}{path}")
    assert "Recoup task deletion" in browser.text(".info .title")
    assert "/api/tasks" in browser.text(OPERATION)
    assert f"{url}/openapi.json" in browser.requests
    assert outside(browser.requests, url) == []
    assert browser.problems == []


def test_the_browser_is_kept_from_sending_a_key_elsewhere(browser, url):
    """A script in the page that asks another origin is refused by the page's policy."""
    browser.open(f"{url}/docs")
    browser.text(".info .title")
    browser.evaluate("fetch('http://127.0.0.1:1/').catch(error => { window.refused = true })")
    browser.wait("window.refused")
    assert "Content Security Policy" in str(browser.problems)


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_the_page_is_as_dark_as_the_reader_has_it(browser, url, scheme, is_dark):
    """Background and text follow the system's choice, and are never both light or both dark."""
    browser.look(scheme=scheme)
    browser.open(f"{url}/docs")
    browser.click(f"{OPERATION} .opblock-summary-control")
    browser.text(f"{OPERATION} .header-col")
    assert (brightness(browser, "html", "backgroundColor") < 128) is is_dark
    for text in (".info .title", ".header-col", ".examples-select__section-label"):
        assert (brightness(browser, text, "color") > 128) is is_dark


def test_the_page_fits_a_telephone(browser, url):
    """Nothing is wider than the screen, be the answers shown as examples or as schemas."""
    browser.look(width=360)
    browser.open(f"{url}/docs")
    browser.click(f"{OPERATION} .opblock-summary-control")
    browser.click(f"{OPERATION} [data-code='500'] .tablinks[data-name=model]")
    browser.text(f"{SCHEMA} .model-box")
    assert browser.evaluate("document.documentElement.scrollWidth") == 360
    width = "document.querySelector({}).getBoundingClientRect().width"
    assert browser.evaluate(width.format(json.dumps(SCHEMA))) > 180


def brightness(browser, selector, what):
    """Return how bright a colour of an element is, from 0 to 255; a transparent one is white."""
    style = f"getComputedStyle(document.querySelector({json.dumps(selector)})).{what}"
    red, green, blue, *alpha = map(float, re.findall(r"[\d.]+", browser.evaluate(style)))
    return 255 if alpha == [0] else (red + green + blue) / 3


def test_a_delete_made_through_the_page_is_a_delete(browser, url, world):
    """Paste a key, name a task, press Execute: 200, and row and schedule are gone."""
    owner = world.account()
    task, other = world.task(owner), world.task(owner)
    browser.open(f"{url}/docs")
    browser.click("button.authorize")
    browser.fill("#api_key_value", world.key(owner))
    browser.click(".auth-container button.authorize")
    browser.click("button.btn-done")
    browser.click(f"{OPERATION} .opblock-summary-control")
    browser.click(f"{OPERATION} .try-out__btn")
    browser.fill(f"{OPERATION} textarea.body-param__text", json.dumps({"id": task}))
    browser.click(f"{OPERATION} button.execute")
    assert browser.text(f"{OPERATION} .live-responses-table tbody .response-col_status") == "200"
    assert (world.row(task), world.schedule_ids(task)) == (None, [])
    assert world.row(other)
    assert len(world.schedule_ids(other)) == 1
    assert outside(browser.requests, url) == []
    assert browser.problems == []
