"""Detectron2's checkpointer, for checkpoints of all formats that DETR's weights come in."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from fvcore.common.checkpoint import _IncompatibleKeys
from torch import nn

from ..errors import UserError, some_of
from . import files, report
from .classes import (
    HEAD,
    Classes,
    categories_of_dataset,
    classes_of_dataset,
    describe_rows,
    match_rows,
    missing_from,
    take_rows,
)
from .formats import ABOUT, About, Checkpoint, read_checkpoint, record
from .names import within_the_backbone
from .on_disk import (
    DamagedFile,
    check_whole,
    checkpoints_of,
    is_of_full_disk,
    write_on_disk,
)

BEST = "model_best"  # of the iteration that was evaluated best

logger = logging.getLogger(__name__)


class Checkpointer(DetectionCheckpointer):
    """Loads whatever `read_checkpoint` reads, and records the class names when it saves.

    What of a file does not fit the model is logged in one table, and where the rows of the
    class head came from in one line.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        dataset: str | None,
        about: About,
        **checkpointables,
    ):
        """
        Args:
            save_dir: where `save` writes; "" saves nothing.
            dataset: the registered dataset whose classes the model has; None if none is known.
            about: what `save` records of the model beside its classes.
            **checkpointables: as for `DetectionCheckpointer`.
        """
        super().__init__(model, save_dir, **checkpointables)
        self.dataset = dataset
        self.about = about
        self.saved_model = self.model  # another one where its weights are averages of the model's
        self._resumes = False
        self._lacks = ""  # classes of the dataset that what was loaded last does not have

    @classmethod
    def from_config(
        cls, cfg: CfgNode, model: nn.Module, save_dir: str = "", **checkpointables
    ) -> "Checkpointer":
        """The checkpointer of a model that was built from `cfg`."""
        datasets = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
        resnets = cfg.MODEL.RESNETS
        about = About(
            resnets.RES5_DILATION == 2,
            cfg.MODEL.DETR.NHEADS,
            stride_in_1x1=resnets.STRIDE_IN_1X1 if resnets.DEPTH >= 50 else None,
        )
        return cls(
            model,
            save_dir,
            dataset=datasets[0] if datasets else None,
            about=about,
            **checkpointables,
        )

    def save(self, name: str, **kwargs) -> bool:
        """Write a checkpoint beside and then in its place, so that none is ever half there.

        Returns:
            Whether it is there. One that cannot be written is logged, and the one before stays the
            last.

        Raises:
            UserError: where "model_final" cannot be written.
        """
        if not self.save_dir or not self.save_to_disk:
            return True
        classes = classes_of_dataset(self.dataset)
        about = replace(self.about, categories=categories_of_dataset(self.dataset))
        content = {"model": self.saved_model.state_dict(), ABOUT: record(classes, about), **kwargs}
        content.update((key, of.state_dict()) for key, of in self.checkpointables.items())
        path = Path(self.save_dir, f"{name}.pth")
        logger.info("Saving checkpoint to %s", path)
        try:
            write_on_disk(path, partial(torch.save, content))
            if name != BEST:  # nothing goes on from it
                self.tag_last_checkpoint(path.name)
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not is_of_full_disk(error):
                raise
            sentence = f"{path} cannot be written ({error}): make room for it."
            if name == "model_final":
                raise UserError(sentence) from error
            logger.error("%s The checkpoint before it is still there.", sentence)
            return False
        return True

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the file that a resume reads, at once or not at all."""
        write_on_disk(
            Path(self.save_dir, "last_checkpoint"),
            lambda file: file.write(last_filename_basename.encode()),
        )

    def require_classes(self) -> None:
        """A `UserError` where what was loaded last does not have all classes of the dataset."""
        if self._lacks:
            raise UserError(
                f"{self._lacks}: nothing would be found of them. Name a dataset of the "
                "checkpoint's classes, or train it on these first."
            )

    def load(self, path: str, *args, **kwargs) -> dict[str, Any]:
        """
        Args:
            path: a file or URL, or a Hugging Face folder; "" loads nothing.

        Returns:
            What the file holds beside the model and what was loaded.

        Raises:
            UserError: where it cannot be read, or nothing in it fits the model.
        """
        try:
            return super().load(path and files.weights_file(path), *args, **kwargs)
        finally:
            # Detectron2 leaves it set after an error and then refuses to load anything else.
            self._parsed_url_during_load = None

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """As `DetectionCheckpointer`; of several checkpoints, the last that is whole.

        Raises:
            UserError: where a training that is resumed had another model: what the optimizer has
                kept of each parameter does not fit.
        """
        if not (resume and self.has_checkpoint()):
            return super().resume_or_load(path, resume=resume)
        self._resumes = "trainer" in self.checkpointables
        try:
            return self._load_last()
        finally:
            self._resumes = False

    def _load_last(self) -> dict[str, Any]:
        *later, first = checkpoints_of(self.get_checkpoint_file())
        for file in later:
            try:
                check_whole(file)
            except DamagedFile as error:
                logger.error("%s The checkpoint before it is taken.", error)
            else:
                return self.load(str(file))
        check_whole(first)
        return self.load(str(first))

    def _load_file(self, filename: str) -> dict[str, Any]:
        checkpoint = read_checkpoint(filename)
        logger.info("%s: weights of %s.", filename, checkpoint.format)
        return {**checkpoint.rest, "model": checkpoint}

    @torch.no_grad()
    def _load_model(self, checkpoint: dict[str, Any]) -> _IncompatibleKeys:
        source: Checkpoint = checkpoint.pop("model")
        model = self.model.state_dict()
        weights = fit_class_head(source, model, classes_of_dataset(self.dataset))
        weights = within_the_backbone(weights, model)
        fitted = report.fit(weights, model)
        if not fitted.weights:
            raise UserError(
                f"Nothing in the checkpoint (read as {source.format}) fits the model: its names "
                f"begin with {', '.join(sorted(weights)[:3])}. Name another file in MODEL.WEIGHTS."
            )
        if self._resumes:
            self._check_same_model(source, fitted)
        self._lacks = _lacking(source, classes_of_dataset(self.dataset), self.dataset)
        self.model.load_state_dict(fitted.weights, strict=False)
        if table := report.table(fitted, weights, model):
            logger.warning("Checkpoint and model differ:\n%s", table)
        _warn_of_other_architecture(source.about, self.about)
        return _IncompatibleKeys(fitted.missing, fitted.unexpected, fitted.wrong_shape)

    def _check_same_model(self, source: Checkpoint, fitted: report.Fit) -> None:
        theirs, ours = source.classes, classes_of_dataset(self.dataset)
        if theirs is not None and ours is not None and theirs.names != ours.names:
            differs = (
                f"is of {_in_short(theirs)}, and the dataset {self.dataset} has {_in_short(ours)}"
            )
        elif fitted.missing or fitted.wrong_shape:
            differs = "is of another model than the configuration's"
        else:
            return
        raise UserError(
            f"The training in {self.save_dir} cannot be resumed: its checkpoint {differs}. Start "
            f"another from its weights, without --resume: MODEL.WEIGHTS "
            f"{self.get_checkpoint_file()} and a new OUTPUT_DIR."
        )

    def _log_incompatible_keys(self, incompatible: _IncompatibleKeys) -> None:
        pass  # logged as one table already


def _in_short(classes: Classes) -> str:
    first = ", ".join(str(name) for name in classes.names[:3])
    return f"{len(classes)} classes ({first}{', ...' if len(classes) > 3 else ''})"


def _lacking(source: Checkpoint, ours: Classes | None, dataset: str | None) -> str:
    """What is said of classes of a dataset that a checkpoint does not have; "" where it has all.

    Where no rows are matched by name, as in Panoptic FPN's heads, they must be the same in order.
    """
    theirs = source.classes
    if theirs is None or ours is None or theirs.names == ours.names:
        return ""
    lacking, more = missing_from(theirs, ours), missing_from(ours, theirs)
    if not lacking and not all(name in source.weights for name in HEAD):
        lacking = ["the same order"]
    only = f" (and has {some_of(more)}, which the dataset lacks)" if more else ""
    return f"The checkpoint does not have {some_of(lacking)} of {dataset}{only}" if lacking else ""


def _warn_of_other_architecture(theirs: About, ours: About) -> None:
    """Weights fit these in names and shapes, and give other results all the same."""
    keys = {
        "dilation": "MODEL.RESNETS.RES5_DILATION",
        "num_heads": "MODEL.DETR.NHEADS",
        "stride_in_1x1": "MODEL.RESNETS.STRIDE_IN_1X1",
    }
    for name, key in keys.items():
        of_checkpoint, of_model = getattr(theirs, name), getattr(ours, name)
        if None not in (of_checkpoint, of_model) and of_checkpoint != of_model:
            logger.warning(
                "The checkpoint's model has %s %s, this one has %s: its weights fit, but give "
                "other results here. Take the configuration that they were trained with, or "
                "correct %s.",
                *(name, of_checkpoint, of_model, key),
            )


def fit_class_head(
    source: Checkpoint, model: dict[str, torch.Tensor], target: Classes | None
) -> dict[str, torch.Tensor]:
    """Rearrange the class head of a checkpoint for a model, and log which rows come from where.

    Args:
        model: the state dict of the model, whose rows are kept where the checkpoint has none.
        target: the classes of the model; None where they are not known.

    Returns:
        The checkpoint's weights. The head is unchanged where either side's classes are unknown.
    """
    weights, classes = source.weights, source.classes
    if not all(name in weights and name in model for name in HEAD):
        return weights
    if classes is None or target is None or len(target) + 1 != len(model[HEAD[1]]):
        logger.info(
            "Class head: rows stay in order, since the %s names no classes.",
            "dataset" if classes else "checkpoint",
        )
        return weights
    if classes.names == target.names or weights[HEAD[0]].shape[1] != model[HEAD[0]].shape[1]:
        return weights
    by, rows = match_rows(classes, target)
    logger.info(describe_rows(by, rows, classes, target))
    return weights | take_rows(weights, rows, model)
