"""All tensors of a forward pass, recorded from outside: the model's code knows nothing of it.

Modules are watched by hooks, and `preprocess`, `encode` and `masks_in_chunks`, public methods of
the meta-archs, by wrappers that are taken off again. Both only read, so the results are the same to
the bit.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..modeling.meta_arch import DETR, PanopticDETR
from ..modeling.postprocessing import classify, is_confident
from .image_trace import Attention, ImageTrace


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
    passes: list[_Pass] = []
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


@dataclass
class _Pass:
    """What was recorded while images of one size went through the model together.

    Attributes:
        inputs: of these images.
        tensors: (B, ...) each.
        layers: those of the encoder's and decoder's layers, in the order of computation; None keeps
            the place of an attention.
        attentions: (module, queries (B, Q, d), keys (B, S, d), padding (B, S) or None).
        maps: what the module of the attention maps gave, chunk by chunk.
        masked: of each image (query numbers, maps, mask logits).
    """

    inputs: list[dict]
    tensors: dict[str, Tensor]
    layers: dict[str, Tensor | None] = field(default_factory=dict)
    attentions: dict[str, tuple] = field(default_factory=dict)
    maps: list[Tensor] = field(default_factory=list)
    masked: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def of_image(self, model: DETR, row: int, output: dict, threshold: float) -> ImageTrace:
        batched = {
            **_picked(self.tensors, ("image", *self.features, "projected", "positions")),
            **{name: value for name, value in self.layers.items() if name.startswith("encoder")},
            **_picked(self.tensors, ("memory", "queries")),
            **{name: value for name, value in self.layers.items() if name.startswith("decoder")},
            **_picked(self.tensors, ("hs", "logits", "boxes")),
        }
        tensors = {name: None if value is None else value[row] for name, value in batched.items()}
        tensors["scores"], tensors["classes"] = classify(tensors["logits"])
        tensors["kept"] = is_confident(tensors["logits"], threshold)
        if isinstance(model, PanopticDETR):
            names = ("mask_queries", "maps", "mask_logits")
            tensors.update(zip(names, self.masked[row]))
        attentions = {
            name: Attention(module, queries[row], keys[row], None if pad is None else pad[row])
            for name, (module, queries, keys, pad) in self.attentions.items()
        }
        return ImageTrace(
            tensors,
            attentions,
            getattr(model, "mask_head", None),
            getattr(model, "merging", None),
            output,
            model.backbone.output_shape()["res5"].stride,
        )

    @property
    def features(self) -> list[str]:
        return [name for name in self.tensors if re.fullmatch(r"res\d", name)]


def _picked(tensors: dict[str, Tensor], names: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: tensors[name] for name in names if name in tensors}


def _places(batched_inputs: list[dict], passes: list[_Pass]) -> list[list[int]]:
    """For each pass the indices of its images; a dict that is given twice is taken in order."""
    indices: dict[int, list[int]] = {}
    for index, x in enumerate(batched_inputs):
        indices.setdefault(id(x), []).append(index)
    return [[indices[id(x)].pop(0) for x in recorded.inputs] for recorded in passes]


def _watch(model: DETR, passes: list[_Pass], watched: ExitStack) -> None:
    """Put hooks and wrappers on the model; `watched` takes them off."""

    def preprocessed(arguments, images):
        passes.append(_Pass(list(arguments[0]), {"image": _copy(images.tensor)}))

    def encoded(arguments, encoded):
        batch = len(encoded.memory)
        passes[-1].tensors.update(
            {name: _copy(value) for name, value in encoded.features.items()},
            projected=_copy(encoded.projected),
            memory=_copy(encoded.memory),
            queries=_copy(model.query_embed.weight).expand(batch, -1, -1),
            hs=_copy(encoded.hs[-1]),
            logits=_copy(encoded.logits[-1]),
            boxes=_copy(encoded.boxes[-1]),
        )

    def masked(arguments, mask_logits):
        chosen, recorded = arguments[1], passes[-1]
        counts = chosen.sum(1).tolist()
        maps = torch.cat(recorded.maps)  # of all chunks
        queries = [rows.nonzero()[:, 0] for rows in chosen]
        recorded.masked = list(zip(queries, maps.split(counts), _copy(mask_logits).split(counts)))

    def positioned(module, arguments, keywords, positions):
        batch = len(passes[-1].inputs)
        passes[-1].tensors["positions"] = _copy(positions).expand(batch, -1, -1, -1)

    def mapped(module, arguments, keywords, maps):
        passes[-1].maps.append(_copy(maps))

    methods = {"preprocess": preprocessed, "encode": encoded}
    hooks = [(model.position_encoding, positioned), *_transformer_hooks(model, passes)]
    if isinstance(model, PanopticDETR):
        methods["masks_in_chunks"] = masked
        hooks.append((model.bbox_attention, mapped))
    for name, record in methods.items():
        watched.enter_context(_wrapped(model, name, record))
    for module, record in hooks:
        handle = module.register_forward_hook(record, with_kwargs=True)
        watched.callback(handle.remove)


def _transformer_hooks(model: DETR, passes: list[_Pass]) -> Iterator[tuple[nn.Module, Callable]]:
    """Hooks for the layers of `Transformer` and their attentions; none for what is not there."""

    def layer_done(name, module, arguments, keywords, output):
        recorded = passes[-1]
        output = _copy(output)
        if name.startswith("encoder"):
            height, width = recorded.tensors["positions"].shape[-2:]
            output = output.transpose(1, 2).unflatten(2, (height, width))
        recorded.layers[name] = output

    def attended(name, module, arguments, keywords, output):
        queries, keys = arguments[:2]
        padding = keywords.get("key_padding_mask")
        passes[-1].attentions[name] = (module, _copy(queries), _copy(keys), padding)
        passes[-1].layers[name] = None

    for path, module in model.transformer.named_modules():
        if layer := re.fullmatch(r"(encoder|decoder)\.layers\.(\d+)(\.\w+)?", path):
            coder, number, part = layer.groups()
            if part is None:
                yield module, partial(layer_done, f"{coder}.{number}")
            elif isinstance(module, nn.MultiheadAttention):
                kind = "self_attention" if part == ".self_attn" else "cross_attention"
                yield module, partial(attended, f"{coder}.{number}.{kind}")


@contextmanager
def _wrapped(model: nn.Module, name: str, record: Callable) -> Iterator[None]:
    """`record(arguments, result)` after each call of the method `name` of `model`."""
    method = getattr(model, name)
    before = vars(model).get(name)

    def recorded(*arguments, **keywords):
        result = method(*arguments, **keywords)
        record(arguments, result)
        return result

    setattr(model, name, recorded)
    try:
        yield
    finally:
        delattr(model, name)
        if before is not None:
            setattr(model, name, before)


def _copy(tensor: Tensor) -> Tensor:
    # The model may go on writing into its own.
    return tensor.detach().clone()
