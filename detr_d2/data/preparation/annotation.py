"""What a converter makes of one image: one segment for every pixel, or VOID."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ...errors import UserError
from ..panoptic_map import measure_segments

_MOST_SEGMENTS = 2**16 - 1  # of one image: segment maps are uint16


@dataclass(frozen=True)
class Segment:
    """What is known of a segment besides its pixels.

    Attributes:
        category_id: None takes the pixels away from what is below them: they are VOID.
        source: "human" or "model"; empty where it is not said.
        score: how sure the model was, 0 to 1; None where it is not said.
        agreement: the share of its pixels in which a second model sees the same class; None where
            there was none.
    """

    category_id: int | None
    iscrowd: int = 0
    source: str = ""
    score: float | None = None
    agreement: float | None = None

    def origin(self) -> dict:
        """What `segments_info` says of where the segment is from."""
        said = {"source": self.source or None, "score": self.score, "agreement": self.agreement}
        return {key: value for key, value in said.items() if value is not None}


class BadAnnotation(NamedTuple):
    """An annotation that cannot be converted.

    Attributes:
        kind: in words, such as "without a mask".
        sentence: which one it is, and why it cannot.
    """

    kind: str
    sentence: str


@dataclass(frozen=True)
class Annotation:
    """
    Attributes:
        segment_map: (H, W) uint16, t + 1 at segment t, 0 at VOID.
        segments_info: of segment t, as COCO's panoptic JSON has it; its id is t + 1.
        remarks: what was left out, in words, with how often.
        bad: annotations of the image that could not be converted.
    """

    segment_map: np.ndarray
    segments_info: list[dict]
    remarks: Counter = field(default_factory=Counter)
    bad: tuple[BadAnnotation, ...] = ()


class Canvas:
    """Segments are laid over each other; a later one takes its pixels from those before it."""

    def __init__(self, height: int, width: int, where: str):
        """`where` names the image in errors."""
        self.segment_map = np.zeros((height, width), dtype=np.uint16)
        self.segments: list[Segment] = []
        self.remarks: Counter = Counter()
        self.bad: list[BadAnnotation] = []
        self.where = where

    def add(self, mask: np.ndarray, segment: Segment) -> None:
        """Lay `segment` over the pixels of `mask`, (H, W) bool."""
        if len(self.segments) == _MOST_SEGMENTS:
            raise UserError(f"{self.where} has more than {_MOST_SEGMENTS} segments: use fewer.")
        self.segments.append(segment)
        self.segment_map[mask] = len(self.segments)

    def add_objects(self, objects: Iterable[tuple[int, Segment]], mask_of) -> None:
        """Lay objects over what is there, by the rule of overlaps.

        Crowd regions come first, then the objects from the largest to the smallest, so that a
        small object in front of a large one is seen whole; of equally large ones the later wins.

        Args:
            objects: area of the whole mask in pixels, and the segment, of each.
            mask_of: gives the (H, W) bool mask of the object of a number.
        """
        objects = list(objects)
        order = sorted(
            range(len(objects)), key=lambda n: (not objects[n][1].iscrowd, -objects[n][0])
        )
        first = len(self.segments) + 1
        for number in order:
            self.add(mask_of(number), objects[number][1])
        hidden = len(objects) - int((np.unique(self.segment_map) >= first).sum())
        if hidden:
            self.remarks["objects have no pixel, or lie wholly below others: left out"] += hidden

    def fill(self, segment: Segment) -> None:
        """Give what no segment has, and what is of its class already, to `segment`."""
        same = [n for n, s in enumerate(self.segments, 1) if s.category_id == segment.category_id]
        self.add(np.isin(self.segment_map, [0, *same]), segment)

    def finish(self) -> Annotation:
        """Leave out the segments that have no pixel or no class, number the others from 1, and
        measure them."""
        areas = np.bincount(self.segment_map.ravel(), minlength=len(self.segments) + 1)[1:]
        has_class = [segment.category_id is not None for segment in self.segments]
        present = np.flatnonzero(np.logical_and(areas, has_class))
        renumber = np.zeros(len(self.segments) + 1, dtype=np.uint16)
        renumber[present + 1] = np.arange(1, len(present) + 1)
        segment_map = renumber[self.segment_map]
        infos = [
            {
                "id": number,
                "category_id": self.segments[t].category_id,
                "area": area,
                "bbox": box,
                "iscrowd": self.segments[t].iscrowd,
                **self.segments[t].origin(),
            }
            for number, (t, (area, box)) in enumerate(
                zip(present, measure_segments(segment_map, len(present))), 1
            )
        ]
        return Annotation(segment_map, infos, self.remarks, tuple(self.bad))
