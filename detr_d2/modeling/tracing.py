"""Whether the code that runs is being recorded, to run elsewhere."""

import torch


def is_traced() -> bool:
    """Then parts go their plain way: the one that every runtime has, and that is the same code for
    every size."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()
