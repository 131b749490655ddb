"""The page as a file, and as it behaves in a browser."""

import json
import re

import numpy as np
import pytest
from pages import NAME, NAMES, Page, data_of, draw_all
from PIL import Image

from detr_d2.explain.pictures import resized_numbers

SECTIONS = ["photograph", "backbone", "projection", "positions", "memory", "decoder"]
MASK_SECTIONS = ["maps", "steps", "masks", "result"]
QUESTIONS = [
    "From where do we take the encoded image?",
    "What happens to the d x N embeddings to give N x M x H/32 x W/32 maps?",
    "Where does Res5 come from in the concatenation?",
    "What are the steps after it?",
    "How are we left with the panoptic segmentation?",
]


def test_the_page_is_whole_and_needs_no_other_file(explain):
    traced, path = explain("PanopticDETR")
    html = path.read_text()
    page = Page(html)
    for section in (*SECTIONS, *MASK_SECTIONS, "ground-truth"):
        assert section in page.ids
    for question in QUESTIONS:  # at the top, and with its answer
        assert page.text.count(question) == 2
    links = re.findall(r'href="#([\w-]+)"', html)
    assert set(links) <= set(page.ids)
    assert page.addresses == ["data:,"]
    assert not re.search(r"url\((?!\$)|@import|https?://(?!www\.w3\.org)", html)
    assert "$" not in re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    assert len(traced["mask_queries"]) == 3


def test_names_from_outside_are_text(explain):
    page = Page(explain("PanopticDETR")[1].read_text())
    assert page.tags.count("script") == 2
    assert "img" not in page.tags
    assert "i" not in page.tags
    assert NAME in page.text
    assert NAMES[0] in page.text


def test_figures_and_trace_lie_beside_the_page(explain):
    traced, path = explain("PanopticDETR")
    data = data_of(path)
    pictures = {p.stem: p for p in (path.parent / "figures").iterdir()}
    assert pictures.keys() == {*data["figures"], "boxes"}
    for name in ("backbone_components", "memory", "query-000-maps", "query-001-steps3", "merging"):
        with Image.open(pictures[name]) as picture:
            assert picture.format == "PNG"
    content = json.loads((path.parent / "trace.json").read_text())
    assert content["image"] == NAME
    assert content["letters"]["N"] == 5
    assert [row["name"] for row in content["tensors"]] == list(traced)
    memory = next(row for row in content["tensors"] if row["name"] == "memory")
    assert memory["letters"] == "d x H/32 x W/32"
    assert memory["shape"] == [128, 3, 4]
    assert memory["dtype"] == "float32"
    assert memory["range"] == [traced["memory"].min().item(), traced["memory"].max().item()]


def test_the_map_to_point_at_is_the_panoptic_map(explain):
    traced, path = explain("PanopticDETR")
    data = data_of(path)
    runs = data["map"]["runs"]
    winners = np.repeat(runs[0::2], runs[1::2]).reshape(data["map"]["h"], data["map"]["w"])
    ids, info = traced.output["panoptic_seg"]
    classes = traced["classes"].numpy()[winners]
    for segment in info:
        assert (classes[ids.numpy() == segment["id"]] == segment["category_id"]).all()
    assert data["partners"] in ({}, {"1": [1, 2], "2": [1, 2]}, {"1": [2, 1], "2": [2, 1]})


def test_segments_are_listed_in_the_colours_of_the_picture(explain):
    """A stuff segment of several queries has the colour of one of them, here and there."""
    traced, path = explain("PanopticDETR")
    table = re.search(r"<h3>The result</h3>(.*?)</table>", path.read_text(), re.DOTALL)[1]
    listed = re.findall(r'background:#(\w{6})"></span> (\d+)</td>', table)
    segment_map, infos = traced.output["panoptic_seg"]
    assert [int(id_) for _, id_ in listed] == [info["id"] for info in infos]
    with Image.open(path.parent / "figures" / "panoptic.png") as sheet:
        picture = np.asarray(sheet.convert("RGB")).astype(int)
    picture = picture[18:-4, :-4]  # without title and margin
    ids = resized_numbers(segment_map.numpy(), picture.shape[:2])
    for color, id_ in listed:
        wanted = np.array([int(color[i : i + 2], 16) for i in (0, 2, 4)])
        drawn = picture[ids == int(id_)].mean(0)
        # The grey photograph shines through, by at most 0.3 * 255.
        assert (abs(drawn - 0.7 * wanted - (drawn - 0.7 * wanted).mean()) < 12).all()


def test_the_page_tells_the_rule_in_use(explain):
    told = {}
    for merge in ("official", "scores"):
        _, path = explain("PanopticDETR", merge=merge)
        told[merge] = Page(path.read_text()).text
    assert "highest mask logit" in told["official"] and "small share" not in told["official"]
    assert "product of class score and mask probability" in told["scores"]
    assert "wins less than 70% of the pixels of its own mask" in told["scores"]
    steps = ["argmax of score x probability", "queries with a small share dropped", "stuff united"]
    places = [told["scores"].index(step) for step in steps]
    assert places == sorted(places)
    # Masks of noise win little of their own: all of them are dropped, each with its share.
    labels = data_of(path)["figures"]["mask_logits"]["labels"]
    shares = [re.fullmatch(r"query \d: (wins \d+%|no pixel of its own)", label) for label in labels]
    assert len(shares) == 3 and all(shares)
    assert f"({shares[0][1]})" in told["scores"]


def test_box_detr_has_a_page_without_masks(explain):
    page = Page(explain("DETR")[1].read_text())
    assert set(SECTIONS) <= set(page.ids)
    assert not set(MASK_SECTIONS) & set(page.ids)
    assert "Matching" in page.text
    assert "Hits, misses" not in page.text


def test_no_query_kept(explain):
    _, path = explain("PanopticDETR", threshold=1.0, with_truth=False)
    data = data_of(path)
    assert data["kept"] == []
    assert "map" not in data
    assert "query-000-cross_attention" in data["figures"]
    assert "query-000-maps" not in data["figures"]


SHOWN = "[...document.querySelectorAll('.figure')].map(f => f.dataset.shown)"
LIT = "[...document.querySelectorAll('.lit')].map(e => Number(e.dataset.query))"


def test_everything_is_drawn(browser, opened):
    opened("PanopticDETR")
    draw_all(browser)
    shown = browser.evaluate(SHOWN)
    first = f"query-{browser.evaluate('data.first'):03d}"
    for name in ("backbone_components", "memory", f"{first}-maps", f"{first}-steps0", "merging"):
        assert name in shown
    panels = browser.evaluate(
        "[...document.querySelectorAll('.view')].map(v => v.getBoundingClientRect().height)"
    )
    assert min(panels) > 20
    assert browser.evaluate("document.querySelectorAll('rect.box').length") == 5 + 1
    assert browser.evaluate("document.querySelectorAll('.missing').length") == 0
    # Every picture that is shown can be decoded.
    assert browser.evaluate(
        "Promise.all(Object.values(data.figures).map(f => {"
        "const i = new Image(); i.src = f.src;"
        "return i.decode().then(() => i.naturalWidth === f.n * f.w); })).then(a => a.every(x => x))"
    )


def test_a_click_on_a_segment_shows_its_query(browser, opened):
    opened("PanopticDETR")
    draw_all(browser)
    data = browser.evaluate("({w: map.w, h: map.h, of: [...map.of]})")
    winners = np.array(data["of"]).reshape(data["h"], data["w"])
    queries = np.unique(winners)
    assert len(queries) > 1
    for query in queries.tolist():
        row, column = np.argwhere(winners == query)[0]
        browser.click("#stage", (column + 0.5) / data["w"], (row + 0.5) / data["h"])
        assert browser.evaluate("document.querySelector('#queries :checked').value") == str(query)
        shown = browser.evaluate(SHOWN)
        of_query = [name for name in shown if name.startswith("query")]
        assert len(of_query) == 7
        assert all(name.startswith(f"query-{query:03d}-") for name in of_query)
        lit = browser.evaluate(LIT)
        assert set(lit) == {query}
        assert len(lit) >= 3  # its box, its row, its mask
        assert f"Query {query} " in browser.evaluate("document.querySelector('#chosen').innerText")
        # The picture is dark but for the query's pixels.
        alpha = browser.evaluate(
            "[...document.getElementById('light').getContext('2d')"
            ".getImageData(0, 0, map.w, map.h).data].filter((x, i) => i % 4 === 3)"
        )
        assert ((np.array(alpha).reshape(winners.shape) == 0) == (winners == query)).all()


def test_clicks_on_box_mask_and_row_choose_the_query(browser, opened):
    opened("PanopticDETR")
    draw_all(browser)
    chosen = "document.querySelector('#queries :checked').value"
    browser.click("button.panel[data-query='1']")
    assert browser.evaluate(chosen) == "1"
    assert browser.evaluate("document.querySelector('button.panel.lit').ariaPressed") == "true"
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    browser.click("tr[data-query='4']")
    assert browser.evaluate(chosen) == "4"
    assert "does not pass" in browser.evaluate("document.querySelector('#chosen').innerText")
    assert browser.evaluate("document.querySelectorAll('.missing').length") == 6
    assert browser.evaluate("location.hash") == "#query=4"


def test_the_keyboard_walks_through_the_queries(browser, opened):
    opened("PanopticDETR")
    order = browser.evaluate(
        "[...document.querySelectorAll('#queries input')].map(i => Number(i.value))"
    )
    browser.evaluate("document.querySelector('#queries :checked').focus()")
    browser.press("ArrowDown")
    assert browser.evaluate("chosen") == order[1]
    assert browser.evaluate("document.activeElement.value") == str(order[1])
    browser.press("ArrowUp")
    assert browser.evaluate("chosen") == order[0]


def test_the_buttons_of_a_phone_walk_through_the_queries(browser, opened):
    opened("PanopticDETR")
    buttons = "[...document.querySelectorAll('.chosen button')].map(b => b.offsetHeight)"
    window = {"height": 700, "deviceScaleFactor": 1}
    browser.command("Emulation.setDeviceMetricsOverride", width=1300, mobile=False, **window)
    assert browser.evaluate(buttons) == [0, 0]
    browser.command("Emulation.setDeviceMetricsOverride", width=375, mobile=True, **window)
    assert min(browser.evaluate(buttons)) >= 40
    order = browser.evaluate(
        "[...document.querySelectorAll('#queries input')].map(i => Number(i.value))"
    )
    browser.evaluate("document.querySelector('#result').scrollIntoView()")
    walked = []
    for button in ["next"] * len(order) + ["previous"]:
        browser.evaluate(f"document.getElementById('{button}').click()")
        walked.append(browser.evaluate("chosen"))
    assert walked == [*order[1:], order[0], order[-1]]
    browser.command("Emulation.clearDeviceMetricsOverride")


def test_boxes_have_their_class_and_score(browser, opened):
    traced, _ = opened("PanopticDETR")
    draw_all(browser)
    tags = browser.evaluate(
        "[...document.querySelectorAll('.tag')].filter(t => t.offsetHeight)"
        ".map(t => [Number(t.dataset.query), t.innerText])"
    )
    assert sorted(query for query, _ in tags) == traced["kept"].nonzero()[:, 0].tolist()
    for query, text in tags:
        assert text == browser.evaluate(f"nameOf({query})")
        assert text.endswith(f"{traced['scores'][query].item():.0%}")
    # One that does not pass has a tag while it is chosen.
    browser.evaluate("choose(4)")
    assert browser.evaluate("document.querySelector('.tag[data-query=\"4\"]').offsetHeight") > 0
    browser.evaluate("choose(0)")
    assert browser.evaluate("document.querySelector('.tag[data-query=\"4\"]').offsetHeight") == 0


def test_an_address_names_the_query(browser, opened):
    _, path = opened("PanopticDETR")
    browser.open("about:blank")
    browser.open(path.as_uri() + "#query=3")
    assert browser.evaluate("chosen") == 3
    assert browser.evaluate("document.querySelector('#queries details').open")
    browser.open("about:blank")
    browser.open(path.as_uri() + "#query=77")
    assert browser.evaluate("chosen") == browser.evaluate("data.first")


@pytest.mark.parametrize("width", [320, 375, 768, 1300])
def test_nothing_is_wider_than_the_window(browser, opened, width):
    opened("PanopticDETR")
    browser.command(
        "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1,
        mobile=width < 500,
    )  # fmt: skip
    draw_all(browser)
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    browser.command("Emulation.clearDeviceMetricsOverride")


def test_text_can_be_read_in_light_and_dark(browser, opened):
    """Contrast of at least 4.5, as WCAG AA asks for."""
    opened("PanopticDETR")
    for scheme in ("light", "dark"):
        scheme_of_media = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.command("Emulation.setEmulatedMedia", features=scheme_of_media)
        text, back = (
            browser.evaluate(f"getComputedStyle(document.querySelector('section')).{property}")
            for property in ("color", "backgroundColor")
        )
        soft = browser.evaluate("getComputedStyle(document.querySelector('summary')).color")
        accent = browser.evaluate("getComputedStyle(document.querySelector('.question')).color")
        assert (luminance(back) < 0.2) == (scheme == "dark")
        for color in (text, soft, accent):
            low, high = sorted((luminance(color), luminance(back)))
            assert (high + 0.05) / (low + 0.05) >= 4.5
    browser.command("Emulation.setEmulatedMedia", features=[])


def luminance(color: str) -> float:
    channels = np.array([int(x) for x in re.findall(r"\d+", color)[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_print_has_the_chosen_querys_figures(browser, opened):
    opened("PanopticDETR")
    browser.command("Page.printToPDF")
    assert None not in browser.evaluate(SHOWN)
    browser.command("Emulation.setEmulatedMedia", media="print")
    display = "getComputedStyle(document.querySelector('#queries')).display"
    assert browser.evaluate(display) == "none"
    browser.command("Emulation.setEmulatedMedia", media="")


def test_figures_wait_until_they_are_near(browser, opened):
    opened("PanopticDETR")
    assert None in browser.evaluate(SHOWN)
    browser.evaluate("document.querySelector('#result').scrollIntoView()")
    browser.evaluate(
        "new Promise(done => { const wait = () => document.querySelector("
        "'[data-figure=merging]').dataset.shown ? done() : requestAnimationFrame(wait); wait(); })"
    )


def test_boxes_alone_and_no_query_kept(browser, opened):
    opened("DETR")
    draw_all(browser)
    x, y, *_ = browser.evaluate("data.queries[0].box")
    browser.click("#stage", x, y)
    assert browser.evaluate("data.queries[chosen].kept")
    opened("PanopticDETR", threshold=1.0, with_truth=False)
    draw_all(browser)
    browser.click("#stage")
    assert browser.evaluate("document.querySelectorAll('.missing').length") >= 5


def test_boxes_from_res5_alone_are_explained(explain):
    text = Page(explain("DETR", parts="res5 alone")[1].read_text()).text
    assert "(H/32)" in text and "(H/4) to" not in text
    assert "(H/4) to" in Page(explain("DETR")[1].read_text()).text
