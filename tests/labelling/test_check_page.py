"""The page on which labels are checked, in a browser, to the pixel."""

import base64
import io
import json
import zipfile

import numpy as np
import pytest
from panoptic_png import id2rgb, rgb2id
from PIL import Image

from detr_d2.labelling import write_check_page

HEIGHT, WIDTH = 12, 16
CATEGORIES = [
    {"id": 3, "name": "car", "isthing": 1, "color": [220, 20, 60]},
    {"id": 7, "name": "road", "isthing": 0, "color": [0, 110, 230]},
    {"id": 9, "name": "<b>sky", "isthing": 0},
]


def ids_of(image: int) -> np.ndarray:
    """Left a car, right a road (id 70000 of three bytes); below, four rows of VOID."""
    ids = np.zeros((HEIGHT, WIDTH), dtype=np.int64)
    ids[:8, :6], ids[:8, 6:] = 2, 70000
    ids[image, image] = 0
    return ids


@pytest.fixture
def dataset(tmp_path):
    """Two images: the second one's model is less sure."""
    for folder in ("panoptic_train", "photographs"):
        (tmp_path / folder).mkdir()
    annotations = []
    for image in (0, 1):
        ids = ids_of(image)
        Image.fromarray(id2rgb(ids)).save(tmp_path / f"panoptic_train/{image}.png")
        Image.new("RGB", (WIDTH, HEIGHT), (image, 9, 9)).save(tmp_path / f"photographs/{image}.png")
        infos = [
            {"id": 2, "category_id": 3, "iscrowd": 0, "source": "human"},
            {"id": 70000, "category_id": 7, "iscrowd": 0, "source": "model"},
        ]
        infos[1]["score"] = 0.9 - 0.3 * image
        for info in infos:
            rows, columns = np.nonzero(ids == info["id"])
            x, y = int(columns.min()), int(rows.min())
            info["bbox"] = [x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y]
            info["area"] = len(rows)
        listed = {"image_id": image, "file_name": f"{image}.png", "segments_info": infos}
        annotations.append(listed)
    images = [{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in (0, 1)]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (tmp_path / "panoptic_train.json").write_text(json.dumps(content))
    write_check_page(tmp_path / "check.html")
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (*tmp_path.rglob("*.png"), tmp_path / "panoptic_train.json"):
            archive.write(path, f"data/{path.relative_to(tmp_path)}")
    return tmp_path


@pytest.fixture
def page(browser, dataset):
    """The browser, with the page and the zip opened."""
    browser.errors.clear()
    forget(browser, dataset)
    open_zip(browser, dataset)
    yield browser
    assert not browser.errors
    assert not [r for r in browser.requests if not r.startswith(("file:", "data:", "blob:"))]


def forget(browser, folder) -> None:
    """What another test has left unsaved."""
    browser.open(folder / "check.html")
    browser.evaluate(
        "new Promise((r) => { indexedDB.deleteDatabase('detr_d2 labels').onsuccess = r; })"
    )


def open_zip(browser, folder) -> None:
    browser.open(folder / "check.html")
    root = browser.command("DOM.getDocument")["root"]["nodeId"]
    node = browser.command("DOM.querySelector", nodeId=root, selector="#open-zip")["nodeId"]
    browser.command("DOM.setFileInputFiles", files=[str(folder / "all.zip")], nodeId=node)
    browser.evaluate("new Promise((r) => setTimeout(r, 50)).then(() => last)")
    assert browser.evaluate("dataset && dataset.entries.length") == 2, message(browser)


def message(browser) -> str:
    return browser.evaluate("byId('message').textContent")


def shown(browser) -> np.ndarray:
    """The ids of the image that is open."""
    return np.array(browser.evaluate("[...labels.ids]")).reshape(HEIGHT, WIDTH)


def infos(browser) -> dict[int, dict]:
    return {info["id"]: info for info in browser.evaluate("labels.listed()")}


def click(browser, x: int, y: int) -> None:
    """In the middle of a pixel."""
    browser.click("#overlay", (x + 0.5) / WIDTH, (y + 0.5) / HEIGHT)


def press(browser, *keys: str) -> None:
    for key in keys:
        browser.press(key)
    browser.evaluate("last")


def disc(x: int, y: int, radius: int) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def test_the_most_doubtful_comes_first_and_segments_lie_over_it(page):
    assert page.evaluate("entry.image.id") == 1
    assert (shown(page) == ids_of(1)).all()
    names = page.evaluate(
        "[...document.querySelectorAll('#segments .name')].map((e) => e.innerText)"
    )
    assert names == ["car", "road"]
    for x, y, expected in ((3, 3, [220, 20, 60, 120]), (15, 11, [0, 0, 0, 0]), (5, 3, [255] * 4)):
        pixel = page.evaluate(f"[...overlay.getContext('2d').getImageData({x}, {y}, 1, 1).data]")
        # Colours are kept multiplied by their opacity, in eight bits.
        assert pixel == pytest.approx(expected, abs=2)
    press(page, "j")
    assert page.evaluate("entry.image.id") == 0


def test_a_second_models_disagreement_sorts_the_images(page, dataset):
    """The choice is there where a second model was: image 0's road is sure, and disputed."""
    assert page.evaluate("byId('doubt').parentElement.hidden")
    content = json.loads((dataset / "panoptic_train.json").read_text())
    for listed, agreement in zip(content["annotations"], (0.25, 1.0)):
        listed["segments_info"][1]["agreement"] = agreement
    with zipfile.ZipFile(dataset / "all.zip", "w") as archive:
        for path in dataset.rglob("*.png"):
            archive.write(path, f"data/{path.relative_to(dataset)}")
        archive.writestr("data/panoptic_train.json", json.dumps(content))
    open_zip(page, dataset)
    assert not page.evaluate("byId('doubt').parentElement.hidden")
    assert page.evaluate("entry.image.id") == 1
    page.evaluate("byId('doubt').value = 'agreement'")
    page.evaluate("byId('doubt').dispatchEvent(new Event('change'))")
    page.evaluate("last")
    assert page.evaluate("entry.image.id") == 0
    assert (shown(page) == ids_of(0)).all()
    # 80 of 192 pixels are the road, of which three quarters are disputed; 65 are VOID.
    road, void = (ids_of(0) == 70000).sum(), (ids_of(0) == 0).sum()
    wanted = [(0.75 * road + void) / (HEIGHT * WIDTH), (ids_of(1) == 0).sum() / (HEIGHT * WIDTH)]
    assert page.evaluate("dataset.entries.map((e) => e.doubt)") == pytest.approx(wanted)
    click(page, 10, 3)
    press(page, "a")
    assert "agreement" not in infos(page)[70000]


def test_segments_are_accepted_rejected_and_relabelled(page):
    click(page, 10, 3)
    press(page, "a")
    assert infos(page)[70000]["source"] == "human" and "score" not in infos(page)[70000]
    press(page, "u")
    assert infos(page)[70000]["score"] == pytest.approx(0.6)
    press(page, "x")
    assert "Choose" not in message(page) and infos(page).keys() == {2}
    assert (shown(page) == np.where(ids_of(1) == 2, 2, 0)).all()
    press(page, "u")
    assert (shown(page) == ids_of(1)).all()
    press(page, "y")
    assert infos(page).keys() == {2}
    press(page, "u")
    click(page, 2, 3)
    page.evaluate("byId('category').value = 7")
    press(page, "r")  # there is one road in an image
    assert infos(page).keys() == {2}
    assert infos(page)[2]["area"] == (ids_of(1) > 0).sum() and infos(page)[2]["category_id"] == 7


def test_two_are_joined(page):
    click(page, 2, 3)
    press(page, "m")
    click(page, 10, 3)
    assert infos(page).keys() == {2} and infos(page)[2]["category_id"] == 3
    assert infos(page)[2]["bbox"] == [0, 0, 16, 8]


def test_the_brush_paints_wipes_and_begins_new_segments(page):
    page.evaluate("radius = 2")
    click(page, 2, 3)
    press(page, "b")
    click(page, 8, 4)
    expected = np.where(disc(8, 4, 2), 2, ids_of(1))
    assert (shown(page) == expected).all()
    press(page, "e")
    click(page, 0, 0)
    expected = np.where(disc(0, 0, 2), 0, expected)
    assert (shown(page) == expected).all()
    page.evaluate("byId('category').value = 9")
    press(page, "c", "c")  # the first one is given up
    click(page, 12, 10)
    expected = np.where(disc(12, 10, 2), 70001, expected)
    assert (shown(page) == expected).all()
    new = infos(page)[70001]
    assert (new["category_id"], new["source"], new["iscrowd"]) == (9, "human", 0)
    press(page, "u", "u", "u")
    assert (shown(page) == ids_of(1)).all() and infos(page).keys() == {2, 70000}


def test_a_crash_loses_nothing_and_what_is_saved_is_coco_panoptic(browser, dataset):
    forget(browser, dataset)
    open_zip(browser, dataset)
    click(browser, 10, 3)
    press(browser, "x")
    edited = shown(browser)
    open_zip(browser, dataset)  # as if it had been closed
    assert "1 images were changed here before" in message(browser)
    assert (shown(browser) == edited).all() and infos(browser).keys() == {2}
    browser.evaluate(
        "URL.createObjectURL = (blob) => { saved = blob; return 'data:,'; };"
        "HTMLAnchorElement.prototype.click = () => {}; var saved;"
    )
    press(browser, "s")
    assert "1 of them changed" in message(browser)
    text = browser.evaluate(
        "saved.arrayBuffer().then((b) => btoa(String.fromCharCode(...new Uint8Array(b))))"
    )
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(text))) as archive:
        assert archive.testzip() is None
        content = json.loads(archive.read("data/panoptic_train.json"))
        pngs = {
            n: rgb2id(np.asarray(Image.open(archive.open(f"data/panoptic_train/{n}.png"))))
            for n in (0, 1)
        }
    before = json.loads((dataset / "panoptic_train.json").read_text())
    assert (pngs[0] == ids_of(0)).all() and (pngs[1] == edited).all()
    assert content["annotations"][0] == before["annotations"][0]
    assert content["categories"] == before["categories"]
    assert (
        content["annotations"][1]["segments_info"] == before["annotations"][1]["segments_info"][:1]
    )


# The handles of a folder that one chooses, in memory; a file is written when its stream is closed.
FOLDER = """
var written = [];
class Folder {
  constructor() { this.kind = "directory"; this.all = new Map(); }
  async *entries() { yield* this.all; }
  async getDirectoryHandle(name) {
    if (!this.all.has(name)) this.all.set(name, new Folder());
    return this.all.get(name);
  }
  async getFileHandle(name) {
    if (!this.all.has(name)) {
      const handle = { kind: "file", getFile: async () => handle.blob };
      handle.createWritable = async () => {
        let blob;
        return { write: async (b) => { blob = b; },
          close: async () => { handle.blob = blob; written.push(name); } };
      };
      this.all.set(name, handle);
    }
    return this.all.get(name);
  }
}
var folder = new Folder();
var openFolder = () => openFiles((f) => { f.folder = folder; return f.addFolder(folder); });
var copy = async () => {
  const to = new Files();
  to.folder = folder;
  for (const [path, read] of files.readers) await to.write(path, await read());
  written = [];
  await openFolder();
};
"""


def test_a_folder_is_written_to(page):
    page.evaluate(FOLDER)
    page.evaluate("copy()")
    assert page.evaluate("entry.image.id") == 1
    press(page, "Enter")  # all is right
    assert page.evaluate("entry.image.id") == 0 and "1 of 2 checked" in page.evaluate(
        "byId('progress').textContent"
    )
    page.evaluate("radius = 1")
    click(page, 2, 3)
    press(page, "b")
    click(page, 8, 4)
    painted = np.where(disc(8, 4, 1), 2, ids_of(0))
    press(page, "s")
    assert message(page) == "Saved 2 images."
    assert page.evaluate("written") == ["1.png", "0.png", "panoptic_train.json"]
    page.evaluate("openFolder()")
    assert message(page) == ""
    assert page.evaluate("entry.image.id") == 0  # a segment of it is still a model's
    assert (shown(page) == painted).all()
    assert infos(page)[2]["area"] == (painted == 2).sum()
    sources = page.evaluate(
        "dataset.content.annotations.map((a) => a.segments_info.map((s) => s.source))"
    )
    assert sources == [["human", "model"], ["human", "human"]]


def test_what_cannot_be_opened_is_said(browser, dataset):
    browser.open(dataset / "check.html")
    assert browser.evaluate("openFiles(async () => {}).catch((e) => e.message)") == (
        "One panoptic_NAME.json is needed, and this has none: open a folder with one."
    )
    bad = "openFiles((f) => f.addList([new File(['x'], 'a.zip')])).catch((e) => e.message)"
    assert browser.evaluate(bad) == "a.zip is no zip: choose another file."
    bad = (
        "openFiles((f) => f.addList([new File(['{'], 'panoptic_a.json')])).catch((e) => e.message)"
    )
    assert "panoptic_a.json is not valid JSON" in browser.evaluate(bad)
