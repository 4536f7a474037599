"""A tiny generator of random weights that online algorithms can teach, and a run of one that kills itself."""

from pathlib import Path

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


# For `python -c`: algorithm, checkpoint, folder, the step before which it dies by SIGKILL, and overrides.
KILLED = """
import os, signal, sys
from pathlib import Path
from alignment.online import Online
from alignment.recipe import ALGORITHMS
from alignment.reinforce import Setup
from palate.config import load
kind, base, out, kill, *told = sys.argv[1:]
setup = Setup.of(kind, load(ALGORITHMS[kind].recipe, None, told), Path(base))
step_of = Online.__call__
def until_killed(self, step):
    if step == int(kill):
        os.kill(os.getpid(), signal.SIGKILL)
    return step_of(self, step)
Online.__call__ = until_killed
setup.run(Path(out))
"""
