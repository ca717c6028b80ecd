"""The explorer in a browser: what moves, what it computes, what a reader without eyes or mouse has."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from chromium import Browser
from rectilinear import cli, load
from rectilinear.explorer import write_explorer
from rectilinear.flow import LinearFlow, collapse
from rectilinear.plots import page as pages

pytestmark = pytest.mark.whole

PRODUCTS = 2.0  # a frame, after a slider has moved, to what PRODUCT takes: 1.0 to 1.1 in 2026
MAX_BYTES = 10e6
DIGITS = (2, 4, 5, 7)
PIXELS = (
    "(s) => Array.from(document.querySelector(s).getContext('2d').getImageData(0, 0, 8, 8).data)"
)
FRAMES = """(async () => {
  const slider = document.querySelector("#d0");
  for (let i = 0; i < 50; i++) {
    slider.value = -2 + i / 12;
    slider.dispatchEvent(new Event("input"));
    await explorer.parts.directions.shown;
    await new Promise(requestAnimationFrame);
  }
})()"""
PRODUCT = """(async () => {  // 50 sums of 25 million products, about as many as in a frame
  const x = new Float32Array(5000).fill(0.5);
  let sum = 0;
  for (let frame = 0; frame < 50; frame++) {
    for (let row = 0; row < 5000; row++) for (let i = 0; i < 5000; i++) sum += x[i] * x[i];
    await new Promise(requestAnimationFrame);
  }
  return sum;
})()"""
HERO = f"({PIXELS})('#directions .hero canvas')"


def move(browser: Browser, slider: int, value: float) -> None:
    """Set a slider as a hand does, and wait for its image."""
    browser.run(
        f"(() => {{ const s = document.querySelector('#d{slider}'); s.value = {value};"
        " s.dispatchEvent(new Event('input')); return explorer.parts.directions.shown; })()"
    )


def test_sliders_move_the_image(opened: Browser, digits: LinearFlow) -> None:
    before = opened.run(HERO)
    move(opened, 0, 2.5)
    assert opened.run(HERO) != before
    start = torch.zeros(1, 64)
    start[0, :32] = torch.tensor(opened.run("Array.from(explorer.state.z)"))
    assert start[0, 0] == 2.5
    image = digits.g_data.inverse(collapse(digits).operator(start)).clamp(0, 1)[0, 0]
    shown = np.array(opened.run(HERO)).reshape(8, 8, 4)[..., 0]
    white, ink = 255, int("1c", 16)  # of the colours of the page
    assert np.abs(shown - (white + (ink - white) * image.numpy())).max() <= 1
    assert opened.run("document.querySelector('#d0').getAttribute('aria-valuetext')").startswith(
        "2.5"
    )


def test_strips_follow_when_the_hand_rests(opened: Browser) -> None:
    second = "(s) => Array.from(document.querySelectorAll('.slider canvas')[1].getContext('2d').getImageData(0, 0, 88, 8).data)"
    before = opened.run(f"({second})()")
    move(opened, 0, -2.5)
    opened.wait(
        f"JSON.stringify(({second})()) !== {json.dumps(json.dumps(before).replace(' ', ''))}"
    )


def test_keys_move_a_slider(opened: Browser) -> None:
    opened.run("document.querySelector('#d3').focus()")
    value = opened.run("Number(document.querySelector('#d3').value)")
    opened.key("ArrowRight", 39)
    assert opened.run("explorer.state.z[3]") == pytest.approx(value + 0.05)


def test_the_address_restores_the_state(browser: Browser, page: Path) -> None:
    browser.open(page, "#z=1,-2,0.5&given=3&samples=4&at=0.2&terms=3,1,20")
    browser.wait("explorer.idle()")
    assert browser.run("Array.from(explorer.state.z).slice(0, 4)") == [1, -2, 0.5, 0]
    assert browser.run("[explorer.state.given, explorer.state.samples, explorer.state.at]") == [
        3,
        4,
        0.2,
    ]
    assert browser.run("document.querySelector('#given').value") == "3"
    move(browser, 1, 1.5)
    browser.wait("location.hash.includes('z=1,1.5,0.5&given=3&samples=4')")
    browser.open(page, "#z=1,cat&given=99&ends=-3,400")
    assert browser.run("explorer.state.given") == -1
    assert browser.run("explorer.state.ends") == [0, 0]  # the first image
    browser.wait("explorer.idle()")


@pytest.mark.parametrize("transparent", [False, True])
def test_ink_on_paper_is_ink(opened: Browser, tmp_path: Path, transparent: bool) -> None:
    """A dark stroke on white or on nothing has values near 1 and its paper 0, as the data have."""
    pixels = np.full((8, 8, 4), 0 if transparent else 255, dtype=np.uint8)
    pixels[2:6, 3:5] = (0, 0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "ink.png")
    opened.run("window.before = explorer.parts.own.current; 0")
    opened.choose_file("#file", tmp_path / "ink.png")
    opened.wait("explorer.parts.own.current !== before && explorer.idle()")
    taken = np.array(opened.run("Array.from(explorer.parts.own.current)")).reshape(8, 8)
    assert np.array_equal(taken, (pixels[..., :3].sum(2) == 0) & (pixels[..., 3] == 255))


def test_a_file_comes_back(opened: Browser, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    opened.run("window.before = explorer.parts.own.current; 0")
    opened.choose_file("#file", tmp_path / "image.png")
    opened.wait("explorer.parts.own.current !== before && explorer.idle()")
    taken = np.array(opened.run("Array.from(explorer.parts.own.current)"))
    assert np.abs(taken - pixels.flatten() / 255).max() < 1e-9
    back = "explorer.ask('own', 'recover', {x: explorer.parts.own.current, given: -1}).then(({answer}) => Array.from(answer.back))"
    assert np.abs(np.array(opened.run(back)) - taken).max() < 1 / 255
    assert "largest error of a pixel" in opened.run(
        "document.querySelector('#own .facts').innerText"
    )
    assert "Encoded: largest error" in opened.run(
        "document.querySelector('#own .said').textContent"
    )


def test_a_file_that_is_no_image_is_one_sentence(opened: Browser, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    opened.choose_file("#file", tmp_path / "text.png")
    opened.wait("document.querySelector('#own .said').textContent.includes('not an image')")


def taken(opened: Browser, path: Path) -> np.ndarray:
    """The image that the page makes of a file, after all of its answers."""
    opened.run("window.before = explorer.parts.own.current; 0")
    opened.choose_file("#file", path)
    opened.wait("explorer.parts.own.current !== before && explorer.idle()")
    return np.array(opened.run("Array.from(explorer.parts.own.current)"))


def photographed(image: np.ndarray, path: Path) -> None:
    """A file of a drawing: dark ink on grey paper, large, not in the middle."""
    pixels = np.full((20 * len(image) + 120, 25 * len(image) + 300), 210, dtype=np.uint8)
    large = np.asarray(Image.fromarray(np.uint8(image * 255)).resize((20 * len(image),) * 2))
    ink = pixels[30 : 30 + len(large), 200 : 200 + len(large)]
    ink[:] = (210 - 0.8 * large).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def says(opened: Browser) -> str:
    return opened.run("document.querySelector('#own .facts').innerText")


def test_strokes_of_a_file_are_placed_as_in_the_data(opened: Browser, tmp_path: Path) -> None:
    digit = load_digits().images[0] / 16
    photographed(digit, tmp_path / "photo.png")
    placed = taken(opened, tmp_path / "photo.png").reshape(8, 8)
    rows, columns = (placed > 0.3).any(1).nonzero()[0], (placed > 0.3).any(0).nonzero()[0]
    assert (rows[0], rows[-1]) == (0, 7)
    assert abs(columns[0] + columns[-1] - 7) <= 1
    assert np.corrcoef(placed.flatten(), digit.flatten())[0, 1] > 0.9
    assert "\n0\nmost likely class" in "\n" + says(opened)
    done = "document.querySelector('#own .done').textContent"
    assert "inverted" in opened.run(done)
    assert "scaled to 8 pixels and centred" in opened.run(done)
    opened.run("window.before = explorer.parts.own.current; document.querySelector('#fit').click()")
    opened.wait("explorer.parts.own.current !== before && explorer.idle()")
    assert "cropped" in opened.run(done)
    cropped = np.array(opened.run("Array.from(explorer.parts.own.current)"))
    assert np.abs(cropped - placed.flatten()).max() > 0.5
    opened.run("document.querySelector('#fit').click()")
    opened.wait("explorer.idle()")


def test_a_blank_image_has_no_class(opened: Browser, tmp_path: Path) -> None:
    for tone in (255, 0, 160):
        Image.new("L", (50, 40), tone).save(tmp_path / "blank.png")
        assert np.abs(taken(opened, tmp_path / "blank.png")).max() == 0
        assert "none\nclass: the image is blank" in says(opened)
        assert opened.run("document.querySelector('#own .said').textContent").endswith("none.")


def test_what_is_unlike_the_data_has_no_class(opened: Browser, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "random.png")
    taken(opened, tmp_path / "random.png")
    assert "none\nclass: " in says(opened)


def test_clear_leaves_nothing(opened: Browser, tmp_path: Path) -> None:
    Image.fromarray(np.uint8(load_digits().images[3] * 15)).save(tmp_path / "three.png")
    taken(opened, tmp_path / "three.png")
    opened.run("document.querySelector('#sums .chooser .own input').click()")
    opened.wait("explorer.idle()")
    assert says(opened)
    opened.run("document.querySelector('#clear').click()")
    opened.wait("explorer.idle()")
    assert says(opened) == ""
    assert opened.run("document.querySelector('#own .charts').innerText") == ""
    assert opened.run("explorer.parts.own.current") is None
    assert opened.run("explorer.state.terms")[0] < opened.run("page.gallery")
    seen = (
        "#own .pair canvas",
        "#own .rows canvas",
        "#classes .rows canvas",
        "#ranks .rows canvas",
        "#between .own canvas",
    )
    for place in seen:  # the first image of each is blank
        image = opened.run(f"({PIXELS})({json.dumps(place)})")
        assert image == [255] * 256, place


def test_drawing_with_pointer_and_keys(opened: Browser) -> None:
    opened.run(
        "document.querySelector('#clear').click(); document.querySelector('.pad').scrollIntoView({block: 'center', behavior: 'instant'}); window.before = explorer.parts.own.current; 0"
    )
    x, y = opened.run(
        "(({x, y}) => [x + 60, y + 60])(document.querySelector('.pad').getBoundingClientRect())"
    )
    for kind, shift in (("mousePressed", 0), ("mouseMoved", 90), ("mouseReleased", 90)):
        point = {"type": kind, "x": x + shift, "y": y + shift, "button": "left", "buttons": 1}
        opened.send("Input.dispatchMouseEvent", {**point, "clickCount": 1})
    opened.wait("explorer.parts.own.current !== before && explorer.idle()")
    assert opened.run("Math.max(...explorer.parts.own.current)") > 0.5
    opened.run(
        "document.querySelector('#clear').click(); document.querySelector('.pad').focus(); window.before = explorer.parts.own.current; 0"
    )
    opened.key(" ", 32)
    opened.key("ArrowUp", 38)
    opened.wait("explorer.parts.own.current !== before && explorer.idle()")


@pytest.mark.parametrize(
    ("press", "seen"),
    [
        ("#ranks .buttons button", "#ranks .rows canvas:nth-of-type(4)"),
        ("#between .chooser label:nth-of-type(7) input", "#between .pair canvas"),
        ("#sums .chooser label:nth-of-type(7) input", "#sums .sum figure:nth-of-type(4) canvas"),
        ("#own .chooser label:nth-of-type(7) input", "#own .pair figure:nth-of-type(3) canvas"),
        ("#steps .buttons button", "#steps .pair canvas"),
        ("#classes .buttons button", "#classes .rows canvas:nth-of-type(3)"),
    ],
    ids=lambda words: words.split()[0],
)
def test_sections_compute(opened: Browser, press: str, seen: str) -> None:
    image = f"document.querySelector('{seen}').toDataURL()"
    before = opened.run(image)
    opened.run(f"document.querySelector('{press}').click()")
    opened.wait(f"explorer.idle() && {image} !== {json.dumps(before)}")


def test_a_hundred_steps_are_one(opened: Browser) -> None:
    said = opened.run("document.querySelector('#steps .said').textContent")
    assert re.search(r"pixel: \d\.\d × 10⁻[⁵⁶⁷⁸⁹]", said)


def test_everything_has_a_name_and_nothing_is_wider_than_a_phone(opened: Browser) -> None:
    unnamed = opened.run(
        "Array.from(document.querySelectorAll('canvas[role], input, select, button, svg[role], section')).filter((e) =>"
        " !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || (e.labels && e.labels.length) || e.textContent.trim())).map((e) => e.outerHTML)"
    )
    assert not unnamed
    opened.size(400, 800)
    assert opened.run("document.documentElement.scrollWidth") == 400
    widths = opened.run(
        "Array.from(document.querySelectorAll('.rows canvas')).map((c) => c.clientWidth)"
    )
    assert min(widths) > 250
    opened.size(1280, 900)


def test_pages_of_reports_are_no_wider_than_a_phone(browser: Browser, tmp_path: Path) -> None:
    wide = pages.table([f"a column {i}" for i in range(12)], [["depth 1, adam", *[0.5] * 11]])
    section = pages.Section("Table", "A wide table.", (wide,))
    page = tmp_path / "page.html"
    page.write_text(pages.page("k", "title", "lede", [], [section], "foot"))
    browser.send("Page.navigate", {"url": page.resolve().as_uri()})
    browser.wait("document.querySelector('footer')")
    browser.size(400, 800)
    assert browser.run("document.documentElement.scrollWidth") == 400
    browser.size(1280, 900)


TRAINING = ("blocks=2", "width=4", "pixel_width=4", "training.steps=2")


def test_a_run_of_own_images(browser: Browser, tmp_path: Path) -> None:
    """Coloured images of a folder, trained for two steps: no classes, no ink, other sizes."""
    data, random = tmp_path / "tiles", np.random.default_rng(0)
    data.mkdir()
    for i in range(40):
        tile = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(tile).save(data / f"{i}.png")
    changes = [word for change in (f"data={data}", *TRAINING) for word in ("--set", change)]
    assert cli.main(["train", "images", "--out", str(tmp_path / "run"), *changes]) == 0
    assert cli.main(["explore", str(tmp_path / "run")]) == 0
    browser.open(tmp_path / "run" / "explorer.html")
    browser.wait("explorer.idle()")
    assert browser.run("document.querySelector('#classes') === null")
    assert browser.run("document.querySelector('#fit').parentElement.hidden")
    hero = "document.querySelector('#directions .hero canvas').toDataURL()"
    before = browser.run(hero)
    move(browser, 0, 2.5)
    assert browser.run(hero) != before
    image = taken(browser, data / "7.png").reshape(3, 16, 16)
    assert (
        np.abs(image - np.asarray(Image.open(data / "7.png")).transpose(2, 0, 1) / 255).max() < 1e-9
    )
    back = np.array(
        browser.run(
            "explorer.ask('own', 'recover', {x: explorer.parts.own.current, given: -1}).then(({answer}) => Array.from(answer.back))"
        )
    )
    assert np.abs(back - image.flatten()).max() < 1 / 255
    assert taken(browser, data / "3.png").max() > 0.9
    wide = Image.fromarray(random.integers(0, 256, (20, 60, 3), dtype=np.uint8))
    wide.save(tmp_path / "wide.png")
    taken(browser, tmp_path / "wide.png")
    assert "cropped" in browser.run("document.querySelector('#own .done').textContent")
    assert not browser.problems()
    assert not browser.requests()


def test_dark_images_are_drawn_again(opened: Browser) -> None:
    light = opened.run(HERO)
    opened.dark(True)
    opened.wait(f"({HERO})[0] !== {light[0]}")
    opened.dark(False)


def test_nothing_is_asked_of_the_network_and_the_console_is_empty(opened: Browser) -> None:
    assert not opened.requests()
    assert not opened.problems()


@pytest.fixture(scope="module")
def large(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of MNIST, without data."""
    model, out = load("mnist"), tmp_path_factory.mktemp("mnist") / "explorer.html"
    assert isinstance(model, LinearFlow)
    write_explorer(model, out, "mnist")
    return out


def test_photographs_of_digits_are_read(browser: Browser, large: Path, tmp_path: Path) -> None:
    model = load("mnist")
    assert isinstance(model, LinearFlow)
    browser.open(large)
    browser.wait("explorer.idle()")
    right = 0
    for digit in DIGITS:
        image = model.given(digit).sample(1, seed=digit)[0, 0].clamp(0, 1).numpy()
        photographed(image, tmp_path / "photo.png")
        placed = taken(browser, tmp_path / "photo.png").reshape(28, 28)
        mass = placed / placed.sum()
        for axis in (0, 1):  # of MNIST's training images: 14.49 and 14.51
            assert abs((mass.sum(1 - axis) * (np.arange(28) + 0.5)).sum() - 14.5) < 0.1
        right += f"\n{digit}\nmost likely class" in "\n" + says(browser)
    assert right == len(DIGITS)
    Image.new("L", (300, 200), 255).save(tmp_path / "blank.png")
    taken(browser, tmp_path / "blank.png")
    assert "none\nclass: the image is blank" in says(browser)


def test_mnist_on_one_core(browser: Browser, large: Path) -> None:
    assert large.stat().st_size < MAX_BYTES
    browser.open(large)
    browser.wait("explorer.idle()")

    def seconds(script: str) -> float:
        begin = browser.processor_seconds()
        browser.run(script)
        return browser.processor_seconds() - begin

    ratios = [seconds(FRAMES) / seconds(PRODUCT) for _ in range(2)]  # the speed of the machine
    print(f"processor time of a frame, to that of a plain product: {min(ratios):.2f}")
    assert min(ratios) < PRODUCTS
    assert not browser.problems()
    assert not browser.requests()
