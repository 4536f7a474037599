"""Several processes on one run, as `torchrun` starts them: who they are, and all that they tell each other.

Replicas average their gradients once, after the backward pass, in one message. DistributedDataParallel would send them
during it, but wants exactly one forward pass before each backward pass and every weight used; a step here evaluates its
network several times, and of two networks (Wan 2.2) a step may use one. What is sharded (FSDP2) averages its own.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from palate.errors import PalateError

T = TypeVar("T")

MOMENT = 0.1  # seconds; gloo's threads need microseconds, and the interpreter's lock


class OutOfStepError(PalateError):
    """Processes of one run whose weights are no longer the same."""


@contextmanager
def joined() -> Iterator[None]:
    """Joins the processes that torchrun started, NCCL for what lies on GPUs and gloo else; alone without torchrun.

    They leave together, when the last has written what it writes, and a moment later. A device mesh keeps the group
    alive after it is destroyed; a thread of gloo's that still lets go of its last message while Python ends would abort
    the process, and with it a run that is over and well.
    """
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
        dist.barrier()
        time.sleep(MOMENT)
    finally:
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def first_process() -> bool:
    return rank() == 0


def wait() -> None:
    """Until all processes are here."""
    if world() > 1:
        dist.barrier()


def gathered(own: Tensor) -> Tensor:
    """(processes, ...): everybody's tensor, all of one shape, in order of rank."""
    if world() == 1:
        return own[None]
    parts = [torch.empty_like(own) for _ in range(world())]
    dist.all_gather(parts, own.contiguous())
    return torch.stack(parts)


def everyones(own: T) -> list[T]:
    """What every process says, in order of rank; anything small that pickles."""
    said: list[T] = [own] * world()
    if world() > 1:
        dist.all_gather_object(said, own)
    return said


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Means over processes, in place; a process without a gradient counts as zero, unless nobody has one."""
    if world() == 1:
        return
    own = [p for p in parameters if p.requires_grad and not isinstance(p, DTensor)]
    if not own:
        return
    known = torch.tensor([p.grad is not None for p in own], dtype=torch.float32, device=own[0].device)
    message = torch.cat([known, *((torch.zeros_like(p) if p.grad is None else p.grad).float().flatten() for p in own)])
    dist.all_reduce(message)
    counts, *gradients = message.split([len(own), *(p.numel() for p in own)])
    for p, count, gradient in zip(own, counts.tolist(), gradients):
        p.grad = (gradient / world()).view_as(p).to(p.dtype) if count else None


def check_same(parameters: Iterable[nn.Parameter], step: int) -> None:
    """Raises OutOfStepError where replicas' weights differ: a run that goes on so learns nothing that is anybody's."""
    if world() == 1:
        return
    sums = [p.detach().double().square().sum() for p in parameters if not isinstance(p, DTensor)]
    if sums and not bool((found := gathered(torch.stack(sums))).eq(found[0]).all()):
        raise OutOfStepError(
            f"after step {step} the weights of {world()} processes differ", "use one build of torch on one kind of GPU"
        )


def shard(network: nn.Module) -> nn.Module:
    """FSDP2, block by block, in place. Beside frozen weights what is trained is small, and stays whole.

    Nothing is kept gathered between a forward pass and the next, so that weights may be replaced in between.
    """
    trained = {p for p in network.parameters() if p.requires_grad}
    kept = trained if len(trained) < sum(1 for _ in network.parameters()) else set()
    for one in network if isinstance(network, nn.ModuleList) else [network]:
        blocks = [block for part in one.children() if isinstance(part, nn.ModuleList) for block in part]
        for part in (*blocks, one):
            fully_shard(part, reshard_after_forward=True, ignored_params=kept)
    return network
