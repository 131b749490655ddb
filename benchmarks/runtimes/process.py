"""A model in one runtime, in a process of its own that has nothing else: `RuntimeProcess` asks it.

    python process.py RUNTIME FOLDER THREADS

It answers each line with one of JSON, the first when the first result is there. It imports nothing
that the runtime does not need, so that its start and its memory are those of a service.
"""

import json
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[], Any]  # gives what `OnnxPredictor` or `Predictor` gives for one picture


def pytorch(folder: Path, threads: int) -> Run:
    """As `Predictor` runs a model, with what `accelerate` does."""
    import torch

    from detr_d2.engine import Predictor, setup_cfg

    torch.set_num_threads(threads)
    overrides = ["MODEL.WEIGHTS", str(folder / "model.pth")]
    predictor = Predictor(setup_cfg(str(folder / "config.yaml"), overrides))
    # As `DecidedClasses`, which random weights need, and which is no part of the configuration.
    offsets = torch.load(folder / "offsets.pth")
    predictor.model.class_embed.register_forward_hook(lambda *call: call[-1] + offsets)
    picture = _picture(folder)
    return lambda: predictor(picture)


def onnxruntime(folder: Path, threads: int) -> Run:
    """As `detr_d2.deploy` runs a file."""
    from detr_d2.deploy import OnnxPredictor

    predictor = OnnxPredictor(folder / "model.onnx", num_threads=threads)
    picture = _picture(folder)
    return lambda: predictor(picture)


def openvino(folder: Path, threads: int) -> Run:
    """The same file; in float32, since it would take bfloat16 where the processor has that."""
    import openvino

    options: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # as the others: it would wait for a core that is taken
    }
    compiled = openvino.Core().compile_model(folder / "model.onnx", "CPU", options)
    names = [output.get_any_name() for output in compiled.outputs]
    batch = _batch(folder)
    return _decoded(folder, lambda: dict(zip(names, compiled([batch]).values())))


def aot_inductor(folder: Path, threads: int) -> Run:
    """What torch.export has recorded, compiled before."""
    import torch

    torch.set_num_threads(threads)
    function = torch._inductor.aoti_load_package(str(folder / "model.aot.pt2"))
    names, batch = _metadata(folder)["outputs"], torch.from_numpy(_batch(folder))

    def run() -> dict[str, np.ndarray]:
        with torch.no_grad():
            return dict(zip(names, (values.numpy() for values in function(batch))))

    return _decoded(folder, run)


RUNTIMES = {
    "pytorch": pytorch,
    "onnxruntime": onnxruntime,
    "aot-inductor": aot_inductor,
    "openvino": openvino,
}


def _picture(folder: Path) -> np.ndarray:
    """(height, width, 3) uint8, BGR."""
    return np.load(folder / "picture.npy")


def _batch(folder: Path) -> np.ndarray:
    """(1, 3, height, width) uint8, RGB."""
    return np.ascontiguousarray(_picture(folder)[None, :, :, ::-1].transpose(0, 3, 1, 2))


def _metadata(folder: Path) -> dict:
    return json.loads((folder / "metadata.json").read_text())


def _decoded(folder: Path, run: Callable[[], dict[str, np.ndarray]]) -> Run:
    from detr_d2.deploy.predictor import results_of

    classes, size = _metadata(folder)["classes"], _picture(folder).shape[:2]
    return lambda: results_of(run(), classes, size)[0]


def as_arrays(result: dict) -> dict:
    """Boxes (n, 4) and `panoptic_seg` of a result, without classes that only PyTorch knows."""
    boxes = result["instances"].pred_boxes
    found: dict[str, Any] = {"boxes": np.asarray(getattr(boxes, "tensor", boxes))}
    if "panoptic_seg" in result:
        panoptic_seg, segments_info = result["panoptic_seg"]
        found["panoptic_seg"] = np.asarray(panoptic_seg), segments_info
    return found


def peak_resident() -> int:
    """Bytes that were resident at most since the process began, libraries and all (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def main() -> None:
    """Start, and answer until there are no more lines."""
    runtime, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    answers, sys.stdout = sys.stdout, sys.stderr  # which libraries write to
    if runtime != "pytorch":  # as where a service has no Detectron2, which `detr_d2` would import
        sys.modules["detectron2"] = None  # type: ignore[assignment]
    run = RUNTIMES[runtime](folder, threads)
    result = run()
    (folder / f"{runtime}.pickle").write_bytes(pickle.dumps(as_arrays(result)))
    while True:
        answer = {"cpu_seconds": time.process_time(), "peak_bytes": peak_resident()}
        print(json.dumps(answer), file=answers, flush=True)
        if not sys.stdin.readline():
            return
        run()


if __name__ == "__main__":
    main()
