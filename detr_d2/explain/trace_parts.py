"""Recorders for what an official model does not have: pyramid, proposals, regions, windows."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial

from torch import nn

from ..modeling.meta_arch import DETR
from ..modeling.proposal_transformer import ProposalTransformer
from ..modeling.refined_mask_head import RefinedMaskHead
from ..modeling.region_transformer import RegionTransformer
from .recording import Pass, copied

_OF_CELLS = ("features", "logits", "boxes")  # what is kept of what the dense head says


def part_hooks(model: DETR, passes: list[Pass]) -> Iterator[tuple[nn.Module, Callable]]:
    """The modules to watch, each with its hook; none where the model has no such part."""

    def levels_made(module, arguments, keywords, levels):
        names = module.smooth  # of the maps that it gives
        passes[-1].parts.update(
            {f"pyramid.{name}": copied(level) for name, level in zip(names, levels.maps)}
        )

    def looked(name, module, arguments, keywords, output):
        passes[-1].layers[name] = copied(arguments[1])

    def begun(module, arguments, keywords, output):
        passes[-1].parts["content"] = copied(arguments[0])

    transformer = model.transformer
    if isinstance(transformer, RegionTransformer):
        yield transformer.pyramid, levels_made
        for number, regions in enumerate(transformer.regions):
            yield regions, partial(looked, f"decoder.{number}.references")
    if isinstance(transformer, ProposalTransformer):
        yield transformer.decoder.layers[0], begun


def part_methods(model: DETR, passes: list[Pass]) -> Iterator[tuple[nn.Module, str, Callable]]:
    """The methods to watch, each with what is done after it."""

    def proposed(arguments, queries):
        cells, chosen, _ = arguments
        passes[-1].parts.update(
            {f"cells.{name}": copied(getattr(cells, name)) for name in _OF_CELLS},
            proposals=copied(chosen),
        )

    def masks_made(arguments, parts):
        own = {field.name: copied(getattr(parts, field.name)) for field in fields(parts)}
        passes[-1].mask_parts.append(replace(parts, **own))

    if isinstance(model.transformer, ProposalTransformer):
        yield model.transformer, "queries_of", proposed
    mask_head = getattr(model, "mask_head", None)
    if isinstance(mask_head, RefinedMaskHead):
        yield mask_head, "parts", masks_made
