"""The enhancer's reward terms, each alone; and both stages of its training, on a tiny model."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from alignment.algorithms.prompt import PromptRecipe, Training, reward_functions, wishes
from alignment.cli import align
from alignment.prompt_reward import (
    PromptWeights,
    Similarity,
    Video,
    factual,
    good_prompts,
    plausibility,
    richness,
)
from models.enhancer import answer
from models.generator import Generator, SamplerSettings
from models.slots import SLOTS, Slots
from models.weights import SHIPPED
from palate import shapes
from palate.config import load
from palate.errors import CheckpointError, ConfigError
from palate.facts import FACTS, Fact, facts_of, scene_of_facts
from palate.wishes import Wish, draw_wish

CAPTION = "a red circle moves left, on a white background"
WISH = Wish("good", CAPTION, shapes.parse(CAPTION))
SIMILARITY = Similarity(good_prompts())
TERMS = (factual, richness, plausibility, SIMILARITY)
TINY = ["sft.wishes=64", "sft.steps=3", "sft.batch=4", "rl.steps=2", "rl.prompts=2", "rl.group=2", "rl.longest=24"]
TINY += ["tiny.width=16", "tiny.hidden=16", "tiny.layers=1", "tiny.heads=2", "rl.save_every=1", "rl.sampler.steps=1"]


def drawn(seed: int) -> Wish:
    return draw_wish(np.random.default_rng(seed), "train")


def other(scene: shapes.Scene, fact: Fact) -> str:
    """The caption with another value of a fact."""
    facts = facts_of(scene)
    values = {
        "count": ("two", "three"),
        "colour": tuple(shapes.COLOURS),
        "shape": shapes.SHAPES,
        "motion": tuple(shapes.MOTIONS),
        "background": tuple(shapes.BACKGROUNDS),
    }[fact]
    facts[fact] = next(value for value in values if value != facts[fact])
    if fact == "count":
        facts["motion"] = facts["motion"].split(" ")[0]  # several things do not turn
    return str(scene_of_facts(facts))


@given(seed=st.integers(0, 2**32), text=st.text(max_size=80))
@settings(max_examples=100, deadline=None)
def test_terms_are_bounded_and_whole_on_the_rewrite_itself(seed: int, text: str) -> None:
    wish = drawn(seed)
    assert all(0 <= term(wish, text) <= 1 for term in TERMS)
    assert factual(wish, wish.rewrite) == richness(wish, wish.rewrite) == plausibility(wish, wish.rewrite) == 1


@given(seed=st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_losing_or_contradicting_what_is_asked_costs_facts_and_what_is_not_asked_is_free(seed: int) -> None:
    wish = drawn(seed)
    tail = wish.rewrite.removeprefix(str(wish.meant))
    for fact in FACTS:
        value = factual(wish, other(wish.meant, fact) + tail)
        assert value < 1 if fact in wish.asked else value == 1


def test_every_fact_taken_away_costs_facts_and_richness() -> None:
    text, scores = CAPTION, []
    for gone in ("red ", "circle ", " left", "white "):
        scores.append((factual(WISH, text), richness(WISH, text)))
        text = text.replace(gone, "")
    assert all(now < before for one, two in pairwise(scores) for before, now in zip(one, two))


def test_a_second_value_is_a_contradiction_and_does_not_enrich() -> None:
    both = CAPTION.replace("red", "red blue")
    assert factual(WISH, both) == pytest.approx(4 / 5)
    assert richness(WISH, both) == 1
    assert plausibility(WISH, both) < plausibility(WISH, CAPTION)


def test_plausibility_falls_with_each_thing_that_cannot_be() -> None:
    worse = [
        "a red circle moves left on a white background",  # no sentence of the grammar
        "a red circle moves left left on a white background",  # nor a movement
        "a red glowing circle moves left left on a white background",  # nor a known word
        "a red glowing circle moves left left on a white black background",
    ]
    scores = [plausibility(WISH, text) for text in (CAPTION, *worse)]
    assert all(later < earlier for earlier, later in pairwise(scores))


def test_handles_lost_or_invented_cost_facts() -> None:
    wish = Wish("handles", f"{CAPTION}, with @Mara", WISH.meant, handles=("@Mara",))
    assert factual(wish, f"{CAPTION}, with @Mara") == 1
    assert factual(wish, CAPTION) == factual(wish, f"{CAPTION}, with @Mara and @Ben") == pytest.approx(5 / 6)
    assert factual(WISH, f"{CAPTION}, with @Mara") == pytest.approx(5 / 6)


def test_similarity_is_a_cosine_with_the_nearest_good_prompt() -> None:
    near = Similarity(["red circle left", "blue square"])
    assert near(WISH, "Red circle, left!") == pytest.approx(1)
    assert near(WISH, "blue") == pytest.approx(1 / np.sqrt(3))  # one of the three of "blue", "square", "blue square"
    assert near(WISH, "something else") == near(WISH, "") == 0
    assert all(SIMILARITY(WISH, text) == pytest.approx(1) for text in good_prompts()[:50])


def test_similarity_falls_with_each_word_taken_away() -> None:
    words = good_prompts()[0].split()
    scores = [SIMILARITY(WISH, " ".join(words[:left])) for left in range(len(words), 1, -2)]
    assert all(later < earlier for earlier, later in pairwise(scores))


def test_good_prompts_are_of_the_train_split() -> None:
    assert {shapes.split_of(shapes.parse(text)) for text in good_prompts()} == {"train"}


def test_the_video_of_the_right_words_is_worth_more_and_equal_words_are_worth_the_same() -> None:
    video = Video(Generator.load(SHIPPED), SamplerSettings(steps=4))
    some = wishes(12, 0)
    right = video(some, [wish.rewrite for wish in some])
    wrong = video(some, [some[at - 1].rewrite for at in range(12)])
    assert np.mean(right) > np.mean(wrong) + 0.2
    assert video(some[:1], ["nothing that it knows"]) == video(some[:1], [""])
    twice = video([some[0]] * 2, [some[0].rewrite] * 2)
    assert twice[0] == twice[1] == pytest.approx(right[0])
    assert video([], []) == []
    less = [video(some, [" ".join(wish.rewrite.split()[:words]) for wish in some]) for words in (6, 3, 0)]
    assert np.mean(right) > np.mean(less[0]) > np.mean(less[-1])  # words taken away
    assert {0 <= value <= 1 for value in right + wrong} == {True}


class Counting(Generator):
    """Keeps what it was asked to draw."""

    def clips(self, prompts: Sequence[str], seeds: Sequence[int], sampler: SamplerSettings) -> NDArray[np.uint8]:
        self.asked = list(prompts)
        return super().clips(prompts, seeds, sampler)


def test_equal_rewrites_of_a_wish_are_drawn_once() -> None:
    generator = Counting(**vars(Generator.load(SHIPPED)))
    other = drawn(1)
    values = Video(generator, SamplerSettings(steps=1))([WISH, WISH, other, WISH], [CAPTION, CAPTION, CAPTION, "red"])
    assert len(values) == 4
    assert len(generator.asked) == 3


def test_an_answer_without_a_rewrite_is_worth_nothing_and_order_is_kept() -> None:
    terms = reward_functions([WISH, drawn(1)], Video(Generator.load(SHIPPED), SamplerSettings(steps=1)), Slots())
    assert list(terms) == list(PromptWeights.model_fields)
    said = [CAPTION, answer("I think.", CAPTION), answer("", CAPTION), answer("I think.", "")]
    completions = [[{"role": "assistant", "content": text}] for text in said]
    assert terms["factual"](completions, [0] * 4) == [0, 1, 0, 0]
    assert terms["video"](completions, [0] * 4)[0::2] == [0, 0]
    assert all(term.__name__ == name for name, term in terms.items())  # the names that TRL logs them under


def test_a_reward_knows_the_handles_of_a_slot() -> None:
    wish = Wish("handles", f"{CAPTION}, with @Mara", WISH.meant, handles=("@Mara",))
    terms = reward_functions([wish], Video(Generator.load(SHIPPED), SamplerSettings(steps=1)), Slots(SLOTS))
    said = [answer("I think.", f"{CAPTION}{tail}") for tail in (", with @1", ", with @2", "")]
    kept, *others = terms["factual"]([[{"role": "assistant", "content": text}] for text in said], [0] * 3)
    assert kept == 1
    assert others == pytest.approx([5 / 6] * 2)


def test_a_reward_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="every weight is 0"):
        load(PromptRecipe, None, [f"rl.weights.{name}=0.0" for name in PromptWeights.model_fields])


@pytest.mark.parametrize("told", ["rl.group=1", "sft.batch=0", "rl.lr=0.0", "seed=-1"])
def test_settings_that_cannot_work_are_refused(told: str) -> None:
    with pytest.raises(ConfigError, match="greater than"):
        load(PromptRecipe, None, [told])


def test_both_stages_train_log_every_term_and_are_not_done_twice(tmp_path: Path) -> None:
    out, store = tmp_path / "run", str(tmp_path / "palate.db")
    first = CliRunner().invoke(align, ["prompt", "--out", str(out), "--store", store, "--json", *TINY])
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout.splitlines()[-1])
    rows = [json.loads(line) for line in (out / "rl" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "reward" in row] == [1, 2]
    for name in PromptWeights.model_fields:
        assert all(f"rewards/{name}/mean" in row for row in rows if "reward" in row)
    losses = [json.loads(line).get("loss") for line in (out / "sft" / "log.jsonl").read_text().splitlines()]
    assert len([loss for loss in losses if loss is not None]) == 3
    written = (out / "rl" / "model.safetensors").stat().st_mtime_ns
    again = Training(load(PromptRecipe, None, TINY), out).run()
    assert again == out / "rl"
    assert (again / "model.safetensors").stat().st_mtime_ns == written
    assert told["path"] == str(again)
    with pytest.raises(ConfigError, match="another recipe"):
        Training(load(PromptRecipe, None, [*TINY, "seed=1"]), out).run()
    rl_alone = Training(load(PromptRecipe, None, [*TINY, "sft.steps=0"]), tmp_path / "rl", str(out / "sft"))
    assert rl_alone.run() == tmp_path / "rl" / "rl"
    assert not (tmp_path / "rl" / "sft").exists()


def test_a_base_that_is_no_model_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no language model"):
        Training(load(PromptRecipe, None, TINY), tmp_path / "run", str(tmp_path / "none")).run()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stages", [["sft.steps=0"], ["sft.steps=0", "rl.steps=0"]])
def test_there_must_be_something_to_learn_and_to_begin_with(tmp_path: Path, stages: list[str]) -> None:
    with pytest.raises(ConfigError):
        Training(load(PromptRecipe, None, [*TINY, *stages]), tmp_path / "run").run()
    assert not (tmp_path / "run").exists()
