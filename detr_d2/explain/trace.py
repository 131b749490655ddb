"""All tensors of a forward pass, recorded from outside: the model's code knows nothing of it.

Modules are watched by hooks, and public methods, such as `preprocess`, `predict` and
`masks_in_chunks` of the meta-archs, by wrappers that are taken off again. Both only read, so the
results are the same to the bit.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import torch
from torch import nn

from ..errors import UserError
from ..modeling.meta_arch import DETR, PanopticDETR
from ..modeling.proposal_transformer import ProposalTransformer
from .image_trace import ImageTrace
from .recording import Pass, copied, wrapped
from .trace_parts import part_hooks, part_methods


@torch.no_grad()
def trace(
    model: DETR, batched_inputs: list[dict], score_threshold: float = 0.85
) -> list[ImageTrace]:
    """Run the model once and keep every tensor on the way.

    Example:
        (image,) = trace(model, [{"image": tensor}])
        image["memory"].shape, image.output["panoptic_seg"], image.describe()

    Args:
        model: in eval mode.
        batched_inputs: as for the model; the batch may have images of several sizes.
        score_threshold: for `kept` of a model that gives boxes alone; a panoptic model has its own.

    Returns:
        One `ImageTrace` an image, in the order of the inputs. What the model itself returned is in
        their `output`.

    Raises:
        UserError: where the model is in training mode, or no DETR.
    """
    if not isinstance(model, DETR):
        raise UserError(
            f"MODEL.META_ARCHITECTURE {type(model).__name__} cannot be traced: give DETR or "
            "PanopticDETR."
        )
    if model.training:
        raise UserError("The model is in training mode, which gives losses: call model.eval().")
    passes: list[Pass] = []
    with ExitStack() as watched:
        _watch(model, passes, watched)
        outputs = model(batched_inputs)
    threshold = getattr(model, "panoptic_score_threshold", score_threshold)
    places = _places(batched_inputs, passes)
    traces: dict[int, ImageTrace] = {}
    for recorded, indices in zip(passes, places):
        for row, index in enumerate(indices):
            traces[index] = recorded.of_image(model, row, outputs[index], threshold)
    return [traces[index] for index in range(len(batched_inputs))]


def _places(batched_inputs: list[dict], passes: list[Pass]) -> list[list[int]]:
    """For each pass the indices of its images; a dict that is given twice is taken in order."""
    indices: dict[int, list[int]] = {}
    for index, x in enumerate(batched_inputs):
        indices.setdefault(id(x), []).append(index)
    return [[indices[id(x)].pop(0) for x in recorded.inputs] for recorded in passes]


def _watch(model: DETR, passes: list[Pass], watched: ExitStack) -> None:
    """Put hooks and wrappers on the model; `watched` takes them off."""

    def preprocessed(arguments, images):
        passes.append(Pass(list(arguments[0]), {"image": copied(images.tensor)}))

    proposes = isinstance(model.transformer, ProposalTransformer)
    learned = "stuff_queries" if proposes else "queries"

    def predictions(arguments, predictions):
        batch = len(predictions.memory)
        passes[-1].tensors.update(
            {name: copied(value) for name, value in predictions.features.items()},
            projected=copied(predictions.projected),
            memory=copied(predictions.memory),
            **{learned: copied(model.query_embed.weight).expand(batch, -1, -1)},
            hs=copied(predictions.hs[-1]),
            logits=copied(predictions.logits[-1]),
            boxes=copied(predictions.boxes[-1]),
        )

    def masked(arguments, mask_logits):
        chosen, recorded = arguments[1], passes[-1]
        counts = chosen.sum(1).tolist()
        maps = torch.cat(recorded.maps)  # of all chunks
        queries = [rows.nonzero()[:, 0] for rows in chosen]
        recorded.masked = list(zip(queries, maps.split(counts), copied(mask_logits).split(counts)))

    def positioned(module, arguments, keywords, positions):
        batch = len(passes[-1].inputs)
        passes[-1].tensors["positions"] = copied(positions).expand(batch, -1, -1, -1)

    def mapped(module, arguments, keywords, maps):
        passes[-1].maps.append(copied(maps))

    methods: list[tuple[nn.Module, str, Callable]] = [
        (model, "preprocess", preprocessed),
        (model, "predict", predictions),
        *part_methods(model, passes),
    ]
    hooks: list[tuple[nn.Module, Callable]] = [
        (model.position_encoding, positioned),
        *_transformer_hooks(model, passes),
    ]
    hooks.extend(part_hooks(model, passes))
    if isinstance(model, PanopticDETR):
        methods.append((model, "masks_in_chunks", masked))
        hooks.append((model.bbox_attention, mapped))
    for owner, name, record in methods:
        watched.enter_context(wrapped(owner, name, record))
    for module, hook in hooks:
        handle = module.register_forward_hook(hook, with_kwargs=True)
        watched.callback(handle.remove)


def _transformer_hooks(model: DETR, passes: list[Pass]) -> Iterator[tuple[nn.Module, Callable]]:
    """Hooks for the layers of `Transformer` and their attentions; none for what is not there."""

    def layer_done(name, module, arguments, keywords, output):
        recorded = passes[-1]
        output = copied(output)
        if name.startswith("encoder"):
            height, width = recorded.tensors["positions"].shape[-2:]
            output = output.transpose(1, 2).unflatten(2, (height, width))
        recorded.layers[name] = output

    def attended(name, module, arguments, keywords, output):
        queries, keys = arguments[:2]
        padding = keywords.get("key_padding_mask")
        passes[-1].attentions[name] = (module, copied(queries), copied(keys), padding)
        passes[-1].layers[name] = None

    for path, module in model.transformer.named_modules():
        if layer := re.fullmatch(r"(encoder|decoder)\.layers\.(\d+)(\.\w+)?", path):
            coder, number, part = layer.groups()
            if part is None:
                yield module, partial(layer_done, f"{coder}.{number}")
            elif isinstance(module, nn.MultiheadAttention):
                kind = "self_attention" if part == ".self_attn" else "cross_attention"
                yield module, partial(attended, f"{coder}.{number}.{kind}")
