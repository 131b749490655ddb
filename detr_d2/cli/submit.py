"""Submit a training to SLURM, which goes on where it was when the machine was taken away."""

import argparse
import re

from ..engine.slurm import TrainingJob, executor
from ..engine.tools import positive_int
from ..errors import UserError


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Behind --, the command and its options, as `-- train --config-file C.yaml "
        "OUTPUT_DIR output/mine`; --resume is added. Before the machine is taken away, or "
        "the time is over, a checkpoint is written and the job queued again.",
    )
    parser.add_argument("--partition", help="of SLURM; without it, the cluster's default")
    parser.add_argument("--nodes", type=positive_int, default=1, help="machines")
    parser.add_argument("--gpus", type=int, default=1, help="of each machine; 0 trains on the CPU")
    parser.add_argument(
        "--processes", type=positive_int, help="of each machine; without it, one for each GPU"
    )
    parser.add_argument(
        "--cpus-per-process", type=positive_int, default=8, help="for training and reading images"
    )
    parser.add_argument("--memory", type=positive_int, help="GB of each machine")
    parser.add_argument(
        "--time",
        type=_minutes,
        default="24:00:00",
        help="of the job until it is queued again, H:MM:SS or minutes (24:00:00)",
    )
    parser.add_argument(
        "--signal-before",
        type=positive_int,
        default=120,
        help="seconds before the end of the time in which a checkpoint is written (120)",
    )
    parser.add_argument("--name", default="detr_d2", help="of the job")
    parser.add_argument("--folder", default="output/jobs", help="of the processes' output")
    parser.add_argument(
        "--local", action="store_true", help="on this machine, without SLURM, to try it"
    )
    parser.add_argument("command", choices=["train"], help="what is submitted")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the command")
    args = parser.parse_args()
    job = _submit(args)
    print(f"Job {job.job_id} is submitted; its output is in {job.paths.stdout}")
    if args.local:
        job.results()  # a process of this one, which ends with it


def _submit(args):
    if "--num-gpus" in args.arguments or "--num-machines" in args.arguments:
        raise UserError(
            "The job starts one process a GPU: give --gpus and --nodes before the command, "
            "in place of --num-gpus and --num-machines behind it."
        )
    parameters = {
        "name": args.name,
        "timeout_min": args.time,
        "tasks_per_node": args.processes or max(1, args.gpus),
        "gpus_per_node": args.gpus,
    }
    if not args.local:
        parameters |= {
            "nodes": args.nodes,
            "cpus_per_task": args.cpus_per_process,
            "slurm_signal_delay_s": args.signal_before,
            **({"mem_gb": args.memory} if args.memory else {}),
            **({"slurm_partition": args.partition} if args.partition else {}),
        }
    elif args.nodes > 1:
        raise UserError("--local is of this machine alone: leave --nodes out.")
    job = TrainingJob(args.command, ["--resume", *args.arguments])
    return executor(args.folder, parameters, args.local).submit(job)


def _minutes(text: str) -> int:
    """A type for `argparse`: minutes, or H:MM:SS."""
    if text.isdecimal():
        return int(text)
    found = re.fullmatch(r"(\d+):([0-5]\d):([0-5]\d)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text} is neither minutes nor H:MM:SS")
    hours, minutes, seconds = map(int, found.groups())
    return 60 * hours + minutes + (seconds > 0)
