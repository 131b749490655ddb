"""A training to which everything happens, beside one to which nothing does: both must end alike.

    python -m tests.soak --minutes 30 --output output/soak

Two processes under `torchrun` train on shapes, of which some are broken. Every minute or two a
process is killed, or all of them, or one that reads images; or they are asked to end; or the disk
is full for a while. Whatever has ended is started again with the same command. When the training
is over, its checkpoints and evaluations are compared with the undisturbed one's, bit for bit, and
another one begins, until the time is over. docs/reliability.md has what was seen.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = "configs/Shapes-PanopticSegmentation/panoptic_detr_fast.yaml"
IMAGES = {"train": 40, "val": 6}
DISK = 256  # MiB, of the disk that is filled
MARK = "DETR_D2_SOAK"  # in the environment of all that is started here
STUCK = 1800  # seconds without a word, behind which a training hangs
# A small model with everything that has a state: averaged weights, momenta, a schedule.
OVERRIDES = [
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "16", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
    *("MODEL.DETR.ENC_LAYERS", "1", "MODEL.DETR.DEC_LAYERS", "2", "MODEL.DETR.DROPOUT", "0.1"),
    *("SOLVER.IMS_PER_BATCH", "4", "SOLVER.WARMUP_ITERS", "20", "SOLVER.AVERAGE_DECAY", "0.9"),
    *("SOLVER.CHECKPOINT_PERIOD", "4", "SOLVER.CHECKPOINT_KEEP", "2", "TEST.EVAL_PERIOD", "20"),
    *("INPUT.MIN_SIZE_TRAIN", "(64, 80)", "INPUT.DETR_CROP.PROBABILITY", "0.5"),
    *("INPUT.DETR_CROP.RESIZE_BEFORE", "(80,)", "INPUT.DETR_CROP.RANGE", "(40, 60)"),
    *("DATALOADER.NUM_WORKERS", "1", "SEED", "5"),
    *("DATALOADER.BROKEN_IMAGES", "skip", "DATALOADER.BROKEN_IMAGES_SHARE", "0.2"),
]


class Failed(Exception):
    """What must not happen has."""


class Training:
    """Two processes and what starts them, in a folder, until they are through."""

    def __init__(self, output: Path, iterations: int, environment: dict[str, str]):
        self.output, self.log = output, Path(f"{output}.log")
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        self._command = [
            *(sys.executable, "-W", "ignore", *start, "--max-restarts", "100"),
            *("tools/train_net.py", "--resume", "--config-file", CONFIG, *OVERRIDES),
            *("SOLVER.MAX_ITER", str(iterations), "OUTPUT_DIR", str(output)),
        ]
        self._environment = environment
        self.starts = 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        with open(self.log, "a") as log:
            self.parent = subprocess.Popen(
                self._command, cwd=REPOSITORY, env=self._environment, stdout=log, stderr=log
            )

    def trainers(self) -> list[int]:
        return children(self.parent.pid)

    def readers(self) -> list[int]:
        return [child for trainer in self.trainers() for child in children(trainer)]

    def is_through(self) -> bool:
        """Starts it again where it has ended before its end."""
        code = self.parent.poll()
        if code is None and time.time() - self.log.stat().st_mtime > STUCK:
            raise Failed(f"{self.log} has had no line for {STUCK} seconds.")
        if code:
            self.start()
        return code == 0


def children(pid: int) -> list[int]:
    try:
        return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended meanwhile
        return []


def marked(mark: str) -> list[int]:
    """All processes that were started here, and by them."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def kill(pids: list[int], number: int = signal.SIGKILL) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


class Faults:
    """What happens to a training, in an order that chance has given."""

    def __init__(self, chance: random.Random, disk: Path | None, shortest: float, longest: float):
        """
        Args:
            disk: that OUTPUT_DIR is on, and that can be filled; None leaves that out.
            shortest, longest: seconds from one to the next.
        """
        kinds: list[Callable[[Training], str]] = [self.one, self.one, self.all, self.all]
        kinds += [self.reader, self.asked, self.parent] + ([self.full_disk] if disk else [])
        self._disk, self._chance = disk, chance
        self._kinds = self._drawn(kinds)
        self._times = shortest, longest
        self.counts: Counter[str] = Counter()
        self._wait()

    def _drawn(self, kinds: list) -> Iterator[Callable[[Training], str]]:
        while True:  # each as often as it is listed
            yield from self._chance.sample(kinds, len(kinds))

    def _wait(self) -> None:
        self._next = time.monotonic() + self._chance.uniform(*self._times)

    def may_strike(self, training: Training) -> str | None:
        """What it did; None where it is not time."""
        if time.monotonic() < self._next or len(training.trainers()) < 2:
            return None
        name = next(self._kinds)(training)
        self.counts[name] += 1
        self._wait()
        return name

    def one(self, training: Training) -> str:
        kill([self._chance.choice(training.trainers())])
        return "one training process killed"

    def all(self, training: Training) -> str:
        kill([training.parent.pid, *training.trainers(), *training.readers()])
        training.parent.wait()
        return "all processes killed, torchrun as well"

    def parent(self, training: Training) -> str:
        trainers = training.trainers()
        kill([training.parent.pid])
        until = time.monotonic() + STUCK
        while any(Path(f"/proc/{pid}").exists() for pid in trainers):
            if time.monotonic() > until:
                raise Failed(f"{trainers} go on without torchrun.")
            time.sleep(0.2)
        return "torchrun alone killed"

    def reader(self, training: Training) -> str:
        if not (readers := training.readers()):
            return self.one(training)
        kill([self._chance.choice(readers)])
        return "one reading process killed"

    def asked(self, training: Training) -> str:
        kill([training.parent.pid], signal.SIGTERM)
        return "asked to end (SIGTERM)"

    def full_disk(self, training: Training) -> str:
        """For the time of some checkpoints, with a little room or with none."""
        assert self._disk is not None
        filling = self._disk / "filling"
        room = self._chance.choice([0, 100_000])
        with open(filling, "wb") as file:
            free = shutil.disk_usage(self._disk).free
            os.posix_fallocate(file.fileno(), 0, max(1, free - room))
        until = time.monotonic() + self._chance.uniform(*self._times) / 2
        while time.monotonic() < until and training.parent.poll() is None:
            time.sleep(0.5)
        filling.unlink()
        return "the disk full for a while"


def make_dataset(folder: Path) -> None:
    """Shapes, of which four cannot be trained on, each in its own way."""
    from detr_d2.data.shapes import write_shapes

    write_shapes(folder, IMAGES)
    photographs = sorted((folder / "train").iterdir())
    maps = sorted((folder / "panoptic_train").iterdir())
    for file in (photographs[3], maps[11]):  # their headers are right
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    photographs[17].write_text("no image")
    maps[29].unlink()


def compare(undisturbed: Path, disturbed: Path) -> dict[str, int]:
    """How much of two trainings was compared; raises `Failed` where they differ."""
    import torch

    for name in ("broken_images.txt", "last_checkpoint"):
        if set(lines(undisturbed / name)) != set(lines(disturbed / name)):
            raise Failed(f"{name} differs in {disturbed}.")
    if (names := file_names(undisturbed)) != file_names(disturbed):
        raise Failed(f"{disturbed} has {file_names(disturbed)}, and not {names}.")
    tensors = 0
    for file in sorted(undisturbed.glob("*.pth")):
        ours, theirs = (
            torch.load(folder / file.name, weights_only=True) for folder in (undisturbed, disturbed)
        )
        tensors += equal(ours, theirs, file.name)
    ours, theirs = evaluations(undisturbed), evaluations(disturbed)
    if ours != theirs:
        raise Failed(f"Evaluations differ: {ours} and {theirs}.")
    return {"tensors": tensors, "evaluations": len(ours), "metrics": sum(map(len, ours.values()))}


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


def file_names(folder: Path) -> list[str]:
    """Of all that a training leaves; TensorBoard has a file for each start, named by the time."""
    files = (file for file in folder.rglob("*") if "tfevents" not in file.name)
    return sorted(str(file.relative_to(folder)) for file in files)


def equal(ours, theirs, where: str) -> int:
    """How many tensors are in two contents of checkpoints, which must be the same."""
    import torch

    if isinstance(ours, dict):
        if ours.keys() != theirs.keys():
            raise Failed(f"{where} has other keys.")
        return sum(equal(ours[key], theirs[key], f"{where}, {key}") for key in ours)
    if isinstance(ours, list | tuple):
        if len(ours) != len(theirs):
            raise Failed(f"{where} has another length.")
        return sum(equal(*pair, where) for pair in zip(ours, theirs))
    if isinstance(ours, torch.Tensor):
        if not ours.equal(theirs):
            raise Failed(f"{where} has other numbers.")
        return 1
    if ours != theirs:
        raise Failed(f"{where} is {ours} and {theirs}.")
    return 0


def evaluations(folder: Path) -> dict[int, dict[str, str]]:
    """The metrics of each evaluated iteration; the last ones, where it was done again."""
    found: dict[int, dict[str, str]] = {}
    for line in lines(folder / "metrics.json"):
        try:
            row = json.loads(line[max(0, line.rfind("{")) :])
        except json.JSONDecodeError:
            continue  # what a process that was killed has left of a line
        metrics = {name: repr(value) for name, value in row.items() if "/" in name}
        if metrics:
            found.setdefault(row["iteration"], {}).update(metrics)
    return found


def nothing_is_left(mark: str, folder: Path, shared_memory: set[str]) -> None:
    until = time.monotonic() + 30
    while (left := marked(mark)) and time.monotonic() < until:
        time.sleep(0.5)
    if left:
        raise Failed(f"Processes are left: {left}.")
    if files := [str(file) for file in folder.rglob("*") if "unfinished" in file.name]:
        raise Failed(f"Files are left: {files}.")
    if more := set(os.listdir("/dev/shm")) - shared_memory:
        raise Failed(f"Shared memory is left: {more}.")


class Clock:
    def __init__(self):
        self._start = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._start

    def say(self, what: str) -> None:
        print(f"{self.seconds():7.0f} s  {what}", flush=True)


def soak(args, folder: Path, disk: Path | None) -> dict:
    """Figures of all trainings."""
    mark = f"{os.getpid()}-{time.time_ns()}"
    environment = {
        **os.environ,
        **{MARK: mark, "OMP_NUM_THREADS": "1", "DETECTRON2_DATASETS": str(folder / "datasets")},
        **{"FVCORE_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "temporary")},
    }
    shared_memory = set(os.listdir("/dev/shm"))
    (folder / "temporary").mkdir(parents=True)
    make_dataset(folder / "datasets" / "shapes_panoptic")
    clock = Clock()
    try:
        whole = Training(folder / "undisturbed", args.iterations, environment)
        while not whole.is_through():
            if whole.starts > 1:
                raise Failed(f"The undisturbed training ended early: see {whole.log}.")
            time.sleep(1)
        undisturbed = clock.seconds()
        clock.say("The undisturbed training is through.")
        faults = Faults(random.Random(args.seed), disk, *args.every)
        figures = {"undisturbed_seconds": undisturbed, "starts": 0, "trainings": 0}
        clock = Clock()
        while clock.seconds() < 60 * args.minutes:
            name = f"disturbed_{figures['trainings']}"
            disturbed = Training((disk or folder) / name, args.iterations, environment)
            while not disturbed.is_through():
                if what := faults.may_strike(disturbed):
                    clock.say(what)
                time.sleep(0.2)
            compared = compare(whole.output, disturbed.output)
            nothing_is_left(mark, folder, shared_memory)
            clock.say(f"{name} ended as the undisturbed one, after {disturbed.starts} starts.")
            figures["trainings"] += 1
            figures["starts"] += disturbed.starts
            shutil.rmtree(disturbed.output)
    finally:
        kill(marked(mark))
        for log in disk.glob("*.log") if disk else ():
            shutil.copy(log, folder)
    return {
        **figures,
        "iterations": args.iterations,
        "seconds": clock.seconds(),
        "faults": faults.counts,
        "compared_of_each": compared,
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30, help="of disturbed training (30)")
    parser.add_argument("--iterations", type=int, default=100, help="of each training (100)")
    parser.add_argument(
        "--every",
        type=float,
        nargs=2,
        default=(60, 120),
        metavar="SECONDS",
        help="the shortest and the longest time from one fault to the next (60 120)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the faults (0)")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # with what it has started
    if MARK not in os.environ and can_have_a_disk():
        # In a place of its own, where it may mount a small disk, and shared memory, that none else
        # uses.
        os.environ[MARK] = "disk"
        os.execvp("unshare", ["unshare", "-rm", sys.executable, "-m", "tests.soak", *sys.argv[1:]])
    folder = args.output.absolute()
    folder.mkdir(parents=True)
    disk = None
    if MARK in os.environ:
        disk = folder / "disk"
        disk.mkdir()
        for size, place in ((f"{DISK}m", str(disk)), ("1g", "/dev/shm")):
            mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place]
            subprocess.run(mount, check=True)
    else:
        print("The disk is not filled: `unshare -rm` cannot mount one here.", flush=True)
    try:
        figures = soak(args, folder, disk)
    except Failed as failure:
        sys.exit(f"failed: {failure}")
    (folder / "soak.json").write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures, indent=1))


def can_have_a_disk() -> bool:
    if shutil.which("unshare") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", folder]
        return subprocess.run(mount, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    main()
