"""A tiny generator of random weights that online algorithms can teach, and a run of one that kills itself."""

import os
import signal
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from models.dit import VideoTransformer
from models.flavours import FLAVOURS, network_shape
from models.generator import Generator
from models.pretrain import fit_codec


def save(path: Path) -> Path:
    torch.manual_seed(0)
    network = VideoTransformer(network_shape(FLAVOURS["tiny"]))
    torch.nn.init.normal_(network.head.weight, std=0.1)
    Generator(network, fit_codec(FLAVOURS["tiny"], 0), {}).save(path)
    return path


def killed_before(step: int, kind: str, base: Path, out: Path, told: Sequence[str]) -> int:
    """The exit code of a process that trains by one algorithm until SIGKILL meets it before a step.

    Forked from a server that has imported everything already: what a process of its own would spend nearly all its time
    on.
    """
    forks = get_context("forkserver")
    forks.set_forkserver_preload(["alignment.reinforce"])
    child = forks.Process(target=_die, args=(step, kind, base, out, told))
    child.start()
    child.join()
    assert child.exitcode is not None
    return child.exitcode


def _die(step: int, kind: str, base: Path, out: Path, told: Sequence[str]) -> None:
    from alignment.online import Online
    from alignment.recipe import ALGORITHMS
    from alignment.reinforce import Setup
    from palate.config import load

    setup = Setup.of(kind, load(ALGORITHMS[kind].recipe, None, told), base)
    step_of = Online.__call__

    def until_killed(self: Online, now: int) -> Any:
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return step_of(self, now)

    Online.__call__ = until_killed  # type: ignore[method-assign]
    setup.run(out)
