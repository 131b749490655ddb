"""A person's segments, and around them a model's."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from ..data.panoptic_map import HUMAN, MODEL, is_of_model
from ..data.preparation import Annotation, Canvas, Segment
from ..errors import UserError
from .class_map import ClassMap, Taken

_REPLACED = "segments that a model had made before: made anew"
_UNSURE = "segments of the model score too little: VOID"
_LOST = "segments of the model lie too much on what a person annotated: left out"
_SAME_STUFF = "times the model sees more of a stuff class that a person annotated: VOID"


@dataclass(frozen=True)
class Filling:
    """How the pixels that no person has annotated are filled.

    Attributes:
        classes: which segments are taken, and what they become.
        most_lost: a segment of the model that loses more than this share of its pixels to a
            person's is left out whole: most likely it is the same object.
    """

    classes: ClassMap
    most_lost: float = 0.5

    def __post_init__(self):
        if not 0 <= self.most_lost <= 1:
            raise UserError(
                f"--most-lost {self.most_lost:g} is no share: give a number from 0 to 1."
            )

    def __call__(
        self,
        human: Annotation,
        found_map: np.ndarray,
        found: list[dict],
        where: str,
        second: np.ndarray | None = None,
    ) -> Annotation:
        """
        Args:
            human: what was annotated; its segments keep their pixels. Those that a model made
                before are made anew.
            found_map: (H, W) integer ids of the model's segments, 0 = VOID.
            found: `id`, `category_id` (contiguous) and perhaps `score` of each. One without a score
                is always taken.
            where: names the image in errors.
            second: (H, W) categories that a second model sees, 0 = none; None where there is none.

        Returns:
            The person's segments, then the model's; each says its `source`. The stuff segments that
            become one class are one, which scores as its least sure part. What neither claims is
            VOID, and so is what the model takes for a stuff class that the person annotated: there
            is one segment of it in an image, and the person has said where it ends.
        """
        height, width = human.segment_map.shape
        canvas = Canvas(height, width, where)
        canvas.remarks.update(human.remarks)
        canvas.bad.extend(human.bad)
        for number, info in enumerate(human.segments_info, 1):
            if is_of_model(info):
                canvas.remarks[_REPLACED] += 1
                continue
            segment = Segment(info["category_id"], info["iscrowd"], HUMAN)
            canvas.add(human.segment_map == number, segment)
        annotated = {segment.category_id for segment in canvas.segments}
        free = canvas.segment_map == 0
        for taken, parts in self._groups(found):
            if not taken.isthing and taken.category_id in annotated:
                canvas.remarks[_SAME_STUFF] += 1
                continue
            self._add(canvas, taken, parts, found_map, free, second)
        unsure = sum(self._takes(info) is False for info in found)
        if unsure:
            canvas.remarks[_UNSURE] += unsure
        return canvas.finish()

    def _takes(self, info: dict) -> bool | None:
        """Whether a segment is sure enough; None where its class is not taken."""
        taken = self.classes.taken.get(info["category_id"])
        return None if taken is None else info.get("score", 1.0) >= taken.least_score

    def _groups(self, found: list[dict]) -> list[tuple[Taken, list[dict]]]:
        """The segments that are taken: things one by one, stuff by the class that it becomes."""
        groups: dict[tuple, list[dict]] = defaultdict(list)
        for info in filter(self._takes, found):
            taken = self.classes.taken[info["category_id"]]
            groups[taken.category_id, info["id"] if taken.isthing else None].append(info)
        return [(self.classes.taken[parts[0]["category_id"]], parts) for parts in groups.values()]

    def _add(
        self, canvas: Canvas, taken: Taken, parts: list[dict], found_map, free, second
    ) -> None:
        mask, scores = np.zeros_like(free), []
        for info in parts:
            whole = found_map == info["id"]
            area, lost = np.count_nonzero(whole), np.count_nonzero(whole & ~free)
            if lost > self.most_lost * area:
                canvas.remarks[_LOST] += 1
                continue
            mask |= whole & free
            if info.get("score") is not None:
                scores.append(round(float(info["score"]), 4))
        if mask.any():
            score, agreement = min(scores, default=None), None
            if second is not None:
                agreement = round(float((second[mask] == taken.category_id).mean()), 4)
            canvas.add(mask, Segment(taken.category_id, 0, MODEL, score, agreement))
