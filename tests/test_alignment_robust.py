"""What a run meets: a kill, a full disk, a dead reward server, a reward that is hacked; and that it goes on after."""

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from gaussian_policy import GaussianPolicy, near, online
from tiny_generator import killed_before

from alignment.algorithms.awm import Awm, AwmSettings
from alignment.algorithms.grpo import OffPolicyError
from alignment.cli import align
from alignment.lookout import HackedError
from alignment.recipe import ALGORITHMS
from alignment.reinforce import Setup, reinforce
from alignment.rollout import RolloutSettings
from alignment.runs import begun, telling_how_to_go_on
from alignment.runs_cli import runs
from alignment.scoring import NoRewardError
from models.fit import StoppedError
from models.generator import Generator
from models.journal import read
from palate.config import load
from palate.errors import ConfigError, FileError, PalateError
from palate.records import Curve, Run
from palate.store import Store
from rewards.remote import RewardServerError
from rewards.reward import Scored, Unit
from rewards.wire import Column, Reply, unpacked

ROUNDS = ("rollout.prompts=2", "rollout.group=3", "rollout.steps=3", "fit.steps=6", "fit.save_every=2", "updates=2")
TOLD = (*ROUNDS, "trackers=[]", "show_every=0")


class Server(ThreadingHTTPServer):
    """Pays each clip its mean brightness, and does not know what to say of prompts with "blue"; dead when told."""

    dead = False
    asked = 0


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Server = self.server  # type: ignore[assignment]
        server.asked += 1
        answers = unpacked(self.rfile.read(int(self.headers["content-length"])))
        paid = ["blue is beyond me" if "blue" in one.prompt else float(one.frames.mean()) / 255 for one in answers]
        said = Reply(columns=(Column.of(Scored.of("brightness", Unit.SHARE, paid)),)).model_dump_json().encode()
        self.send_response(500 if server.dead else 200)
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served
    served.shutdown()
    served.server_close()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def test_a_run_whose_reward_server_dies_says_how_to_go_on_and_goes_on_bit_for_bit(
    server: Server, base: Path, tmp_path: Path
) -> None:
    prompts, store = tmp_path / "prompts.txt", str(tmp_path / "r.db")
    prompts.write_text("a red circle stays\na green square stays\n")
    line = f'{{kind="remote", url="{url(server)}", tries=1, columns={{brightness="share"}}}}'
    paid = ("reward.kind=measured", f"reward.rewards=[{line}]", "reward.terms={brightness={}}", f"prompts={prompts}")
    where = ["--weights", str(base), "--store", store]
    whole = [*where, "--out", str(tmp_path / "whole"), *TOLD, *paid]
    CliRunner().invoke(align, ["awm", *whole], catch_exceptions=False)
    asked = server.asked

    class Dies(Handler):
        def do_POST(self) -> None:
            server.dead = server.asked >= asked + 2  # in the run's last round
            super().do_POST()

    server.RequestHandlerClass = Dies
    with pytest.raises(RewardServerError, match=r"start it again; then go on with `palate runs resume run-") as caught:
        CliRunner().invoke(
            align, ["awm", *where, "--out", str(tmp_path / "broken"), *TOLD, *paid], catch_exceptions=False
        )
    server.RequestHandlerClass, server.dead = Handler, False
    run = str(caught.value).split("palate runs resume ")[1].split()[0]
    assert not (tmp_path / "broken" / "generator.safetensors").exists()
    CliRunner().invoke(runs, ["resume", run, "--store", store], catch_exceptions=False)
    broken, unbroken = (read(tmp_path / name / "metrics.jsonl") for name in ("broken", "whole"))
    assert broken == unbroken
    with Store(store) as record:
        ended = list(record.select(Run, task="align awm"))
    assert len(ended) == 1  # both ended in the very same checkpoint, so they are one row
    assert Generator.load(tmp_path / "broken" / "generator.safetensors").checkpoint == ended[0].outputs[0]


@pytest.mark.parametrize(
    "kind", [StoppedError, HackedError, NoRewardError, RewardServerError, OffPolicyError, FileError]
)
def test_whatever_stops_a_run_ends_with_the_command_that_goes_on(kind: type[PalateError], tmp_path: Path) -> None:
    run = begun("align awm", load(ALGORITHMS["awm"].recipe, None, TOLD), None, tmp_path, "a" * 64)
    with pytest.raises(kind) as caught, telling_how_to_go_on(run, "r.db"):
        raise kind("it went wrong", "mend it")
    assert str(caught.value) == f"it went wrong: mend it; then go on with `palate runs resume {run.id} --store r.db`"


FULL = """
import resource, signal, sys
from pathlib import Path
from alignment.recipe import ALGORITHMS
from alignment.reinforce import Setup, reinforce
from models import fit as fitting
from palate.config import load
from palate.errors import FileError
base, out, *told = sys.argv[1:]
setup = Setup.of("awm", load(ALGORITHMS["awm"].recipe, None, told), Path(base))
save_of, saved = fitting.save, []
def full_after_the_first(*arguments):
    if saved:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    saved.append(True)
    save_of(*arguments)
fitting.save = full_after_the_first
try:
    setup.run(Path(out))
except FileError as error:
    print(error)
    sys.exit(2)
"""


def test_the_last_good_state_survives_a_full_disk(base: Path, tmp_path: Path) -> None:
    """Writes of more than 20 kB fail, as they do where the disk is full, from the second save on."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    command = [sys.executable, "-c", FULL, str(base), str(tmp_path / "broken"), *TOLD]
    child = subprocess.run(command, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True, check=False)
    assert child.returncode == 2, child.stderr
    assert "state.pt cannot be written" in child.stdout
    assert torch.load(tmp_path / "broken" / "state.pt", weights_only=True)["step"] == 2
    assert sorted(path.name for path in (tmp_path / "broken").iterdir()) == ["metrics.jsonl", "state.pt"]
    recipe = load(ALGORITHMS["awm"].recipe, None, TOLD)
    broken, whole = (Setup.of("awm", recipe, base).run(tmp_path / name) for name in ("broken", "whole"))
    assert broken.checkpoints == whole.checkpoints


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALGORITHMS)
def test_a_run_killed_at_every_step_has_the_curve_of_an_unbroken_one(kind: str, base: Path, tmp_path: Path) -> None:
    told = (*TOLD, *(("grpo.window.last=1", "grpo.kl=0.1") if kind == "grpo" else ()))
    recipe = load(ALGORITHMS[kind].recipe, None, told)
    whole = Setup.of(kind, recipe, base).run(tmp_path / "whole")
    for step in range(6):
        assert killed_before(step, kind, base, tmp_path / "broken", told) == -signal.SIGKILL
    broken = Setup.of(kind, recipe, base).run(tmp_path / "broken")
    assert read(tmp_path / "broken" / "metrics.jsonl") == read(tmp_path / "whole" / "metrics.jsonl")
    assert broken.checkpoints == whole.checkpoints


def test_a_hacked_reward_stops_the_run_and_says_what_to_go_back_to(base: Path, tmp_path: Path) -> None:
    """The gold reward falls with every look while the proxy rises: the alarm rings within the planned looks."""
    told = (*TOLD, "looks.every=1", "looks.prompts=30", "looks.alarm.looks=4", "looks.alarm.level=0.2", "fit.steps=4")
    setup = Setup.of("awm", load(ALGORITHMS["awm"].recipe, None, told), base)
    looks: list[int] = []
    rng = np.random.default_rng(0)

    def falling(prompts: object, clips: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        looks.append(0)
        return -1.0 * len(looks) + 0.1 * rng.standard_normal(len(clips))

    lookout_of = setup._lookout

    def watched(folder: Path):  # type: ignore[no-untyped-def]
        lookout = lookout_of(folder)
        lookout.gold = falling
        lookout.proxy = lambda prompts, clips: len(looks) + rng.standard_normal(len(clips))
        return lookout

    object.__setattr__(setup, "_lookout", watched)
    said = r"at look \d: the gold reward has fallen by .*\[.*looks/0"
    with Store(str(tmp_path / "r.db")) as store:
        with pytest.raises(HackedError, match=said):
            reinforce(store, setup, tmp_path)
        (stopped,) = store.select(Run)
        kept = {one.metric: one for one in store.select(Curve, run=stopped.id)}
    assert (stopped.task, stopped.outputs) == ("stopped by the alarm: align awm", ())
    assert len(kept["look_gold"].steps) == len(looks)
    assert kept["look_gold"].readings[-1] < kept["look_gold"].readings[0]
    assert 2 <= len(looks) <= 4
    assert Generator.load(tmp_path / "looks" / "0" / "generator.safetensors").card["step"] == 0
    assert (tmp_path / "looks.csv").read_text().startswith("look,prompt,gold,proxy\n0,")


def test_more_looks_than_the_alarm_has_planned_are_refused_before_any_work() -> None:
    told = (*TOLD, "looks.every=2", "looks.alarm.looks=3", "fit.steps=8")
    with pytest.raises(ConfigError, match=r"set looks\.alarm\.looks=4"):
        load(ALGORITHMS["awm"].recipe, None, told)


def test_a_run_that_is_well_is_looked_at_and_goes_on(base: Path, tmp_path: Path) -> None:
    told = (*TOLD, "looks.every=2", "looks.prompts=30", "fit.steps=4")
    recipe = load(ALGORITHMS["awm"].recipe, None, told)
    with Store(str(tmp_path / "r.db")) as store:
        looked = reinforce(store, Setup.of("awm", recipe, base), tmp_path / "looked")
        kept = {one.metric: one for one in store.select(Curve)}
    table = pd.read_csv(tmp_path / "looked" / "looks.csv")
    for name in ("gold", "proxy"):
        assert kept[f"look_{name}"].steps == (0, 2)
        means = [table[table["look"] == look][name].mean() for look in (0, 1)]
        assert kept[f"look_{name}"].readings == pytest.approx(means)
    assert sorted(path.name for path in (tmp_path / "looked" / "looks").iterdir()) == ["0", "1"]
    blind = load(ALGORITHMS["awm"].recipe, None, (*TOLD, "fit.steps=4"))
    unlooked = Setup.of("awm", blind, base).run(tmp_path / "unlooked")
    one, other = (Generator.load(one.path).network.state_dict() for one in (looked, unlooked))
    assert all(torch.equal(one[name], other[name]) for name in one)  # a look changes nothing


def test_a_round_that_nothing_of_can_be_scored_stops_the_run() -> None:
    rollouts = RolloutSettings(prompts=2, group=3, steps=3)
    objective = online(Awm(AwmSettings()), lambda prompts, clips: np.full(len(clips), np.nan), rollouts)
    with pytest.raises(NoRewardError, match="none of the samples of round 0"):
        objective(0)


def test_what_is_drawn_next_is_drawn_while_the_last_is_scored() -> None:
    """The reward of the first block waits until the second is being drawn: in turn, it would wait for ever."""
    drawing = threading.Event()

    class Watched(GaussianPolicy):
        drawn = 0

        def clips(self, latents: torch.Tensor) -> torch.Tensor:
            self.drawn += 1
            if self.drawn == 2:
                drawing.set()
            return super().clips(latents)

    def patient(prompts: object, clips: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        assert drawing.wait(timeout=20)
        return near((0.8, -0.6))([], clips)

    rollouts = RolloutSettings(prompts=4, group=3, steps=3, batch=2)
    _, watched = online(Awm(AwmSettings()), patient, rollouts, policy=Watched())(0)
    assert watched["reward_mean"].isfinite()


def test_metrics_and_samples_go_to_tensorboard_and_to_the_folder(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install 'palate[align]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = (*ROUNDS, "show_every=4", "fit.steps=6")
    Setup.of("awm", load(ALGORITHMS["awm"].recipe, None, told), base).run(tmp_path / "run")
    seen = EventAccumulator(str(tmp_path / "run" / "run"))
    seen.Reload()
    losses = [line["loss"] for line in read(tmp_path / "run" / "metrics.jsonl")]
    assert [event.value for event in seen.Scalars("loss")] == pytest.approx(losses)
    assert {event.step for name in seen.Tags()["images"] for event in seen.Images(name)} == {0, 4, 5}
    shown = sorted(str(path.relative_to(tmp_path / "run" / "samples")) for path in (tmp_path / "run").rglob("*.mp4"))
    assert shown == [f"step-00000{step}/{place}.mp4" for step in (0, 4, 5) for place in range(4)]
