"""A model's segments of many images, kept in a folder, so that nothing is predicted twice."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from tqdm import tqdm

from ..checkpoint import read_checkpoint
from ..checkpoint.classes import classes_of_dataset, missing_from
from ..classes import first_dataset
from ..data.depth import GreyLevels
from ..data.files import join_inside, read_json_object, write_json
from ..data.images import check_same_size, read_image
from ..data.panoptic_map import read_panoptic_png, write_panoptic_png
from ..data.preparation import Annotation, Picture, Source
from ..engine import Predictor
from ..engine.sources import chunks
from ..errors import UserError
from ..model_kind import kind_of
from .class_map import ClassMap, ModelClass, model_classes
from .filling import Filling

_BEGUN = "model.json"


@dataclass(frozen=True)
class ModelLabels:
    """The segments of a model, `NAME.png` and `NAME.json` of each image NAME, in a folder.

    Attributes:
        folder: of these files alone, and of `model.json`, which says what they are from.
    """

    folder: Path

    def begin(self, cfg: CfgNode, image_root: Path) -> None:
        """Make the folder; a `UserError` where it is of another model or of other images."""
        said = {
            "settings": _fingerprint(cfg),
            "images": str(image_root.resolve()),
            "classes": [c.name for c in model_classes(first_dataset(cfg))],
        }
        begun = self.folder / _BEGUN
        if begun.exists() and read_json_object(begun) != said:
            raise UserError(
                f"{self.folder} has what another model, other settings or other images gave: "
                "remove it, or choose another --output."
            )
        write_json(begun, said)

    def predict(
        self,
        cfg: CfgNode,
        image_root: Path,
        pictures: list[Picture],
        batch_size: int,
        workers: int,
    ) -> dict[str, str]:
        """Run the model over the images that are not in the folder yet.

        Args:
            batch_size: images that are run together.
            workers: threads that read images and write segments beside the model.

        Returns:
            By file name, what is wrong with images that cannot be read.
        """
        if workers < 1:
            raise UserError(f"--workers {workers} cannot do any work: give 1 or more.")
        errors: dict[str, str] = {}
        left = [p for p in pictures if not self.has(p)]
        with (
            ThreadPoolExecutor(workers) as pool,
            tqdm(total=len(pictures), initial=len(pictures) - len(left), desc="Labelling") as bar,
        ):
            predictor = Predictor(cfg) if left else None
            writing: list[Future] = []
            read = partial(_read, image_root=image_root, levels=GreyLevels.from_config(cfg))
            for batch in _read_ahead(pool, read, chunks(left, batch_size)):
                images = [(p, i) for p, i in batch if isinstance(i, np.ndarray)]
                errors.update((p.file_name, str(i)) for p, i in batch if isinstance(i, UserError))
                assert predictor is not None
                outputs = predictor([image for _, image in images])
                for job in writing:
                    job.result()
                writing = [
                    pool.submit(self._write, picture, *_on_the_cpu(output))
                    for (picture, _), output in zip(images, outputs)
                ]
                bar.update(len(batch))
            for job in writing:
                job.result()
        return errors

    def around(
        self,
        source: Source,
        filling: Filling,
        errors: dict[str, str],
        second: "SecondOpinion | None" = None,
    ) -> Source:
        """The source with the model's segments around a person's.

        Args:
            errors: see `predict`.
            second: what another model sees in the same images.
        """
        annotate = partial(
            _annotate,
            labels=self,
            human=source.annotate,
            filling=filling,
            errors=errors,
            second=second,
        )
        return replace(source, categories=filling.classes.categories, annotate=annotate)

    def _paths(self, picture: Picture) -> tuple[Path, Path]:
        """PNG, and the JSON, which is written when the PNG is there."""
        name = join_inside(self.folder, picture.file_name, f"image {picture.image_id}")
        return Path(f"{name}.png"), Path(f"{name}.json")

    def has(self, picture: Picture) -> bool:
        """Whether an image was predicted."""
        return self._paths(picture)[1].exists()

    def _write(self, picture: Picture, found_map: np.ndarray, found: list[dict]) -> None:
        png, json_file = self._paths(picture)
        write_panoptic_png(png, found_map, compress_level=1)
        keys = ("id", "category_id", "isthing", "score")
        infos = [{key: info[key] for key in keys if key in info} for info in found]
        write_json(json_file, {"segments_info": infos})

    def read(self, picture: Picture) -> tuple[np.ndarray, list[dict]]:
        """(H, W) int32 ids, and the segments, of an image that was predicted."""
        png, json_file = self._paths(picture)
        return read_panoptic_png(png), read_json_object(json_file)["segments_info"]


@dataclass(frozen=True)
class SecondOpinion:
    """The classes that another model sees, in the categories that a first one's become.

    Attributes:
        labels: what it found.
        categories: of its contiguous classes, 0 for those that become none.
    """

    labels: ModelLabels
    categories: np.ndarray

    @classmethod
    def read(cls, folder: Path, classes: list[ModelClass], class_map: ClassMap) -> "SecondOpinion":
        """Of the `predictions` that a labelling with another model has kept.

        Args:
            classes: of the first model; the second one's are the same by name.
            class_map: what they become.
        """
        names = read_json_object(folder / _BEGUN).get("classes")
        if not isinstance(names, list):
            raise UserError(f"{folder / _BEGUN} lists no classes: label with that model again.")
        taken = class_map.taken
        of_name = {c.name: taken[c.number].category_id for c in classes if c.number in taken}
        if not of_name.keys() & set(names):
            raise UserError(
                f"The model of {folder} has none of the classes that are taken: give another one's."
            )
        return cls(ModelLabels(folder), np.array([of_name.get(name, 0) for name in names]))

    def of(self, picture: Picture, size: tuple[int, int], where: str) -> np.ndarray:
        """(H, W) categories, 0 where there is none."""
        if not self.labels.has(picture):
            raise UserError(
                f"{self.labels.folder} has nothing of {where}: label the same images with the "
                "second model first."
            )
        found_map, found = self.labels.read(picture)
        check_same_size("What the second model found", found_map.shape, where, size)
        of_id = np.zeros(max([0, *(info["id"] for info in found)]) + 1, dtype=np.int64)
        for info in found:
            of_id[info["id"]] = self.categories[info["category_id"]]
        return of_id[found_map]


def check_model(cfg: CfgNode) -> None:
    """A `UserError` where the model of `cfg` gives no segments of classes that it knows."""
    if not kind_of(cfg).gives_panoptic:
        raise UserError(
            f"{cfg.MODEL.META_ARCHITECTURE} gives no segments: choose the configuration of a "
            "panoptic model."
        )
    if not cfg.MODEL.WEIGHTS:
        raise UserError("The model has no weights: give MODEL.WEIGHTS behind the options.")
    name = first_dataset(cfg)
    known, wanted = read_checkpoint(cfg.MODEL.WEIGHTS).classes, classes_of_dataset(name)
    if known is None or wanted is None:
        return
    unknown = missing_from(known, wanted)
    if unknown:
        raise UserError(
            f"{cfg.MODEL.WEIGHTS} does not know {len(unknown)} of the {len(wanted)} classes of "
            f"dataset {name} in the configuration, {unknown[0]} for one: give the configuration "
            "that the weights were trained with."
        )


def _fingerprint(cfg: CfgNode) -> str:
    """Of what the segments follow from: all settings of model and images, and the weights."""
    model, images = cfg.MODEL.clone(), cfg.INPUT.clone()
    for node in (model, images):
        node.defrost()
    model.DEVICE = ""
    path = cfg.MODEL.WEIGHTS
    about = os.stat(path) if os.path.isfile(path) else None
    file = (about.st_size, about.st_mtime_ns) if about else ()
    return hashlib.sha256(f"{model.dump()}{images.dump()}{file}".encode()).hexdigest()


def _read(picture: Picture, *, image_root: Path, levels: GreyLevels) -> np.ndarray | UserError:
    where = f"image {picture.image_id}"
    try:
        path = join_inside(image_root, picture.file_name, where)
        return read_image(path, "BGR", f"({where})", levels)
    except UserError as error:
        return error


def _read_ahead(
    pool: ThreadPoolExecutor, read, batches: Iterator[list[Picture]]
) -> Iterator[list[tuple]]:
    """Each batch of pictures with their images; the next one is read meanwhile."""
    reading: deque[list[tuple[Picture, Future]]] = deque()
    for batch in batches:
        reading.append([(picture, pool.submit(read, picture)) for picture in batch])
        if len(reading) > 1:
            yield [(picture, image.result()) for picture, image in reading.popleft()]
    for jobs in reading:
        yield [(picture, image.result()) for picture, image in jobs]


def _on_the_cpu(output: dict) -> tuple[np.ndarray, list[dict]]:
    found_map, found = output["panoptic_seg"]
    return found_map.cpu().numpy(), found


def _annotate(
    picture: Picture,
    height: int,
    width: int,
    *,
    labels: ModelLabels,
    human: Callable[[Picture, int, int], Annotation],
    filling: Filling,
    errors: dict[str, str],
    second: SecondOpinion | None,
) -> Annotation:
    if picture.file_name in errors:
        raise UserError(errors[picture.file_name])
    where = f"image {picture.image_id}, {picture.file_name}"
    found_map, found = labels.read(picture)
    check_same_size("What the model found", found_map.shape, where, (height, width))
    other = None if second is None else second.of(picture, (height, width), where)
    return filling(human(picture, height, width), found_map, found, where, other)
