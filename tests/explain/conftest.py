from functools import cache

import numpy as np
import pytest
import torch
from pages import NAME, NAMES
from parts import PARTS

from detr_d2.explain.ground_truth import GroundTruth
from detr_d2.explain.page import write_explanation

# What each query says, 8 being no object. Where queries are proposed, four of stuff come first.
CLASSES = {
    "official": [0, 4, 4, 8, 8],
    "res5 alone": [0, 4, 4, 8, 8],
    "regions": [0, 4, 4, 8, 8],
    "proposals": [4, 5, 8, 8, 0, 1, 1, 8, 8],
}
RES5_ALONE = ("MODEL.RESNETS.OUT_FEATURES", ["res5"], "MODEL.DETR.IN_FEATURES", ["res5"])


@pytest.fixture(scope="module")
def explain(build_model, randomise, draw_input, tmp_path_factory):
    """A function that writes the page of a small model for an image of noise, once."""

    @cache
    def write(
        meta_architecture, threshold=0.0, with_truth=True, merge="official", parts="official"
    ):
        torch.manual_seed(0)
        panoptic = "MODEL.DETR.PANOPTIC"
        overrides = (f"{panoptic}.SCORE_THRESHOLD", threshold, f"{panoptic}.MERGE", merge)
        overrides += RES5_ALONE if parts == "res5 alone" else PARTS[parts]
        model = randomise(build_model(meta_architecture, *overrides)).eval()
        with torch.no_grad():
            model.class_embed.weight.normal_(std=0.1)
        # Each query leans to a class; the last two are no object.
        leaning = 6 * torch.nn.functional.one_hot(torch.tensor(CLASSES[parts]), 9)
        model.class_embed.register_forward_hook(lambda module, inputs, x: x + leaning)
        image = draw_input(75, 100)
        truth = GroundTruth(
            image["segment_map"].numpy().astype(np.int32), np.array([0, 4, 6]), np.zeros(3, bool)
        )
        folder = tmp_path_factory.mktemp("explained")
        (folder / "figures").mkdir()
        (folder / "figures" / "query-099-maps.png").touch()  # of another image
        traced = write_explanation(
            model,
            image,
            image["image"].permute(1, 2, 0).numpy(),
            folder,
            name=NAME,
            class_names=NAMES,
            truth=truth if with_truth else None,
            score_threshold=0.5,
        )
        return traced, folder / "index.html"

    return write


@pytest.fixture
def opened(explain, browser):
    """A page that is open, and what was traced."""

    def open_page(*arguments, **keywords):
        traced, path = explain(*arguments, **keywords)
        browser.errors.clear()
        browser.requests.clear()
        browser.open(path)
        return traced, path

    yield open_page
    assert browser.errors == []
    addresses = [a for a in browser.requests if not a.startswith(("data:", "about:"))]
    assert all(a.startswith("file://") and "index.html" in a for a in addresses)
