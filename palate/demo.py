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

import click

from palate.cli import palate as command
from palate.config import Settings
from palate.errors import PalateError
from palate.gsb import Contest, contests
from palate.records import Figure
from palate.report import figures, score_difference, score_figure
from palate.report_text import table
from palate.stats.wins import Form
from palate.store import Store

SUITE, SCORER = "shapes", "shapes.strict"
# Evaluations of the network, a backward pass counted as two.
A_ROLLOUT = 20  # ten denoise steps, each with and without the caption
A_PAIR = 8  # policy forward and backward and reference forward, for winner and loser
A_CLIP = 3  # forward and backward


class DemoRecipe(Settings):
    """How large the demo is. `seeds` samples of each of `prompts` training prompts meet in a knockout."""

    seed: int = 0
    cases: int = 384  # held-out cases that every system answers
    prompts: int = 160
    seeds: int = 8
    people: int = 12
    overlap: int = 3  # people who judge one comparison
    contrasts: int = 3  # pairs to learn from, a prompt
    steps: int = 240
    batch: int = 16  # pairs
    workers: int = 2


@dataclass(frozen=True)
class Loop:
    """The demo's commands, each a method; all can be called again."""

    recipe: DemoRecipe
    folder: Path
    store: str

    def answers(self, system: str, split: str, count: int, seeds: int = 1, checkpoint: Path | None = None) -> None:
        which = ["--checkpoint", str(checkpoint)] if checkpoint else []
        amount = ["--split", split, "--cases", str(count), "--seeds", str(seeds), "--workers", str(self.recipe.workers)]
        self._run("bench", "run", SUITE, "--system", system, *amount, "--seed", str(self.recipe.seed), *which)

    def knockout(self, study: str) -> None:
        """Rounds of comparisons among the base's samples, each judged before the next, and the preferences."""
        people = (f"people={self.recipe.people}", f"overlap={self.recipe.overlap}", f"seed={self.recipe.seed}")
        for _ in range((self.recipe.seeds - 1).bit_length()):
            asked = ("--overlap", str(self.recipe.overlap), "--seed", str(self.recipe.seed))
            self._run("annotate", "knockout", "--study", study, "--system", "base", "--suite", SUITE, *asked)
            self._run("annotate", "simulate", "--study", study, *people)
        self._run("annotate", "prefer", "--study", study, "--contrasts", str(self.recipe.contrasts))

    def align_beside_control(self, study: str) -> None:
        """DPO on the preferences; beside it the same compute, rollouts included, on more pretraining."""
        told = self.recipe
        aligned = ("align", "dpo", "--study", study, f"fit.steps={told.steps}", f"dpo.batch={told.batch}")
        compute = told.prompts * told.seeds * A_ROLLOUT + told.steps * told.batch * A_PAIR
        going_on = ("start=shipped", "fit.optimiser=adamw", "fit.lr=1e-4", "fit.ema=0.95", "fit.save_every=50")
        control = ("model", "pretrain", f"fit.steps={compute // (32 * A_CLIP)}", "batch=32", *going_on)
        together = [
            self._start(*work, "--out", str(self.folder / name), f"seed={self.recipe.seed}")
            for name, work in (("aligned", aligned), ("control", control))
        ]
        codes = [process.wait() for process in together]
        if any(codes):
            raise PalateError("training stopped", "see the line above; run `palate demo` again to go on")

    def examine(self, system: str) -> None:
        """Blind comparisons of a system with the base on the held-out cases."""
        study = f"{system} against base"
        names = ("--candidate", system, "--baseline", "base", "--suite", SUITE, "--repeat", "0")
        self._run("annotate", "plan", "--study", study, *names, "--seed", str(self.recipe.seed))
        people = (f"people={self.recipe.people}", f"overlap={self.recipe.overlap}", f"seed={self.recipe.seed + 1}")
        self._run("annotate", "simulate", "--study", study, *people)

    def _run(self, *arguments: str) -> None:
        click.secho(f"$ palate {_shell(arguments)}", dim=True)
        command.main([*arguments, "--store", self.store], prog_name="palate", standalone_mode=False)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """In a process of one thread, so that two can run side by side and give the same numbers on any machine."""
        click.secho(f"$ palate {_shell(arguments)} &", dim=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-m", "palate", *arguments, "--store", self.store], env=environment)


def demo(recipe: DemoRecipe, folder: Path) -> dict[str, object]:
    """Runs the loop in `folder`, writes `summary.json` there and returns it."""
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    store = str(folder / "palate.db")
    loop = Loop(recipe, folder, store)
    loop.answers("base", "heldout", recipe.cases)
    loop.answers("base", "train", recipe.prompts, recipe.seeds)
    loop.knockout("taste")
    loop.align_beside_control("taste")
    for system in ("aligned", "control"):
        loop.answers(system, "heldout", recipe.cases, checkpoint=folder / system / "generator.safetensors")
        loop.examine(system)
    with Store(store) as record:
        found = Findings.read(record)
    click.echo(f"\n{found.text()}\n")
    summary = {**found.summary(), "seconds": round(time.monotonic() - began, 1), "store": store}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    click.echo(
        f"{summary['seconds']} s. Summary: {folder / 'summary.json'}. Any id above: palate trace ID --store {store}"
    )
    return summary


@dataclass(frozen=True)
class Findings:
    """What the demo found: verifier scores by system, their paired gain over the base, and the blind contests."""

    verifier: dict[str, Figure]
    gain: dict[str, Figure]
    contests: list[Contest]
    gsb: dict[tuple[str, str, str], Figure]  # system, axis, form

    @classmethod
    def read(cls, record: Store) -> "Findings":
        """Computes the figures from the store and keeps them there, so that each can be traced."""
        systems = ("base", "control", "aligned")
        verifier = {one: score_figure(record, SCORER, one, SUITE, "heldout") for one in systems}
        gain = {one: score_difference(record, SCORER, one, "base", SUITE, "heldout") for one in systems[1:]}
        held: list[Contest] = []
        gsb: dict[tuple[str, str, str], Figure] = {}
        for system in systems[1:]:
            study = f"{system} against base"
            pairs = contests(record.votes(study=study), "pooled", system, "base")
            shown = figures(pairs, [], [], {"study": study})
            gsb |= {(system, axis_of(one), form_of(one)): one for one in shown}
            held += pairs
        record.add([*verifier.values(), *gain.values(), *gsb.values()])
        return cls(verifier, gain, held, gsb)

    def summary(self) -> dict[str, object]:
        return {
            "simulated": True,
            "verifier": {name: _estimate(figure) for name, figure in self.verifier.items()},
            "verifier_gain": {name: _estimate(figure) for name, figure in self.gain.items()},
            "gsb": {one.basis.axis: self._contest(one) for one in self.contests if one.candidate == "aligned"},
            "gsb_control": {one.basis.axis: self._contest(one) for one in self.contests if one.candidate == "control"},
        }

    def text(self) -> str:
        asked = self.verifier["base"].estimate.n
        rows = [
            [name, _share(figure), _share(self.gain[name]) if name in self.gain else "", figure.id]
            for name, figure in self.verifier.items()
        ]
        blind = [
            [one.candidate, one.basis.axis, *(str(n) for n in (one.good, one.same, one.bad)), *self._forms(one)]
            for one in self.contests
        ]
        forms = ["ratio (G+S)/(B+S)", "net (G-B)/N", "figure of the ratio"]
        return "\n\n".join(
            (
                f"All of the caption right, by program, on {asked} held-out cases",
                table(["system", "strict", "gain over base", "figure"], rows),
                "Blind comparisons with the base, by SIMULATED people (no person voted)",
                table(["candidate", "axis", "G", "S", "B", *forms], blind),
                "Intervals are 95%; of blind comparisons they treat prompts and annotators as samples.",
            )
        )

    def _forms(self, one: Contest) -> list[str]:
        ratio = self.gsb[one.candidate, one.basis.axis, Form.RATIO]
        net = self.gsb[one.candidate, one.basis.axis, Form.NET]
        return [_plain(ratio), _plain(net), ratio.id]

    def _contest(self, one: Contest) -> dict[str, object]:
        ratio = self.gsb[one.candidate, one.basis.axis, Form.RATIO]
        seen = {"good": one.good, "same": one.same, "bad": one.bad, "ratio": ratio.estimate.value}
        return {**seen, "ratio_low": ratio.estimate.low, "ratio_high": ratio.estimate.high, "figure": ratio.id}


def axis_of(figure: Figure) -> str:
    return str(figure.selection["axis"])


def form_of(figure: Figure) -> str:
    return figure.name.rpartition(".")[2]


def _estimate(figure: Figure) -> dict[str, object]:
    found = figure.estimate
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n, "figure": figure.id}


def _plain(figure: Figure) -> str:
    found = figure.estimate
    return " ".join((_number(found.value), f"[{_number(found.low)}, {_number(found.high)}]"))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _share(figure: Figure) -> str:
    found = figure.estimate
    value, low, high = ("–" if x is None else f"{100 * x:.1f}" for x in (found.value, found.low, found.high))
    return f"{value}% [{low}, {high}]"


def _shell(arguments: Sequence[str]) -> str:
    return " ".join(f"'{one}'" if " " in one else one for one in arguments)
