"""The page of models with a pyramid, proposals, a semantic map and windows."""

import re

import numpy as np
import pytest
from pages import NAMES, Page, data_of, draw_all
from PIL import Image

from detr_d2.explain.pictures import css_color

SECTIONS = ["pyramid", "proposals", "semantic", "windows"]
FIGURES = {"pyramid_components", "pyramid_magnitude", "references", "proposals", "semantic"}
FIGURES |= {"windows", "query-004-window", "query-004-start", "query-000-start"}


def page_of(path) -> Page:
    return Page(path.read_text())


def test_an_official_models_page_has_nothing_of_it(explain):
    _, path = explain("PanopticDETR")
    page, figures = page_of(path), data_of(path)["figures"]
    assert not set(SECTIONS) & set(page.ids)
    assert not FIGURES & figures.keys()
    assert not any("outlines" in figure for figure in figures.values())
    assert "learned queries of d numbers each" in page.text


def test_sections_figures_and_tables(explain):
    traced, path = explain("PanopticDETR", parts="proposals")
    html, page, figures = path.read_text(), page_of(path), data_of(path)["figures"]
    assert set(SECTIONS) <= set(page.ids)
    assert set(re.findall(r'href="#([\w-]+)"', html)) <= set(page.ids)
    assert "$" not in re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    assert figures.keys() >= FIGURES
    assert {f"{name}.png" for name in FIGURES} <= {p.name for p in path.parent.glob("figures/*")}
    assert "query-000-window" not in figures  # of stuff
    for name in traced:
        assert f"<code>{name}</code>" in html
    assert "4 are learned and stand for a class of stuff each" in page.text
    assert "a segment of stuff belongs to the query of its class" in page.text
    assert page.text.count(NAMES[0]) > 1  # in the key of classes too, as text


def test_outlines_are_the_boxes_of_the_pass(explain):
    traced, path = explain("PanopticDETR", parts="proposals")
    figures = data_of(path)["figures"]
    outlines = figures["references"]["outlines"]
    assert len(outlines) == figures["references"]["n"] == 2 + 1
    steps = [traced[f"decoder.{layer}.references"] for layer in (0, 1)] + [traced["boxes"][4:]]
    for panel, boxes in zip(outlines, steps):
        assert [query for query, _, _ in panel] == [4, 5, 6]
        for query, box, point in panel:
            assert box == pytest.approx(boxes[query - 4].tolist(), abs=1e-4)
            assert point == []

    windows, again = figures["windows"]["outlines"]
    assert again == windows
    for (query, (cx, cy, w, h), _), window in zip(windows, traced["windows"].tolist(), strict=True):
        x0, y0, x1, y1 = window
        assert query in traced["window_queries"]
        wanted = [(x0 + x1) / 200, (y0 + y1) / 150, (x1 - x0) / 100, (y1 - y0) / 75]
        assert [cx, cy, w, h] == pytest.approx(wanted, abs=1e-3)


def test_proposals_stand_on_the_level_and_at_the_cell_that_were_chosen(explain):
    traced, path = explain("PanopticDETR", parts="proposals")
    found = {}
    panels = data_of(path)["figures"]["proposals"]["outlines"]
    for stride, columns, first, panel in zip((16, 8, 4), (7, 13, 25), (0, 35, 165), panels):
        for query, _, (x, y) in panel:
            column, row = x * 100 / stride - 0.5, y * 75 / stride - 0.5
            found[query] = first + round(row) * columns + round(column)
    assert [found[query] for query in range(4, 9)] == traced["proposals"].tolist()


def test_the_key_names_the_classes_of_the_semantic_map(explain):
    traced, path = explain("PanopticDETR", parts="proposals")
    section = re.search(r'id="semantic">(.*?)</section>', path.read_text(), re.DOTALL)[1]
    key = re.search(r'<p>(<span class="swatch".*)</p>', section)[1]
    present = traced["semantic"].argmax(0).unique().tolist()
    assert re.findall(r"background:(#\w{6})", key) == [css_color(number) for number in present]
    assert [name.strip() for name in Page(key).text.split(",")] == [NAMES[n] for n in present]


@pytest.mark.parametrize(
    "meta_architecture, parts, present",
    [("DETR", "proposals", SECTIONS[:2]), ("PanopticDETR", "regions", SECTIONS[:1])],
)
def test_a_part_alone_has_its_own_sections(explain, meta_architecture, parts, present):
    _, path = explain(meta_architecture, parts=parts)
    page = page_of(path)
    assert [name for name in SECTIONS if name in page.ids] == present
    assert "references" in data_of(path)["figures"]


def test_no_query_kept(explain):
    _, path = explain("PanopticDETR", threshold=1.0, with_truth=False, parts="proposals")
    data = data_of(path)
    assert data["kept"] == []
    assert data["figures"]["windows"]["outlines"] == [[], []]
    assert not any(name.endswith(("-start", "-window")) for name in data["figures"])
    for name in ("windows", "semantic"):
        with Image.open(path.parent / "figures" / f"{name}.png") as picture:
            assert np.asarray(picture).size


def test_outlines_light_up_and_choose_their_query(browser, opened):
    opened("PanopticDETR", parts="proposals")
    draw_all(browser)
    lit = (
        "[...document.querySelectorAll('[data-figure={}] rect.lit')]"
        ".map(e => Number(e.dataset.query))"
    )
    browser.evaluate("choose(5)")
    assert browser.evaluate(lit.format("proposals")) == [5]
    assert browser.evaluate(lit.format("references")) == [5] * 3
    assert browser.evaluate(lit.format("windows")) == [5] * 2
    browser.evaluate(
        "document.querySelector('[data-figure=proposals] path.dot[data-query=\"4\"]')"
        ".dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    assert browser.evaluate("chosen") == 4
    missing = "[...document.querySelectorAll('.missing')].map(e => e.innerText)"
    # Its attention maps and the steps of the mask head are those of stuff alone.
    in_window = "Query 4: does not pass, or is a thing, which has its mask from its window."
    assert set(browser.evaluate(missing)) == {in_window}
    browser.evaluate("choose(0)")
    assert browser.evaluate(missing) == ["Query 0: has no window: it does not pass, or is stuff."]


@pytest.mark.parametrize("width", [320, 1300])
def test_nothing_is_wider_than_the_window(browser, opened, width):
    opened("PanopticDETR", parts="proposals")
    window = {"height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.command("Emulation.setDeviceMetricsOverride", width=width, **window)
    draw_all(browser)
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    browser.command("Emulation.clearDeviceMetricsOverride")
