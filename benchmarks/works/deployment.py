"""A picture in, boxes or the panoptic map out, in the runtimes that a model is exported for."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from ..agreement import differing_pixels
from ..inputs import draw_mosaic
from ..models import DecidedClasses, build_detr, decide_classes, detr_cfg, is_thing
from ..runtimes import FILES, RuntimeProcess, installed, write_files
from ..settings import Settings
from ..variants import Variant
from .work import Case, Work


class PanopticDeployment(Work):
    """From the picture to its panoptic map; variants are the runtimes that are installed.

    Each has a process of its own, and all are asked in turn.
    """

    name = "panoptic-deployment"
    meta_architecture = "PanopticDETR"
    what = "panoptic map of a picture"
    device = "cpu"
    baseline = Variant("pytorch")
    # 2026.4 reads the file, and gives numbers that nothing has written.
    without: tuple[str, ...] = ("openvino",)

    def __init__(self, settings: Settings):
        super().__init__(settings)
        self.temporary = tempfile.TemporaryDirectory(prefix="detr_d2_benchmark_")
        self.folder = Path(self.temporary.name)
        self.processes: list[RuntimeProcess] = []
        torch.set_num_threads(self.threads)
        self._write()

    @property
    def variants(self) -> list[Variant]:
        return [Variant(name) for name in installed() if name not in self.without]

    @property
    def title(self) -> str:
        (height, width), (rows, columns) = self.settings.input_size, self.settings.image_size
        return f"{self.what}, {rows}x{columns}, network {height}x{width}"

    def _write(self) -> None:
        settings = self.settings
        cfg = detr_cfg(
            settings,
            *("MODEL.META_ARCHITECTURE", self.meta_architecture, "MODEL.DEVICE", "cpu"),
            *("INPUT.MIN_SIZE_TEST", settings.length),
        )
        model = build_detr(Variant("fast"), cfg)
        model.class_embed = DecidedClasses(
            model.class_embed, decide_classes(model, cfg, settings.kept)
        )
        model.eval().requires_grad_(False)
        mosaic = draw_mosaic(0, settings.image_size, settings.segments, is_thing(cfg))
        names = [variant.model for variant in self.variants]
        picture = np.ascontiguousarray(mosaic.image[:, :, ::-1])
        write_files(self.folder, model, cfg, picture, settings.kept, names)

    def prepare(self, variant: Variant) -> Case:
        process = RuntimeProcess(variant.model, self.folder, self.threads)
        self.processes.append(process)
        file = self.folder / FILES[variant.model]
        return Case(process.run, process.result, costs=lambda: process.costs(file))

    def compare(self, result, reference) -> dict[str, float]:
        boxes = result["boxes"], reference["boxes"]
        alike = boxes[0].shape == boxes[1].shape
        apart = {"box_pixels": float(np.abs(boxes[0] - boxes[1]).max()) if alike else np.nan}
        if "panoptic_seg" in reference:
            maps = [
                (torch.from_numpy(panoptic_seg), segments_info)
                for panoptic_seg, segments_info in (
                    result["panoptic_seg"],
                    reference["panoptic_seg"],
                )
            ]
            apart["pixels_per_10000"] = differing_pixels(*maps)
        return apart

    def close(self) -> None:
        for process in self.processes:
            process.close()
        self.temporary.cleanup()


class BoxDeployment(PanopticDeployment):
    """From the picture to boxes, by a DETR without masks."""

    name = "box-deployment"
    meta_architecture = "DETR"
    without = ()
    what = "boxes of a picture"
