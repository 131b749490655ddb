"""The page finds in a browser what Python finds, without a server or a network."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from exporting import FAST, config_of, exported, pictures
from pages import Page
from PIL import Image
from tiny_onnx import METADATA, write_model

from detr_d2.deploy import OnnxPredictor
from detr_d2.errors import UserError
from detr_d2.export import Options
from detr_d2.export.web_page import RUNTIME, VERSION, WASM, page_of

REPOSITORY = Path(__file__).parents[2]
PACKAGE = Path(os.getenv("ONNXRUNTIME_WEB") or REPOSITORY / "node_modules" / "onnxruntime-web")
LONGEST = 112  # pixels of the pictures of shapes


@pytest.fixture
def package(tmp_path) -> Path:
    """A folder that looks like onnxruntime-web."""
    for name in (RUNTIME, WASM):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"</script>")
    return tmp_path


def test_what_a_page_holds_is_no_markup(package):
    classes = [{"name": "</script><script>alert(1)</script>", "color": [1, 2, 3], "isthing": True}]
    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    html = page_of(b"</script>", {"classes": classes}, [pixels], 9, package)
    page = Page(html)
    assert page.tags.count("script") == 6
    start = html.index('id="metadata">') + len('id="metadata">')
    about = json.loads(html[start : html.index("</script>", start)])
    assert about["classes"] == classes and about["longest"] == 9
    assert all(a.startswith("data:") for a in page.addresses)


def test_what_is_missing_is_said_before_any_work(package, tmp_path):
    with pytest.raises(UserError, match=f"run `npm install --no-save onnxruntime-web@{VERSION}`"):
        Options("web", onnxruntime_web=tmp_path / "nowhere")
    for wrong in ({"size": (60, 80)}, {"batch_size": 2}):
        with pytest.raises(UserError, match="one picture of any size"):
            Options("web", onnxruntime_web=package, **wrong)
    assert f"onnxruntime-web@{VERSION}" in (REPOSITORY / "Makefile").read_text()


@pytest.fixture(scope="module")
def onnxruntime_web() -> Path:
    if not (PACKAGE / WASM).is_file():
        pytest.skip(
            f"onnxruntime-web is not here: npm install --no-save onnxruntime-web@{VERSION} in the "
            "repository, or its folder in $ONNXRUNTIME_WEB"
        )
    pytest.importorskip("onnx", reason="onnx is not installed (pip install detr_d2[export])")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    return PACKAGE


def assert_alone(browser) -> None:
    assert not browser.errors
    assert not [r for r in browser.requests if not r.startswith(("file:", "data:", "blob:"))]


@pytest.fixture(scope="module")
def opened(browser, onnxruntime_web, tmp_path_factory):
    """The browser with a page of a model that does next to nothing, and its folder."""
    folder = tmp_path_factory.mktemp("tiny")
    write_model(folder / "model.onnx", METADATA)
    example = noise(30, 40)
    model = (folder / "model.onnx").read_bytes()
    html = page_of(model, METADATA, [example], LONGEST, onnxruntime_web)
    (folder / "page.html").write_text(html)
    browser.open(folder / "page.html")
    wait(browser)
    yield browser, folder
    assert_alone(browser)


def noise(height: int, width: int) -> np.ndarray:
    """RGB; left half red, but for a line."""
    pixels = np.random.randint(128, size=(height, width, 3), dtype=np.uint8)
    pixels[:, : width // 2, 0] += 128
    pixels[3, :, 0] = 0
    return pixels


def wait(browser) -> str:
    """Until all is done; gives what the page says."""
    browser.evaluate("new Promise((r) => setTimeout(r, 50)).then(() => last)")
    return browser.evaluate("byId('message').textContent")


def choose(browser, path: Path) -> str:
    root = browser.command("DOM.getDocument")["root"]["nodeId"]
    node = browser.command("DOM.querySelector", nodeId=root, selector="#choose")["nodeId"]
    browser.command("DOM.setFileInputFiles", files=[str(path)], nodeId=node)
    return wait(browser)


def assert_shown(browser, wanted: dict) -> None:
    """That the page shows what a predictor gives."""
    panoptic_seg, segments_info = wanted["panoptic_seg"]
    shown = json.loads(browser.evaluate("JSON.stringify({...shown, map: [...shown.map]})"))
    assert (shown["height"], shown["width"]) == panoptic_seg.shape
    found = np.array(shown["map"]).reshape(panoptic_seg.shape)
    assert np.mean(found != np.asarray(panoptic_seg)) <= 1e-4
    for ours, theirs in zip(shown["segments"], segments_info, strict=True):
        assert (ours["id"], ours["label"]) == (theirs["id"], theirs["category_id"])
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-5)
        assert ours["area"] == pytest.approx(theirs["area"], abs=2)


def test_a_chosen_picture_goes_in_as_it_is(opened):
    browser, folder = opened
    predictor = OnnxPredictor(folder / "model.onnx")
    for number, size in enumerate([(LONGEST, 37), (53, 64), (1, 1)]):
        picture = noise(*size) if size != (1, 1) else np.full((1, 1, 3), 200, np.uint8)
        path = folder / f"{number}.png"
        Image.fromarray(picture).save(path)
        assert choose(browser, path).startswith(f"{size[1]} x {size[0]} pixels, ")
        assert_shown(browser, predictor(picture[:, :, ::-1]))


def test_segments_are_drawn_named_and_chosen(opened):
    browser, _ = opened
    browser.click("#examples button:nth-child(1)")
    wait(browser)
    assert browser.evaluate("shown.width") == 40
    names = "[...document.querySelectorAll('{}')].map((e) => e.textContent)"
    assert browser.evaluate(names.format("#segments .name")) == ["road"]
    assert browser.evaluate(names.format("#names span")) == ["road"]
    assert browser.evaluate(names.format("#classes li")) == ["car", "road"]
    x, y, depth = browser.evaluate(
        "Object.values(innermost(shown.map, shown.width, shown.height).get(1))"
    )
    # Twenty columns, below the fourth row; the picture's edge is where a segment ends.
    assert (x, depth) in ((9, 10), (10, 10)) and 13 <= y <= 20
    pixels = browser.evaluate("[...filled().getContext('2d').getImageData(0, 0, 40, 30).data]")
    opacity = np.reshape(pixels, (30, 40, 4))[:, :, 3]
    segments = np.array(browser.evaluate("[...shown.map]")).reshape(30, 40)
    np.testing.assert_array_equal(opacity, np.where(segments == 1, 140, 0))
    browser.click("#segments button")
    assert browser.evaluate("chosen") == 1
    browser.click("#overlay", 0.9, 0.5)  # VOID
    assert browser.evaluate("chosen") == 0
    browser.click("#overlay", 0.2, 0.5)
    assert browser.evaluate("chosen") == 1


def test_a_dropped_picture_is_made_smaller_and_other_files_are_refused(opened):
    browser, folder = opened
    drop = """(async () => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 448, height: 224 });
      canvas.getContext("2d").fillRect(9, 9, 99, 99);
      const blob = await new Promise((r) => canvas.toBlob(r)), dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([blob], "a.png", { type: "image/png" }));
      dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
      await last;
      return [shown.width, shown.height];
    })()"""
    assert browser.evaluate(drop) == [LONGEST, LONGEST // 2]
    broken = folder / "broken.png"
    broken.write_bytes(b"no picture")
    assert choose(browser, broken) == "broken.png is no picture that this browser can read."
    assert browser.evaluate("byId('message').className") == "error"


def test_the_camera(opened):
    browser, _ = opened
    browser.evaluate("shown = null; queue(startCamera).then(() => last)")
    assert browser.evaluate("[shown.width, shown.height]") == [LONGEST, LONGEST * 3 // 4]
    browser.click("#camera")
    wait(browser)
    assert browser.evaluate("video.srcObject === null && !streaming")


def test_it_fits_a_phone(opened):
    browser, _ = opened
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.command("Emulation.setDeviceMetricsOverride", **phone)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    browser.command("Emulation.clearDeviceMetricsOverride")


def test_the_shipped_model_finds_what_it_finds_in_python(
    browser, onnxruntime_web, shapes, tmp_path
):
    options = {"format_name": "web", "onnxruntime_web": onnxruntime_web}
    predictor, path, _ = exported(shapes, tmp_path, config_of(FAST), **options)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["check-web.md", "model.html"]
    browser.open(path)
    wait(browser)
    first, second, third = pictures(shapes)
    segments = 0
    for number, picture in enumerate((first[:, ::-1], second[:77], third[:, :61])):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        choose(browser, tmp_path / f"{number}.png")
        wanted = predictor(np.ascontiguousarray(picture[:, :, ::-1]))
        segments += len(wanted["panoptic_seg"][1])
        assert_shown(browser, wanted)
    assert segments > 6
    assert_alone(browser)
