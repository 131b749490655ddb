"""A page of predictions beside their ground truth, worst first."""

import os
from pathlib import Path

import numpy as np
from detectron2.data import Metadata
from PIL import Image
from tqdm import tqdm

from ..data.depth import ALL_GREY_LEVELS, GreyLevels
from ..data.files import join_inside, write_text, written_beside
from ..data.images import read_image
from ..data.panoptic_map import places_of, read_panoptic_png
from ..data.registration import metadata_of
from ..drawing import draw_segments
from ..errors import UserError
from ..pages import render
from .panoptic_files import ImageResult, PanopticGroundTruth, evaluate_files
from .panoptic_quality import Segments
from .panoptic_report import averages

MISTAKES = {"missed": (215, 25, 28), "false": (253, 174, 0), "wrong class": (123, 50, 148)}


def write_results_page(
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    predictions: str,
    output: str,
    limit: int,
    levels: GreyLevels = ALL_GREY_LEVELS,
) -> int:
    """Write `index.html` to `output`, and `images/` beside it.

    Args:
        image_root, panoptic_root, panoptic_json: of the ground truth.
        predictions: a folder with `predictions.json` and `panoptic/`, as the evaluator writes.
        limit: images to draw, from the lowest PQ.
        levels: of images of 16 bits, see `read_image`.

    Returns:
        The number of images drawn.
    """
    truth = PanopticGroundTruth(panoptic_json, panoptic_root)
    names = truth.image_names()
    found_json = os.path.join(predictions, "predictions.json")
    found_root = os.path.join(predictions, "panoptic")
    quality, results = evaluate_files(truth, found_json, found_root)
    # Images without any segment have no PQ and come last.
    results.sort(key=lambda result: np.nan_to_num(result.match.quality().pq, nan=2))
    worst = results[:limit]
    articles = _articles(truth, worst, names, image_root, found_root, Path(output), levels)
    average, classes = averages(quality, truth.categories)["all"]
    summary = (
        f"{len(results)} images, {classes} classes: PQ {100 * average.pq:.1f}, "
        f"SQ {100 * average.sq:.1f}, RQ {100 * average.rq:.1f}. "
        f"Shown: {len(articles)}, the lowest PQ first."
    )
    title = f"Panoptic results on {os.path.basename(panoptic_json)}"
    page = render(
        __package__,
        "results_page.html",
        title=title,
        summary=summary,
        articles=articles,
        colors=MISTAKES,
    )
    write_text(Path(output) / "index.html", page)
    return len(articles)


def _articles(
    truth: PanopticGroundTruth,
    results: list[ImageResult],
    name_of: dict,
    image_root: str,
    found_root: str,
    output: Path,
    levels: GreyLevels,
) -> list[dict]:
    """Draw the images of `results` into `output`/images; gives what the page tells of each."""
    panoptic_json = truth.panoptic_json
    metadata = Metadata(name=panoptic_json, **metadata_of(truth.categories, panoptic_json))
    articles = []
    for number, result in enumerate(tqdm(results, "Drawing")):
        if result.image_id not in name_of:
            raise UserError(f"{panoptic_json}: image {result.image_id} is not in `images`: add it.")
        name = name_of[result.image_id]
        files = (
            join_inside(image_root, name, panoptic_json),
            join_inside(truth.panoptic_root, result.file_name, panoptic_json),
            join_inside(found_root, result.found_name, found_root),
        )
        pictures, paths = _pictures(*files, result, metadata, levels), {}
        for title, picture in pictures.items():
            paths[title] = f"images/{number:05d}-{title.replace(' ', '-')}.jpg"
            with written_beside(output / paths[title]) as unfinished:
                Image.fromarray(picture).save(unfinished, format="JPEG", quality=90)
        size = pictures["photograph"].shape[:2]
        articles.append(_article(name, size, result, paths, truth.categories))
    return articles


def _pictures(
    image_file: str,
    truth_file: str,
    found_file: str,
    result: ImageResult,
    metadata: Metadata,
    levels: GreyLevels,
) -> dict[str, np.ndarray]:
    """(H, W, 3) uint8 each, by their titles."""
    image = read_image(image_file, levels=levels)
    truth_map, found_map = read_panoptic_png(truth_file), read_panoptic_png(found_file)
    return {
        "photograph": image,
        "ground truth": _draw(image, truth_map, result.match.truth, metadata),
        "prediction": _draw(image, found_map, result.match.found, metadata),
        "mistakes": draw_mistakes(image, truth_map, found_map, result),
    }


def draw_mistakes(
    image: np.ndarray, truth_map: np.ndarray, found_map: np.ndarray, result: ImageResult
) -> np.ndarray:
    """(H, W, 3) uint8: the photograph in grey, missed and false segments in colour."""
    match = result.match
    wrong = match.wrong_class
    picture = np.repeat(image.mean(axis=2, keepdims=True) * 0.5 + 60, 3, axis=2)
    for kind, ids, segment_map in (
        ("missed", match.truth.ids[match.missed & ~wrong.any(axis=1)], truth_map),
        ("false", match.found.ids[match.false & ~wrong.any(axis=0)], found_map),
        ("wrong class", match.truth.ids[wrong.any(axis=1)], truth_map),
    ):
        there = np.isin(segment_map, ids)
        picture[there] = 0.4 * picture[there] + 0.6 * np.array(MISTAKES[kind])
    return picture.astype(np.uint8)


def mistakes(result: ImageResult, categories: list[dict]) -> dict[str, list[str]]:
    """In words: the missed, the false, and the segments that were found as another class."""
    names = {category["id"]: category["name"] for category in categories}
    match = result.match
    wrong = match.wrong_class

    def name(segments: Segments, place: int) -> str:
        return names[int(segments.categories[place])]

    def sized(segments: Segments, chosen: np.ndarray) -> list[str]:
        places = np.flatnonzero(chosen)
        return [f"{name(segments, t)} ({segments.areas[t]} pixels)" for t in places]

    return {
        "missed": sized(match.truth, match.missed & ~wrong.any(axis=1)),
        "false": sized(match.found, match.false & ~wrong.any(axis=0)),
        "wrong class": [
            f"{name(match.truth, g)} found as {name(match.found, p)}" for g, p in np.argwhere(wrong)
        ],
    }


def _draw(image: np.ndarray, ids: np.ndarray, segments: Segments, metadata: Metadata) -> np.ndarray:
    things = metadata.thing_dataset_id_to_contiguous_id
    class_of = {**things, **metadata.stuff_dataset_id_to_contiguous_id}
    numbers, _ = places_of(ids.ravel(), segments.ids.tolist())
    infos = [
        {"id": t, "category_id": class_of[category]}
        for t, category in enumerate(segments.categories.tolist(), 1)
    ]
    # Over grey, so that a class has the same colour in all pictures.
    gray = image.mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
    return draw_segments(gray, numbers.reshape(ids.shape), infos, metadata)


def _article(
    name: str,
    size: tuple[int, ...],
    result: ImageResult,
    paths: dict[str, str],
    categories: list[dict],
) -> dict:
    """What results_page.html tells of an image."""
    quality = result.match.quality()
    found = result.match.hits.any(axis=1)[~result.match.truth.crowd]
    return {
        "name": name,
        "numbers": ", ".join(
            f"{key} {100 * x:.1f}" for key, x in zip(("PQ", "SQ", "RQ"), quality) if not np.isnan(x)
        ),
        "found": found.sum(),
        "segments": len(found),
        "pictures": paths,
        "width": size[1],
        "height": size[0],
        "mistakes": mistakes(result, categories),
    }
