"""The page in a real browser: with the keyboard, at the width of a phone, and for the pictures in docs/.

DIVID_SCREENSHOTS=docs python -m pytest tests/space/test_browser.py -k photographed
"""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hostile import write_hostile
from PIL import Image

from divid_diffusers import load_clip


sync_api = pytest.importorskip(
    "playwright.sync_api", reason="A browser is driven by playwright: pip install playwright"
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="There is no chromium: apt-get install chromium"),
    pytest.mark.timeout(900),
]
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --autoplay-policy=no-user-gesture-required"
).split()
TABS = {
    "Swap": "swap",
    "Reconstruct": "reconstruct",
    "Swap grid": "swap_grid",
    "Interpolate": "interpolate",
    "Animate an image": "animate",
    "What goes where": "what_goes_where",
}
PATIENCE = 300_000  # milliseconds, for machines that have other things to do


@pytest.fixture(scope="module")
def browser(server, tmp_path_factory):
    with sync_api.sync_playwright() as playwright:
        yield lambda width: playwright.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")),
            executable_path=CHROMIUM,
            headless=True,
            args=FLAGS,
            viewport={"width": width, "height": 900},
        )


def open_page(context, server):
    page = context.pages[0] if context.pages else context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(server.url)
    page.wait_for_selector("#swap_button")
    return page


def open_tab(page, name):
    """By its tab, or, where there is no room for it, in the menu of those that are hidden."""
    tab = page.get_by_role("tab", name=name, exact=True)
    if not tab.first.is_visible():
        page.locator(".overflow-menu > button").first.click()
        tab = page.locator(".overflow-dropdown button", has_text=name)
    tab.first.click()


def set_slider(page, label, value):
    box = page.get_by_label(f"number input for {label}")
    box.fill(str(value))
    box.press("Enter")


def result(page, name):
    """The video that answers, once it has something to show."""
    page.wait_for_function(
        "name => { const v = document.querySelector(`#${name}_result video`); return v && v.readyState >= 2 && v.duration > 0 }",
        arg=name,
    )
    return page.locator(f"#{name}_result video")


def test_two_clips_are_uploaded_and_swapped_and_the_answer_plays(browser, server, clips, tmp_path):
    context = browser(1280)
    requested = []
    context.on("request", lambda request: requested.append(request.url))
    page = open_page(context, server)
    page.locator("#advanced button").first.click()
    set_slider(page, "Steps", 2)
    for box, path in zip(("swap_identity", "swap_motion"), clips):
        before = page.locator(f"#{box}_preview img").get_attribute("src")
        page.locator(f"#{box} button[aria-label*='lear'], #{box} button[title*='lear']").first.click()
        page.locator(f"#{box} input[type=file]").set_input_files(path)
        page.wait_for_function(
            "([box, before]) => { const i = document.querySelector(`#${box}_preview img`); return i && i.src && i.src !== before }",
            arg=[box, before],
        )
    page.locator("#swap_button").focus()
    page.keyboard.press("Enter")
    video = result(page, "swap")
    times = []
    while len(times) < 3:  # it goes on by itself
        times.append(video.evaluate("v => v.currentTime"))
        page.wait_for_timeout(150)
        if len(set(times)) < len(times):
            times = times[:-1]
    assert video.evaluate("v => v.error") is None and video.evaluate("v => v.videoWidth") == 256

    (tmp_path / "swap.mp4").write_bytes(context.request.get(video.get_attribute("src")).body())
    swapped = np.stack([np.asarray(frame.resize((64, 64))) for frame in load_clip(tmp_path / "swap.mp4")]).astype(
        float
    )
    assert len(swapped) == 9
    for path in clips:
        given = np.stack([np.asarray(frame.resize((64, 64))) for frame in load_clip(path)[:9]]).astype(float)
        assert np.abs(swapped - given).mean() > 3  # neither is handed back

    # A hostile upload is answered in the page.
    for path, sentence in write_hostile(tmp_path).items():
        if Path(path).name in ("text.mp4", "ten_hours.mp4"):
            page.locator("#swap_motion button[aria-label*='lear'], #swap_motion button[title*='lear']").first.click()
            page.locator("#swap_motion input[type=file]").set_input_files(path)
            page.get_by_text(sentence).first.wait_for()
    assert [url for url in requested if not url.startswith((server.url, "data:", "blob:"))] == []

    kept = [path for path in server.files() if path.name in ("person.mp4", "motion.mp4") or "results" in path.parts]
    assert kept
    context.close()
    while any(path.exists() for path in kept):
        time.sleep(0.1)


def test_a_phone_shows_every_tab_and_every_control_has_a_name(browser, server):
    context = browser(390)
    page = open_page(context, server)
    page.locator("#advanced button").first.click()
    for name in TABS:
        open_tab(page, name)
        page.locator(f"#{TABS[name]}_button").wait_for()
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 390, name
        unnamed = page.evaluate("""() => [...document.querySelectorAll('input, button, select, textarea')].filter(e =>
            e.offsetParent && !(e.getAttribute('aria-label') || e.title || e.innerText.trim() || e.labels?.length
            || e.getAttribute('aria-labelledby'))).map(e => e.outerHTML.slice(0, 200))""")
        assert unnamed == [], name
    context.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_every_tab_answers_and_can_be_photographed(browser, server, tmp_path, width):
    folder = Path(os.environ.get("DIVID_SCREENSHOTS", tmp_path))
    context = browser(width)
    page = open_page(context, server)
    for tab, name in TABS.items():
        open_tab(page, tab)
        page.locator(f"#{name}_button").click()
        result(page, name).evaluate("v => { v.pause(); v.currentTime = v.duration / 2 }")
        if name == "what_goes_where":
            page.wait_for_function("document.querySelector('#what_goes_where_picture img')?.complete")
        page.mouse.move(0, 0)
        page.evaluate("window.scrollTo(0, 0)")
        page.wait_for_timeout(1500)
        path = folder / f"space_{name}_{width}.png"
        page.screenshot(path=str(path), full_page=True)
        with Image.open(path) as image:  # 128 colours are enough, and a quarter of the size
            assert image.width == width, "wider than the window"
            small = image.convert("RGB").quantize(128)
        small.save(path, optimize=True)
    context.close()
