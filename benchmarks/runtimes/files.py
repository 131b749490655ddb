"""The files of one model for all runtimes, and the picture that they are asked for."""

import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode

from detr_d2.export import Options, Resize, TracingAdapter
from detr_d2.export.formats import write
from detr_d2.export.metadata import metadata_of

from ..models import AnyDETR

# Of each runtime, the file that it needs.
FILES = {
    "pytorch": "model.pth",
    "onnxruntime": "model.onnx",
    "aot-inductor": "model.aot.pt2",
    "openvino": "model.onnx",
}
_SPARE = 5  # masks that torch.export has, over those that are needed


def installed() -> tuple[str, ...]:
    """The runtimes that can run here."""
    onnx = find_spec("onnx") is not None
    has = {
        "pytorch": True,
        "onnxruntime": onnx and find_spec("onnxruntime") is not None,
        "aot-inductor": shutil.which(os.getenv("CXX", "g++")) is not None,
        "openvino": onnx and find_spec("openvino") is not None,
    }
    return tuple(name for name in FILES if has[name])


def write_files(
    folder: Path, model: AnyDETR, cfg: CfgNode, picture: np.ndarray, kept: int, names: list[str]
) -> None:
    """
    Args:
        model: with `DecidedClasses`.
        picture: (height, width, 3) uint8, BGR.
        kept: queries that have masks.
        names: of the runtimes.
    """
    np.save(folder / "picture.npy", picture)
    (folder / "config.yaml").write_text(cfg.dump())
    torch.save(model.class_embed.offsets, folder / "offsets.pth")
    torch.save(model.state_dict(), folder / "model.pth")
    if {"onnxruntime", "openvino"} & set(names):
        _export(folder / "model.onnx", model, cfg, picture, Options("onnx"))
    if "aot-inductor" in names:
        panoptic = cfg.MODEL.META_ARCHITECTURE == "PanopticDETR"
        most = kept + _SPARE if panoptic else None
        height, width, _ = picture.shape
        options = Options("torch-export", size=(height, width), max_masks=most)
        _export(folder / "model.pt2", model, cfg, picture, options)
        _compile(folder / "model.pt2", folder / FILES["aot-inductor"])


def _compile(recorded: Path, package: Path) -> None:
    """With the weights as constants, which folds norms into convolutions and packs these."""
    program = torch.export.load(recorded)
    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(package), inductor_configs={"freezing": True}
        )


def _export(path: Path, model, cfg: CfgNode, picture: np.ndarray, options: Options) -> None:
    resize = Resize(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    adapter = TracingAdapter(model, resize, options.size, options.masks).eval()
    example = torch.from_numpy(picture[:, :, ::-1].transpose(2, 0, 1).copy())[None]
    metadata = metadata_of(cfg, options)
    write(adapter, example, path, options.format_name, metadata)
    content = {"classes": metadata["classes"], "outputs": adapter.outputs}
    # Both formats have the same first outputs, and classes; num_kept is torch.export's alone.
    (path.parent / "metadata.json").write_text(json.dumps(content))
