"""Rewards by models: text that is read, nudity, CLIP and PickScore."""

from pathlib import Path

import numpy as np
import pytest
import tiny_vlm
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from palate.errors import CheckpointError
from rewards import carried
from rewards.carried import OcrReward, SafetyReward, edits
from rewards.configured import Clip
from rewards.reward import Answer, Unit


def sign(*texts: str) -> np.ndarray:
    """A frame for each text, black on white."""
    frames = []
    for text in texts:
        picture = Image.new("RGB", (360, 120), "white")
        ImageDraw.Draw(picture).text((30, 30), text, font=ImageFont.load_default(44), fill="black")
        frames.append(np.array(picture))
    return np.stack(frames)


def test_text_is_read_in_every_frame_and_a_prompt_without_a_quote_has_no_score() -> None:
    reward = OcrReward(fps=1.0)
    prompts = ['a sign that says "HELLO"', "a sign"]
    asked = [Answer(prompts[0], sign("HELLO", "HELLO"), 1.0), Answer(prompts[0], sign("HELLO", ""), 1.0)]
    asked += [Answer(prompts[0], sign("HELP"), 1.0), Answer(prompts[1], sign("HELLO"), 1.0)]
    (found,) = reward.score(asked)
    assert found.value[:3].tolist() == pytest.approx([1.0, 0.5, 0.6])
    assert found.reasons == ("", "", "", "the prompt quotes no text")
    assert found.unit is Unit.SHARE


@given(st.text("ab", max_size=6), st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_edits_are_a_distance(one: str, two: str, three: str) -> None:
    assert edits(one, two) == edits(two, one)
    assert (edits(one, two) == 0) == (one == two)
    assert edits(one, three) <= edits(one, two) + edits(two, three)
    assert edits(one, "") == len(one)
    assert edits(one, one + two) == len(two)


def test_clothed_and_empty_pictures_are_safe_and_the_surest_naked_part_of_any_frame_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (plain,) = SafetyReward().score([Answer("p", sign("HELLO"), 1.0)])  # the real detector, on its own weights
    assert plain.value.tolist() == [1.0]
    reward = SafetyReward()
    seen = iter(
        [
            [{"class": "FACE_FEMALE", "score": 0.9}],
            [{"class": "BUTTOCKS_EXPOSED", "score": 0.7}, {"class": "FEET_EXPOSED", "score": 0.99}],
        ]
    )
    monkeypatch.setattr(reward, "_find", lambda frame: next(seen))
    (found,) = reward.score([Answer("p", sign("a", "b"), 1.0)])
    assert found.value[0] == pytest.approx(0.3)
    from nudenet import nudenet

    assert set(vars(nudenet)["__labels"]) >= carried.NAKED


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    words = tiny_vlm.tokenizer()
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**size, "vocab_size": len(words), "max_position_embeddings": 20, "eos_token_id": words.eos_token_id}
    vision = {**size, "image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    words.save_pretrained(folder)
    size = {"height": 16, "width": 16}
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size).save_pretrained(folder)
    return folder


def test_clip_and_pickscore_are_the_models_own_numbers(clip: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3), dtype=np.uint8)
    asked = [Answer("a cat", frames, 2.0), Answer("a very long prompt " * 9, frames, 2.0)]
    (cosine,) = Clip(kind="clip", path=str(clip), device="cpu").build().score(asked)
    (logits,) = Clip(kind="pickscore", path=str(clip), device="cpu").build().score(asked)
    assert (cosine.name, cosine.unit, logits.name, logits.unit) == ("clip", Unit.COSINE, "pickscore", Unit.LOGITS)
    model = CLIPModel.from_pretrained(clip)
    pixels = CLIPImageProcessorPil.from_pretrained(clip)(images=list(frames[::2]), return_tensors="pt")  # one a second
    with torch.no_grad():
        told = model(**pixels, **tiny_vlm.tokenizer()("a cat", return_tensors="pt"))
    assert logits.value[0] == pytest.approx(float(told.logits_per_image.mean()), rel=1e-4)
    assert cosine.value[0] * float(model.logit_scale.detach().exp()) == pytest.approx(logits.value[0], rel=1e-4)
    assert np.isfinite(logits.value[1])
    with pytest.raises(CheckpointError, match="is no CLIP"):
        Clip(kind="clip", path="/nowhere/at/all", device="cpu").build()
