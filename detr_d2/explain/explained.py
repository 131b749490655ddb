"""A traced image with all that its page needs to know."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..modeling.meta_arch import DETR, PanopticDETR
from .image_trace import ImageTrace
from .merging import MergingStep, merging_steps


@dataclass(frozen=True)
class Explained:
    """
    Attributes:
        model: that was traced.
        image: its trace.
        photograph: (H', W', 3) uint8, RGB.
        name: of the image.
        class_names: by contiguous class.
        threshold: score that queries pass.
    """

    model: DETR
    image: ImageTrace
    photograph: np.ndarray
    name: str
    class_names: list[str]
    threshold: float

    @property
    def has_masks(self) -> bool:
        """Whether the model gives masks beside boxes."""
        return isinstance(self.model, PanopticDETR)

    @property
    def has_pyramid(self) -> bool:
        """Whether the transformer has a pyramid of the encoded image."""
        return "pyramid.res2" in self.image

    @property
    def has_proposals(self) -> bool:
        """Whether a dense head proposes the queries of things, and there are things."""
        return "cells.logits" in self.image and self.image["cells.logits"].shape[1] > 0

    @property
    def has_windows(self) -> bool:
        """Whether masks start from a semantic map, and those of things are corrected in windows."""
        return "windows" in self.image

    @property
    def num_stuff(self) -> int:
        """The first queries, which stand for a stuff class each and are not proposed."""
        return len(self.model.transformer.fixed_classes)

    @cached_property
    def kept(self) -> list[int]:
        """The queries that pass."""
        return self.image["kept"].nonzero()[:, 0].tolist()

    @cached_property
    def labels(self) -> list[str]:
        """The class of each query."""
        return [self.class_names[c] for c in self.image["classes"].tolist()]

    @cached_property
    def steps(self) -> list[MergingStep]:
        """From masks to the panoptic map; none without masks or kept queries."""
        if not self.has_masks:
            return []
        kept = self.image["kept"]
        classes, scores = (self.image[name][kept] for name in ("classes", "scores"))
        assert isinstance(self.model, PanopticDETR)
        things, rule = self.model.is_thing, self.model.merging
        return merging_steps(self.image.kept_masks(), classes, scores, things, rule)

    @cached_property
    def share_of_query(self) -> dict[int, float]:
        """What each kept query wins of its own mask, NaN where that has no pixel; nothing under a
        rule that does not ask for it."""
        shares = [step.shares for step in self.steps if step.shares is not None]
        return dict(zip(self.kept, *shares)) if shares else {}

    @cached_property
    def winners(self) -> np.ndarray:
        """(H', W') int64: the query that has each pixel of the panoptic map, -1 for none."""
        if not self.steps:
            return np.full(self.photograph.shape[:2], -1)
        return self.query_numbers(self.steps[-1].winners.cpu().numpy())

    @cached_property
    def queries_of_id(self) -> dict[int, list[int]]:
        """For each id of the panoptic map the queries in it, the one of most pixels first."""
        ids = self.image["panoptic_seg"].cpu().numpy()
        pairs = Counter(zip(ids.ravel().tolist(), self.winners.ravel().tolist()))
        queries: dict[int, list[int]] = {}
        for (id_, query), _ in pairs.most_common():
            queries.setdefault(id_, []).append(query)
        return queries

    @cached_property
    def number_of_id(self) -> dict[int, int]:
        """For each id of the panoptic map the number, and so the colour, that its segment has in
        the last step; -1 for VOID. Nothing where no query is kept."""
        if not self.steps:
            return {}
        ids = self.image["panoptic_seg"].cpu().numpy()
        numbers = self.query_numbers(self.steps[-1].segments.cpu().numpy())
        return dict(zip(ids.ravel().tolist(), numbers.ravel().tolist()))

    def query_numbers(self, places: np.ndarray) -> np.ndarray:
        """A map of places among the kept queries to one of numbers among the N; -1 stays."""
        return np.array([*self.kept, -1])[places]

    def letters(self) -> dict[str, int]:
        """The numbers that the letters of shapes stand for, in this pass."""
        image = self.image
        letters = {
            "H": image["image"].shape[1],
            "W": image["image"].shape[2],
            "d": image["memory"].shape[0],
            "N": len(image["logits"]),
            "C": image["logits"].shape[1] - 1,
        }
        levels = [name for name in image if name in ("res2", "res3", "res4", "res5")]
        letters.update({f"C{name[3:]}": image[name].shape[0] for name in levels})
        if image.attentions:
            letters["M"] = next(iter(image.attentions.values())).module.num_heads
        if self.has_masks:
            letters.update(M=image["maps"].shape[1], K=len(image["maps"]), P=len(self.kept))
        if self.has_pyramid:
            letters.update(p=len(image["pyramid.res2"]), S=self.num_stuff)
        if "cells.boxes" in image:
            letters["A"] = len(image["cells.boxes"])
        if self.has_windows:
            corrections = image["window_logits"]
            letters.update(Q=len(corrections), R=corrections.shape[-1] // 2)
        return letters
