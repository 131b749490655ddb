"""How things are computed: in which precision, while they are recorded, and how many together."""

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 stay as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def is_traced() -> bool:
    """Whether the code that runs is being recorded, to run elsewhere.

    Then parts go their plain way: the one that every runtime has, and that is the same code for
    every size.
    """
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


def infer_by_size(
    infer: Callable[[list[dict]], list[dict]], batched_inputs: list[dict]
) -> list[dict]:
    """Results of each image, which do not depend on the others of the batch.

    Only images of one size share a forward pass: convolutions and GroupNorm see padding, so
    results of padded images would depend on their neighbours.

    Args:
        infer: gives the results of inputs whose `image` are of one size, in order.
        batched_inputs: of each image `image`, (3, height, width).
    """
    indices_of_size = defaultdict(list)
    for index, x in enumerate(batched_inputs):
        indices_of_size[tuple(x["image"].shape[-2:])].append(index)
    results: list[dict] = [{} for _ in batched_inputs]
    for indices in indices_of_size.values():
        group = infer([batched_inputs[index] for index in indices])
        for index, result in zip(indices, group):
            results[index] = result
    return results
