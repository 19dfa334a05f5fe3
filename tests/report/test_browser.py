"""The page in a real browser, opened from disk; skipped where there is none."""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.conftest import HOSTILE, data_of, play
from wambench.report.report import report

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install playwright)")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTHS = (1280, 390)
VIEWS = ("leaderboard", "tasks", "compare", "time", "attribution", "episodes", "about")
SHOWN = "document.querySelector('video').currentTime"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    with playwright.sync_playwright() as driver:
        try:
            started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium starts here: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture
def films(browser: Any) -> None:
    """Skips a test that plays films in a Chromium that was built without H.264."""
    page = browser.new_page()
    if not page.evaluate("document.createElement('video').canPlayType('video/mp4; codecs=\"avc1.42E01E\"')"):
        pytest.skip("this Chromium was built without H.264")
    page.close()


class Tab:
    """A tab that remembers what went wrong in it.

    Args:
        browser: That it is opened in.
        site: Folder of the page.
        width: Of the window in pixels.
        more: Options of the context.
    """

    def __init__(self, browser: Any, site: Path, width: int = 1280, **more: Any) -> None:
        self.url = f"{(site / 'index.html').as_uri()}"
        self.page = browser.new_context(viewport={"width": width, "height": 844}, **more).new_page()
        self.page.set_default_timeout(15000)
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page.on(
            "console", lambda said: self.wrong.append(said.text) if said.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, place: str = "") -> Any:
        """Opens the page at a place as somebody does who follows a link."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}{place}")
        return self.page

    def check(self) -> None:
        """Nothing went wrong, nothing came from elsewhere, and no text of a run was run."""
        assert self.wrong == []
        assert {url.split(":")[0] for url in self.asked} <= {"file", "about", "data"}
        assert self.page.evaluate("window.hacked") is None


def column(page: Any, number: int) -> list[str]:
    return page.locator(f"tbody tr > :nth-child({number})").all_inner_texts()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_view_opens_without_errors_and_fits(browser: Any, site: Path, width: int, scheme: str) -> None:
    tab = Tab(browser, site, width, color_scheme=scheme)
    for view in VIEWS:
        page = tab.open(f"#/{view}")
        assert page.locator("#nav [aria-current]").inner_text().lower() == view
        assert page.locator("h1").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{view} is wider than the screen"
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (int(re.findall(r"\d+", background)[0]) > 128) == (scheme == "light")
    tab.check()


def test_leaderboard_sorts_and_filters_and_the_address_tells(browser: Any, site: Path) -> None:
    tab = Tab(browser, site)
    page = tab.open()
    assert page.locator("h1").inner_text() == "Leaderboard"
    means = [float(text.split()[0]) for text in column(page, 4)]
    assert len(means) == 3 and means == sorted(means, reverse=True)
    page.get_by_role("button", name="Progress").click()
    assert [float(text.split()[0]) for text in column(page, 4)] == sorted(means)
    assert page.locator("th[aria-sort=ascending]").count() == 1
    page.get_by_role("button", name="Policy").click()
    names = column(page, 2)
    assert names == sorted(names, key=str.lower)
    page.get_by_label("Policy", exact=True).fill("STEA")
    assert len(column(page, 2)) == 1 and column(page, 2)[0].startswith("steady")
    page.get_by_label("Split").select_option("unseen-envs")
    assert column(page, 2)[0].split() == ["steady", "2", "recordings"] and "unseen-envs" in page.url
    again = tab.open(f"#{page.url.split('#')[1]}")
    assert again.get_by_label("Policy", exact=True).input_value() == "STEA"
    assert again.locator("th[aria-sort]").inner_text() == "Policy"
    again.get_by_label("Policy", exact=True).fill("nobody")
    assert "No policy fits" in again.locator("main").inner_text()
    tab.check()


def test_names_that_are_markup_are_names(browser: Any, site: Path) -> None:
    tab = Tab(browser, site)
    for view in ("leaderboard", "tasks", "compare", "episodes", "about"):
        page = tab.open(f"#/{view}")
        assert HOSTILE in page.locator("main").inner_text() or HOSTILE in page.locator("main").inner_html().replace(
            "&lt;", "<"
        ).replace("&gt;", ">")
    page = tab.open("#/episodes?outcome=error")
    page.locator(".card").first.click()
    assert "window.hacked=1" in page.locator("h1").inner_text()
    assert "more letters" in page.locator("dl").first.inner_text()
    assert page.locator("main img, main script").count() == 0
    tab.check()


@pytest.mark.parametrize("width", WIDTHS)
def test_an_episode_plays_and_steps(browser: Any, films: None, site: Path, width: int) -> None:
    tab = Tab(browser, site, width)
    page = tab.open("#/episodes?policy=steady&split=seen")
    assert page.locator(".card").count() == 4
    page.locator(".card").first.click()
    page.wait_for_function("document.querySelector('video').readyState >= 2")
    assert page.evaluate("document.querySelector('video').videoWidth") == 388
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function(f"{SHOWN} > 0.5")
    page.wait_for_function("document.querySelector('video').ended")
    slider = page.get_by_label("Moment")
    last = int(slider.get_attribute("max"))
    assert int(slider.input_value()) == last
    page.keyboard.press("Home")
    page.wait_for_function("document.querySelector('input[type=range]').value === '0'")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('input[type=range]').value === '1'")
    assert slider.get_attribute("aria-valuetext").startswith("0.2 s, progress")
    text = page.locator("main").inner_text()
    for part in ("What was imagined", "wambench run --policy tests.stubs:Steady", "Seed", "intervention", "video"):
        assert part.lower() in text.lower(), part
    assert page.locator("svg .chunk").count() >= 2 and page.locator("svg .stage").count() >= 1
    assert page.locator("svg .lost").count() == 1
    tab.check()


def test_a_shared_link_leads_to_its_moment(browser: Any, films: None, site: Path) -> None:
    entry = next(e for e in data_of(site)["episodes"] if e["policy"] == "slow" and e["episode"] == 1)
    tab = Tab(browser, site)
    page = tab.open(f"#/episode/{entry['id']}?t=1.2")
    page.wait_for_function(f"{SHOWN} > 0.1")
    assert page.locator(".when").inner_text().startswith("1.2 s")
    assert entry["prompt"] in page.locator("h1").inner_text()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelector('.when').textContent.startsWith('1.0 s')")
    page.get_by_role("button", name="Copy link").click()
    assert page.url.endswith("t=1.0")
    page.get_by_role("link", name="Previous").click()
    assert entry["id"] not in page.url and page.locator("video").count() == 1
    page = tab.open("#/episode/no/such")
    assert "No such episode" in page.locator("main").inner_text()
    tab.check()


def test_compare_turns_round(browser: Any, site: Path) -> None:
    tab = Tab(browser, site)
    page = tab.open("#/compare?split=seen&factor=none&a=steady&b=slow")
    first = page.locator(".big").inner_text()
    assert first == "+0.50"
    page.get_by_label("A", exact=True).select_option("slow")
    assert page.locator(".big").inner_text() == "−0.50"
    tab.check()


def test_theme_and_keyboard(browser: Any, site: Path) -> None:
    tab = Tab(browser, site)
    page = tab.open()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("#theme").click()
    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    tab.check()


def test_without_scripts_the_rates_are_there(browser: Any, site: Path) -> None:
    page = Tab(browser, site, java_script_enabled=False).open()
    assert "steady" in page.locator("noscript table, main table").first.inner_text()


def test_a_policy_that_never_played_is_shown(browser: Any, tmp_path: Path) -> None:
    runs = [play(f"tests.stubs:{name}", tmp_path / "runs" / name, 1) for name in ("Listener", "Steady")]
    site = report(runs, tmp_path / "site").parent
    tab = Tab(browser, site)
    for view in ("leaderboard", "tasks", "compare", "episodes"):
        tab.open(f"#/{view}")
    page = tab.open("#/episodes?outcome=error")
    page.locator(".card").first.click()
    assert "told to" in page.locator("dl").first.inner_text()
    assert "policy error" in page.locator("dl").first.inner_text()
    tab.check()


def test_without_its_film_an_episode_has_its_last_frame(browser: Any, site: Path, tmp_path: Path) -> None:
    copy = tmp_path / "site"
    shutil.copytree(site, copy, ignore=shutil.ignore_patterns("*.mp4"))
    entry = data_of(site)["episodes"][0]
    page = Tab(browser, copy).open(f"#/episode/{entry['id']}")
    page.wait_for_selector(".film img")
    assert "does not play the film" in page.locator("main").inner_text()
    assert page.get_by_role("button", name="Play", exact=True).is_disabled()


def test_a_static_host_serves_it(browser: Any, films: None, site: Path) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/#/episodes")
        page.locator(".card").first.click()
        page.wait_for_function("document.querySelector('video').readyState >= 2")
        page.close()
        server.shutdown()
