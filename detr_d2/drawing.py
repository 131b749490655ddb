"""Pictures of what goes into the model and of what comes out, by Detectron2's visualizer."""

import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances
from detectron2.utils.colormap import colormap
from detectron2.utils.visualizer import Visualizer
from PIL import Image, ImageDraw

_LEAST_WIDTH = 480  # pixels; smaller images are drawn larger, so that labels can be read
_TITLE_HEIGHT = 24  # pixels
_LEAST_FONT_SIZE = 14


def draw_panoptic(
    image: np.ndarray, panoptic_seg: torch.Tensor, segments_info: list[dict], metadata: Metadata
) -> np.ndarray:
    """Lay segments over an image.

    Args:
        image: (H, W, 3) uint8, RGB.
        panoptic_seg: (H, W) integer ids, 0 = VOID.
        segments_info: `id`, `category_id` (contiguous) and `isthing` of each.

    Returns:
        (H', W', 3) uint8.
    """
    visualizer = _visualizer(image, metadata)
    return visualizer.draw_panoptic_seg(panoptic_seg.cpu(), segments_info, alpha=0.6).get_image()


def draw_boxes(
    image: np.ndarray,
    boxes: Boxes,
    classes: list[int],
    scores: list[float] | None,
    metadata: Metadata,
    masks: torch.Tensor | None = None,
) -> np.ndarray:
    """Draw boxes (pixels of the image) with their classes, and scores and masks if there are any.

    Args:
        masks: (N, H, W) bool.
    """
    labels = [metadata.thing_classes[c] for c in classes]
    if scores is not None:
        labels = [f"{label} {score:.0%}" for label, score in zip(labels, scores)]
    colors = metadata.get("thing_colors")
    assigned = None if colors is None else [np.array(colors[c]) / 255 for c in classes]
    visualizer = _visualizer(image, metadata)
    drawn = visualizer.overlay_instances(
        boxes=boxes.tensor.cpu(),
        labels=labels,
        masks=None if masks is None else masks.cpu().numpy(),
        assigned_colors=assigned,
    )
    return drawn.get_image()


def draw_stuff(
    image: np.ndarray, sem_seg: torch.Tensor, stuff: list[int], metadata: Metadata
) -> np.ndarray:
    """Lay the map of stuff that Panoptic FPN is fed over an image.

    Args:
        image: (H, W, 3) uint8, RGB.
        sem_seg: (H, W) integer, k + 1 at the class stuff[k]; all else is left as it is.
    """
    shown = torch.full_like(sem_seg, len(metadata.stuff_classes))  # no class, so not drawn
    for number, class_ in enumerate(stuff, 1):
        shown[sem_seg == number] = class_
    return _visualizer(image, metadata).draw_sem_seg(shown, alpha=0.6).get_image()


def draw_prediction(
    image: np.ndarray, output: dict, metadata: Metadata, score_threshold: float
) -> list[tuple[str, np.ndarray]]:
    """Titled pictures of one output of the model; `image` is (H, W, 3) uint8, RGB.

    Args:
        score_threshold: boxes that score below it are left out.
    """
    instances: Instances = output["instances"].to("cpu")
    instances = instances[instances.scores > score_threshold]
    classes, scores = instances.pred_classes.tolist(), instances.scores.tolist()
    boxes = draw_boxes(image, instances.pred_boxes, classes, scores, metadata)
    pictures = [("boxes", boxes)]
    if "panoptic_seg" in output:
        panoptic_seg, segments_info = output["panoptic_seg"]
        panoptic = draw_panoptic(image, panoptic_seg, segments_info, metadata)
        pictures.insert(0, ("panoptic", panoptic))
    return pictures


def draw_frame(
    image: np.ndarray, output: dict, metadata: Metadata, score_threshold: float
) -> np.ndarray:
    """The panoptic map over a frame of a video, or the boxes of a model without masks.

    Quicker than Detectron2's visualizer, and a class has one colour in all frames.

    Args:
        image: (H, W, 3) uint8, RGB.
        output: of the model.
        score_threshold: boxes that score below it are left out.

    Returns:
        (n H, n W, 3) uint8, enlarged n times where the image is small.
    """
    if "panoptic_seg" in output:
        panoptic_seg, infos = output["panoptic_seg"]
        return draw_segments(image, panoptic_seg.cpu().numpy(), infos, metadata)
    return _boxes_over(image, output["instances"], metadata, score_threshold)


def draw_segments(
    image: np.ndarray,
    ids: np.ndarray,
    infos: list[dict],
    metadata: Metadata,
    least_width: int = _LEAST_WIDTH,
    names: bool = True,
    opacity: float = 0.5,
) -> np.ndarray:
    """Segments in the colours of their classes, with names and white borders, over an image.

    Args:
        image: (H, W, 3) uint8, RGB.
        ids: (H, W) integer, the segments from 1, 0 = VOID, which is left as it is.
        infos: `id` and `category_id` (contiguous) of each segment.
        least_width: pixels; a smaller image is enlarged.
        names: whether the names of the classes are written.
        opacity: of the colours, from 0 to 1.

    Returns:
        (n H, n W, 3) uint8, enlarged n times where the image is small.
    """
    picture, times = _enlarged(image, least_width)
    ids = ids.repeat(times, 0).repeat(times, 1)
    colors = np.zeros((len(infos) + 1, 3), np.float32)
    for info in infos:
        colors[info["id"]] = color_of(info["category_id"], metadata)
    shares = np.full((len(infos) + 1, 1), opacity, np.float32)
    shares[0] = 0
    blended = np.asarray(picture) * (1 - shares[ids]) + (colors * shares)[ids]
    blended[borders(ids)] = 255
    labelled = Image.fromarray(blended.astype(np.uint8))
    pen = ImageDraw.Draw(labelled)
    for info in infos if names else ():
        name = metadata.thing_classes[info["category_id"]]
        write_label(pen, place_inside(ids == info["id"]), name, "mm", _font_size(picture))
    return np.asarray(labelled)


def _enlarged(image: np.ndarray, least_width: int = _LEAST_WIDTH) -> tuple[Image.Image, int]:
    """The image so large that labels can be read, and how many times larger it is than before."""
    times = -(-least_width // image.shape[1])
    size = image.shape[1] * times, image.shape[0] * times
    return Image.fromarray(image).resize(size), times


def _font_size(picture: Image.Image) -> int:
    return max(_LEAST_FONT_SIZE, picture.width // 34)


def borders(numbers: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels of a map whose right or lower neighbour has another number."""
    found = np.zeros(numbers.shape, dtype=bool)
    found[:, :-1] = numbers[:, :-1] != numbers[:, 1:]
    found[:-1] |= numbers[:-1] != numbers[1:]
    return found


def place_inside(mask: np.ndarray) -> tuple[int, int]:
    """(x, y) of a pixel about the middle of a mask, and inside of it, whatever its form.

    Args:
        mask: (H, W) bool, with at least one pixel.
    """
    rows = np.flatnonzero(mask.any(1))
    row = rows[len(rows) // 2]
    columns = np.flatnonzero(mask[row])
    return int(columns[len(columns) // 2]), int(row)


def _boxes_over(
    image: np.ndarray, instances: Instances, metadata: Metadata, score_threshold: float
) -> np.ndarray:
    picture, times = _enlarged(image)
    instances = instances[instances.scores > score_threshold].to("cpu")
    pen = ImageDraw.Draw(picture)
    boxes = (instances.pred_boxes.tensor * times).tolist()
    for box, label, score in zip(boxes, instances.pred_classes.tolist(), instances.scores.tolist()):
        pen.rectangle(box, outline=color_of(label, metadata), width=2)
        text = f"{metadata.thing_classes[label]} {score:.0%}"
        write_label(pen, box[:2], text, "lt", _font_size(picture))
    return np.asarray(picture)


def color_of(label: int, metadata: Metadata) -> tuple[int, ...]:
    """RGB, 0 to 255, of a contiguous class."""
    colors = metadata.get("thing_colors") or colormap(rgb=True).astype(int).tolist()
    return tuple(colors[label % len(colors)])


def write_label(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    anchor: str,
    font_size: int = _LEAST_FONT_SIZE,
) -> None:
    """White on black edges; `anchor` is Pillow's, such as "mm" for the middle."""
    pen.text(
        place,
        text,
        "white",
        anchor=anchor,
        font_size=font_size,
        stroke_width=2,
        stroke_fill="black",
    )


def side_by_side(pictures: list[tuple[str, np.ndarray]]) -> Image.Image:
    """One row of titled pictures, (H, W, 3) uint8 each; smaller ones are enlarged to the widest."""
    widest = max(_LEAST_WIDTH, *(picture.shape[1] for _, picture in pictures))
    resized = []
    for title, picture in pictures:
        height = round(picture.shape[0] * widest / picture.shape[1])
        resized.append((title, Image.fromarray(picture).resize((widest, height))))
    height = max(picture.height for _, picture in resized)
    row = Image.new("RGB", (widest * len(resized), height + _TITLE_HEIGHT), "white")
    pen = ImageDraw.Draw(row)
    for number, (title, enlarged) in enumerate(resized):
        pen.text((number * widest + 8, 6), title, fill="black", font_size=14)
        row.paste(enlarged, (number * widest, _TITLE_HEIGHT))
    return row


def _visualizer(image: np.ndarray, metadata: Metadata) -> Visualizer:
    return Visualizer(image, metadata, scale=max(1.0, _LEAST_WIDTH / image.shape[1]))
