"""docs/architecture.md says of every tensor what the running model says of it."""

import importlib
import re
from contextlib import nullcontext
from functools import cache, reduce
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import ImageList
from merging import merge

import detr_d2
from detr_d2.engine import setup_cfg
from detr_d2.explain import trace
from detr_d2.explain.mask_steps import mask_head_steps
from detr_d2.modeling.upsampling import upsample_masks

REPOSITORY = Path(detr_d2.__file__).parents[1]
PAGE = REPOSITORY / "docs" / "architecture.md"
MODELS = {
    "R50": ("COCO-PanopticSegmentation/panoptic_detr_R_50.yaml", (768, 1023)),
    "R50-DC5": ("COCO-PanopticSegmentation/panoptic_detr_R_50_DC5.yaml", (768, 1023)),
    "shapes": ("Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml", (96, 112)),
}
COUNTS = (12, 8)  # queries of each image that are given a mask


def table() -> list[dict[str, str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(head, row)) for row in rows]


@cache
def tensors_of(model_name: str) -> dict[str, torch.Tensor]:
    """Every tensor of a pass, on the meta device: all code runs, but no number is computed."""
    file, size = MODELS[model_name]
    overrides = ["MODEL.DEVICE", "meta", "MODEL.WEIGHTS", ""]
    # The meta device knows no mixed precision, which is off here anyway.
    with torch.device("meta"), patch("torch.autocast", lambda *_, **__: nullcontext()):
        model = build_model(setup_cfg(str(REPOSITORY / "configs" / file), overrides)).eval()
        images = ImageList(torch.empty(len(COUNTS), 3, *size), [size] * len(COUNTS))
        found = _pass(model, images, [torch.arange(count) for count in COUNTS])
    # Merging goes by the numbers, so its are real.
    logits, classes = torch.rand(COUNTS[0], *size), torch.zeros(COUNTS[0], dtype=torch.int64)
    is_thing = torch.ones(1, dtype=torch.bool)
    found["panoptic_seg"] = merge(logits, classes, classes, is_thing, size, 4)[0]
    return found


@torch.no_grad()
def _pass(model, images: ImageList, queries: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {"image": images.tensor}
    for module, name in ((model.position_encoding, "positions"), (model.bbox_attention, "maps")):
        module.register_forward_hook(lambda _, __, output, name=name: found.update({name: output}))
    predictions = model.predict(images, all_layers=False)
    found.update(predictions.features)
    found.update(projected=predictions.projected, memory=predictions.memory, hs=predictions.hs[-1])
    found["queries"] = model.query_embed.weight
    found["logits"], found["boxes"] = predictions.logits[-1], predictions.boxes[-1]
    found["mask_logits"] = model.masks(predictions, queries)
    steps = [
        mask_head_steps(
            model.mask_head,
            predictions.projected[b],
            maps,
            {name: level[b] for name, level in predictions.features.items()},
        )
        for b, maps in enumerate(found["maps"].split(COUNTS))
    ]
    for name in steps[0]:
        join = torch.stack if name.startswith("adapter") else torch.cat
        found[f"mask_head.{name}"] = join([of_image[name] for of_image in steps])
    size = images.image_sizes[0]
    masks = upsample_masks(found["mask_logits"][: COUNTS[0]], images.tensor.shape[-2:], size)
    found["full_mask_logits"] = masks
    return found


def written(shape) -> str:
    return " x ".join(map(str, shape))


@pytest.mark.parametrize("model_name", MODELS)
def test_every_shape_is_that_of_the_running_model(model_name):
    tensors = tensors_of(model_name)
    shown = {row["tensor"].strip("`"): row[model_name] for row in table()}
    assert shown == {name: written(tensors[name].shape) for name in shown}
    assert shown.keys() == tensors.keys()


@pytest.mark.parametrize("model_name", MODELS)
def test_every_shape_in_letters_gives_the_numbers(model_name):
    tensors = tensors_of(model_name)
    letters = {
        "B": 2,
        "K": sum(COUNTS),
        "K0": COUNTS[0],
        "H": tensors["image"].shape[2],
        "W": tensors["image"].shape[3],
        "N": len(tensors["queries"]),
        "d": tensors["queries"].shape[1],
        "M": tensors["maps"].shape[1],
        "C": tensors["logits"].shape[2] - 1,
        **{f"C{level}": tensors[f"res{level}"].shape[1] for level in (2, 3, 4, 5)},
        "s": 16 if model_name != "R50" else 32,
    }
    for row in table():
        values = [value_of(term, letters) for term in row["in letters"].split(" x ")]
        assert written(values) == row[model_name], row["tensor"]


def value_of(term: str, letters: dict[str, int]) -> int:
    """Sums as they are; quotients rounded up, since every stride-2 step rounds up."""
    term = term.strip("()")
    if "+" in term:
        return sum(value_of(part, letters) for part in term.split(" + "))
    numerator, _, denominator = term.partition("/")
    value = letters.get(numerator) or int(numerator)
    return -(-value // (letters.get(denominator) or int(denominator))) if denominator else value


def test_every_file_and_name_exists():
    for row in table():
        name, path = re.fullmatch(r"\[`([\w.]+)`\]\((\S+)\)", row["made by"]).groups()
        file = (PAGE.parent / path).resolve()
        assert file.is_file(), path
        module = ".".join(file.relative_to(REPOSITORY).with_suffix("").parts)
        reduce(getattr, name.split("."), importlib.import_module(module))


def test_every_name_in_the_text_exists():
    text = PAGE.read_text()
    for path in re.findall(r"\]\(((?!http)[^)]+)\)", text):
        assert (PAGE.parent / path).exists(), path
    sources = "\n".join(p.read_text() for p in (REPOSITORY / "detr_d2").rglob("*.py"))
    for name in re.findall(r"`(\w+)`", text.split("## Shapes")[0]):
        assert re.search(rf"(class|def) {name}\b", sources), name


def test_tracing_real_images_gives_the_shapes_of_the_table():
    file, size = MODELS["shapes"]
    # A random model is sure of nothing: with a threshold of 0, every query that is an object is
    # kept, and no-object is made the least likely class.
    overrides = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""]
    overrides += ["MODEL.DETR.PANOPTIC.SCORE_THRESHOLD", "0.0"]
    model = build_model(setup_cfg(str(REPOSITORY / "configs" / file), overrides)).eval()
    torch.nn.init.constant_(model.class_embed.bias[-1:], -100.0)
    inputs = [{"image": torch.rand(3, *size) * 255} for _ in COUNTS]
    images = trace(model, inputs)
    num_queries = len(images[0]["queries"])
    for row in table():
        name = row["tensor"].strip("`")
        lead, *others = row["shapes"].split(" x ")
        first = row["in letters"].split(" x ")[0]
        expected = {"B": others, "1": others, "K": [str(num_queries), *others]}
        expected["K0"] = expected["K"]
        expected = expected.get(first, [lead, *others])
        for image in images:
            assert written(image[name].shape) == " x ".join(expected), name
