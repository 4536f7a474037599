"""The shapes suite and the runner: the same answers however many workers, however often it is stopped."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import shapes as suite
from benchmarks.runner import CHUNK, Answering, answer, seed_of
from models.generator import Generator
from palate import shapes
from palate.config import Settings
from palate.errors import CheckpointError, DataError
from palate.records import Sample, Score
from palate.store import Store
from rewards.programmatic import SCORERS, STRICT, shapes_scores


class Renderer:
    """A generator that answers with the truth, except for every caption that names a cross."""

    checkpoint = "0" * 64

    def __init__(self, calls: Path) -> None:
        self.calls = calls

    def clips(self, prompts: Sequence[str], seeds: Sequence[int], sampler: Settings) -> NDArray[np.uint8]:
        with self.calls.open("a") as file:
            file.write(f"{len(prompts)}\n")
        clips = [shapes.render(shapes.parse(p), np.random.default_rng(s)) for p, s in zip(prompts, seeds)]
        return np.stack([clip[::-1] * 0 if "cross" in p else clip for p, clip in zip(prompts, clips)])


class NoSettings(Settings):
    pass


def work(tmp_path: Path, system: str = "renderer") -> Answering:
    return Answering(
        load=partial(Renderer, tmp_path / "calls"),
        system=system,
        checkpoint=Renderer.checkpoint,
        sampler=NoSettings(),
        scorer=shapes_scores,
        media=tmp_path / "media",
        fps=shapes.FPS,
    )


def test_cases_are_distinct_the_same_again_and_disjoint_between_splits() -> None:
    train, held = suite.cases("train", 300), suite.cases("heldout", 300)
    assert [case.id for case in train] == [case.id for case in suite.cases("train", 300)]
    meanings = [{shapes.parse(case.prompt).meaning for case in cases} for cases in (train, held)]
    assert len(meanings[0]) == len(meanings[1]) == 300
    assert not meanings[0] & meanings[1]
    assert {case.split for case in held} == {"heldout"}
    with pytest.raises(DataError, match="fewer than 5000 cases"):
        suite.cases("heldout", 5000)
    with pytest.raises(DataError, match="no split"):
        suite.cases("test", 5)


def test_answers_are_scored_from_the_stored_file(tmp_path: Path) -> None:
    cases = suite.cases("heldout", 24)
    with Store(str(tmp_path / "record.db")) as store:
        samples = answer(store, cases, 1, work(tmp_path), 1, "test")
        strict = {score.sample: score.value for score in store.select(Score, scorer=STRICT)}
        assert store.count(Score) == len(SCORERS) * 24
    for case, sample in zip(cases, samples):
        assert sample.case == case.id
        assert sample.seed == seed_of(case, 0)
        assert strict[sample.id] == float("cross" not in case.prompt)


def test_workers_and_restarts_change_nothing_and_nothing_is_made_twice(tmp_path: Path) -> None:
    cases = suite.cases("heldout", CHUNK)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with Store(str(tmp_path / "one" / "record.db")) as store:
        alone = answer(store, cases, 2, work(tmp_path / "one"), 1, "alone")
    with Store(str(tmp_path / "two" / "record.db")) as store:
        answer(store, cases[:CHUNK], 1, work(tmp_path / "two"), 1, "part")  # as if it had been stopped
        both = answer(store, cases, 2, work(tmp_path / "two"), 2, "both")
        made = (tmp_path / "two" / "calls").read_text().split()
        assert [sample.id for sample in both] == [sample.id for sample in alone]
        assert store.count(Sample) == 2 * CHUNK
        answer(store, cases, 2, work(tmp_path / "two"), 2, "again")
        assert (tmp_path / "two" / "calls").read_text().split() == made


def test_a_generator_that_cannot_be_loaded_says_why_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    broken = replace(work(tmp_path), load=partial(Generator.load_for_worker, tmp_path / "cut.safetensors"))
    with (
        Store(str(tmp_path / "record.db")) as store,
        pytest.raises(CheckpointError, match=r"cut\.safetensors is not a whole checkpoint .*: copy it again"),
    ):
        answer(store, suite.cases("heldout", 3), 1, broken, 1, "broken")


def test_seeds_differ_between_cases_and_indices_but_not_between_systems() -> None:
    cases = suite.cases("heldout", 50)
    seeds = {seed_of(case, index) for case in cases for index in range(4)}
    assert len(seeds) == 200
    assert seed_of(cases[0], 1) == seed_of(suite.cases("heldout", 3)[0], 1)
