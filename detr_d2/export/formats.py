"""The formats that a model is written in, and how what was written is run again."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..deploy.predictor import METADATA_KEY, OnnxPredictor
from ..requirements import require
from .adapter import TracingAdapter
from .precision import REDUCE
from .symbolics import OPSET, symbolics
from .users_parts import naming_users_parts

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
SUFFIXES = {"onnx": ".onnx", "web": ".html", "torchscript": ".ts", "torch-export": ".pt2"}


def write(
    adapter: TracingAdapter, example: Tensor, path: Path, format_name: str, metadata: dict
) -> None:
    """
    Args:
        example: (B, 3, H, W), a picture.
        format_name: of `SUFFIXES`.
        metadata: see `metadata_of`.
    """
    _WRITERS[format_name](adapter, example, path, metadata)


def open_exported(path: Path, format_name: str, outputs: tuple[str, ...]) -> Run:
    """A function from (B, 3, H, W), of the dtype of the file, to what the file gives, by name."""
    if format_name in ("onnx", "web"):  # of a page, what will be in it
        return OnnxPredictor(path).run
    if format_name == "torchscript":
        function = torch.jit.load(str(path))
    else:
        function = torch.export.load(str(path)).module()

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            found = function(torch.from_numpy(batch))
        return dict(zip(outputs, (values.numpy() for values in found)))

    return run


def _write_torchscript(adapter, example, path, metadata) -> None:
    with torch.no_grad(), naming_users_parts(adapter.model):
        recorded = torch.jit.trace(adapter, (example,), check_trace=False)
    recorded.save(str(path), _extra_files={f"{METADATA_KEY}.json": json.dumps(metadata)})


def _write_torch_export(adapter, example, path, metadata) -> None:
    with torch.no_grad(), naming_users_parts(adapter.model, traced=False):
        program = torch.export.export(adapter, (example,), strict=False)
    with open(path, "wb") as file:  # of whatever name, which the function itself would refuse
        torch.export.save(program, file, extra_files={f"{METADATA_KEY}.json": json.dumps(metadata)})


def _write_onnx(adapter, example, path, metadata) -> None:
    require("onnx", "--format onnx")
    import onnx

    fixed = metadata["size"] is not None
    any_size = {"image": {2: "height", 3: "width"}}
    if "panoptic_seg" in adapter.outputs:
        any_size["panoptic_seg"] = {1: "height", 2: "width"}
    with torch.no_grad(), naming_users_parts(adapter.model), symbolics():
        torch.onnx.export(
            adapter,
            (example,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=list(adapter.outputs),
            dynamic_axes=None if fixed else any_size,
        )
    if reduce := REDUCE.get(metadata["precision"]):
        reduce(path)
    written = onnx.load(str(path))
    onnx.helper.set_model_props(written, {METADATA_KEY: json.dumps(metadata)})
    onnx.save(written, str(path))


_WRITERS = {
    "onnx": _write_onnx,
    "web": _write_onnx,
    "torchscript": _write_torchscript,
    "torch-export": _write_torch_export,
}
