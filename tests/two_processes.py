"""Work on two processes that speak with each other through gloo."""

import os
import socket

import torch
import torch.multiprocessing as mp


def on_two_processes(work, *arguments) -> list:
    """Run `work(rank, *arguments)` on each of two; gives what they return, by rank."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    queue = mp.get_context("spawn").SimpleQueue()
    processes = mp.spawn(_run, (port, queue, work, arguments), nprocs=2, join=False)
    found = {}
    ended = False
    while not ended:
        ended = processes.join(timeout=0.1)
        while not queue.empty():  # what is too long for a pipe is waited for
            rank, value = queue.get()
            found[rank] = value
    return [found[rank] for rank in range(2)]


def _run(rank: int, port: int, queue, work, arguments) -> None:
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", address, rank=rank, world_size=2)
    queue.put((rank, work(rank, *arguments)))
    torch.distributed.barrier()  # neither leaves while the other still speaks
    torch.distributed.destroy_process_group()
    # What is left of an interpreter's end can abort in threads of gloo, after all work is done.
    os._exit(0)
