"""The loop on this machine: nothing but the commands of the README, in order, and a table at the end.

Every command can be stopped and run again, and so can the demo: what is done is found in the store and in the run
folders, and is not done again. No stage is imported here; the commands are called as a person would call them.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import click

from palate.cli import palate as command
from palate.config import Settings
from palate.demo.findings import Findings
from palate.errors import PalateError
from palate.store import Store

SUITE = "shapes"
# Evaluations of the network, a backward pass counted as two.
A_ROLLOUT = 8  # denoise steps, without guidance
A_PAIR = 12  # policy forward and backward and reference forward, for winner and loser and to hold the winner
A_CLIP = 3  # forward and backward

# What is learned after the loop, for the dashboards: small, as its intervals tell.
REWARD = ("prompts=12", "every=25", "patience=3", "fit.steps=150", "fit.warmup=10")
SWEEP = ("clips=[250,500,1000,2000]", "target=[64,2,3000]", "held_out=500")


class DemoRecipe(Settings):
    """How large the demo is. `seeds` samples of each of `prompts` training prompts meet in a knockout."""

    seed: int = 0
    cases: int = 384  # held-out cases that every system answers ...
    answers: int = 3  # ... so many times
    prompts: int = 680
    seeds: int = 4
    people: int = 24
    lessons: int = 11  # people who judge a comparison to learn from; what few votes cannot tell apart teaches noise
    overlap: int = 8  # people who judge any other
    judges: Literal["simulated", "label-studio"] = "simulated"  # or whoever signs up at the link that is shown
    port: int = 8080  # where they do
    contrasts: int = 3  # pairs to learn from, a prompt
    margin: float = 0.35  # smallest lead of a winner, as a share of the votes
    steps: int = 228
    batch: int = 16
    workers: int = 2
    more: bool = True  # after the loop: a reward of what people said, examined, and how loss falls with size and data


@dataclass(frozen=True)
class Loop:
    """The demo's commands, each a method; all can be called again."""

    recipe: DemoRecipe
    folder: Path
    store: str

    def answers(self, system: str, split: str, count: int, seeds: int = 1, checkpoint: Path | None = None) -> None:
        which = f"{system}={checkpoint}" if checkpoint else system
        amount = ["--split", split, "--cases", str(count), "--seeds", str(seeds), "--workers", str(self.recipe.workers)]
        self._run("bench", "run", SUITE, "--system", which, *amount, "--seed", str(self.recipe.seed))

    def knockout(self, study: str) -> None:
        """Rounds of comparisons among the base's samples, each judged before the next, and the preferences."""
        for _ in range((self.recipe.seeds - 1).bit_length()):
            asked = ("--overlap", str(self.recipe.lessons), "--seed", str(self.recipe.seed))
            self._run("annotate", "knockout", "--study", study, "--system", "base", "--suite", SUITE, *asked)
            self.judge(study, self.recipe.seed, self.recipe.lessons)
        kept = ("--contrasts", str(self.recipe.contrasts), "--margin", str(self.recipe.margin))
        self._run("annotate", "prefer", "--study", study, *kept)

    def control(self) -> subprocess.Popen[bytes]:
        """Starts, beside everything else, what the loop is measured against: the aligned model's compute, rollouts
        included, spent on more pretraining."""
        told = self.recipe
        compute = told.prompts * told.seeds * A_ROLLOUT + told.steps * told.batch * A_PAIR
        steps = ("batch=32", f"fit.steps={compute // (32 * A_CLIP)}")
        going_on = ("start=shipped", "fit.optimiser=adamw", "fit.lr=3e-4", "fit.ema=0.95", "fit.save_every=50")
        log = self.folder / "control.log"
        with log.open("wb") as file:
            process = self._start("model", "pretrain", *steps, *going_on, *self._trained("control"), output=file)
        os.setpriority(os.PRIO_PROCESS, process.pid, 5)  # nobody waits for it before the aligned model is examined
        return process

    def align(self, study: str) -> None:
        """DPO on the preferences."""
        told = self.recipe
        amounts = (f"fit.steps={told.steps}", f"dpo.batch={told.batch}")
        _finish(
            self._start("align", "dpo", "--study", study, *amounts, *self._trained("aligned")), "see the line above"
        )

    def _trained(self, system: str) -> tuple[str, ...]:
        return "--out", str(self.folder / system), f"seed={self.recipe.seed}"

    def examine(self, system: str) -> None:
        """Asks a trained system the held-out cases, and people to compare its answers with the base's, blind."""
        checkpoint = self.folder / system / "generator.safetensors"
        self.answers(system, "heldout", self.recipe.cases, self.recipe.answers, checkpoint)
        study = f"{system} against base"
        names = ("--candidate", system, "--baseline", "base", "--suite", SUITE, "--repeat", "0")
        self._run("annotate", "plan", "--study", study, *names, "--seed", str(self.recipe.seed))
        self.judge(study, self.recipe.seed + 1, self.recipe.overlap)

    def more(self, study: str, held_out: str) -> None:
        """What the loop does not need and its dashboards show: a reward of a study, examined on another; a scaling law;
        and whether the verifier's scores are what people prefer."""
        with (self.folder / "reward.log").open("wb") as log, (self.folder / "sweep.log").open("wb") as other:
            told = ("--study", study, *self._trained("reward"), *REWARD)
            reward = self._start("reward", "train", *told, output=log)
            told = ("--processes", "1", *self._trained("sweep"), *SWEEP)
            sweep = self._start("scaling", "sweep", *told, output=other)
        self._run("report", "metrics")
        _finish(reward, f"see {log.name}")
        checkpoint = self.folder / "reward" / "reward.safetensors"
        self._run("reward", "audit", "--reward", str(checkpoint), "--study", held_out)
        _finish(sweep, f"see {other.name}")

    def judge(self, study: str, seed: int, overlap: int) -> None:
        """Has whoever judges answer what is not answered yet of a study."""
        if self.recipe.judges == "label-studio":
            at = ("--study", study, "--url", f"http://127.0.0.1:{self.recipe.port}")
            self._run("annotate", "push", *at, "--overlap", str(overlap))
            self._run("annotate", "watch", *at, "--until-done")
        else:
            people = (f"people={self.recipe.people}", f"overlap={overlap}", f"seed={seed}")
            self._run("annotate", "simulate", "--study", study, *people)

    def _run(self, *arguments: str) -> None:
        click.secho(f"$ palate {_shell(arguments)}", dim=True)
        command.main([*arguments, "--store", self.store], prog_name="palate", standalone_mode=False)

    def _start(self, *arguments: str, output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
        """In a process of one thread, so that two can run side by side and give the same numbers on any machine."""
        click.secho(f"$ palate {_shell(arguments)}{f' > {output.name} &' if output else ''}", dim=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "palate", *arguments, "--store", self.store]
        return subprocess.Popen(command, env=environment, stdout=output, stderr=output)


def _finish(process: subprocess.Popen[bytes], where: str) -> None:
    if process.wait():
        raise PalateError("training stopped", f"{where}; run `palate demo` again to go on")


def demo(recipe: DemoRecipe, folder: Path) -> dict[str, object]:
    """Runs the loop in `folder`, writes `summary.json` there and returns it."""
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    store = str(folder / "palate.db")
    loop = Loop(recipe, folder, store)
    control = loop.control()
    loop.answers("base", "heldout", recipe.cases, recipe.answers)
    loop.answers("base", "train", recipe.prompts, recipe.seeds)
    loop.knockout("taste")
    loop.align("taste")
    loop.examine("aligned")
    _finish(control, f"see {folder / 'control.log'}")
    loop.examine("control")
    with Store(store) as record:
        found = Findings.read(record, SUITE)
    click.echo(f"\n{found.text()}\n")
    summary = {**found.summary(), "seconds": round(time.monotonic() - began, 1), "store": store}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    click.echo(
        f"{summary['seconds']} s. Summary: {folder / 'summary.json'}. Any id above: palate trace ID --store {store}"
    )
    if recipe.more:
        click.echo(
            "The loop is done; what follows is for the dashboards' pages on rewards and scaling, and can be left out."
        )
        loop.more("taste", "aligned against base")
    click.echo(f"To look at what it did, with its videos: palate dash --store {store}")
    return summary


def _shell(arguments: Sequence[str]) -> str:
    return " ".join(f"'{one}'" if " " in one else one for one in arguments)
