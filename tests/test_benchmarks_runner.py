"""The shapes suite and the runner: the same answers however many workers, however often it is stopped."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import shapes as suite
from benchmarks.runner import CHUNK, Answering, answer, processes, seed_of
from models.generator import Generator
from palate import shapes
from palate.config import Settings
from palate.errors import CheckpointError, DataError, FileError
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


class Moody(Renderer):
    """Fails on circles as long as a file stands beside its log, and draws nothing sensible for squares."""

    def clips(self, prompts: Sequence[str], seeds: Sequence[int], sampler: Settings) -> NDArray[np.uint8]:
        if self.calls.with_name("mood").exists() and any("circle" in p for p in prompts):
            raise RuntimeError("no memory left for a circle")
        clips = super().clips(prompts, seeds, sampler)
        return clips[..., :1] if any("square" in p for p in prompts) else clips


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
        samples = answer(store, cases, 1, [work(tmp_path)])[0]
        strict = {score.sample: score.value for score in store.select(Score, scorer=STRICT)}
        assert store.count(Score) == len(SCORERS) * 24
    for case, sample in zip(cases, samples):
        assert sample.case == case.id
        assert sample.seed == seed_of(case, 0)
        assert strict[sample.id] == float("cross" not in case.prompt)


def test_workers_and_restarts_change_nothing_and_nothing_is_made_twice(tmp_path: Path) -> None:
    cases = suite.cases("heldout", CHUNK)
    asked: list[Answering] = []
    for place in (tmp_path / "one", tmp_path / "two"):
        place.mkdir()
        (place / "mood").touch()
        asked.append(replace(work(place), load=partial(Moody, place / "calls")))
    with Store(str(tmp_path / "one" / "record.db")) as store:
        alone = answer(store, cases, 2, [asked[0]])[0]
    assert {sample.failure is None for sample in alone} == {True, False}
    with Store(str(tmp_path / "two" / "record.db")) as store:
        answer(store, cases[:CHUNK], 1, [asked[1]])  # as if it had been stopped
        both = answer(store, cases, 2, [asked[1]], processes(2))[0]
        made = (tmp_path / "two" / "calls").read_text().split()
        assert [sample.id for sample in both] == [sample.id for sample in alone]
        assert store.count(Sample) == 2 * CHUNK
        answer(store, cases, 2, [asked[1]], processes(2))
        assert (tmp_path / "two" / "calls").read_text().split() == made


def test_a_failure_is_a_row_with_its_reason_and_only_it_is_asked_again(tmp_path: Path) -> None:
    cases = suite.cases("heldout", CHUNK + 8)
    moody = replace(work(tmp_path), load=partial(Moody, tmp_path / "calls"))
    (tmp_path / "mood").touch()
    with Store(str(tmp_path / "record.db")) as store:
        samples = answer(store, cases, 1, [moody])[0]
        for case, sample in zip(cases, samples, strict=True):
            reason = "RuntimeError: no memory left for a circle" if "circle" in case.prompt else None
            if "square" in case.prompt:
                assert (sample.failure or "").startswith("MediaError: frames are uint8 (8, 30, 30, 1)")
            else:
                assert sample.failure == reason
            assert (sample.media is None) == (sample.failure is not None)
        assert store.count(Score) == len(SCORERS) * sum(sample.failure is None for sample in samples)

        asked = len((tmp_path / "calls").read_text().split())
        assert answer(store, cases, 1, [moody]) == [samples]
        assert len((tmp_path / "calls").read_text().split()) == asked
        (tmp_path / "mood").unlink()
        (again,) = answer(store, cases, 1, [moody], retry=True)
        assert (tmp_path / "calls").read_text().split()[asked:] == ["1"] * sum(
            one.failure is not None for one in samples
        )
        assert [one.failure is None for one in again] == ["square" not in case.prompt for case in cases]
        assert answer(store, cases, 1, [moody]) == [again]


def test_a_full_disk_stops_the_run_and_is_nobodys_failure(tmp_path: Path) -> None:
    (tmp_path / "media").write_text("a file where the folder should be")
    with Store(str(tmp_path / "record.db")) as store:
        with pytest.raises(FileError):
            answer(store, suite.cases("heldout", 3), 1, [work(tmp_path)])
        assert store.count(Sample) == 0


def test_a_generator_of_text_fails_on_references_only(tmp_path: Path) -> None:
    plain = suite.cases("heldout", 2)
    shown = [case.model_copy(update={"conditions": {"@Image_1": "a red circle"}}) for case in plain]
    with Store(str(tmp_path / "record.db")) as store:
        (samples,) = answer(store, [*plain, *shown], 1, [work(tmp_path)])
    assert [sample.failure for sample in samples] == [None, None] + [
        "DataError: this generator takes text alone: answer with one that takes references"
    ] * 2


def test_a_generator_that_cannot_be_loaded_says_why_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    broken = replace(work(tmp_path), load=partial(Generator.load_for_worker, tmp_path / "cut.safetensors"))
    with (
        Store(str(tmp_path / "record.db")) as store,
        pytest.raises(CheckpointError, match=r"cut\.safetensors is not a whole checkpoint .*: copy it again"),
    ):
        answer(store, suite.cases("heldout", 3), 1, [broken])


def test_seeds_differ_between_cases_and_indices_but_not_between_systems() -> None:
    cases = suite.cases("heldout", 50)
    seeds = {seed_of(case, index) for case in cases for index in range(4)}
    assert len(seeds) == 200
    assert seed_of(cases[0], 1) == seed_of(suite.cases("heldout", 3)[0], 1)
