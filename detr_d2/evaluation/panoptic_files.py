"""Ground truth and predictions as files: a COCO panoptic JSON and a folder of PNGs."""

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ..data.coco_json import read_coco
from ..data.files import join_inside
from ..data.panoptic_map import is_of_model, read_panoptic_png
from ..data.problems import annotation_problems, category_problems, list_problems, raise_first
from ..errors import UserError
from .panoptic_quality import ImageMatch, PanopticQuality, match_segments


class ImageResult(NamedTuple):
    """How one image was predicted.

    Attributes:
        file_name: of the PNG, in the folder of the ground truth.
        found_name: of the prediction's PNG, where it was read from one.
    """

    image_id: int | str
    file_name: str
    match: ImageMatch
    found_name: str | None = None


class PanopticGroundTruth:
    """The annotations of a dataset; its PNGs are read one by one, when they are compared with.

    Attributes:
        categories: as in the JSON: `id`, `name`, `isthing`.
        category_ids: theirs.
        annotation_of: from image ids to `file_name` (the PNG) and `segments_info`.
    """

    def __init__(self, panoptic_json: str, panoptic_root: str, ignore_model_labels: bool = False):
        """
        Args:
            ignore_model_labels: segments whose `source` is "model" are VOID, since no person has
                seen them.
        """
        content = read_coco(panoptic_json)
        raise_first(category_problems(content.get("categories"), panoptic_json))
        self.panoptic_json, self.panoptic_root = panoptic_json, panoptic_root
        self.ignore_model_labels = ignore_model_labels
        self.categories = content["categories"]
        self.category_ids = {category["id"] for category in self.categories}
        raise_first(annotation_problems(content, self.category_ids, panoptic_json))
        self.annotation_of = _by_image(content["annotations"], panoptic_json)
        self._content = content

    def image_names(self) -> dict:
        """From image ids to the files of the photographs."""
        raise_first(list_problems(self._content, self.panoptic_json, ("images",)))
        return {image["id"]: image["file_name"] for image in self._content["images"]}

    def match(self, image_id, found_map: np.ndarray, found_infos: list[dict]) -> ImageResult:
        """Compare one prediction.

        Args:
            found_map: (H, W) integer ids at the size of the image, 0 = VOID.
            found_infos: `id` and `category_id` (of the dataset) of each segment.
        """
        where = f"{self.panoptic_json}, image {image_id}"
        if image_id not in self.annotation_of:
            raise UserError(
                f"{where} has no annotation: evaluate on the dataset that the predictions are of."
            )
        annotation = self.annotation_of[image_id]
        unknown = {info["category_id"] for info in found_infos} - self.category_ids
        if unknown:
            raise UserError(
                f"{where}: a predicted segment has category {min(unknown)}, which is not in "
                "`categories`: evaluate on the dataset that the predictions are of."
            )
        name, infos = annotation["file_name"], annotation["segments_info"]
        truth_map = read_panoptic_png(join_inside(self.panoptic_root, name, where))
        if self.ignore_model_labels:
            unseen = [info["id"] for info in infos if is_of_model(info)]
            truth_map = np.where(np.isin(truth_map, unseen), 0, truth_map)
            infos = [info for info in infos if not is_of_model(info)]
        match = match_segments(truth_map, infos, found_map, found_infos, where)
        return ImageResult(image_id, name, match)

    def check_complete(self, image_ids: Iterable, name: str) -> None:
        """Check that every image was predicted, once.

        Args:
            name: of what was predicted, for the error.
        """
        times = Counter(image_ids)
        missing = [id_ for id_ in self.annotation_of if id_ not in times]
        if missing:
            raise UserError(
                f"{len(missing)} of {len(self.annotation_of)} images of {name} have no prediction, "
                f"image {missing[0]} for one: evaluate the whole dataset."
            )
        repeated = [id_ for id_, n in times.items() if n > 1]
        if repeated:
            raise UserError(
                f"{len(repeated)} images of {name} were predicted more than once, image "
                f"{repeated[0]} for one: predict every image once."
            )


def evaluate_files(
    truth: PanopticGroundTruth, panoptic_json: str, panoptic_root: str, progress: bool = True
) -> tuple[PanopticQuality, list[ImageResult]]:
    """Panoptic quality of predictions that were written as a COCO panoptic JSON and its PNGs.

    Args:
        panoptic_json, panoptic_root: of the predictions.
        progress: whether to show a progress bar.

    Raises:
        UserError: where an image has no prediction or two, or a file is missing or does not fit.
    """
    content = read_coco(panoptic_json)
    raise_first(annotation_problems(content, truth.category_ids, panoptic_json))
    annotations = content["annotations"]
    truth.check_complete((a["image_id"] for a in annotations), panoptic_json)

    def compare(annotation: dict) -> ImageResult:
        path = join_inside(panoptic_root, annotation["file_name"], panoptic_json)
        image_id, infos = annotation["image_id"], annotation["segments_info"]
        result = truth.match(image_id, read_panoptic_png(path), infos)
        return result._replace(found_name=annotation["file_name"])

    quality = PanopticQuality([category["id"] for category in truth.categories])
    results = []
    with ThreadPoolExecutor() as pool:  # decoding a PNG leaves the interpreter to the others
        compared = pool.map(compare, annotations)
        for result in tqdm(compared, "Comparing", len(annotations), disable=not progress):
            quality.add(result.match)
            results.append(result)
    return quality, results


def _by_image(annotations: list[dict], path: str) -> dict:
    annotation_of = {annotation["image_id"]: annotation for annotation in annotations}
    if len(annotation_of) < len(annotations):
        times = Counter(annotation["image_id"] for annotation in annotations)
        raise UserError(
            f"{path}: image {times.most_common(1)[0][0]} has more than one annotation: keep one."
        )
    return annotation_of
