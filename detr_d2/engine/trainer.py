"""Detectron2's training loop with DETR's data, optimiser and evaluators."""

import logging
import weakref
from dataclasses import asdict, fields
from pathlib import Path

import torch
from detectron2.data import (
    MetadataCatalog,
    build_detection_test_loader,
)
from detectron2.engine import DefaultTrainer, TrainerBase, train_loop
from detectron2.engine.hooks import EvalHook
from detectron2.evaluation import DatasetEvaluators
from detectron2.utils import comm
from detectron2.utils.events import has_event_storage
from detectron2.utils.logger import setup_logger

from ..acceleration import accelerate
from ..checkpoint import Checkpointer
from ..checkpoint.on_disk import remove_unfinished
from ..data import InferenceDatasetMapper
from ..data.broken_images import BrokenImages
from ..data.checks import check_dataset, warn_of_too_few_queries
from ..data.coco import require_coco
from ..data.common_classes import number_classes_alike
from ..data.mappers import build_training_mapper
from ..data.registration import load_dicts
from ..data.samplers import build_training_sampler
from ..data.training_loader import (
    Order,
    build_training_loader,
    dead_readers_named,
    fix_chance,
    leave_signals_to_the_trainer,
)
from ..errors import UserError
from ..evaluation import build_evaluator
from ..model_kind import kind_of
from .averaged_weights import AverageWeights
from .defaults import check_dataset_classes, check_device, check_loaded_classes
from .evaluating import Evaluate
from .kept_checkpoints import KeepCheckpoints
from .optimizer import build_optimizer
from .preemption import EndWhenAsked
from .processes import distributed, is_of_another_process, take_buffers_of_the_first
from .recomputation import recompute_activations
from .sample_pictures import SamplePictures
from .training_step import TrainingStep
from .watching import PatientWriter, WatchTraining

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """`DefaultTrainer` for models that say what they are fed and give, see `ModelKind`."""

    _loaded_order: Order | None = None

    def __init__(self, cfg):
        # Detectron2's makes a trainer and a checkpointer of its own, for GPUs.
        TrainerBase.__init__(self)
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        check_loaded_classes(cfg, cfg.DATASETS.TEST)
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        if cfg.SOLVER.RECOMPUTE:
            recompute_activations(model)
        loader = self.build_train_loader(cfg)
        model = distributed(model)
        self._trainer = TrainingStep(
            model,
            loader,
            optimizer,
            output_dir=cfg.OUTPUT_DIR,
            parts=_parts(cfg),
            not_finite_in_a_row=cfg.SOLVER.NOT_FINITE_IN_A_ROW,
            device=cfg.MODEL.DEVICE,
            precision=cfg.SOLVER.AMP.PRECISION if cfg.SOLVER.AMP.ENABLED else None,
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer.from_config(
            cfg, model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self)
        )
        self.start_iter, self.max_iter, self.cfg = 0, cfg.SOLVER.MAX_ITER, cfg
        self.register_hooks(self.build_hooks())

    @classmethod
    def build_model(cls, cfg):
        """The model of `cfg`, accelerated.

        Raises:
            UserError: where there is no such device.
        """
        check_device(cfg)
        return accelerate(super().build_model(cfg))

    @classmethod
    def build_optimizer(cls, cfg, model):
        """See `build_optimizer` of optimizer.py."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg, order: Order | None = None, start_iter: int = 0):
        """
        Args:
            order: of a training that resumes; None begins one.
            start_iter: where it resumes.
        """
        for name in cfg.DATASETS.TRAIN:
            require_coco(name)
        filter_empty = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
        datasets = [  # a name may be there several times, and its images then come as often
            (name, load_dicts(name, filter_empty)) for name in cfg.DATASETS.TRAIN
        ]
        for name in cfg.DATASETS.TRAIN:
            check_dataset_classes(cfg, name)
        number_classes_alike((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))
        dataset = [d for _, dicts in datasets for d in dicts]
        model = kind_of(cfg)
        loader = cfg.DATALOADER
        broken = BrokenImages(loader.BROKEN_IMAGES, loader.BROKEN_IMAGES_SHARE, cfg.OUTPUT_DIR)
        if order is None:  # otherwise it was done when the trainer was made
            _check_on_main_process(cfg, dataset, cfg.DATASETS.TRAIN, broken)
            if comm.is_main_process() and (queries := model.queries_of(cfg)):
                warn_of_too_few_queries(dataset, *queries)
        mapper = build_training_mapper(
            cfg, model.dataset_mapper, is_panoptic="pan_seg_file_name" in dataset[0]
        )
        order = order or _new_order(cfg)
        return build_training_loader(
            dataset,
            mapper,
            build_training_sampler(cfg, datasets, order.seed),
            order,
            broken_images=broken,
            iteration=start_iter,
            group_by_shape=loader.ASPECT_RATIO_GROUPING,
            num_workers=loader.NUM_WORKERS,
        )

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        """One image a batch, in the order of the dataset.

        Raises:
            UserError: where its classes are not the model's, or an image is not as it is described.
        """
        require_coco(dataset_name)
        dataset = load_dicts(dataset_name, filter_empty=False)
        check_dataset_classes(cfg, dataset_name)
        _check_on_main_process(cfg, dataset, (dataset_name,))
        loader = build_detection_test_loader(
            dataset,
            mapper=InferenceDatasetMapper(cfg),
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )
        loader.worker_init_fn = leave_signals_to_the_trainer
        return loader

    def train(self):
        """Train until SOLVER.MAX_ITER; what a person can put right ends it with one sentence."""
        loop = logging.getLogger(train_loop.__name__)
        loop.addFilter(_without_traceback)
        try:
            with dead_readers_named(), self._ending.answering():
                return super().train()
        finally:
            loop.removeFilter(_without_traceback)

    @classmethod
    def test(cls, cfg, model, evaluators=None):
        """Evaluate on DATASETS.TEST: metrics by name, of several datasets by dataset."""
        with dead_readers_named():
            return super().test(cfg, model, evaluators)

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        """The dataset's metrics and, during training, sample pictures on the main process."""
        evaluator = build_evaluator(cfg, dataset_name)
        if not (has_event_storage() and comm.is_main_process()):
            return evaluator
        metadata = MetadataCatalog.get(dataset_name)
        pictures = SamplePictures(dataset_name, metadata, cfg.MODEL.DETR.PANOPTIC.SCORE_THRESHOLD)
        return DatasetEvaluators([evaluator, pictures])

    def build_hooks(self):
        """Detectron2's, and those of SOLVER: averages, preemption, kept checkpoints, watching."""
        built = super().build_hooks()
        evaluation = next(i for i, hook in enumerate(built) if isinstance(hook, EvalHook))
        self._ending = EndWhenAsked(self.checkpointer)
        period, output_dir = self.cfg.TEST.EVAL_PERIOD, self.cfg.OUTPUT_DIR
        built[evaluation] = Evaluate(period, self._evaluate, self._ending, output_dir)
        built.insert(evaluation, self._ending)
        if comm.is_main_process():
            solver = self.cfg.SOLVER
            watching = WatchTraining(self.optimizer, solver.IMS_PER_BATCH)
            keeping = KeepCheckpoints(
                self.checkpointer, solver.CHECKPOINT_KEEP, solver.CHECKPOINT_PERIOD
            )
            # Both before the writers; what is kept is known behind the evaluation.
            built[evaluation + 2 : evaluation + 2] = [watching, keeping]
        if decay := self.cfg.SOLVER.AVERAGE_DECAY:
            averaging = AverageWeights(self.checkpointer.model, decay)
            self.checkpointer.saved_model = averaging.model
            built.insert(0, averaging)
        return built

    def build_writers(self):
        """Detectron2's, which outlive a full disk."""
        return [PatientWriter(writer) for writer in super().build_writers()]

    def _evaluate(self) -> dict:
        # Each process has seen other images, and a checkpoint has what the first one knows.
        take_buffers_of_the_first(self.checkpointer.saved_model)
        self._last_eval_results = self.test(self.cfg, self.checkpointer.saved_model)
        return self._last_eval_results

    def resume_or_load(self, resume=True):
        """Go on behind the last checkpoint of OUTPUT_DIR, or begin with MODEL.WEIGHTS."""
        if resume and comm.is_main_process():
            remove_unfinished(Path(self.cfg.OUTPUT_DIR))
        super().resume_or_load(resume)
        if self.start_iter >= self.max_iter:
            logger.warning(
                "The training in %s is over: its checkpoint has all of the %d iterations, and "
                "nothing is left to train. Raise SOLVER.MAX_ITER to go on.",
                self.cfg.OUTPUT_DIR,
                self.start_iter,
            )
        if self.start_iter > 0 and self.order is not None:
            self._go_on()

    def _go_on(self) -> None:
        """With the images that would have come next."""
        old = self._loaded_order or self.order  # older checkpoints have none
        assert old is not None, "a loader of one's own goes on by itself"
        batch_size = self.cfg.SOLVER.IMS_PER_BATCH
        order = old.resumed(self.start_iter, comm.get_world_size(), batch_size)
        if order != old:
            logger.info(
                "The training was of %d images a step on %d processes and goes on with %d on %d, "
                "without the %d images that were seen.",
                *(old.batch_size, old.processes, batch_size, order.processes, order.images_before),
            )
        self._trainer.reset_data_loader(
            lambda: self.build_train_loader(self.cfg, order, self.start_iter)
        )

    @property
    def order(self) -> Order | None:
        """Of the images; None of a loader of one's own."""
        dataset = getattr(self._trainer.data_loader, "dataset", None)
        return getattr(dataset, "order", None)

    def run_step(self):
        """One step, whose chance follows from the seed and the iteration."""
        if self.order is not None:
            # Dropout and what else the model draws, as it would be after a resume.
            fix_chance(self.order.seed, comm.get_rank(), self.iter)
            torch.cuda.manual_seed_all(torch.initial_seed())
        super().run_step()

    def state_dict(self):
        """Of Detectron2's trainer, and the order of the images."""
        order = {} if self.order is None else {"order": asdict(self.order)}
        return {**super().state_dict(), **order}

    def load_state_dict(self, state_dict):
        """
        Raises:
            UserError: where another optimiser, or other parameters, were trained, or by an earlier
                version.
        """
        theirs = state_dict["_trainer"]["optimizer"]["param_groups"]
        if _kinds(theirs) != _kinds(self._trainer.optimizer.param_groups):
            raise UserError(
                f"The training in {self.cfg.OUTPUT_DIR} had another SOLVER.OPTIMIZER than "
                f"{self.cfg.SOLVER.OPTIMIZER}, or other parameters were trained: set what it had, "
                "or start another one from its weights, with a new OUTPUT_DIR."
            )
        super().load_state_dict(state_dict)
        order = state_dict.get("order")
        if order and order.keys() != {field.name for field in fields(Order)}:
            raise UserError(
                f"The training in {self.cfg.OUTPUT_DIR} is of an earlier version, which tells the "
                "order of the images in another way: end it with that version, or start another "
                "one from its weights, with a new OUTPUT_DIR."
            )
        self._loaded_order = Order(**order) if order else None


def _without_traceback(record: logging.LogRecord) -> bool:
    """Log what a person can put right as its sentence, and nothing for a process that is gone."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, UserError):
        record.msg, record.args, record.exc_info = "The training ends: %s", (error,), None
    return not is_of_another_process(error)


def _kinds(groups: list[dict]) -> list[tuple]:
    return [(len(group["params"]), group.get("matrices")) for group in groups]


def _parts(cfg) -> int:
    images = cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
    if cfg.SOLVER.PARTS < 1 or images % cfg.SOLVER.PARTS:
        raise UserError(
            f"SOLVER.PARTS is {cfg.SOLVER.PARTS}, in which the {images} images of a step on one "
            "process cannot be divided: set a divisor."
        )
    return cfg.SOLVER.PARTS


def _new_order(cfg) -> Order:
    processes, batch_size = comm.get_world_size(), cfg.SOLVER.IMS_PER_BATCH
    if batch_size < processes or batch_size % processes:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {batch_size}, which {processes} processes cannot share: set "
            f"a multiple of {processes}."
        )
    start = comm.shared_random_seed() if cfg.SEED < 0 else cfg.SEED
    return Order(start, processes, batch_size)


def _check_on_main_process(
    cfg, dataset: list[dict], names: tuple[str, ...], broken: BrokenImages | None = None
) -> None:
    if comm.is_main_process():
        check_dataset(dataset, " and ".join(names), broken, cfg.DATALOADER.CHECK_IMAGES)
