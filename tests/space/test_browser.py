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
from media import write_video
from PIL import Image

from divid_diffusers import load_clip


sync_api = pytest.importorskip(
    "playwright.sync_api", reason="A browser is driven by playwright: pip install playwright"
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="There is no chromium: apt-get install chromium")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update "
    "--disable-sync --autoplay-policy=no-user-gesture-required"
).split()
TABS = {
    "Swap": "swap",
    "Reconstruct": "reconstruct",
    "Grid": "swap_grid",
    "Interpolate": "interpolate",
    "Edit": "edit",
    "Animate": "animate",
    "Make up": "make_up",
    "What goes where": "what_goes_where",
}
HEIGHTS = {1280: 800, 390: 844}
PHOTOGRAPHED = {("swap", 1280), ("swap", 390), ("what_goes_where", 1280)}
# Elements with a background or a border that is all but white.
WHITE_FRAMES = """() => [...document.querySelectorAll("body *")].filter(e => {
  const style = getComputedStyle(e), box = e.getBoundingClientRect();
  const white = text => { const [r, g, b, a = 1] = (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
    return a > 0.5 && Math.min(r, g, b) > 235; };
  const drawn = parseFloat(style.borderTopWidth) > 0 && white(style.borderTopColor);
  return e.offsetParent && box.width > 40 && (white(style.backgroundColor) || drawn);
}).map(e => e.outerHTML.slice(0, 200))"""
# Text below the least contrast, by the formula of WCAG 2.1: elements of text with their ratio.
POOR_CONTRAST = """() => {
  const canvas = document.createElement("canvas"); canvas.width = canvas.height = 1;
  const ctx = canvas.getContext("2d", {willReadFrequently: true});
  const rgba = text => { ctx.clearRect(0, 0, 1, 1); ctx.fillStyle = text; ctx.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = ctx.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
  const luminance = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { const layers = [];
    for (; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]); };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    const field = e.matches("input:not([type=range]):not([type=radio]):not([type=file]):not([type=checkbox]), textarea");
    if (!(own || field) || !e.checkVisibility({opacityProperty: true, visibilityProperty: true}) || !e.getClientRects().length) continue;
    if (e.closest(":disabled, [aria-disabled=true], .disabled")) continue;
    const style = getComputedStyle(e), under = behind(e), color = rgba(style.color);
    let opacity = 1; for (let p = e; p; p = p.parentElement) opacity *= getComputedStyle(p).opacity;
    color[3] *= opacity;
    const [a, b] = [luminance(over(color, under)), luminance(under)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push([ratio.toFixed(2), e.tagName, (own ? e.textContent : e.value || e.placeholder).trim().slice(0, 30), String(e.className).slice(0, 40), style.color, under.map(Math.round).join()]);
  }
  return found;
}"""
PATIENCE = 300_000  # milliseconds, for machines that have other things to do


@pytest.fixture(scope="module")
def browser(server, tmp_path_factory):
    with sync_api.sync_playwright() as playwright:
        yield lambda width, scheme="light": playwright.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")),
            executable_path=CHROMIUM,
            headless=True,
            args=FLAGS,
            viewport={"width": width, "height": HEIGHTS[width]},
            color_scheme=scheme,
        )


def open_page(context, server):
    page = context.pages[0] if context.pages else context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(server.url)
    page.wait_for_selector("#swap_button")
    return page


def open_tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def replace(page, box, path):
    """Another file in a box that has one."""
    page.locator(f"#{box} button[aria-label*='lear'], #{box} button[title*='lear']").first.click()
    page.wait_for_function("box => !document.querySelector(`#${box}_preview img`)", arg=box)  # no hand is faster
    page.locator(f"#{box} input[type=file]").set_input_files(path)


def emptied(page, name):
    page.wait_for_function("name => !document.querySelector(`#${name}_result video`)", arg=name)


def set_slider(page, label, value):
    box = page.get_by_label(f"number input for {label}")
    box.fill(str(value))
    box.press("Enter")


def result(page, name):
    """The video that answers, once it has something to show."""
    page.wait_for_function(
        "name => { const v = document.querySelector(`#${name}_result video`); return v && v.readyState >= 2 && "
        "v.duration > 0 }",
        arg=name,
    )
    return page.locator(f"#{name}_result video")


def test_two_clips_are_uploaded_and_swapped_and_the_answer_plays(browser, server, clips, tmp_path):
    of_others = set(server.files())
    context = browser(1280)
    requested = []
    context.on("request", lambda request: requested.append(request.url))
    page = open_page(context, server)
    page.locator("#advanced button").first.click()
    set_slider(page, "Steps", 2)
    for box, path in zip(("swap_identity", "swap_motion"), clips):
        before = page.locator(f"#{box}_preview img").get_attribute("src")
        replace(page, box, path)
        page.wait_for_function(
            "([box, before]) => { const i = document.querySelector(`#${box}_preview img`); return i && i.src && i.src "
            "!== before }",
            arg=[box, before],
        )
    emptied(page, "swap")  # what stood there was of other clips
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

    # A hostile upload is answered in the page, and does not stay in its box.
    for path, sentence in write_hostile(tmp_path).items():
        if Path(path).name in ("text.mp4", "ten_hours.mp4"):
            if page.locator("#swap_motion .file-preview").count():
                page.locator(
                    "#swap_motion button[aria-label*='lear'], #swap_motion button[title*='lear']"
                ).first.click()
            page.locator("#swap_motion input[type=file]").set_input_files(path)
            page.locator("#swap_motion_preview [role=alert]", has_text=sentence).wait_for()
            page.wait_for_function("!document.querySelector('#swap_motion .file-preview')")
    page.locator("#swap_button").click()
    page.get_by_text("There is no motion clip yet").wait_for()
    assert page.locator("#swap_result").get_by_text("Error", exact=True).locator("visible=true").count() == 0
    assert [url for url in requested if not url.startswith((server.url, "data:", "blob:"))] == []

    new = set(server.files()) - of_others  # of visitors who came before, some may not have left yet
    kept = [path for path in new if path.name in ("person.mp4", "motion.mp4") or "results" in path.parts]
    assert kept
    context.close()
    while any(path.exists() for path in kept):
        time.sleep(0.1)


def test_a_clip_of_another_kind_is_said_to_be_one(browser, server, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    context = browser(1280)
    page = open_page(context, server)
    replace(page, "swap_identity", str(write_video(tmp_path / "tiles.mp4", frames)))
    page.locator("#swap_identity_preview [role=status]", has_text="far from what this model knows").wait_for()
    assert page.locator("#swap_identity .file-preview").count() == 1  # it is said, not refused
    page.locator("#swap_identity_examples button").nth(2).click()
    page.wait_for_function("!document.querySelector('#swap_identity_preview [role=status]')")
    context.close()


def test_a_request_can_be_stopped(browser, server, clips):
    context = browser(1280)
    page = open_page(context, server)
    page.locator("#advanced button").first.click()
    set_slider(page, "Frames", 48)
    set_slider(page, "Steps", 50)
    open_tab(page, "Grid")
    page.locator("#swap_grid_button").click()
    page.locator("#swap_grid_result").get_by_text("Denoising").wait_for()
    page.locator("#swap_grid_stop").click()
    set_slider(page, "Steps", 1)
    open_tab(page, "Swap")
    page.locator("#swap_button").click()
    result(page, "swap")
    assert page.locator("#swap_grid_result video").count() == 0
    context.close()


@pytest.mark.parametrize("width", HEIGHTS)
def test_identity_motion_and_result_are_seen_at_once_and_the_result_only_while_it_is_theirs(browser, server, width):
    context = browser(width)
    page = open_page(context, server)
    result(page, "swap")  # made at the start: nobody has clicked
    names = ("#swap_identity_preview img", "#swap_motion_preview img", "#swap_button", "#swap_result video")
    for name in names:
        box = page.locator(name).bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= HEIGHTS[width], (name, box)
    first = page.locator("#swap_motion_preview img").get_attribute("src")
    page.locator("#swap_motion_examples button").nth(3).click()
    emptied(page, "swap")
    assert page.locator("#swap_motion_preview img").get_attribute("src") != first
    open_tab(page, "What goes where")  # which answers with two things
    page.locator("#what_goes_where_button").click()
    page.locator("#what_goes_where_picture img").wait_for()
    page.locator("#routing_motion_examples button").nth(3).click()
    emptied(page, "what_goes_where")
    page.wait_for_function("!document.querySelector('#what_goes_where_picture img')")
    context.close()


def test_a_phone_shows_every_tab_and_every_control_has_a_name(browser, server):
    context = browser(390)
    page = open_page(context, server)
    page.locator("#advanced button").first.click()
    for name in TABS:
        assert page.get_by_role("tab", name=name, exact=True).is_visible()
    for name in TABS:
        open_tab(page, name)
        page.locator(f"#{TABS[name]}_button").wait_for()
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 390, name
        unnamed = page.evaluate("""() => [...document.querySelectorAll('input, button, select, textarea')].filter(e =>
            e.offsetParent && !(e.getAttribute('aria-label') || e.title || e.innerText.trim() || e.labels?.length
            || e.getAttribute('aria-labelledby'))).map(e => e.outerHTML.slice(0, 200))""")
        assert unnamed == [], name
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(browser, server, tmp_path, scheme):
    (tmp_path / "text.mp4").write_text("this is not what its name says")
    context = browser(1280, scheme)
    page = open_page(context, server)
    page.locator("#advanced button").first.click()
    replace(page, "swap_motion", str(tmp_path / "text.mp4"))  # a sentence and an empty box are on the page, too
    page.locator("#swap_motion_preview [role=alert]").wait_for()
    for name in TABS:
        open_tab(page, name)
        page.locator(f"#{TABS[name]}_button").wait_for()
        page.wait_for_timeout(500)  # colours change slowly
        assert page.evaluate(POOR_CONTRAST) == [], name
        assert bool(page.evaluate(WHITE_FRAMES)) == (scheme == "light"), name  # where there are some, they are found
    context.close()


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (390, "dark")])
def test_every_tab_answers_and_can_be_photographed(browser, server, tmp_path, width, scheme):
    folder = Path(os.environ.get("DIVID_SCREENSHOTS", tmp_path))
    context = browser(width, scheme)
    page = open_page(context, server)
    for tab, name in TABS.items():
        open_tab(page, tab)
        page.locator(f"#{name}_button").click()
        result(page, name).evaluate("v => { v.pause(); v.currentTime = v.duration / 2 }")
        if name == "what_goes_where":
            page.wait_for_function("document.querySelector('#what_goes_where_picture img')?.complete")
        if (name, width) not in PHOTOGRAPHED:
            continue
        page.mouse.move(0, 0)
        page.evaluate("window.scrollTo(0, 0)")
        page.wait_for_timeout(1500)
        path = folder / f"space_{name}_{width}.png"
        page.screenshot(path=str(path))
        with Image.open(path) as image:  # 128 colours are enough, and a quarter of the size
            assert image.width == width, "wider than the window"
            small = image.convert("RGB").quantize(128)
        small.save(path, optimize=True)
    context.close()
