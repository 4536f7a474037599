"""Captioners: what a vision-language model is shown, and that a tiny one is not moved by what is not given."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_vlm import write

from models.captioner import SYSTEM, SeeingCaptioner, content
from models.fit import FitSettings
from models.language import Sight
from models.tiny_captioner import (
    BREAK,
    LONGEST,
    CaptionerNetwork,
    CaptionerRecipe,
    CaptionerShape,
    TinyCaptioner,
    batch,
    numbers,
    reply,
    train,
)
from palate import givens
from palate.caption import read
from palate.errors import CheckpointError
from palate.givens import CONDITIONS, caption, draw_shot, render

TINY = CaptionerShape(width=32, layers=1, heads=2, hidden=32)


def shots(count: int, seed: int = 0) -> list[tuple[givens.Shot, givens.Givens]]:
    rng = np.random.default_rng(seed)
    drawn = [draw_shot(rng, "heldout") for _ in range(count)]
    return [(shot, render(shot, rng)) for shot in drawn]


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_a_vision_language_model_sees_the_pictures_that_it_is_given(tmp_path: Path, family: str) -> None:
    sight = Sight.open(write(tmp_path, family), "cpu")
    (_, made), (_, other) = shots(2)
    told = sight._inputs(SYSTEM, content(made))
    pictures = 1 + 2 + 1 + 1  # the first frame, two depth maps, the identity, the segmentation
    assert len(told["image_grid_thw"]) == pictures
    here = told["input_ids"] == sight.model.config.image_token_id
    assert int(here.sum()) == int(told["image_grid_thw"].prod(dim=1).sum()) // sight.images.merge_size**2
    logits = [
        sight.model(**sight._inputs(SYSTEM, content(one))).logits[:, -1] for one in (made, made, other.only(["image"]))
    ]
    assert torch.equal(logits[0], logits[1])
    same_words = sight.model(**sight._inputs("", ["What? ", np.full((240, 240, 3), 30, np.uint8)])).logits[:, -1]
    other_picture = sight.model(**sight._inputs("", ["What? ", np.full((240, 240, 3), 220, np.uint8)])).logits[:, -1]
    assert not torch.equal(same_words, other_picture)
    replies = SeeingCaptioner(sight, longest=8).replies([made, made.only(["pose", "camera"])])
    assert len(replies) == 2


def test_what_a_model_is_told_in_numbers_is_what_was_rendered() -> None:
    ((_, made),) = shots(1)
    (text,) = content(made.only(["pose"]))
    assert made.pose is not None
    x, y = made.pose[0, 0]
    assert isinstance(text, str)
    assert f"({x:.1f}, {y:.1f})" in text
    (camera,) = content(made.only(["camera"]))
    assert isinstance(camera, str)
    assert camera.count("at (") == 8
    assert ": at (0.00, 0.00, 0.00)" in camera.replace("-0.00", "0.00")


def test_a_model_without_eyes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no language model"):
        SeeingCaptioner.open(tmp_path, "cpu")


def test_words_are_read_back() -> None:
    for seed in range(20):
        for shot, _ in shots(3, seed):
            for kinds in (CONDITIONS, ("identity",), ("camera", "pose")):
                told = caption(shot, kinds)
                assert len(numbers(told)) <= LONGEST
                assert read(reply(numbers(told))) == told


def test_parts_that_were_not_ended_are_not_there() -> None:
    (shot, _), *_ = shots(1)
    words = numbers(caption(shot, CONDITIONS))
    cut = words[: len(words) - 2]
    assert len(json.loads(reply(cut))) == cut.count(BREAK) == 5


def test_a_condition_that_is_left_out_is_as_if_it_had_never_been() -> None:
    torch.manual_seed(0)
    network = CaptionerNetwork(TINY)
    drawn = shots(3)
    alone = [given.only(["pose"]) for _, given in drawn]
    captions = [caption(shot, ["pose"]) for shot, _ in drawn]
    before = network.loss(alone, captions)
    for name, weights in network.encoders.named_parameters():
        if not name.startswith("pose"):
            torch.nn.init.normal_(weights)
    assert torch.equal(before, network.loss(alone, captions))
    network.loss(alone, captions).backward()
    assert all((p.grad is not None) == n.startswith("pose") for n, p in network.encoders.named_parameters())


def test_each_condition_moves_the_words() -> None:
    torch.manual_seed(0)
    network = CaptionerNetwork(TINY)
    (shot, one), (_, other) = shots(2)
    for kind in CONDITIONS:
        told = [caption(shot, [kind])]
        assert not torch.equal(network.loss([one.only([kind])], told), network.loss([other.only([kind])], told)), kind


def test_a_batch_is_the_same_at_every_call_and_tells_the_truth() -> None:
    recipe = CaptionerRecipe(batch=4)
    first, again, other = batch(recipe, 3), batch(recipe, 3), batch(recipe, 4)
    assert first[1] == again[1] != other[1]
    assert len({one.kinds for one in first[0]}) == 1


def test_training_comes_out_the_same_and_what_it_wrote_answers_alone_as_in_a_batch(tmp_path: Path) -> None:
    fit = FitSettings(steps=4, lr=5e-3, warmup=1, save_every=2)
    recipe = CaptionerRecipe(shape=TINY, batch=8, drop=0.0, fit=fit)
    assert train(recipe, tmp_path / "a") == train(recipe, tmp_path / "b")
    loaded = TinyCaptioner.load(tmp_path / "a" / "captioner.safetensors")
    drawn = [given for _, given in shots(3)]
    assert [loaded.replies([one])[0] for one in drawn] == loaded.replies(drawn)
