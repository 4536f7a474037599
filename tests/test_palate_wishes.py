"""Requests of the shapes world: what is said is what is meant, and the splits share nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate import shapes, wording
from palate.errors import DataError
from palate.facts import facts_of, possible, scene_of_facts, stated
from palate.prompt import parse
from palate.wishes import FAMILIES, KINDS, Kind, Wish, draw_wish, without_handles


def drawn(count: int, seed: int, split: shapes.Split = "train", kinds: tuple[Kind, ...] = KINDS) -> list[Wish]:
    rng = np.random.default_rng(seed)
    return [draw_wish(rng, split, kinds) for _ in range(count)]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_a_caption_states_the_facts_of_its_scene_and_they_make_it_again(seed: int) -> None:
    scene = shapes.draw_scene(np.random.default_rng(seed), "train", FAMILIES)
    facts = facts_of(scene)
    assert stated(str(scene)) == {fact: (value,) for fact, value in facts.items()}
    assert scene_of_facts(facts) == scene
    assert possible(facts)


def test_a_text_states_what_it_says_and_no_more() -> None:
    assert stated("on a white background") == {"background": ("white",)}
    assert stated("a red blue circle") == {"count": ("a",), "colour": ("red", "blue"), "shape": ("circle",)}
    assert stated("two crosses and a cross move left then up")["count"] == ("two", "a")
    assert stated("画一个圆") == {}


@pytest.mark.parametrize(
    "facts", [{"motion": "still then left"}, {"motion": "left then left"}, {"motion": "left then up", "count": "two"}]
)
def test_some_movements_cannot_be(facts: dict) -> None:
    assert not possible(facts)


def test_pairs_have_more_than_five_facts() -> None:
    with pytest.raises(DataError, match="two things"):
        facts_of(shapes.draw_scene(np.random.default_rng(0), "train", ("pair",)))


def test_the_splits_share_no_meaning_nor_what_is_asked_nor_an_injection() -> None:
    train, held = drawn(3000, 0), drawn(3000, 1, "heldout")
    assert not {one.meant.meaning for one in train} & {one.meant.meaning for one in held}
    asked, asked_held = ({tuple(one.facts.items()) for one in wishes} for wishes in (train, held))
    assert not asked & asked_held
    said, said_held = ({one.text for one in wishes if one.kind != "underspecified"} for wishes in (train, held))
    assert not said & said_held


def test_what_is_injected_is_many_sentences_and_other_ones_in_each_split() -> None:
    def sentences(split: shapes.Split) -> set[str]:
        rng = np.random.default_rng(0)
        texts = [wording.injected("a circle", split, rng) for _ in range(3000)]
        return {text.removeprefix("a circle. ").removesuffix(". a circle") for text in texts}

    train, held = sentences("train"), sentences("heldout")
    assert held == set(wording.HELD_OUT_INJECTIONS)
    assert len(train) > 2000
    assert not train & held


def test_one_to_four_handles_are_named_in_order() -> None:
    wishes = drawn(400, 9, kinds=("handles",))
    assert {len(wish.handles) for wish in wishes} == {1, 2, 3, 4}
    assert all(list(map(str, parse(wish.text).handles)) == list(wish.handles) for wish in wishes)


def test_every_kind_is_drawn_and_only_good_ones_are_captions() -> None:
    kinds = {kind: [one for one in drawn(1500, 2) if one.kind == kind] for kind in KINDS}
    assert all(len(wishes) > 100 for wishes in kinds.values())
    for kind, wishes in kinds.items():
        captions = [one.text == one.rewrite for one in wishes]
        assert all(captions) if kind == "good" else np.mean(captions) < 0.2


def test_a_rewrite_says_everything_keeps_every_handle_and_is_granted_by_its_own_video() -> None:
    rng = np.random.default_rng(3)
    for wish in drawn(150, 4):
        caption = without_handles(wish.rewrite)
        assert shapes.parse(caption) == wish.meant
        assert [str(handle) for handle in parse(wish.rewrite).handles] == list(wish.handles)
        assert {str(handle) for handle in parse(wish.text).handles} == set(wish.handles)
        assert all(wish.granted(shapes.render(wish.meant, rng)).values())


def test_what_is_left_open_may_be_anything_and_what_is_asked_may_not() -> None:
    rng = np.random.default_rng(5)
    wish = Wish(
        "underspecified", "a circle", shapes.parse("a red circle moves left, on a white background"), ("shape",)
    )
    other = shapes.render(shapes.parse("a blue circle moves up, on a black background"), rng)
    wrong = shapes.render(shapes.parse("a red square moves left, on a white background"), rng)
    assert wish.granted(other) == {"shape": True}
    assert wish.granted(wrong) == {"shape": False}
    assert wish.thought == "Asked: circle. Unsaid: count, so a; colour, so red; motion, so left; background, so white."


def test_a_misspelt_text_has_as_many_words_and_up_to_four_of_them_changed() -> None:
    rng = np.random.default_rng(6)
    text = "three yellow triangles move right, on a black background"
    for _ in range(200):
        words = wording.misspelt(text, rng).split(" ")
        assert len(words) == len(text.split(" "))
        assert 1 <= sum(one != other for one, other in zip(words, text.split(" "))) <= 4


def test_chinese_names_each_colour_its_own_way() -> None:
    wishes = drawn(300, 8, kinds=("chinese",))
    assert not any(stated(wish.text) for wish in wishes)
    names = {(wish.facts["colour"], next(sign for sign in "红绿蓝黄紫青" if sign in wish.text)) for wish in wishes}
    assert len(names) == len(shapes.COLOURS)
