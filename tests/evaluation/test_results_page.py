import json
import re
import shutil

import numpy as np
import pytest
from panoptic_maps import random_pair, write_files
from PIL import Image

from detr_d2.data.depth import GreyLevels
from detr_d2.errors import UserError
from detr_d2.evaluation.results_page import write_results_page


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a page of two images, of which the first in the JSON is perfect."""
    folder = tmp_path_factory.mktemp("results")
    rng = np.random.default_rng(2)
    first, second = (random_pair(rng, 40, 60) for _ in range(2))
    perfect = (*second[:2], *second[:2])
    truth_json, _, truth_root, _ = write_files(folder, [perfect, first])
    (folder / "found").rename(folder / "panoptic")
    (folder / "found.json").rename(folder / "predictions.json")
    content = json.loads((folder / "truth.json").read_text())
    content["images"][1]["file_name"] = "<b>&1.png"
    (folder / "truth.json").write_text(json.dumps(content))
    for image in content["images"]:
        Image.new("RGB", (60, 40)).save(folder / image["file_name"], format="PNG")
    out = folder / "out"
    assert write_results_page(str(folder), truth_root, truth_json, str(folder), str(out), 5) == 2
    return out


def test_worst_first_with_escaped_names_and_pictures_beside(written):
    page = (written / "index.html").read_text()
    assert re.findall('class="name">(.*?)</span>', page) == ["&lt;b&gt;&amp;1.png", "0.jpg"]
    assert "<b>" not in page and "<!--" not in page
    assert "PQ 100.0, SQ 100.0, RQ 100.0" in page
    assert len(re.findall("missed \\(0\\)", page)) == 1
    sources = re.findall('<img src="(.*?)" width="60" height="40"', page)
    assert len(sources) == 8
    for source in sources:
        with Image.open(written / source) as picture:
            picture.verify()


@pytest.mark.parametrize("white, brightness", [(65535, 15), (4095, 249)])
def test_photographs_of_twelve_bits_are_as_bright_as_white_says(
    written, tmp_path, white, brightness
):
    folder = tmp_path / "copy"
    shutil.copytree(written.parent, folder)
    for file in folder.glob("*[0-9].*g"):
        Image.fromarray(np.full((40, 60), 4000, np.uint16)).save(file, format="PNG")
    paths = (folder, folder / "truth", folder / "truth.json", folder, folder / "out")
    assert write_results_page(*map(str, paths), limit=5, levels=GreyLevels(white=white)) == 2
    with Image.open(folder / "out/images/00000-photograph.jpg") as picture:
        assert abs(np.asarray(picture).mean() - brightness) < 2


def test_a_json_of_another_kind_is_named(tmp_path):
    categories = [{"id": 1, "name": "sky", "isthing": 0}]
    for content, sentence in (
        ([], "holds no JSON object"),
        ({"annotations": []}, "has no categories"),
        ({"categories": categories}, "has no list `annotations`"),
    ):
        path = tmp_path / "truth.json"
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=f"truth.json {sentence}"):
            write_results_page(str(tmp_path), str(tmp_path), str(path), str(tmp_path), "out", 5)


NAMES = "[...document.querySelectorAll('article:not([hidden]) .name')].map(n => n.innerText)"


@pytest.fixture
def opened(browser, written):
    browser.errors.clear()
    browser.open(written / "index.html")
    yield browser
    assert browser.errors == []


def test_every_picture_is_shown_and_keeps_its_place(opened):
    heights = "[...document.images].map(i => i.getBoundingClientRect().height)"
    shown = opened.evaluate(heights)
    assert min(shown) > 50
    opened.evaluate("document.images[0].removeAttribute('src')")
    assert opened.evaluate(heights) == shown


def test_keys_go_from_image_to_image(opened):
    at = "articles.indexOf(document.activeElement)"
    walked = []
    for key in "jjjkk":
        opened.press(key)
        walked.append(opened.evaluate(at))
    assert walked == [0, 1, 1, 0, 0]


def test_only_images_with_a_text(opened):
    assert opened.evaluate(NAMES) == ["<b>&1.png", "0.jpg"]
    write = "wanted.value = {}; wanted.dispatchEvent(new Event('input'))"
    opened.evaluate(write.format("'0.JPG '"))
    assert opened.evaluate(NAMES) == ["0.jpg"]
    assert opened.evaluate("document.getElementById('shown').innerText") == "1 of 2"
    opened.press("j")
    assert opened.evaluate("document.activeElement.querySelector('.name').innerText") == "0.jpg"
    # Of the two, only the first has mistakes.
    opened.evaluate(write.format("'pixels'"))
    assert opened.evaluate(NAMES) == ["<b>&1.png"]
    # Letters that are typed are no keys of the page.
    opened.evaluate("wanted.focus()")
    opened.press("j")
    assert opened.evaluate("document.activeElement === wanted")


@pytest.mark.parametrize("width", [320, 390, 1300])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phones_and_dark_mode(opened, width, scheme):
    opened.command(
        "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1,
        mobile=width < 500,
    )  # fmt: skip
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    opened.command("Emulation.setEmulatedMedia", features=media)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    back = opened.evaluate("getComputedStyle(document.querySelector('article')).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", back))) < 200) == (scheme == "dark")
    opened.command("Emulation.setEmulatedMedia", features=[])
    opened.command("Emulation.clearDeviceMetricsOverride")


def test_print_has_every_picture(opened):
    loaded = "Promise.all([...document.images].map(i => i.decode())).then(() => true)"
    assert opened.evaluate(loaded)  # without scrolling to any
    opened.command("Emulation.setEmulatedMedia", media="print")
    display = "getComputedStyle(document.querySelector('.keys')).display"
    assert opened.evaluate(display) == "none"
    opened.command("Emulation.setEmulatedMedia", media="")
