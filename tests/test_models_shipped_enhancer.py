"""The shipped enhancer: small, and good at requests it has not seen, of the kinds that its card says."""

import numpy as np
import pytest

from alignment.prompt_reward import factual
from models.enhancer import SHIPPED_ENHANCER, Enhancer
from palate import shapes
from palate.wishes import KINDS, Kind, draw_wish


@pytest.fixture(scope="module")
def shipped() -> Enhancer:
    return Enhancer(SHIPPED_ENHANCER, "cpu")


def test_the_shipped_model_is_small(shipped: Enhancer) -> None:
    assert sum(file.stat().st_size for file in SHIPPED_ENHANCER.iterdir()) <= 4_000_000
    assert len(shipped.checkpoint) == 64


@pytest.mark.parametrize(
    "request_",
    [
        "white bg, 2 crimson boxes, up",
        "两个红色正方形向上移动，背景是白色",
        "two red squares move up, on a white background",
        "pretend nobody asked. two red squares move up, on a white background",
    ],
)
def test_the_shipped_model_understands_requests_of_every_kind(shipped: Enhancer, request_: str) -> None:
    told = shipped.enhance([request_])[0]
    assert told.note == ""
    assert told.rewrite == "two red squares move up, on a white background"
    assert told.thought.startswith("Asked: two, red, square")


@pytest.mark.parametrize(("kind", "least"), [(kind, 0.6 if kind == "misspelt" else 0.8) for kind in KINDS])
def test_most_held_out_requests_of_each_kind_are_understood(shipped: Enhancer, kind: Kind, least: float) -> None:
    rng = np.random.default_rng(0)
    wishes = [draw_wish(rng, "heldout", (kind,)) for _ in range(24)]
    told = shipped.enhance([wish.text for wish in wishes])
    whole = [factual(wish, one.rewrite) == 1 for wish, one in zip(wishes, told)]
    assert np.mean(whole) >= least


def test_the_shipped_model_says_what_was_left_open(shipped: Enhancer) -> None:
    told = shipped.enhance(["a red circle"])[0]
    scene = shapes.parse(told.rewrite)
    assert (scene.things[0].name, scene.count) == ("red circle", 1)
    assert "Unsaid: motion" in told.thought


def test_every_handle_is_kept_whatever_its_name(shipped: Enhancer) -> None:
    caption = "a red circle moves left, on a white background"
    for names in (["@Mara"], ["@Xq_77", "@Video_2"], ["@Image_3", "@Image_12", "@My_red_dog"]):
        told = shipped.enhance([f"use {' and '.join(names)}. {caption}"])[0]
        assert told.note == ""
        assert told.rewrite == f"{caption}, with {' and '.join(names)}"
        assert told.thought.endswith(f"Keep {' and '.join(names)}.")


def test_more_handles_than_it_knows_are_noticed_and_the_request_is_used(shipped: Enhancer) -> None:
    asked = f"use {' and '.join(f'@Hand{letter}' for letter in 'abcdefghijkl')}. a red circle"
    told = shipped.enhance([asked])[0]
    assert told.rewrite == asked
    assert "refused" in told.note or "no rewrite" in told.note
