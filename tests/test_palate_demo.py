"""The whole loop at toy size, through the real command: it ends, it repeats itself, and it survives kill -9."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from palate.records import Figure, Run
from palate.store import Store

TINY = (
    "cases=32",
    "prompts=6",
    "seeds=4",
    "steps=12",
    "batch=4",
    "people=4",
    "lessons=3",
    "overlap=2",
    "answers=1",
    "more=false",
)
COMMAND = (sys.executable, "-m", "palate", "demo", *TINY, "--out")
MORE = ("prompts=40", "seeds=3", "more=true")  # enough captions to learn a reward, to stop it and to examine it

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def run(folder: Path, kill_after: float | None = None, *more: str) -> subprocess.CompletedProcess[str]:
    """The demo in its own process group; with `kill_after`, everything in it is killed after so many seconds."""
    demo = subprocess.Popen(
        (*COMMAND, str(folder), *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        out, err = demo.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        os.killpg(demo.pid, signal.SIGKILL)
        out, err = demo.communicate()
    return subprocess.CompletedProcess(demo.args, demo.returncode, out, err)


def summary(folder: Path) -> dict[str, object]:
    """The summary without its times and places."""
    told = json.loads((folder / "summary.json").read_text())
    return {key: value for key, value in told.items() if key not in ("seconds", "store")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert "SIMULATED" in done.stdout
    return folder


def test_summary_has_every_number_with_its_interval_and_its_figure(finished: Path) -> None:
    told = json.loads((finished / "summary.json").read_text())
    assert {"base", "aligned", "control"} == set(told["verifier"])
    assert told["verifier"]["base"]["n"] == 32
    overall = told["gsb"]["overall"]
    assert overall["good"] + overall["same"] + overall["bad"] > 50
    assert overall["ratio_low"] < overall["ratio"] < overall["ratio_high"]
    with Store(told["store"]) as store:
        figure = store.get(overall["figure"])
        assert isinstance(figure, Figure)
        assert figure.simulated
    walk = subprocess.run(
        (sys.executable, "-m", "palate", "trace", overall["figure"], "--store", told["store"]),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for word in ("simulated", "seed", "checkpoint", "align dpo"):
        assert word in walk, walk


def test_a_second_demo_makes_nothing_again_and_says_the_same(finished: Path) -> None:
    before = summary(finished)
    began = time.monotonic()
    assert run(finished).returncode == 0
    assert time.monotonic() - began < 120
    assert summary(finished) == before


def test_a_demo_killed_again_and_again_ends_with_the_same_summary(finished: Path, tmp_path: Path) -> None:
    for seconds in (4, 9, 14, 20):
        assert run(tmp_path, kill_after=seconds).returncode in (-signal.SIGKILL, 0)
    assert run(tmp_path).returncode == 0
    assert summary(tmp_path) == summary(finished)


def test_after_the_loop_a_reward_is_examined_and_a_law_is_fitted_for_the_dashboards(tmp_path: Path) -> None:
    done = run(tmp_path, None, *MORE)
    assert done.returncode == 0, done.stderr
    with Store(json.loads((tmp_path / "summary.json").read_text())["store"]) as store:
        named = {one.name.partition(".")[0] for one in store.select(Figure)}
        tasks = {one.task for one in store.select(Run)}
    assert {"audit", "scaling", "metric", "gsb", "score"} <= named
    assert {"reward train", "align dpo"} <= tasks
