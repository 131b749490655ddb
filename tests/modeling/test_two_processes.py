"""What depends on the number of processes, on two of them."""

import socket

import torch
import torch.multiprocessing as mp

from detr_d2.modeling.criterion import number_of_targets
from detr_d2.modeling.matcher import Targets

CASES = [([3, 6], 4.5), ([0, 1], 1.0)]  # targets of each process; their mean, at least 1


def count(rank: int, port: int, queue) -> None:
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", address, rank=rank, world_size=2)
    for sizes, _ in CASES:
        labels = torch.zeros(sizes[rank], dtype=torch.int64)
        queue.put((sizes, number_of_targets([Targets(labels, torch.zeros(sizes[rank], 4))], "cpu")))
    torch.distributed.destroy_process_group()


def test_the_number_of_targets_is_the_mean_over_processes_and_at_least_one():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    queue = mp.get_context("spawn").SimpleQueue()
    mp.spawn(count, (port, queue), nprocs=2)
    counted = [queue.get() for _ in range(2 * len(CASES))]
    assert all(case in counted and counted.count(case) == 2 for case in CASES)
