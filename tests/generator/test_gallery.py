"""`tvr view`, in a real browser: filters, slider, keyboard, masks, predictions, and no errors."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from star_tvr.generator.gallery import script_json
from star_tvr.schemas.dataset import Dataset
from tests.generator.browser import browser
from tests.generator.command import refused, tvr

EVIL = "</script><img src=x onerror=document.title='evil'> & \u202e <b>bold</b>"


@pytest.fixture(scope="module")
def data(star, tmp_path_factory):
    """A copy of the data set with splits, a gallery, one with predictions, and a linking one."""
    root = tmp_path_factory.mktemp("gallery <&>'") / "data <b>"
    shutil.copytree(star, root)
    assert tvr("split", root).returncode == 0
    assert tvr("view", root).returncode == 0
    dataset = Dataset.open(root)
    lines = []
    for k, sample in enumerate(dataset.samples()):
        if k == 7:
            continue
        truth = [str(t) for t in sample.plan.transformations]
        answer = ", ".join(truth) if k % 2 else ", ".join([*truth[1:], "0.color.pink", EVIL[:30]])
        completion = f"<think>{EVIL}</think><answer>{answer}</answer>"
        pair = {"sample": sample.id, "initial": "center", "final": "right"}
        lines.append(json.dumps({**pair, "completion": completion}))
    (root / "predictions.jsonl").write_text("\n".join(lines))
    done = tvr(
        *("view", root, "--predictions", root / "predictions.jsonl"),
        *("--out", root / "new folder" / "said.html"),
    )
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="module")
def chrome(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(chrome, data):
    yield from opened(chrome, data / "gallery.html")


@pytest.fixture
def said(chrome, data):
    yield from opened(chrome, data / "new folder" / "said.html")


def opened(chrome, path):
    """The page, at the size of a desktop; it must have had no error when the test is over."""
    chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chrome.set_window_size(1280, 900)
    chrome.get("about:blank")
    chrome.get_log("browser")
    chrome.get(path.resolve().as_uri())
    yield chrome
    assert chrome.get_log("browser") == []


def get(page, identifier):
    return page.find_element(By.ID, identifier)


def press(page, *keys):
    ActionChains(page).send_keys(*keys).perform()


def until(page, condition):
    return WebDriverWait(page, 20, poll_frequency=0.02).until(lambda _: condition())


def shown(page):
    return [
        card.get_attribute("data-id")
        for card in page.find_elements(By.CSS_SELECTOR, ".card:not([hidden])")
    ]


def choose(page, filter_id, text):
    Select(get(page, filter_id)).select_by_visible_text(text)


def name(page):
    return get(page, "name").text


def enter(page, index=0):
    """Open the card with this place by the keyboard."""
    card = page.find_elements(By.CSS_SELECTOR, ".card:not([hidden])")[index]
    wanted = card.get_attribute("data-id")
    card.send_keys(Keys.ENTER)
    until(page, lambda: get(page, "sample").is_displayed() and name(page) == wanted)
    return wanted


def expected(data, condition):
    return [s.id for s in Dataset.open(data).samples() if condition(s)]


# The grid and its filters


def test_every_sample_has_a_card_with_two_pictures(page):
    assert shown(page) == [f"{i:06d}" for i in range(8)]
    assert get(page, "shown").text == "8 samples"
    until(
        page,
        lambda: page.execute_script(
            "return [...document.querySelectorAll('.card img')].slice(0, 8)"
            ".every(i => i.complete && i.naturalWidth > 0)"
        ),
    )
    assert page.title == "data <b> · samples"


def test_filters(page, data):
    choose(page, "f-attribute", "color")
    colors = expected(data, lambda s: "color" in {t.attribute for t in s.plan.transformations})
    assert 0 < len(colors) < 8
    assert shown(page) == colors
    assert get(page, "shown").text == f"{len(colors)} of 8 samples"
    choose(page, "f-count", "2")
    assert shown(page) == expected(
        data,
        lambda s: s.id in colors and len(s.plan.transformations) == 2,
    )
    get(page, "clear").click()
    assert len(shown(page)) == 8
    choose(page, "f-preset", "star")
    assert len(shown(page)) == 8


def test_a_split_shows_its_pairs(page, data):
    choose(page, "f-split", "cross-view/test_ood")
    pairs = Dataset.open(data).split("cross-view/test_ood")
    assert shown(page) == sorted({p.sample for p in pairs})
    choose(page, "f-cameras", "center → right")
    assert "center → right" in page.find_element(By.CSS_SELECTOR, ".card:not([hidden])").text
    enter(page)
    assert get(page, "right").get_attribute("value") == "final-right"
    assert "cross-view/test_ood" in get(page, "facts").text
    press(page, Keys.ESCAPE)
    choose(page, "f-cameras", "center → center")
    assert shown(page) == []
    assert get(page, "nothing").is_displayed()


def test_difficulty_and_order(page, data):
    Dataset.open(data)
    choose(page, "order", "hard first")
    hard = shown(page)
    choose(page, "order", "easy first")
    assert shown(page) != sorted(hard) or hard != sorted(hard)
    choose(page, "order", "by id")
    assert shown(page) == sorted(hard)
    options = [o.text for o in Select(get(page, "f-difficulty")).options][1:]
    assert options
    seen = set()
    for option in options:
        choose(page, "f-difficulty", option)
        assert shown(page)
        seen |= set(shown(page))
    assert len(seen) == 8


def test_search(page):
    press(page, "/")
    assert page.switch_to.active_element.get_attribute("id") == "search"
    press(page, "000003")
    assert shown(page) == ["000003"]
    press(page, Keys.ESCAPE)
    assert len(shown(page)) == 8
    press(page, "/", "nothing like this")
    assert shown(page) == []


# The keyboard


def test_arrows_move_in_the_grid_and_from_sample_to_sample(page):
    press(page, "/", Keys.ARROW_DOWN)
    active = lambda: page.switch_to.active_element.get_attribute("data-id")  # noqa: E731
    assert active() == "000000"
    press(page, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert active() == "000002"
    press(page, Keys.ARROW_DOWN)
    below = active()
    assert below > "000002"
    press(page, Keys.ARROW_UP, Keys.ARROW_LEFT)
    assert active() == "000001"
    press(page, Keys.ENTER)
    until(page, lambda: name(page) == "000001")
    press(page, Keys.ARROW_RIGHT)
    until(page, lambda: name(page) == "000002")
    assert page.current_url.endswith("#000002")
    press(page, Keys.ARROW_LEFT)
    until(page, lambda: name(page) == "000001")
    press(page, Keys.ESCAPE)
    until(page, lambda: not get(page, "sample").is_displayed())
    assert active() == "000001"
    assert "#" not in page.current_url


def test_the_address_opens_a_sample(page, data):
    page.get("about:blank")
    page.get((data / "gallery.html").resolve().as_uri() + "#000005")
    until(page, lambda: name(page) == "000005")
    press(page, Keys.ESCAPE)
    until(page, lambda: not get(page, "sample").is_displayed())


# One sample


def test_a_sample_in_words_and_as_json(page, data):
    identifier = enter(page, 3)
    sample = Dataset.open(data).sample(identifier)
    items = [li.text for li in get(page, "truth").find_elements(By.TAG_NAME, "li")]
    assert len(items) == len(sample.plan.transformations)
    for item, t in zip(items, sample.plan.transformations, strict=True):
        assert item.endswith(str(t)) and item.startswith("the ")
    rows = get(page, "objects").find_elements(By.TAG_NAME, "tr")
    assert len(rows) == len(sample.plan.initial)
    stored = (Dataset.open(data).folder(identifier) / "sample.json").read_text()
    assert get(page, "json").get_attribute("textContent") == stored
    assert get(page, "said").is_displayed() is False


def loaded(page, selector):
    until(
        page,
        lambda: page.execute_script(
            "const all = [...document.querySelectorAll(arguments[0])];"
            "return all.length && all.every(i => i.complete && i.naturalWidth > 0)",
            selector,
        ),
    )


def test_slider(page):
    enter(page)
    loaded(page, ".photo")
    side = [get(page, f"view-{s}").rect for s in ("left", "right")]
    assert side[0]["x"] + side[0]["width"] <= side[1]["x"]
    press(page, "s")
    both = [get(page, f"view-{s}").rect for s in ("left", "right")]
    assert both[0]["x"] == both[1]["x"] and both[0]["width"] == both[1]["width"]
    cut = get(page, "cut")
    before = name(page)
    cut.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert cut.get_attribute("value") == "52"
    assert name(page) == before  # arrows belong to the slider while it has the focus

    def clip():
        return page.execute_script(
            "return getComputedStyle(document.querySelector('#view-right .frame')).clipPath"
        )

    assert "52%" in clip()
    frame = page.find_element(By.CSS_SELECTOR, "#view-left .frame")
    ActionChains(page).move_to_element_with_offset(
        frame, -frame.rect["width"] // 4, 0
    ).click_and_hold().move_by_offset(5, 0).release().perform()
    assert 22 <= float(cut.get_attribute("value")) <= 29
    get(page, "slide").click()
    assert not cut.is_displayed()


@pytest.mark.parametrize("gray", [False, True])
def test_masks_colour_objects_and_nothing_else(chrome, data, tmp_path, gray):
    if gray:  # as masks were in older data sets
        data = shutil.copytree(data, tmp_path / "older")
        for file in data.glob("samples/*/*/*.mask.png"):
            PIL.Image.fromarray(np.asarray(PIL.Image.open(file))).save(file)
        assert tvr("view", data).returncode == 0
    pages = opened(chrome, data / "gallery.html")
    page = next(pages)
    identifier = enter(page, 2)
    loaded(page, ".photo")

    def pixels():
        frame = page.find_element(By.CSS_SELECTOR, "#view-left .frame")
        with PIL.Image.open(io.BytesIO(frame.screenshot_as_png)) as picture:
            return np.asarray(picture.convert("RGB"), dtype=int)

    plain = pixels()
    press(page, "m")
    loaded(page, ".mask")
    changed = np.abs(pixels() - plain).max(axis=2) > 8
    dataset = Dataset.open(data)
    image = dataset.sample(identifier).image("initial", "center")
    with PIL.Image.open(dataset.folder(identifier) / image.mask) as picture:
        mask = np.asarray(picture.resize(changed.shape[::-1], PIL.Image.Resampling.NEAREST))
    assert changed[mask > 0].mean() > 0.95
    assert changed[mask == 0].mean() < 0.02
    press(page, "m")
    assert not page.find_elements(By.CSS_SELECTOR, ".mask")
    assert not list(pages)  # and no errors


def test_hover_names_the_object_in_both_pictures(page, data):
    identifier = enter(page, 4)
    loaded(page, ".photo")
    sample = Dataset.open(data).sample(identifier)
    image = sample.image("initial", "center")
    view = max((o for o in image.objects if o.bbox), key=lambda o: o.pixels)
    row = get(page, "objects").find_elements(By.TAG_NAME, "tr")[view.index]
    ActionChains(page).move_to_element(row).perform()
    hot = page.find_elements(By.CSS_SELECTOR, "#view-left rect.hot")
    assert len(hot) == 2
    assert view.bbox
    x0, y0, x1, y1 = view.bbox
    box = [float(hot[0].get_attribute(k)) for k in ("x", "y", "width", "height")]
    assert box == [x0, y0, x1 - x0, y1 - y0]
    page.execute_script("document.getElementById('sample').scrollTop = 0")
    # The middle of the object may be hidden by a smaller box: look for a point of its own.
    others = [o.bbox for o in image.objects if o.bbox and o.index != view.index]
    x, y = next(
        (x, y)
        for y in range(y0, y1)
        for x in range(x0, x1)
        if not any(a <= x + 0.5 < c and b <= y + 0.5 < d for a, b, c, d in others)
    )
    frame = page.find_element(By.CSS_SELECTOR, "#view-left .frame")
    offset = (
        round((x + 0.5 - image.width / 2) / image.width * frame.rect["width"]),
        round((y + 0.5 - image.height / 2) / image.height * frame.rect["height"]),
    )
    ActionChains(page).move_to_element_with_offset(frame, *offset).perform()
    tip = page.find_element(By.CSS_SELECTOR, "#view-left .tip")
    until(page, tip.is_displayed)
    obj = sample.plan.initial[view.index]
    assert f"{view.index}: {obj.size} {obj.color} {obj.material} {obj.shape}" in tip.text
    assert f"box {x0}, {y0} to {x1}, {y1}" in tip.text
    press(page, "b")
    assert len(page.find_elements(By.CSS_SELECTOR, "#view-left .index")) == len(
        [o for o in image.objects if o.bbox]
    )


# Predictions


def test_predictions_are_marked(said, data):
    marks = {
        card.get_attribute("data-id"): card.find_element(By.CSS_SELECTOR, ".mark").text
        for card in said.find_elements(By.CSS_SELECTOR, ".card")
    }
    assert marks["000001"] == "✓ right"
    assert marks["000000"] == "✗ wrong"
    assert marks["000007"] == "no prediction"
    choose(said, "f-said", "✓ right")
    assert shown(said) == ["000001", "000003", "000005"]
    choose(said, "f-said", "✗ wrong")
    enter(said)
    assert get(said, "right").get_attribute("value") == "final-right"
    chips = {
        kind: [c.text for c in said.find_elements(By.CSS_SELECTOR, f"#chips .{kind}")]
        for kind in ("right", "partly", "wrong", "missed")
    }
    truth = [str(t) for t in Dataset.open(data).sample("000000").plan.transformations]
    assert [c.split()[0] for c in chips["right"]] == truth[1:]
    assert len(chips["right"] + chips["partly"] + chips["wrong"]) == len(truth) + 1
    assert get(said, "verdict").text.startswith("Wrong; STAR reward")
    choose(said, "right", "final, left")
    assert (
        "There is none for these two pictures, but for center → right" in get(said, "verdict").text
    )


def test_untrusted_text_stays_text(said):
    enter(said)
    text = get(said, "text").get_attribute("textContent")
    assert "<img src=x onerror" in text and "</script>" in text and "<b>bold</b>" in text
    assert "\u202e" not in text and "[U+202E]" in text
    assert said.find_elements(By.CSS_SELECTOR, "b, img[onerror]") == []
    assert said.title == "data <b> · samples"


def test_script_json_cannot_end_its_element():
    text = script_json({"a": EVIL, "b": "<!--"})
    assert "<" not in text
    assert json.loads(text) == {"a": EVIL, "b": "<!--"}


# The file


def test_the_page_loads_nothing(data):
    html = (data / "gallery.html").read_text()
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)
    assert "default-src 'none'" in html
    assert "unsafe-inline" not in html
    assert str(data) not in html


def test_nothing_is_asked_of_the_network(page):
    enter(page)
    loaded(page, ".photo")
    names = page.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    assert all(name.startswith(("data:", "file:")) for name in names)


def test_many_samples_are_linked(data, chrome, monkeypatch):
    """Where full pictures are too many to be in the page, it finds them beside it."""
    from star_tvr.generator import gallery

    monkeypatch.setattr(gallery, "EMBED", 1000)
    dataset = Dataset.open(data)
    sub = data.parent / "elsewhere"
    made = gallery.Gallery(dataset, sub / "gallery.html", {})
    for identifier in made.choose(3):
        made.add(dataset.sample(identifier))
    for page in opened(chrome, made.write()):
        assert "holds 3 of the 8 samples" in page.find_element(By.CSS_SELECTOR, ".page").text
        enter(page)
        press(page, "m")
        loaded(page, ".photo, .mask")
        source = page.find_element(By.CSS_SELECTOR, "#view-left .photo").get_attribute("src")
        assert source.startswith("file:") and source.endswith("000000/initial-center.png")


def test_pictures_that_are_gone(data, chrome, tmp_path, monkeypatch):
    from star_tvr.generator import gallery

    monkeypatch.setattr(gallery, "EMBED", 0)
    copy = shutil.copytree(data, tmp_path / "copy")
    dataset = Dataset.open(copy)
    (dataset.folder("000001") / "initial-center.png").write_bytes(b"no picture")
    made = gallery.Gallery(dataset, copy / "gallery.html", {})
    for sample in dataset.samples():
        made.add(sample)
    path = made.write()
    (dataset.folder("000000") / "initial-center.png").unlink()
    chrome.get(path.as_uri())
    enter(chrome)
    until(chrome, lambda: "the small one is shown" in get(chrome, "problem").text)
    loaded(chrome, ".photo")
    press(chrome, Keys.ARROW_RIGHT)
    until(chrome, lambda: "missing or damaged" in get(chrome, "problem").text)
    chrome.get_log("browser")


@pytest.mark.parametrize("width", [390, 320])
def test_a_phone(said, width):
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    said.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    fits = "return document.scrollingElement.scrollWidth <= innerWidth"
    assert said.execute_script(fits)
    assert not get(said, "f-split").is_displayed()
    get(said, "more").click()
    assert get(said, "f-split").is_displayed()
    choose(said, "f-said", "✗ wrong")
    assert get(said, "more").text == "Filters (1)"
    assert said.execute_script(fits)
    get(said, "more").click()
    enter(said)
    assert said.execute_script(
        "const d = document.getElementById('sample'); return d.scrollWidth <= d.clientWidth"
    )
    sizes = said.execute_script(
        "return ['#facts', '#truth li', '#chips li', 'td']"
        ".map(s => parseFloat(getComputedStyle(document.querySelector(s)).fontSize))"
    )
    assert min(sizes) >= 12


def test_command_line(data, tmp_path):
    done = tvr("view", data, "--limit", "2", "--out", tmp_path / "a" / "g.html")
    assert done.stdout == f"{tmp_path}/a/g.html\n"
    assert len(re.findall(r'"preset"', (tmp_path / "a" / "g.html").read_text())) == 2
    assert "not a data set" in refused("view", tmp_path, status=1)
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"sample": "000099", "initial": "center", "final": "left", "completion": ""}')
    assert "bad.jsonl, line 1" in refused("view", data, "--predictions", bad, status=1)
    (tmp_path / "file").write_text("")
    out = Path(tmp_path / "file" / "g.html")
    assert "cannot be written" in refused("view", data, "--out", out, status=1)
