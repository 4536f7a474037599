"""The vision-language face of a reward: what its axes may see, its frames, its checkpoint, and the published layout."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_vlm
import torch
from click.testing import CliRunner
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from models.fit import FitSettings
from palate.errors import CheckpointError, ConfigError
from palate.media import encode_video
from rewards.cli import reward as reward_command
from rewards.pairs import PairSet, Shown
from rewards.reward import Answer
from rewards.train import RewardRecipe, train
from rewards.video_reward import VideoReward, raw_scores
from rewards.videoalign import AXES as PUBLISHED
from rewards.videoalign import load_published
from rewards.vlm_encoder import VlmEncoder
from rewards.vlm_question import VlmSettings, template_of

AXES = ("motion_quality", "overall", "prompt_following", "visual_quality")
SEES = [False, True, True, False]
FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: tiny_vlm.write(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


def settings(base: Path, **changes: object) -> VlmSettings:
    return VlmSettings(base=str(base), frame_pixels=56 * 56, rank=2, alpha=4).model_copy(update=changes)


def video(seed: int = 0, frames: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (frames, 40, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize("family", FAMILIES)
def test_axes_about_the_picture_cannot_see_the_prompt(bases: dict[str, Path], family: str) -> None:
    torch.manual_seed(0)
    encoder = VlmEncoder(settings(bases[family]), AXES).eval()
    prompts = ("a red cat", "two blue dogs run to the left")
    one, other = (encoder.prepare(Answer(prompt, video(), 8.0)) for prompt in prompts)
    with torch.no_grad():
        alone = torch.cat([encoder([one]), encoder([other])])
        together = encoder([one, other])
        moved = encoder([encoder.prepare(Answer(prompts[0], video(1), 8.0))])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)  # padding changes nothing
    assert torch.equal((alone[0] - alone[1]).abs() > 1e-4, torch.tensor(SEES))
    assert ((alone[0] - moved[0]).abs() > 1e-4).all()  # every axis sees the video
    (gradient,) = torch.autograd.grad(encoder([one])[0, 0], encoder.heads)
    assert gradient[1:].abs().max() == 0  # an axis is read at its own token, by its own head


def test_frames_are_picked_by_time_and_patched_as_the_library_patches_a_video(bases: dict[str, Path]) -> None:
    encoder = VlmEncoder(settings(bases["qwen2_vl"]), AXES)
    clip = video()
    seen = encoder.prepare(Answer("a", clip, 8.0))
    assert seen.clips[0].grid[0] == 2  # two seconds, two frames a second, two frames a patch
    assert torch.equal(
        seen.clips[0].patches, encoder.prepare(Answer("a", clip.repeat(3, axis=0), 24.0)).clips[0].patches
    )
    assert encoder.prepare(Answer("a", clip, 16.0)).clips[0].grid[0] == 1
    assert (
        encoder.prepare(Answer("a", clip[:1], 8.0)).clips[0].grid[0] == 1
    )  # the last frame stands in for one that is missing
    still = encoder.prepare(Answer("a", clip[:1].repeat(16, axis=0), 8.0))
    plain = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 56 * 56})
    image = plain(images=[clip[0]], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(still.clips[0].patches, image.repeat(2, 1))
    half = seen.clips[0].patches.unflatten(-1, (3, 2, -1))  # first frames 0 and 4, then 8 and 12
    for place, frame in ((0, 0), (1, 4)):
        of_frame = plain(images=[clip[frame]], return_tensors="pt")["pixel_values"].unflatten(-1, (3, 2, -1))
        torch.testing.assert_close(half[: len(of_frame), :, place], of_frame[:, :, 0])


def test_what_cannot_be_asked_has_a_reason(bases: dict[str, Path]) -> None:
    encoder = VlmEncoder(settings(bases["qwen3_vl"]), AXES)
    values, reasons = raw_scores(encoder, [Answer("say <|VQ_reward|>", video(), 8.0), Answer("{video}", video(), 8.0)])
    assert "<|VQ_reward|>" in reasons[0]
    assert np.isnan(values[0]).all()
    assert np.isfinite(values[1]).all()  # a prompt that looks like a field is only a prompt
    with pytest.raises(ConfigError, match="shows the prompt to visual_quality"):
        template_of(VlmSettings(template="{video} {prompt} {visual_quality}"), ("visual_quality",))
    with pytest.raises(ConfigError, match="needs each once"):
        template_of(VlmSettings(template="{video} {prompt}"), AXES)
    with pytest.raises(CheckpointError, match="no vision-language model"):
        VlmEncoder(VlmSettings(base="/nowhere/at/all"), AXES)


def pairs(folder: Path) -> PairSet:
    """24 prompts, of each a bright and a dark video: people see it."""
    videos, votes = [], []
    for prompt in range(24):
        for number in (0, 1):
            file = folder / f"{prompt}-{number}.mp4"
            encode_video(file, (video(prompt, 8) // 4 + (0 if number else 180)).astype(np.uint8), 8.0)
            videos.append(Shown(f"prompt {prompt}", file))
        votes.append([[1.0, 0, 0]])
    first = np.arange(0, 48, 2)
    return PairSet(("visual_quality",), tuple(videos), first, first + 1, np.array(votes), 0, "test")


@pytest.mark.parametrize("family", ["qwen2_vl", *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES[1:])])
def test_the_same_training_teaches_it_and_its_checkpoint_holds_what_was_learned(
    bases: dict[str, Path], family: str, tmp_path: Path
) -> None:
    told = RewardRecipe(
        face="vlm",
        vlm=settings(bases[family], vision=family == "qwen2_vl"),
        fit=FitSettings(steps=16, lr=1e-2, warmup=2, ema=0.5),
        prompts=4,
        every=8,
        device="cpu",
    )
    made = train(pairs(tmp_path), told, tmp_path / "run")
    assert made.card["accuracy"]["visual_quality"]["value"] > 0.9
    path = tmp_path / "run" / "reward.safetensors"
    again = VideoReward.load(path)
    answers = [Answer("a red cat", video(3) // 4, 8.0)]
    np.testing.assert_array_equal(made.score(answers)[0].value, again.score(answers)[0].value)
    held = {name for name in again.encoder.tensors() if "layers" in name}
    assert all("lora" in name for name in held)
    assert any("visual" in name for name in again.encoder.tensors()) == (family == "qwen2_vl")
    other = tiny_vlm.write(bases[family], family, rows=280)
    with pytest.raises(CheckpointError, match="not the base"):
        VideoReward.load(path)
    tiny_vlm.write(other, family)


def published(folder: Path, base: Path, axes_heads: int) -> dict[str, torch.Tensor]:
    """A state as VideoAlign's trainer saves it: names of transformers 4.45 under peft, all weights of it."""
    plain = AutoModelForImageTextToText.from_pretrained(base).state_dict()
    draw = torch.Generator().manual_seed(7)
    state: dict[str, torch.Tensor] = {}
    for name, value in plain.items():
        old = name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")
        *path, leaf = old.split(".")
        if path[-1].endswith("_proj") and "layers" in path:
            stem = f"base_model.model.{'.'.join(path)}"
            state[f"{stem}.base_layer.{leaf}"] = value
            if leaf == "weight":
                state[f"{stem}.lora_A.default.weight"] = 0.3 * torch.randn(2, value.shape[1], generator=draw)
                state[f"{stem}.lora_B.default.weight"] = 0.3 * torch.randn(value.shape[0], 2, generator=draw)
        elif "visual" in path:
            state[f"base_model.model.{old}"] = value + 0.05 * torch.randn(value.shape, generator=draw)
        else:
            state[f"base_model.model.{old}"] = value
    rows = state["base_model.model.model.embed_tokens.weight"]
    state["base_model.model.model.embed_tokens.weight"] = torch.cat([rows, torch.randn(3, 32, generator=draw)])
    state["base_model.model.rm_head.weight"] = torch.randn(axes_heads, 32, generator=draw)
    (folder / "checkpoint-9").mkdir(parents=True)
    torch.save(state, folder / "checkpoint-9" / "model.pth")
    scale = {f"{name}_{part}": number for name in ("VQ", "MQ", "TA") for part, number in (("mean", 2.0), ("std", 0.5))}
    config = {
        "data_config": {"fps": 2.0, "max_frame_pixels": 56 * 56},
        "peft_lora_config": {"lora_r": 2, "lora_alpha": 4},
        "inference_config": scale,
    }
    (folder / "model_config.json").write_text(json.dumps(config))
    return state


@pytest.mark.parametrize("heads", [1, 3])
def test_the_published_layout_gives_the_scores_of_its_own_arithmetic(heads: int, tmp_path: Path) -> None:
    base = tiny_vlm.write(tmp_path / "base", "qwen2_vl", rows=len(tiny_vlm.tokenizer()))
    state = published(tmp_path / "published", base, heads)
    reward = load_published(tmp_path / "published", VlmSettings(base=str(base)))
    assert reward.axes == PUBLISHED == ("visual_quality", "motion_quality", "prompt_following")
    answer = Answer("a red cat", video(), 8.0)
    found = reward.score([answer])

    # The same by hand: the base with W + alpha / r B A in place of W, and the published rows, tower and head.
    plain = AutoModelForImageTextToText.from_pretrained(base)
    plain.resize_token_embeddings(len(tiny_vlm.tokenizer()) + 3)
    ours = plain.state_dict()
    for name in ours:
        old = name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")
        stem = f"base_model.model.{old.removesuffix('.weight')}"
        if f"{stem}.lora_A.default.weight" in state:
            change = state[f"{stem}.lora_B.default.weight"] @ state[f"{stem}.lora_A.default.weight"]
            ours[name] = state[f"{stem}.base_layer.weight"] + 4 / 2 * change
        elif f"base_model.model.{old}" in state and "lm_head" not in name:
            ours[name] = state[f"base_model.model.{old}"]
    plain.load_state_dict(ours)
    seen = reward.encoder.prepare(answer)
    ids = torch.tensor([seen.ids])
    with torch.no_grad():
        rows = plain.model.language_model.embed_tokens(ids)
        patches, grid = seen.clips[0].patches, torch.tensor([seen.clips[0].grid])
        rows[ids == plain.config.video_token_id] = plain.model.visual(patches, grid_thw=grid).pooler_output
        hidden = plain.model.language_model(inputs_embeds=rows).last_hidden_state[
            0
        ]  # without positions, as its trainer
    head = state["base_model.model.rm_head.weight"].expand(3, -1)
    for place, column in enumerate(found):
        at = seen.ids.index(len(tiny_vlm.tokenizer()) + place)
        assert column.value[0] == pytest.approx((float(hidden[at] @ head[place]) - 2.0) / 0.5, rel=1e-3, abs=1e-3)

    out = tmp_path / "reward.safetensors"
    told = ["import", str(tmp_path / "published"), "--out", str(out), f"base={base}"]
    done = CliRunner().invoke(reward_command, told)
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(VideoReward.load(out).score([answer])[1].value, found[1].value)

    del state["base_model.model.model.layers.1.self_attn.q_proj.lora_A.default.weight"]
    torch.save(state, tmp_path / "published" / "checkpoint-9" / "model.pth")
    with pytest.raises(CheckpointError, match="does not fit"):
        load_published(tmp_path / "published", VlmSettings(base=str(base)))
