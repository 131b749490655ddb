"""Detectron2's training loop with DETR's data, optimiser and evaluators."""

import logging
import warnings

from detectron2.data import (
    DatasetMapper,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.samplers import TrainingSampler
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import DatasetEvaluators
from detectron2.utils import comm
from detectron2.utils.events import has_event_storage

from ..checkpoint import Checkpointer
from ..config import is_panoptic_fpn
from ..data import InferenceDatasetMapper, PanopticDatasetMapper, PanopticFPNDatasetMapper
from ..data.augmentation import build_augmentations
from ..data.checks import check_dataset, warn_of_too_few_queries
from ..data.coco import require_coco
from ..evaluation import build_evaluator
from ..modeling import TRANSFORMER_REGISTRY
from .defaults import check_device
from .mixed_precision import MixedPrecisionTrainer
from .optimizer import build_optimizer
from .sample_pictures import SamplePictures

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """`DefaultTrainer` for `DETR`, `PanopticDETR` and `UnifiedPanopticFPN`."""

    def __init__(self, cfg):
        with warnings.catch_warnings():
            # Of Detectron2's AMPTrainer, which is made first: that it has no GPU.
            warnings.filterwarnings("ignore", ".*GradScaler")
            super().__init__(cfg)
        if cfg.SOLVER.AMP.ENABLED:
            plain = self._trainer
            self._trainer = MixedPrecisionTrainer(
                *(plain.model, plain.data_loader, plain.optimizer),
                device=cfg.MODEL.DEVICE,
                precision=cfg.SOLVER.AMP.PRECISION,
            )

    @classmethod
    def build_model(cls, cfg):
        check_device(cfg)
        return super().build_model(cfg)

    @classmethod
    def build_optimizer(cls, cfg, model):
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg, start_iter: int = 0):
        """
        Args:
            start_iter: where training resumes; with a fixed SEED, the images are then drawn in
                another order than from the start, so that none is seen more often.
        """
        for name in cfg.DATASETS.TRAIN:
            require_coco(name)
        dataset = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
        )
        if start_iter == 0:  # otherwise it was done when the trainer was made
            _check_on_main_process(dataset, cfg.DATASETS.TRAIN)
            if comm.is_main_process() and not is_panoptic_fpn(cfg):
                detr = cfg.MODEL.DETR
                fixed = TRANSFORMER_REGISTRY.get(detr.TRANSFORMER).fixed_classes_of(cfg)
                warn_of_too_few_queries(dataset, detr.NUM_OBJECT_QUERIES, fixed)
        if "pan_seg_file_name" in dataset[0]:
            fpn = is_panoptic_fpn(cfg)
            mapper = PanopticFPNDatasetMapper(cfg) if fpn else PanopticDatasetMapper(cfg)
        else:
            augmentations = build_augmentations(cfg, is_train=True)
            mapper = DatasetMapper(cfg, is_train=True, augmentations=augmentations)
        seed = comm.shared_random_seed() if cfg.SEED < 0 else cfg.SEED + start_iter
        sampler = TrainingSampler(len(dataset), seed=seed)
        return build_detection_train_loader(cfg, mapper=mapper, dataset=dataset, sampler=sampler)

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        require_coco(dataset_name)
        dataset = get_detection_dataset_dicts(dataset_name, filter_empty=False)
        _check_on_main_process(dataset, (dataset_name,))
        return build_detection_test_loader(
            dataset,
            mapper=InferenceDatasetMapper(cfg),
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

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
        # DefaultTrainer's constructor makes a checkpointer just before the hooks that use it.
        self.checkpointer = Checkpointer.from_config(
            self.cfg, self.model, self.cfg.OUTPUT_DIR, **self.checkpointer.checkpointables
        )
        return super().build_hooks()

    def resume_or_load(self, resume=True):
        super().resume_or_load(resume)
        if self.start_iter > 0:
            self._trainer.reset_data_loader(
                lambda: self.build_train_loader(self.cfg, self.start_iter)
            )


def _check_on_main_process(dataset: list[dict], names: tuple[str, ...]) -> None:
    if comm.is_main_process():
        check_dataset(dataset, " and ".join(names))
