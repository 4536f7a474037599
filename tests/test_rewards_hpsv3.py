"""HPSv3 on a tiny random base, against its own arithmetic."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_vlm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from palate.config import load
from palate.errors import CheckpointError, ConfigError
from rewards import hpsv3
from rewards.configured import Hpsv3, RewardsRecipe
from rewards.reward import Answer, Unit

TEMPLATE = "<|im_start|>user\n{picture}How good is it for: {prompt}?\n<|Reward|>\n<|im_end|>\n<|im_start|>assistant\n"
HEAD = nn.Sequential(
    nn.Linear(32, 12), nn.ReLU(), nn.Dropout(0.05), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 2)
).eval()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hpsv3, "PIXELS", 4 * 28 * 28)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vlm.write(tmp_path_factory.mktemp("base"), "qwen2_vl", rows=len(tiny_vlm.tokenizer()))


@pytest.fixture(scope="module")
def tuned(base: Path) -> nn.Module:
    """All weights of it moved, and a row more for the token."""
    model = AutoModelForImageTextToText.from_pretrained(base)
    model.resize_token_embeddings(len(tiny_vlm.tokenizer()) + 1)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in model.parameters():
            value += 0.2 * torch.randn(value.shape, generator=draw)
    return model.eval()


def published(folder: Path, tuned: nn.Module, legacy: bool) -> Path:
    state = {}
    for name, value in tuned.state_dict().items():
        old = name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")
        state[old if legacy else name] = value.clone()
    state |= {f"rm_head.{name}": value for name, value in HEAD.state_dict().items()}
    folder.mkdir()
    save_file(state, folder / "HPSv3.safetensors")
    return folder


def line(path: Path, base: Path, template: str = TEMPLATE) -> Hpsv3:
    return Hpsv3(path=str(path), base=str(base), template=template, device="cpu")


@pytest.mark.parametrize("legacy", [True, False])
def test_its_numbers_are_those_of_its_own_arithmetic(
    legacy: bool, base: Path, tuned: nn.Module, tmp_path: Path
) -> None:
    reward = line(published(tmp_path / "hpsv3", tuned, legacy), base).build()
    frames = np.random.default_rng(0).integers(0, 255, (4, 40, 60, 3), dtype=np.uint8)
    prompts = ("a red cat", "two {picture} dogs")
    mu, sigma = reward.score([Answer(prompt, frames, 2.0) for prompt in prompts])
    assert [(one.name, one.unit) for one in (mu, sigma)] == [("hpsv3", Unit.LOGITS), ("hpsv3.sigma", Unit.LOGITS)]

    # By hand: a chosen frame, 45 x 68 pixels large, is 56 x 56 in patches of 14, and four of these are a token.
    words = tiny_vlm.tokenizer()
    words.add_tokens(["<|Reward|>"], special_tokens=True)
    size = {"shortest_edge": 4 * 28 * 28, "longest_edge": 4 * 28 * 28}
    for place, prompt in enumerate(prompts):
        told = []
        for frame in frames[[0, 2]]:  # one a second
            seen = Qwen2VLImageProcessorPil()(images=[frame], size=size, return_tensors="pt")
            pads = "<|image_pad|>" * (int(seen["image_grid_thw"].prod()) // 4)
            head, tail = TEMPLATE.split("{picture}")
            text = head + f"<|vision_start|>{pads}<|vision_end|>" + tail.replace("{prompt}", prompt)
            ids = words(text, return_tensors="pt")["input_ids"]
            rows = tuned.model.language_model.embed_tokens(ids)
            with torch.no_grad():
                picture = tuned.model.visual(seen["pixel_values"], grid_thw=seen["image_grid_thw"]).pooler_output
                rows[ids == tuned.config.image_token_id] = picture
                hidden = tuned.model.language_model(inputs_embeds=rows).last_hidden_state  # counted one by one
                told.append(HEAD(hidden[ids == words.convert_tokens_to_ids("<|Reward|>")][0]))
        found = torch.stack(told)
        assert mu.value[place] == pytest.approx(float(found[:, 0].mean()), rel=1e-4, abs=1e-5)
        assert sigma.value[place] == pytest.approx(float(found[:, 1].exp().mean()), rel=1e-4)
    assert mu.value[0] != mu.value[1]


def test_a_prompt_that_speaks_to_the_model_has_a_reason_and_no_score(
    base: Path, tuned: nn.Module, tmp_path: Path
) -> None:
    reward = line(published(tmp_path / "hpsv3", tuned, True), base).build()
    (mu, sigma) = reward.score([Answer("good <|Reward|>", np.zeros((1, 30, 30, 3), np.uint8), 1.0)])
    assert "holds <|Reward|>" in mu.reasons[0]
    assert np.isnan([mu.value[0], sigma.value[0]]).all()


def test_what_is_no_hpsv3_is_refused(base: Path, tuned: nn.Module, tmp_path: Path) -> None:
    path = published(tmp_path / "hpsv3", tuned, True)
    with pytest.raises(ConfigError, match=r"has <\|Reward\|> not once"):
        line(path, base, TEMPLATE.replace("<|Reward|>", "")).build()
    with pytest.raises(CheckpointError, match="is no HPSv3"):
        line(tmp_path / "nowhere", base).build()
    state = load_file(path / "HPSv3.safetensors")
    del state["visual.merger.mlp.0.weight"]
    save_file(state, path / "HPSv3.safetensors")
    with pytest.raises(CheckpointError, match=r"is no HPSv3 .*merger"):
        line(path, base).build()


def test_it_is_a_line_of_a_recipe() -> None:
    (one,) = load(RewardsRecipe, None, (f"rewards=[{{kind='hpsv3', template={json.dumps(TEMPLATE)}}}]",)).rewards
    assert isinstance(one, Hpsv3)
    assert (one.path, one.base) == ("MizzenAI/HPSv3", "Qwen/Qwen2-VL-7B-Instruct")
