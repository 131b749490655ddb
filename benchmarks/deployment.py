#!/usr/bin/env python
"""What a picture costs in each runtime: PyTorch, and what `detr-d2 export` writes, elsewhere.

Each runtime has a process and one thread of its own, and they take turns, so that what else a
machine does meets all alike. Seconds are those of the processor. Weights may be random: then
the threshold of the panoptic map is put where KEPT queries pass it.
"""

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate

KEPT = 15
RUNTIMES = {
    "torch": "PyTorch",
    "onnxruntime": "onnxruntime",
    "aotinductor": "torch.export, AOTInductor",
    "openvino": "OpenVINO, of the ONNX file",
}


def main() -> None:
    """Measure, and write the table; or, where a runtime is named, serve it."""
    args = parse_args()
    if args.runtime:
        return serve(args)
    args.output.mkdir(parents=True, exist_ok=True)
    missing = [
        r for r in args.runtimes if (reason := why_not(r)) and print(f"{r}: {reason}") is None
    ]
    files, threshold = write_files(args, [r for r in args.runtimes if r not in missing])
    servers = {}
    try:
        for runtime, file in files.items():
            servers[runtime] = Server(args, runtime, file, threshold)
        for number in range(args.rounds):
            for server in servers.values():
                server.run()
            print(f"round {number + 1} of {args.rounds}", flush=True)
        table = table_of(servers, files)
    finally:
        for server in servers.values():
            server.end()
    (args.output / "deployment.md").write_text(f"{table}\n")
    print(table)


def parse_args() -> argparse.Namespace:
    """The command line, of the measurement and of the process of one runtime."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True, help="a YAML of configs/")
    parser.add_argument("--output", type=Path, required=True, help="folder of files and table")
    parser.add_argument(
        "--runtimes",
        nargs="+",
        choices=RUNTIMES,
        default=list(RUNTIMES),
        help="(default: all); followed by another option",
    )
    parser.add_argument(
        "--size", nargs=2, type=int, default=(800, 1066), metavar=("HEIGHT", "WIDTH")
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (default: 5)")
    parser.add_argument("--runtime", choices=RUNTIMES, help=argparse.SUPPRESS)  # of a server
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threshold", type=float, help=argparse.SUPPRESS)
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    return parser.parse_args()


def why_not(runtime: str) -> str:
    """Why a runtime cannot be measured here; empty where it can."""
    if runtime == "aotinductor":
        return "" if shutil.which("g++") else "there is no compiler, g++"
    return "" if importlib.util.find_spec(runtime) else "it is not installed"


def picture_of(size: tuple[int, int]) -> np.ndarray:
    """(height, width, 3) uint8: noise at four sizes, so that there is something at each."""
    rng = np.random.default_rng(0)
    height, width = size
    layers = []
    for step in (1, 8, 64, 256):
        coarse = rng.uniform(0, 64, (-(-height // step), -(-width // step), 3))
        layers.append(coarse.repeat(step, 0).repeat(step, 1)[:height, :width])
    return np.sum(layers, 0).astype(np.uint8)


def build(args: argparse.Namespace, threshold: float | None):
    """The configuration, and a `Predictor` of it; the same weights each time."""
    import torch

    from detr_d2.engine import Predictor, setup_cfg

    torch.manual_seed(0)
    torch.set_num_threads(1)
    cfg = setup_cfg(args.config_file, ["MODEL.DEVICE", "cpu", *args.opts])
    predictor = Predictor(cfg)
    if not cfg.MODEL.WEIGHTS and threshold is not None:
        with torch.no_grad():
            predictor.model.class_embed.bias[-1] -= 100  # queries are of a class at all
        predictor.model.panoptic_score_threshold = threshold
    return cfg, predictor


def threshold_of(args: argparse.Namespace) -> float:
    """Where as many queries as `KEPT` pass, in the middle between two scores."""
    import torch

    from detr_d2.modeling.postprocessing import classify

    _, predictor = build(args, 0.0)
    scores = []
    hook = predictor.model.class_embed.register_forward_hook(
        lambda module, inputs, logits: scores.append(classify(logits)[0])
    )
    predictor(picture_of(args.size))
    hook.remove()
    best = torch.sort(scores[-1].flatten(), descending=True).values
    return float(best[KEPT - 1 : KEPT + 1].mean())


def write_files(args: argparse.Namespace, runtimes: list[str]) -> tuple[dict, float | None]:
    """The file of each runtime, None of PyTorch; and the threshold."""
    import torch

    from detr_d2.export import Options, Resize, TracingAdapter
    from detr_d2.export.formats import write
    from detr_d2.export.metadata import metadata_of

    cfg, predictor = build(args, None)
    threshold = None
    if not cfg.MODEL.WEIGHTS:
        threshold = threshold_of(args) if hasattr(predictor.model, "merging") else 0.0
        cfg, predictor = build(args, threshold)
    resize = Resize(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    example = torch.from_numpy(picture_of(args.size).transpose(2, 0, 1).copy())[None]
    files: dict[str, Path | None] = {}
    for runtime in runtimes:
        if runtime == "torch":
            files[runtime] = None
        elif runtime == "aotinductor":
            options = Options("torch-export", size=tuple(args.size), max_masks=KEPT)
            exported, files[runtime] = args.output / "model.pt2", args.output / "compiled.pt2"
            adapter = TracingAdapter(predictor.model, resize, options.size, options.masks).eval()
            write(adapter, example, exported, options.format_name, metadata_of(cfg, options))
            program = torch.export.load(str(exported))
            torch._inductor.aoti_compile_and_package(program, package_path=str(files[runtime]))
        else:
            files[runtime] = args.output / "model.onnx"
            if not files[runtime].exists():
                options = Options("onnx")
                adapter = TracingAdapter(predictor.model, resize).eval()
                write(adapter, example, files[runtime], "onnx", metadata_of(cfg, options))
        print(f"{runtime}: ready", flush=True)
    return files, threshold


@dataclass
class Cost:
    """
    Attributes:
        start: seconds of the processor until the first result.
        memory: MiB, the most that was held.
        segments: of the panoptic map.
    """

    start: float
    memory: float
    segments: int


class Server:
    """A runtime in a process of its own, that runs the picture when it is told to."""

    def __init__(self, args, runtime: str, file: Path | None, threshold: float | None):
        command = [sys.executable, "-W", "ignore", __file__, "--config-file", args.config_file]
        command += ["--output", str(args.output), "--size", *map(str, args.size)]
        command += ["--runtime", runtime, *(["--file", str(file)] if file else [])]
        command += [] if threshold is None else ["--threshold", str(threshold)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([*command, *args.opts], env=environment, **pipes)
        self.seconds: list[float] = []
        self.cost = Cost(**self._answer())

    def run(self) -> None:
        print("run", file=self.process.stdin, flush=True)
        answer = self._answer()
        self.seconds.append(answer["seconds"])
        self.cost.memory = answer["memory"]

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            sys.exit("error: a runtime has failed, see above; leave it out, with --runtimes.")
        return json.loads(line)

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def serve(args: argparse.Namespace) -> None:
    """In the process of a runtime."""
    picture = picture_of(args.size)
    run = OPENERS[args.runtime](args)
    segments = run(picture)
    cost = Cost(time.process_time(), held(), segments)
    print(json.dumps(asdict(cost)), flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        run(picture)
        answer = {"seconds": time.process_time() - start, "memory": held()}
        print(json.dumps(answer), flush=True)


def held() -> float:
    """MiB, the most that this process has held so far."""
    status = Path("/proc/self/status").read_text()
    return int(next(x.split()[1] for x in status.splitlines() if x.startswith("VmHWM"))) / 1024


def open_torch(args: argparse.Namespace):
    """PyTorch: from a picture to the number of segments."""
    _, predictor = build(args, args.threshold)

    def run(picture: np.ndarray) -> int:
        found = predictor(picture)
        return len(found["panoptic_seg"][1]) if "panoptic_seg" in found else 0

    return run


def open_onnxruntime(args: argparse.Namespace):
    """As `open_torch`, of an ONNX file."""
    from detr_d2.deploy import OnnxPredictor

    predictor = OnnxPredictor(args.file, num_threads=1)
    return lambda picture: segments_in(predictor.run(batch_of(picture)))


def open_aotinductor(args: argparse.Namespace):
    """As `open_torch`, of what AOTInductor has compiled."""
    import torch

    torch.set_num_threads(1)
    function = torch._inductor.aoti_load_package(str(args.file))

    def run(picture: np.ndarray) -> int:
        found = function(torch.from_numpy(batch_of(picture)))
        return int((found[5] >= 0).sum()) if len(found) > 4 else 0  # segment_classes

    return run


def open_openvino(args: argparse.Namespace):
    """As `open_torch`, of an ONNX file."""
    import openvino

    compiled = openvino.Core().compile_model(str(args.file), "CPU", {"INFERENCE_NUM_THREADS": 1})

    def run(picture: np.ndarray) -> int:
        found = compiled({"image": batch_of(picture)})
        return segments_in({port.any_name: values for port, values in found.items()})

    return run


def batch_of(picture: np.ndarray) -> np.ndarray:
    """(1, 3, H, W) uint8, RGB of BGR."""
    return np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1)[None])


def segments_in(found: dict) -> int:
    """The number of segments in what a file gives."""
    return int((found["segment_classes"] >= 0).sum()) if "segment_classes" in found else 0


OPENERS = {
    "torch": open_torch,
    "onnxruntime": open_onnxruntime,
    "aotinductor": open_aotinductor,
    "openvino": open_openvino,
}


def table_of(servers: dict[str, Server], files: dict[str, Path | None]) -> str:
    """In Markdown; how many times as fast as the first each is."""
    rows = []
    first = statistics.median(next(iter(servers.values())).seconds)
    for runtime, server in servers.items():
        seconds, file, cost = statistics.median(server.seconds), files[runtime], server.cost
        size = f"{file.stat().st_size / 2**20:.0f}" if file else ""
        row = (RUNTIMES[runtime], f"{seconds:.2f}", f"x{first / seconds:.2f}", f"{cost.start:.1f}")
        rows.append((*row, f"{cost.memory:.0f}", size, cost.segments))
    heads = ("", "s a picture", "", "s to the first", "MiB held", "MiB of the file", "segments")
    return tabulate(rows, heads, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    main()
