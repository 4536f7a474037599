"""Probes, calibration and groups on rewards whose faults are known."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.special import expit

from palate.errors import DataError
from rewards.audit import by_group, probe, reliability, shuffled
from rewards.cli import reward
from rewards.pairs import PairSet, Shown
from rewards.reward import Answer, Scored, Unit

RNG = np.random.default_rng(0)
ANSWERS = [
    Answer(str(level), np.clip(RNG.normal(level, 5, (8, 12, 12, 3)), 0, 255).astype(np.uint8), 8.0)
    for level in range(60, 180, 6)
]


class Fake:
    """A reward with one column, made of a function of the answer."""

    def __init__(self, name: str, of: Callable[[Answer], float | str]) -> None:
        self.name, self.of = name, of

    def score(self, answers: Sequence[Answer]) -> tuple[Scored, ...]:
        return (Scored.of(self.name, Unit.DEVIATIONS, [self.of(one) for one in answers]),)


def passed(of: Callable[[Answer], float | str], name: str = "r.overall") -> dict[str, bool | None]:
    return {one.probe: one.passed for one in probe(Fake(name, of), ANSWERS)}


def fits(one: Answer) -> float:
    """Falls with the distance between what was asked and the picture."""
    return -abs(float(one.frames.mean()) - float(one.prompt)) / 10


def test_a_reward_that_reads_its_prompt_passes_and_one_that_does_not_fails() -> None:
    assert passed(fits)["prompt shuffle"] is True
    found = {one.probe: one for one in probe(Fake("r.overall", fits), ANSWERS)}
    assert found["prompt shuffle"].change.high < -1  # type: ignore[operator]
    assert found["prompt shuffle"].change.clusters == {"prompts": 20}
    deaf = passed(lambda one: float(one.frames.mean()) / 20)
    assert deaf["prompt shuffle"] is None  # nothing moved at all: no sign that it falls


def test_an_axis_that_must_not_see_the_prompt_is_caught_when_it_does() -> None:
    assert passed(fits, "r.visual_quality")["prompt shuffle"] is False
    assert passed(lambda one: float(one.frames.std()) / 20, "r.visual_quality")["prompt shuffle"] is True


def test_a_reward_that_counts_frames_fails_at_the_double_rate() -> None:
    counting = passed(lambda one: len(one.frames) + RNG.normal() / 10)
    assert counting["double rate"] is False
    timed = passed(lambda one: len(one.frames) / one.fps + RNG.normal() / 10)
    assert timed["double rate"] is True


def test_refused_answers_are_counted_and_not_averaged() -> None:
    def only_eight(one: Answer) -> float | str:
        return float(one.frames.mean()) if len(one.frames) == 8 and one.fps == 8 else "another rate"

    found = {one.probe: one for one in probe(Fake("r.overall", only_eight), ANSWERS)}
    assert found["half rate"].refused == 20
    assert found["half rate"].change.value is None
    assert found["half rate"].passed is None
    assert found["brightness"].refused == 0
    assert found["brightness"].change.value == pytest.approx(15, abs=0.5)
    assert found["codec"].change.value == pytest.approx(0, abs=3)


def test_shuffling_leaves_no_prompt_where_it_was() -> None:
    answers = [Answer(prompt, ANSWERS[0].frames, 8.0) for prompt in "aabbbcd"]
    moved = shuffled(answers)
    assert all(one.prompt != other.prompt for one, other in zip(answers, moved))
    assert sorted(one.prompt for one in moved) == sorted("aabbbcd")
    with pytest.raises(DataError, match="most of the answers"):
        shuffled(answers[:3])


def test_reliability_tells_overconfidence_from_chance() -> None:
    rng = np.random.default_rng(1)
    lead = rng.normal(0, 1.5, 3000)
    label = np.where(rng.random(3000) < expit(lead), 1.0, -1.0)
    prompt = [str(i // 3) for i in range(3000)]
    calibrated = reliability("overall", label, lead, prompt, draws=100)
    assert calibrated.ece.value < calibrated.ece_of_calibrated.high  # type: ignore[operator]
    assert calibrated.ece_of_calibrated.value > 0.005  # type: ignore[operator]
    boastful = reliability("overall", label, 3 * lead, prompt, draws=100)
    assert boastful.ece.low > boastful.ece_of_calibrated.high  # type: ignore[operator]
    assert all(said > seen for said, seen in zip(boastful.said[3:], boastful.seen[3:]))
    assert sum(boastful.n) == 3000
    with pytest.raises(DataError, match="needs more"):
        reliability("overall", label[:5], lead[:5], prompt[:5])


def test_groups_that_disagree_with_it_are_seen() -> None:
    videos = tuple(Shown(f"p{i // 2}", Path(f"{i}")) for i in range(80))
    first = np.arange(0, 80, 2)

    def said(kind: int) -> PairSet:
        votes = np.tile(np.eye(3)[kind], (40, 1, 1)).astype(float)
        votes[0] = np.eye(3)[2 - kind]  # one dissent, so that there is something to estimate
        return PairSet(("overall",), videos, first, first + 1, votes, 0, "x")

    scores = np.where(np.arange(80) % 2, 0.0, 1.0)
    found = by_group({"old": said(0), "young": said(2), "undecided": said(1)}, "overall", lambda _: scores)
    assert {name: one.value for name, one in found.items() if name != "undecided"} == {"old": 39 / 40, "young": 1 / 40}


def test_the_alarm_reads_a_table_of_scores(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["look,prompt,gold,proxy"]
    for look in range(8):
        level = 0.6 - 0.08 * max(look - 4, 0)
        lines += [f"{look},p{i},{level + 0.1 * rng.normal():.4f},{look + rng.normal():.4f}" for i in range(60)]
    lines.append("3,lonely,0.5,1.0")
    table = tmp_path / "looks.csv"
    table.write_text("\n".join(lines))
    shown = CliRunner().invoke(reward, ["alarm", str(table), "looks=8", "windows=[1,2]"], catch_exceptions=False)
    assert "hacking: go back to look" in shown.stdout
    facts = json.loads(CliRunner().invoke(reward, ["alarm", str(table), "looks=8", "--json"]).stdout)
    assert facts["state"] == "hacking"
    assert facts["stop"] <= 4
    assert facts["looks"][0]["gold"]["n"] == 60  # the prompt of a single look is left out
    table.write_text("step,gold\n1,2\n")
    with pytest.raises(DataError, match="no table of looks"):
        CliRunner().invoke(reward, ["alarm", str(table)], catch_exceptions=False)
