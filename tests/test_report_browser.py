"""The report in a browser: it draws, answers to the pointer, and fits phone, dark and paper."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from relocalize.evaluation.report import write_report
from reported_place import evaluated_place

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on the path"),
]
FIGURES = [
    "map", "positions", "rotations", "near-positions", "near-rotations", "sure-positions",
    "sure-rotations", "learning-train_loss", "learning-validation_position",
    "learning-validation_rotation_deg",
]  # fmt: skip


@pytest.fixture(scope="module")
def page_address(tmp_path_factory) -> str:
    return write_report(evaluated_place(tmp_path_factory.mktemp("browser"))).resolve().as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(
            executable_path=BROWSER,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-sync",
                "--no-first-run",
            ],
        )
        yield started
        started.close()


@contextmanager
def opened(browser, address: str, *, width: int = 1200, **options):
    """The page, offline; nothing may be complained of or fetched while it is open."""
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
    context.set_default_timeout(120_000)  # on a busy machine all takes its time
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("data:", "file:")) else complaints.append(request.url)
        ),
    )
    page.goto(address)
    page.wait_for_function(
        f"document.querySelectorAll('.js-plotly-plot .main-svg').length >= 2 * {len(FIGURES)} - 1"
    )
    yield page
    assert complaints == []
    context.close()


@pytest.fixture(scope="module")
def desktop(browser, page_address):
    """One page for all that is done at a desk, in the dark: drawing it is what takes time."""
    with opened(browser, page_address, color_scheme="dark") as page:
        yield page


def fits(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def ink(page, selector: str) -> float:
    """How light the text of something is, 0 to 255."""
    color = page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).fill")
    return sum(map(int, color[color.index("(") + 1 : -1].split(",")[:3])) / 3


def test_every_figure_is_drawn_and_the_pointer_shows_the_photo(desktop):
    page = desktop
    for name in FIGURES:
        box = page.locator(f"#{name} .main-svg").first.bounding_box()
        assert box["width"] > 200, name
        assert page.locator(f"#{name} .scatterlayer path").count() >= 1, name
    assert page.locator("#map .scatterlayer .points path").count() >= 20
    # The pointer on a test view: its photo, its name, and what each localizer made of it.
    page.locator("#map").scroll_into_view_if_needed()
    at = page.evaluate(
        """() => {
          const map = document.getElementById("map");
          const trace = map.data.find((one) => one.name === "test views");
          const {xaxis, yaxis} = map._fullLayout;
          const box = map.getBoundingClientRect();
          return [box.x + xaxis._offset + xaxis.d2p(trace.x[3]),
                  box.y + yaxis._offset + yaxis.d2p(trace.y[3])];
        }"""
    )
    page.mouse.move(at[0] + 60, at[1] + 60)
    page.mouse.move(*at, steps=3)
    card = page.locator("#card.shown")
    card.wait_for()
    assert "walk/frame-000007.jpg" in card.inner_text()
    assert "structure3.00 cm, 2.00°" in card.inner_text().replace("\n", "")
    photo = card.locator("img")
    assert photo.evaluate("image => image.complete && image.naturalWidth") == 64
    inside = card.bounding_box()
    assert inside["x"] >= 0
    assert inside["x"] + inside["width"] <= 1200
    page.mouse.move(5, 5)
    page.locator("#card:not(.shown)").wait_for(state="attached")


def test_switches_zoom_and_arrows(desktop):
    page = desktop

    def visible(figure: str, name: str) -> list[bool]:
        return page.evaluate(
            f"document.getElementById('{figure}').data.filter(one => one.meta === '{name}')"
            ".map(one => one.visible)"
        )

    legend = page.locator(".legend[data-figures='positions rotations']")
    assert visible("rotations", "constant") == [True]
    legend.get_by_text("constant").click()
    assert visible("rotations", "constant") == visible("positions", "constant") == [False]
    assert visible("rotations", "structure") == [True]
    assert visible("map", "retrieval") == [False, False]
    page.locator(".legend[data-figures='map']").get_by_text("retrieval").click()
    assert visible("map", "retrieval") == [True, True]

    arrow = (
        "(() => { const t = document.getElementById('map').data.find(one => "
        "one.name === 'arrows' && one.meta === 'structure');"
        "return Math.hypot(t.x[1] - t.x[0], t.y[1] - t.y[0]); })()"
    )
    for factor in (1, 10):
        page.locator(f".stretch [data-factor='{factor}']").click()
        assert page.evaluate(arrow) == pytest.approx(0.03 * factor, rel=0.01)

    reach = (
        "(() => { const r = document.getElementById('map').layout.xaxis.range;"
        "return r[1] - r[0]; })()"
    )
    before = page.evaluate(reach)
    page.locator(".zoom [data-by='0.6']").click()
    assert page.evaluate(reach) == pytest.approx(0.6 * before, rel=0.02)
    page.locator(".stretch [data-factor='3']").click()  # drawn again, still zoomed
    assert page.evaluate(reach) == pytest.approx(0.6 * before, rel=0.02)
    page.locator(".zoom [data-by='0']").click()
    assert page.evaluate(reach) == pytest.approx(before, rel=0.02)


def test_dark_and_light_follow_the_reader(desktop):
    page = desktop
    tick = "#positions .xtick text"
    assert ink(page, tick) > 130
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ("rgb(20, 23, 26)")
    page.emulate_media(color_scheme="light")
    playwright.expect(page.locator(tick).first).to_have_css(
        "fill", "rgb(93, 102, 112)", timeout=120_000
    )
    page.emulate_media(color_scheme="dark")


def test_a_phone_scrolls_down_only_and_a_tap_shows_the_photo(browser, page_address):
    with opened(browser, page_address, width=390, is_mobile=True, has_touch=True) as page:
        assert fits(page)
        for name in FIGURES:
            box = page.locator(f"#{name} .main-svg").first.bounding_box()
            assert box["x"] >= 0, name
            assert box["x"] + box["width"] <= 390, name
        page.locator("#map").scroll_into_view_if_needed()
        dots = page.locator("#map .scatterlayer .trace").nth(-4).locator(".points path")
        assert dots.count() == 10
        box = dots.nth(5).bounding_box()
        page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.locator("#card.shown img").wait_for()
        assert fits(page)


def test_paper_is_light_and_nothing_is_cut_off(desktop):
    page = desktop
    assert ink(page, "#positions .xtick text") > 130
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    tick = page.locator("#positions .xtick text").first
    playwright.expect(tick).to_have_css("fill", "rgb(93, 102, 112)", timeout=120_000)
    widths = page.evaluate(
        "[...document.querySelectorAll('.js-plotly-plot')].map(one => "
        "one.querySelector('.main-svg').getBoundingClientRect().width)"
    )
    assert max(widths) <= 680
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert page.locator("#map .main-svg").first.bounding_box()["width"] > 900
    assert page.pdf(format="A4").startswith(b"%PDF")
