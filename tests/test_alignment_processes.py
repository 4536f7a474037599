"""Several processes by torchrun (gloo): the parameters of one process, equal on every rank, whole or sharded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from alignment.policy import trained
from alignment.recipe import ALGORITHMS
from alignment.reinforce import Setup
from models.generator import Generator
from palate.config import load
from palate.errors import ConfigError

TOLD = ("rollout.prompts=4", "rollout.group=3", "rollout.steps=3", "fit.steps=4", "fit.save_every=2", "updates=2")
MORE = ("trackers=[]", "show_every=0", "fit.lr=1e-3", "fit.warmup=1", "grpo.window.last=1", "grpo.kl=0.1")
PAID = ("reward.strict=0", "reward.fraction=0", "reward.visual=1", "grpo.clip=1e-3")

CHILD = """
import hashlib, os, signal, sys
from pathlib import Path
import torch
import alignment.reinforce as reinforcing
from alignment.recipe import ALGORITHMS
from alignment.reinforce import Setup
from models import fit as fitting
from models.launch import everyones, joined, rank
from models.state import whole
from palate.config import load
base, out, kind, *told = sys.argv[1:]
with joined():
    setup = Setup.of(kind, load(ALGORITHMS[kind].recipe, None, told), Path(base))
    average_of = fitting._Average.update
    def hashed(self, step):
        average_of(self, step)
        digest = hashlib.sha256()
        for p in self.trained:
            digest.update(whole(p.detach()).numpy().tobytes())
        found = everyones(digest.hexdigest())
        assert len(found) == 2 and len(set(found)) == 1, (step, found)
        if os.environ.get("KILLED_AT") == str(step):
            os.kill(os.getpid(), signal.SIGKILL)
    fitting._Average.update = hashed
    setup.run(Path(out))
"""


def told(kind: str) -> list[str]:
    return [one for one in (*TOLD, *MORE, *PAID) if not one.startswith("grpo") or kind == "grpo"]


def torchrun(base: Path, out: Path, kind: str, *more: str, killed: bool = False) -> None:
    script = out.with_suffix(".py")
    script.write_text(CHILD)
    launch = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command = [*launch, str(script), str(base), str(out), kind, *told(kind), *more]
    child = subprocess.run(command, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, check=False)
    assert (child.returncode != 0) == killed, child.stderr.decode()[-3000:]


def parameters(path: Path) -> Tensor:
    """Of what was taught: the network, or the guide in its stead."""
    generator = Generator.load(path / "generator.safetensors")
    return torch.cat([p.flatten() for p in (generator.guide or generator.network).parameters()])


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("grpo", ()),
        pytest.param("grpo", ("generator.shard=true",), marks=pytest.mark.slow),
        pytest.param("awm", ("generator.shard=true", "rollout.batch=2"), marks=pytest.mark.slow),
        pytest.param("nft", (), marks=pytest.mark.slow),
        pytest.param("rwr", ("generator.shard=true",), marks=pytest.mark.slow),
        pytest.param("sft", (), marks=pytest.mark.slow),
        pytest.param("online-dpo", (), marks=pytest.mark.slow),
        pytest.param("nrg", (), marks=pytest.mark.slow),
    ],
)
def test_two_processes_learn_what_one_learns(base: Path, tmp_path: Path, kind: str, more: tuple[str, ...]) -> None:
    """Every rank's weights are hashed after each step by the child itself."""
    alone = Setup.of(kind, load(ALGORITHMS[kind].recipe, None, told(kind)), base)
    start = torch.cat([p.detach().flatten() for p in trained(alone.learner)])
    alone.run(tmp_path / "one")
    torchrun(base, tmp_path / "two", kind, *more)
    one, two = (parameters(tmp_path / name) for name in ("one", "two"))
    assert (one - start).abs().max() > 1e-4
    assert (two - one).norm() < 2e-3 * (one - start).norm()


@pytest.mark.slow
def test_a_sharded_run_goes_on_where_it_was_bit_for_bit(base: Path, tmp_path: Path) -> None:
    """Also as one of whole weights, to rounding: a state is the same file for any number of processes."""
    torchrun(base, tmp_path / "whole", "awm", "generator.shard=true")
    os.environ["KILLED_AT"] = "3"
    try:
        torchrun(base, tmp_path / "broken", "awm", "generator.shard=true", killed=True)
    finally:
        del os.environ["KILLED_AT"]
    assert torch.load(tmp_path / "broken" / "state.pt", weights_only=True)["step"] == 2
    torchrun(base, tmp_path / "broken", "awm", "generator.shard=true")
    assert torch.equal(parameters(tmp_path / "broken"), parameters(tmp_path / "whole"))


def test_what_cannot_be_shared_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignment.recipe.world", lambda: 3)
    with pytest.raises(ConfigError, match=r"rollout.prompts \(4\) must be a multiple of updates \(2\) times.*\(3\)"):
        load(ALGORITHMS["awm"].recipe, None, TOLD)
    with pytest.raises(ConfigError, match="cannot be sharded"):
        load(ALGORITHMS["sft"].recipe, None, ("rollout.prompts=6", "generator.shard=true"))
