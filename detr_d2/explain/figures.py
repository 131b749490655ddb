"""Every figure of the page, drawn from the tensors of one traced image."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .explained import Explained
from .figure import Figure
from .image_trace import ImageTrace
from .part_figures import part_figures, part_query_figures
from .pictures import (
    colored_heat,
    colored_segments,
    magnitude,
    principal_components,
    relative,
    resized,
    resized_numbers,
    signed,
    size_of_width,
)
from .tables import share_text

_WIDTH = 640  # pixels, at most, of the photograph and of the panoptic maps
_LEVEL_WIDTH = 240  # of a backbone level
_STEP_WIDTH = 150  # of a step of the mask head
_LOGITS_WIDTH = 160
_LEAST_LOOKED_AT = 4  # queries whose cell's self-attention is drawn, where fewer are kept


def all_figures(explained: Explained) -> list[Figure]:
    """The figures of the image, of the masks, and of every query."""
    image, photograph = explained.image, explained.photograph
    size = size_of_width(photograph.shape[:2], _WIDTH)
    figures = [Figure("photograph", ["photograph"], [resized(photograph, size)])]
    figures.extend(image_figures(image))
    figures.extend(mask_figures(explained))
    rows = image["mask_queries"].tolist() if explained.has_masks else []
    looked_at, kept = looked_at_queries(image), set(explained.kept)
    figures.extend(part_figures(explained, looked_at))
    for query in tqdm(range(len(explained.labels)), "Drawing queries"):
        row = rows.index(query) if query in rows and query in kept else None
        figures.extend(query_figures(image, query, query in looked_at, row))
        if row is not None:
            figures.extend(part_query_figures(explained, query, row))
    return figures


def image_figures(image: ImageTrace) -> Iterator[Figure]:
    """What belongs to the image and to no query: backbone, projection, positions, memory."""
    size = size_of_width(image["image"].shape[-2:], _LEVEL_WIDTH)
    levels = [name for name in ("res2", "res3", "res4", "res5") if name in image]
    labels = [f"Res{name[3:]}, {_shape(image[name])}" for name in levels]
    components = [resized(principal_components(image[name]), size, nearest=True) for name in levels]
    yield Figure("backbone_components", labels, components)
    strength = [resized(magnitude(image[name]), size, nearest=True) for name in levels]
    yield Figure("backbone_magnitude", labels, strength)

    projected = image["projected"]
    shape = _shape(projected)
    pictures = [principal_components(projected), colored_heat(magnitude(projected))]
    yield Figure("projected", [f"principal components, {shape}", "magnitude"], pictures)

    positions = image["positions"]
    channels = [c * len(positions) // 8 + (c % 2) for c in range(8)]
    shown = [_stretched(positions[c]) for c in channels]
    yield Figure("positions", [f"channel {c}" for c in channels], shown)

    layers = [name for name in image if name.startswith("encoder.") and name.count(".") == 1]
    labels = ["projected Res5", *(f"after layer {number + 1}" for number in range(len(layers)))]
    tensors = [projected, *(image[name] for name in layers)]
    if not layers or not torch.equal(tensors[-1], image["memory"]):
        labels, tensors = [*labels, "normalised"], [*tensors, image["memory"]]
    labels[-1] += ": the memory"
    yield Figure("memory", labels, [principal_components(tensor) for tensor in tensors])


def looked_at_queries(image: ImageTrace) -> list[int]:
    """The queries from whose box the encoder's self-attention is drawn: those kept, or some."""
    kept = image["kept"].nonzero()[:, 0].tolist()
    best = image["scores"].argsort(descending=True)[:_LEAST_LOOKED_AT].tolist()
    return kept if len(kept) >= len(best) else sorted({*kept, *best})


def query_figures(image: ImageTrace, query: int, looked_at: bool, row: int | None) -> list[Figure]:
    """What belongs to one query.

    Args:
        looked_at: see `looked_at_queries`.
        row: of the query in `maps`; None without a mask.
    """
    figures = [_cross_attention(image, query)]
    if looked_at:
        figures.append(_self_attention(image, query))
    if row is not None:
        figures.append(_attention_maps(image, query, row))
        figures.extend(_mask_head_figures(image, query, row))
    return [figure for figure in figures if figure.panels]


def mask_figures(explained: Explained) -> Iterator[Figure]:
    """Mask logits of the kept queries, and how they become the panoptic map."""
    queries, steps, photograph = explained.kept, explained.steps, explained.photograph
    if not steps:
        return
    logits = explained.image["full_mask_logits"]
    size = size_of_width(logits.shape[-2:], _LOGITS_WIDTH)
    panels = [resized(signed(mask), size) for mask in logits]
    shares = {query: f": {share_text(x)}" for query, x in explained.share_of_query.items()}
    labels = [f"query {query}{shares.get(query, '')}" for query in queries]
    yield Figure("mask_logits", labels, panels)

    size = size_of_width(photograph.shape[:2], min(_WIDTH, max(_WIDTH // 2, photograph.shape[1])))
    under = resized(photograph, size)
    labels = [f"{step.title}: {step.num_segments} segments" for step in steps]
    for number, step in enumerate(steps[1:], 1):
        labels[number] += f", {step.pixels_changed} pixels changed"
    maps = [explained.query_numbers(step.segments.cpu().numpy()) for step in steps]
    maps.append(_of_result(explained))
    labels.append(f"the result: {len(explained.image.output['panoptic_seg'][1])} segments")
    panels = [colored_segments(resized_numbers(numbers, size), under) for numbers in maps]
    yield Figure("merging", labels, panels)
    yield Figure("panoptic", ["panoptic map"], panels[-1:])


def _of_result(explained: Explained) -> np.ndarray:
    """(H', W'): what the model gave, each segment with the number that it has in the last step."""
    ids = explained.image["panoptic_seg"].cpu().numpy()
    return np.array([explained.number_of_id.get(id_, -1) for id_ in range(ids.max() + 1)])[ids]


def _cross_attention(image: ImageTrace, query: int) -> Figure:
    layers = [name for name in image.attentions if name.endswith("cross_attention")]
    rows = torch.tensor([query], device=image["memory"].device)
    size = image["memory"].shape[-2:]
    maps = [image.attentions[name].weights(rows)[:, 0].mean(0).view(size) for name in layers]
    labels = [f"layer {n}, brightest {heat.max():.2g}" for n, heat in enumerate(maps, 1)]
    return Figure(f"query-{query:03d}-cross_attention", labels, [relative(m) for m in maps], True)


def _self_attention(image: ImageTrace, query: int) -> Figure:
    height, width = image["memory"].shape[-2:]
    x, y = image["boxes"][query, :2].tolist()
    cell = min(int(y * height), height - 1) * width + min(int(x * width), width - 1)
    layers = [n for n in image.attentions if n.startswith("encoder") and n.endswith("attention")]
    rows = torch.tensor([cell], device=image["memory"].device)
    maps = [image.attentions[n].weights(rows)[:, 0].mean(0).view(height, width) for n in layers]
    labels = [f"layer {n}, brightest {heat.max():.2g}" for n, heat in enumerate(maps, 1)]
    return Figure(f"query-{query:03d}-self_attention", labels, [relative(m) for m in maps], True)


def _attention_maps(image: ImageTrace, query: int, row: int) -> Figure:
    maps = image["maps"][row]
    greatest = maps.max().item()
    labels = [f"head {m}: {heat.sum():.0%}" for m, heat in enumerate(maps, 1)]
    panels = [relative(heat, greatest) for heat in maps]
    return Figure(f"query-{query:03d}-maps", labels, panels, over_photograph=True)


# What a figure of the mask head shows, with the n of the step's names.
_LEVELS = [
    ("projected", "maps", "lay1", "lay2"),
    ("up1", "adapter1", "sum1", "lay3"),
    ("up2", "adapter2", "sum2", "lay4"),
    ("up3", "adapter3", "sum3", "lay5"),
]
_STEP_LABELS = {
    "projected": "projected Res5",
    "maps": "beside it the attention maps",
    "up1": "the step before",
    "up2": "enlarged",
    "up3": "enlarged",
    "adapter1": "+ Res4",
    "adapter2": "+ Res3",
    "adapter3": "+ Res2",
    "sum1": "= their sum",
    "sum2": "= their sum",
    "sum3": "= their sum",
}


def _step_label(name: str) -> str:
    return _STEP_LABELS.get(name) or f"then convolution {name.removeprefix('lay')}"


def _mask_head_figures(image: ImageTrace, query: int, row: int) -> list[Figure]:
    if row not in image.convolved_rows().tolist():
        return []
    steps = image.mask_head_steps(torch.tensor([row], device=image["maps"].device))
    if not steps:
        return []
    of_image = ("adapter1", "adapter2", "adapter3")
    tensors = {name: value if name in of_image else value[0] for name, value in steps.items()}
    tensors["projected"], tensors["maps"] = image["projected"], image["maps"][row]
    figures = []
    for level, names in enumerate(_LEVELS):
        size: tuple[int, ...] = tensors[names[0]].shape[-2:]
        if size[1] > _STEP_WIDTH:
            size = size_of_width(size, _STEP_WIDTH)
        labels = [f"{_step_label(name)}, {len(tensors[name])} channels" for name in names]
        panels = [resized(magnitude(tensors[name]), size) for name in names]
        if level == len(_LEVELS) - 1:
            result = "its logits" if "semantic" in image else "the mask: the logits"
            labels.append(f"then {result}' sigmoid")
            panels.append(resized(relative(tensors["out_lay"].sigmoid(), 1.0), size))
        figures.append(Figure(f"query-{query:03d}-steps{level}", labels, panels))
    return figures


def _stretched(values: Tensor) -> np.ndarray:
    low, high = values.min(), values.max()
    return relative(values - low, (high - low).item())


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))
