"""The sections of the page on what an official model does not have; each is "" without its part."""

from ..modeling.meta_arch import PanopticDETR
from .explained import Explained
from .proposals import proposals
from .tables import class_key, proposal_rows
from .templates import template

_NO_BOX = " The {} queries of stuff look at no box."
_IN_WINDOWS = (
    " The mask is made of that and of the semantic map alone, and ends with the window: a thing "
    "does without the convolutions of the whole image."
)
_OF_STUFF = " Only those of stuff are read: things have their masks from windows."
_NO_STEPS = "does not pass, so it has no part in the panoptic map"
_NO_STEPS_OF_THINGS = "does not pass, or is a thing, which has its mask from its window"
_LINKS = {
    "pyramid": "Pyramid",
    "proposals": "Proposals",
    "semantic": "Semantic map",
    "windows": "Windows",
}
_LEARNED = "learned queries of d numbers each"
_PROPOSED = (
    "queries, of which {} are learned and stand for a class of stuff each, and the others are the "
    "proposals,"
)
_LETTERS = {
    "p": "channels of the pyramid",
    "A": "cells of its levels",
    "S": "queries of stuff",
    "Q": "things with a window",
    "R": "points along its side",
}
_MATCHED = "each segment of the ground truth is matched with one query"
_MATCHED_THINGS = (
    "a segment of stuff belongs to the query of its class, and each thing of the ground truth is "
    "matched with one of the others"
)


def part_sections(explained: Explained, facts: dict) -> dict[str, str]:
    """By their places in the templates.

    Args:
        facts: for the templates, with the tables of tensors.
    """
    sections = dict.fromkeys((*_LINKS, "references", "start"), "")
    if explained.has_pyramid:
        resolution = explained.model.transformer.regions[0].resolution
        none = _NO_BOX.format(explained.num_stuff) if explained.num_stuff else ""
        sections["pyramid"] = _section("pyramid", facts)
        sections["references"] = _section(
            "references",
            facts,
            region_points=f"{resolution} x {resolution}",
            stuff_has_none=none,
        )
    if explained.has_proposals:
        found = proposals(explained)
        rows = proposal_rows(found, explained.image["image"].shape[-2:])
        sections["proposals"] = _section(
            "proposals", facts, num_proposals=len(found), proposal_rows=rows
        )
    if explained.has_windows:
        assert isinstance(explained.model, PanopticDETR)
        alone = _IN_WINDOWS if explained.model.mask_head.things_in_windows else ""
        present = explained.image["semantic"].argmax(0).unique().tolist()
        key = class_key(present, explained.class_names)
        stride = explained.model.mask_head.semantic_stride
        at = f"H/{stride}" if stride > 1 else "every pixel"
        sections["semantic"] = _section("semantic", facts, class_key=key, semantic_at=at)
        sections["start"] = _section("start", facts)
        sections["windows"] = _section("windows", facts, in_windows=alone)
    links = {f"{name}_link": _link(name) if sections[name] else "" for name in _LINKS}
    return {**sections, **links, **_words(explained)}


def how_matched(explained: Explained) -> str:
    """Which query belongs to which segment of the ground truth."""
    return _MATCHED_THINGS if explained.num_stuff else _MATCHED


def _words(explained: Explained) -> dict[str, str]:
    """What is said otherwise where there are such parts."""
    letters = explained.letters()
    more = [
        f", {name} = {letters[name]} {what}" for name, what in _LETTERS.items() if name in letters
    ]
    proposed = "proposals" in explained.image
    mask_head = getattr(explained.model, "mask_head", None)
    of_stuff = getattr(mask_head, "things_in_windows", False)
    return {
        "maps_of_stuff": _OF_STUFF if of_stuff else "",
        "no_steps": _NO_STEPS_OF_THINGS if of_stuff else _NO_STEPS,
        "which_queries": _PROPOSED.format(explained.num_stuff) if proposed else _LEARNED,
        "more_letters": "".join(more),
    }


def _section(name: str, facts: dict, **more) -> str:
    return template(f"page_{name}.html").substitute(facts, **more)


def _link(name: str) -> str:
    return f' <a href="#{name}">{_LINKS[name]}</a>'
