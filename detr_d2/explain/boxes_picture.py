"""The boxes of all queries over the photograph, for the folder of figures."""

from PIL import Image, ImageDraw

from ..drawing import write_label
from .explained import Explained
from .pictures import color_of, resized, size_of_width

_WIDTH = 800  # pixels


def boxes_picture(explained: Explained) -> Image.Image:
    """Queries that pass have a thick box with number, class and score; the others a thin one."""
    size = size_of_width(explained.photograph.shape[:2], _WIDTH)
    picture = Image.fromarray(resized(explained.photograph, size))
    pen = ImageDraw.Draw(picture)
    boxes, kept = explained.image["boxes"].tolist(), set(explained.kept)
    order = sorted(range(len(boxes)), key=lambda query: (query in kept, -_area(boxes[query])))
    for query in order:
        cx, cy, w, h = boxes[query]
        left, top = (cx - w / 2) * size[1], (cy - h / 2) * size[0]
        corners = (left, top, left + w * size[1], top + h * size[0])
        pen.rectangle(corners, outline=color_of(query), width=3 if query in kept else 1)
    for query in explained.kept:
        cx, cy, w, h = boxes[query]
        place = max(0, cx - w / 2) * size[1] + 5, max(0, cy - h / 2) * size[0] + 5
        score = explained.image["scores"][query].item()
        write_label(pen, place, f"{query} {explained.labels[query]} {score:.0%}", "lt")
    return picture


def _area(box: list[float]) -> float:
    return box[2] * box[3]
