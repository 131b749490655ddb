"""What the page tells of parts that an official model does not have."""

from .explained import Explained
from .pictures import css_color
from .proposals import proposals
from .tables import proposal_table

_LETTERS = {
    "p": "channels of the pyramid",
    "A": "cells of its levels",
    "S": "queries of stuff",
    "Q": "things with a window",
    "R": "points along its side",
}


def part_facts(explained: Explained) -> dict:
    """For the templates: what there is, and what is told of it.

    Returns:
        `has`: by part, whether the model has it; `tables`; and facts by their names.
    """
    letters = explained.letters()
    mask_head = getattr(explained.model, "mask_head", None)
    facts: dict = {
        "has": {
            "masks": explained.has_masks,
            "pyramid": explained.has_pyramid,
            "proposals": explained.has_proposals,
            "windows": explained.has_windows,
            "things_in_windows": getattr(mask_head, "things_in_windows", False),
        },
        "tables": {},
        "proposed": "proposals" in explained.image,
        "num_stuff": explained.num_stuff,
        "more_letters": [
            (name, f"{letters[name]} {what}") for name, what in _LETTERS.items() if name in letters
        ],
    }
    if explained.has_pyramid:
        facts["region_resolution"] = explained.model.transformer.regions[0].resolution
    if explained.has_proposals:
        found = proposals(explained)
        facts["num_proposals"] = len(found)
        size = explained.image["image"].shape[-2:]
        facts["tables"]["proposed"] = proposal_table(found, size)
    if explained.has_windows:
        assert mask_head is not None
        present = explained.image["semantic"].argmax(0).unique().tolist()
        facts["classes_present"] = [(css_color(c), explained.class_names[c]) for c in present]
        facts["semantic_stride"] = mask_head.semantic_stride
    return facts
