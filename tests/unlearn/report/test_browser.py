"""The page in a browser: it loads nothing, runs nothing, fits a phone, prints, and everybody can use it."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.unlearn.report.made import audit, everything, nothing, rows
from unlearn.report import Report, write

pytestmark = pytest.mark.browser

PHONE, NARROWEST, DESKTOP = (360, 740), (320, 640), (1280, 900)
SECTIONS = ["status", "requests", "forgotten", "shards", "cost", "audits", "epsilon", "receipts", "limits"]


def quiet() -> Report:
    """What most will see: no trouble, and texts of usual length."""
    report = everything()
    return replace(
        report,
        name="people",
        model=replace(report.model, learner="MLPLearner"),
        shards=replace(report.shards, rows=rows(20, 5), n_slices=5, batches=1),
        audits=(audit(),),
        refused=(),
    )


def wide() -> Report:
    """Many batches: more columns than a phone has room for."""
    report = everything()
    return replace(report, shards=replace(report.shards, rows=rows(12, 60), n_slices=5, batches=20, first_batch=8))


REPORTS: dict[str, Callable[[], Report]] = {"all": everything, "nothing": nothing, "quiet": quiet, "wide": wide}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser of this machine. Without one the tests fail: they are chosen by their marker, never skipped."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found is not None, "these tests need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {name: write(make(), folder / f"{name}.html") for name, make in REPORTS.items()}


@contextmanager
def opened(chromium: Any, file: Path, size: tuple[int, int], scheme: str = "light") -> Iterator[Any]:
    """A page, which must not ask for anything but itself, nor complain."""
    context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append("dialog"), dialog.dismiss()))
    page.goto(file.as_uri())
    yield page
    assert {url.partition("#")[0] for url in asked} == {file.as_uri()}
    assert said == []
    context.close()


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("size", [NARROWEST, PHONE, DESKTOP], ids=["narrowest", "phone", "desktop"])
def test_it_fits_and_asks_for_nothing(chromium: Any, pages: dict[str, Path], name: str, size: tuple[int, int]) -> None:
    with opened(chromium, pages[name], size) as page:
        width = page.evaluate("document.documentElement.scrollWidth")
        beyond = page.evaluate(
            """width => [...document.querySelectorAll('main *, header *, footer *')]
                .filter(item => !item.closest('.scroll, .hidden, thead'))
                .filter(item => item.getBoundingClientRect().right > width + 1)
                .map(item => item.tagName + ' ' + item.textContent.slice(0, 60))""",
            size[0],
        )
    assert width == size[0]
    assert beyond == []


@pytest.mark.parametrize("name", ["all", "nothing"])
def test_every_link_leads_somewhere(chromium: Any, pages: dict[str, Path], name: str) -> None:
    with opened(chromium, pages[name], DESKTOP) as page:
        links = page.locator("nav a")
        assert links.count() == len(SECTIONS)
        for number, section in enumerate(SECTIONS):
            links.nth(number).click()
            assert page.evaluate("location.hash") == f"#{section}"
            top = page.evaluate(f"document.getElementById('{section}').getBoundingClientRect().top")
            at_end = page.evaluate("innerHeight + scrollY >= document.documentElement.scrollHeight - 2")
            assert -1 <= top <= 40 or at_end


def test_the_keyboard_reaches_everything_and_shows_where_it_is(chromium: Any, pages: dict[str, Path]) -> None:
    with opened(chromium, pages["quiet"], PHONE) as page:
        wanted = page.evaluate("[...document.querySelectorAll('a, [tabindex]')].length")
        seen: list[str] = []
        for _ in range(wanted):
            page.keyboard.press("Tab")
            seen.append(page.evaluate("document.activeElement.outerHTML.slice(0, 60)"))
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    assert 'class="skip"' in seen[0]
    assert len(set(seen)) == wanted
    assert any('class="scroll"' in item for item in seen)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("name", ["all", "nothing", "wide"])
def test_axe_finds_no_fault(
    chromium: Any, pages: dict[str, Path], name: str, size: tuple[int, int], scheme: str
) -> None:
    axe = (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
    with opened(chromium, pages[name], size, scheme) as page:
        page.evaluate(axe)
        found = page.evaluate("axe.run()")
    assert [rule["id"] for rule in found["passes"] if rule["id"] == "color-contrast"]
    faults = [
        (rule["impact"], rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found["violations"]
    ]
    assert faults == []


def test_axe_would_find_one(chromium: Any, pages: dict[str, Path]) -> None:
    """That the test above can fail."""
    axe = (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
    with opened(chromium, pages["nothing"], PHONE) as page:
        page.evaluate("document.querySelector('main p').setAttribute('class', 'faint')")
        page.evaluate("document.querySelector('main p').style.color = '#aaaaaa'")
        page.evaluate(axe)
        found = page.evaluate("axe.run()")
    assert "color-contrast" in [rule["id"] for rule in found["violations"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_reader_and_paper_is_white(chromium: Any, pages: dict[str, Path], scheme: str) -> None:
    with opened(chromium, pages["quiet"], DESKTOP, scheme) as page:
        ground = "getComputedStyle(document.body).backgroundColor"
        assert (page.evaluate(ground) == "rgb(255, 255, 255)") == (scheme == "light")
        page.emulate_media(media="print", color_scheme=scheme)
        assert page.evaluate(ground) == "rgb(255, 255, 255)"
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"


def test_charts_have_their_size_and_texts_do_not_leave_them(chromium: Any, pages: dict[str, Path]) -> None:
    for size in (PHONE, DESKTOP):
        with opened(chromium, pages["quiet"], size) as page:
            boxes = page.evaluate(
                """[...document.querySelectorAll('svg')].map(svg => {
                    const outer = svg.getBoundingClientRect();
                    return [...svg.querySelectorAll('text')].map(text => {
                        const box = text.getBoundingClientRect();
                        return [outer.width, box.left - outer.left, outer.right - box.right, text.textContent];
                    });
                })"""
            )
        assert len(boxes) >= 5
        for width, left, right, text in (item for chart in boxes for item in chart):
            assert width > 200
            assert min(left, right) >= -6, text


@pytest.mark.parametrize("name", REPORTS)
def test_it_prints_in_order_on_a4(chromium: Any, pages: dict[str, Path], name: str) -> None:
    from pypdf import PdfReader

    with opened(chromium, pages[name], DESKTOP) as page:
        titles = page.locator("h2").all_inner_texts()
        data = page.pdf(prefer_css_page_size=True, print_background=True)
    reader = PdfReader(io.BytesIO(data))
    texts = [sheet.extract_text() for sheet in reader.pages]
    whole = " ".join(" ".join(texts).split())
    assert all(
        abs(float(sheet.mediabox.width) - 595) < 2 and abs(float(sheet.mediabox.height) - 842) < 2
        for sheet in reader.pages
    )
    assert [number for number, text in enumerate(texts) if len(text.split()) < 15] == []
    places = [whole.find(title) for title in titles]
    assert len(titles) == len(SECTIONS)
    assert -1 not in places
    assert places == sorted(places)
    report = REPORTS[name]()
    for text in (report.status.sentence, *report.limits.not_proven, *report.limits.of_page):
        assert _bare(text) in _bare(whole), text
    assert f"1 of {len(texts)}" in texts[0]
    # What leads around on a screen is not there.
    assert "Skip to the report" not in whole
    assert whole.count(titles[-1]) == 1


def _bare(text: str) -> str:
    """Without what breaking lines changes."""
    return re.sub(r"[\s`\-]+", "", text)
