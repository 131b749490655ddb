"""Several processes: on GPUs or processors, started by Detectron2 or by `torchrun`."""

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

import torch
import torch.distributed
from detectron2.engine import launch
from detectron2.utils import comm
from torch import nn
from torch.distributed import PrefixStore
from torch.multiprocessing import ProcessExitedException
from torch.nn.parallel import DistributedDataParallel

from ..data.files import full_disk_named
from ..data.training_loader import PREEMPTION
from ..errors import UserError
from .preemption import exchange_handlers

_PATIENCE = 2  # seconds
# What gloo and NCCL say of a process that is gone.
_LOST = ("closed by peer", "reset by peer", "Broken pipe", "remote process exited")


def run_on_processes(work: Callable, args, count: int) -> None:
    """Run `work(args)` on the processes that the command line asks for.

    Those that `torchrun` has started, this one among them, are taken as they are. Of several, one
    that ends with a `UserError` says its sentence and ends the others.

    Args:
        args: with Detectron2's num_machines, machine_rank and dist_url.
        count: of processes on this machine.
    """
    if not is_torchrun():
        _start(work, args, count)
        return
    if count > 1 or args.num_machines > 1:
        _let_the_first_speak(int(os.environ["RANK"]))
        raise UserError(
            "torchrun starts the processes itself: give --nproc-per-node and --nnodes to torchrun, "
            "and neither --num-gpus nor --num-machines to this command."
        )
    _join()
    _work_or_say_why_not(work, args)
    torch.distributed.destroy_process_group()


def is_torchrun() -> bool:
    """Whether `torchrun` has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _start(work: Callable, args, count: int) -> None:
    before = exchange_handlers(dict.fromkeys(PREEMPTION, _pass_on) if count > 1 else {})
    try:
        launch(
            _work_or_say_why_not,
            count,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(work, args),
        )
    except ProcessExitedException as error:
        if error.signal_name is not None:
            raise UserError(
                f"One of the processes was ended by {error.signal_name}, SIGKILL often for want of "
                "memory: see the system's log."
            ) from error
        sys.exit(error.exit_code)  # it has said why
    finally:
        exchange_handlers(before)


def _pass_on(number: int, _) -> None:
    """A signal, to the processes that were started."""
    for process in multiprocessing.active_children():
        if process.pid is not None:
            os.kill(process.pid, number)


def _work_or_say_why_not(work: Callable, args) -> None:
    try:
        with full_disk_named():
            work(args)
    except Exception as error:
        if comm.get_world_size() == 1:
            raise
        _let_the_first_speak(comm.get_rank())
        if isinstance(error, UserError):
            print(f"error: {error}", file=sys.stderr, flush=True)
        elif is_of_another_process(error):
            print("Another process has ended, and this one with it.", file=sys.stderr, flush=True)
        else:
            traceback.print_exc()
        # Python's own end would wait for the other processes.
        os._exit(1)


def _let_the_first_speak(rank: int) -> None:
    """What all processes find out, the first one says, and the others are ended meanwhile."""
    time.sleep(_PATIENCE * (rank > 0))


def is_of_another_process(error: BaseException | None) -> bool:
    """Whether PyTorch raised it for one that has ended while this one waited for it."""
    several = comm.get_world_size() > 1
    lost = any(words in str(error) for words in _LOST)
    return several and isinstance(error, RuntimeError) and lost


def _join() -> None:
    """The group of processes that `torchrun` describes in the environment."""
    # As those have it that PyTorch spawns: where torchrun itself is killed, Linux asks to end.
    torch.multiprocessing._prctl_pr_set_pdeathsig(signal.SIGTERM)  # type: ignore[attr-defined]
    if int(os.environ["LOCAL_RANK"]) < torch.cuda.device_count():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank, size = next(torch.distributed.rendezvous("env://"))
    if os.environ["LOCAL_WORLD_SIZE"] == os.environ["WORLD_SIZE"]:
        # After a restart, torchrun's store still has the addresses of the processes before. On
        # several machines, the count is not the same everywhere.
        store = PrefixStore(f"start {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    comm.synchronize()  # none begins, and ends, before all are there


def take_buffers_of_the_first(model: nn.Module) -> None:
    """Let all processes have the buffers that the first one has, as statistics of batch norm."""
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)


def distributed(model: nn.Module) -> nn.Module:
    """The model, its gradients averaged over the processes where there are several.

    Detectron2's `create_ddp_model` is for GPUs alone.
    """
    if comm.get_world_size() == 1:
        return model
    on_gpu = next(model.parameters()).is_cuda
    return DistributedDataParallel(
        model, device_ids=[comm.get_local_rank()] if on_gpu else None, broadcast_buffers=False
    )
