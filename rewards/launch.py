"""Several processes on one run, as `torchrun` starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed as dist


@contextmanager
def joined() -> Iterator[None]:
    """Joins the processes that torchrun started, NCCL on GPUs and gloo else; alone without torchrun."""
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def first_process() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0
