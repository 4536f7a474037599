"""One update of Flow-GRPO beside the reference implementation's own functions, on a tiny random SD3 with LoRA.

The same weights, prompts, guidance, states, advantages, clip and KL. One denoise step is learned from; the reference
goes through its steps one by one, so that each costs this. Its code is read from a checkout of its repository
(https://github.com/yifan123/flow_grpo) and is not part of this one:

    python tests/perf/grpo_update.py --reference PATH --out docs/speed-alignment.md

CPU seconds of one thread, both updates in turn, so that whatever else the machine does meets them alike: of each the
least of all rounds, and how much faster is the median of the rounds' ratios, with a bootstrap interval. Bytes are those
that autograd keeps for the backward pass, each storage once, without the weights.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from alignment.algorithms.grpo import Grpo, GrpoSettings
from alignment.online import TimesSettings, Update
from alignment.policy import InBatches, Learner
from alignment.rollout import RandomStep, Rollout, WindowSettings
from models.adapters import LoraSettings, adapt
from models.pipelines import TracedPipeline
from models.replay import Conditions

SAMPLES, STEPS, LEARNED, GUIDANCE, CLIP, LEVEL = 8, 10, 3, 4.5, 1e-4, 0.7
KLS = (0.04, 0.0)  # weights of the KL to the start: flow_grpo's, and none, which spares the reference's evaluations
STUBS = (
    "absl",
    "absl.app",
    "absl.flags",
    "ml_collections",
    "ml_collections.config_flags",
    "wandb",
    "flow_grpo.prompts",
    "flow_grpo.rewards",
)


@dataclass(frozen=True)
class Measured:
    """One way to make an update: its gradients, and what that took."""

    gradients: list[Tensor]
    bytes: int
    evaluations: float


def pipeline() -> Any:
    """Random weights; adapters that have learned something, so that the KL is not zero."""
    torch.manual_seed(0)
    network = diffusers.SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        num_layers=4,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=64,
        caption_projection_dim=128,
        pooled_projection_dim=64,
        out_channels=4,
        pos_embed_max_size=16,
    )
    vae: Any = diffusers.AutoencoderKL(
        block_out_channels=(4,) * 4,
        norm_num_groups=2,
        latent_channels=4,
        shift_factor=0.1,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    nothing: dict[str, Any] = dict.fromkeys(
        ["text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "text_encoder_3"]
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    made = diffusers.StableDiffusion3Pipeline(network, scheduler, vae=vae, tokenizer_3=None, **nothing)
    made.set_progress_bar_config(disable=True)
    adapt(network, LoraSettings())
    return made


def learned(network: nn.Module) -> None:
    for name, p in network.named_parameters():
        if "lora_B" in name:
            p.data.normal_(0, 0.02)


def reference_in(folder: Path) -> tuple[ModuleType, Callable[..., Any]]:
    """Its training script and its sampler, untouched; what they import of loggers and flags is left out."""
    importlib.import_module("accelerate")  # before the stubs: it looks for them
    sys.modules.update({name: MagicMock() for name in STUBS})
    sys.path[:0] = [str(folder), str(folder / "scripts")]
    sampler = importlib.import_module("flow_grpo.diffusers_patch.sd3_pipeline_with_logprob")
    return importlib.import_module("train_sd3"), sampler.pipeline_with_logprob


def measured(parameters: list[nn.Parameter], loss: Callable[[], Tensor], counted: list[int]) -> Measured:
    """`counted` has one number, of the samples that the network has evaluated so far."""
    weights = {p.untyped_storage().data_ptr() for p in parameters}
    kept: dict[int, int] = {}

    def note(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return saved

    before = counted[0]
    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        value = loss()
    evaluations = counted[0] - before
    gradients = list(torch.autograd.grad(value, [p for p in parameters if p.requires_grad]))
    return Measured(gradients, sum(kept.values()), evaluations / SAMPLES)


def timed(parameters: list[nn.Parameter], losses: list[Callable[[], Tensor]], rounds: int) -> NDArray[np.float64]:
    """CPU seconds of each update in each round: (updates, rounds)."""
    found = np.zeros((len(losses), rounds))
    for round_ in range(rounds):
        for place, loss in enumerate(losses):
            start = time.process_time()
            torch.autograd.grad(loss(), [p for p in parameters if p.requires_grad])
            found[place, round_] = time.process_time() - start
    return found


def median(ratios: NDArray[np.float64]) -> str:
    again = np.random.default_rng(0).choice(ratios, (4000, len(ratios)))
    low, high = np.quantile(np.median(again, axis=1), (0.025, 0.975))
    return f"{np.median(ratios):.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of flow_grpo")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=Path, help="write a table in Markdown")
    told = parser.parse_args()
    torch.set_num_threads(1)
    script, sample = reference_in(told.reference)
    pipe = pipeline()
    network, parameters = pipe.transformer, list(pipe.transformer.parameters())
    traced = TracedPipeline(pipe, height=128, width=128, guidance_scale=GUIDANCE)
    learner = Learner(traced.network, reference=True)
    learned(network)
    counted = [0]
    network.register_forward_pre_hook(
        lambda _, args, kwargs: counted.__setitem__(0, counted[0] + len(kwargs["hidden_states"])), with_kwargs=True
    )

    rng = torch.Generator().manual_seed(1)
    prompt = {
        f"{prefix}{name}": torch.randn(1, *shape, generator=rng)
        for prefix in ("", "negative_")
        for name, shape in (("prompt_embeds", (6, 64)), ("pooled_prompt_embeds", (64,)))
    }
    rewards = torch.randn(1, SAMPLES, generator=rng)
    advantages = (rewards[0] - rewards.mean()) / rewards.std(correction=0)
    with torch.no_grad():
        _, latents, log_probabilities = sample(
            pipe,
            **{name: repeated(value) for name, value in prompt.items()},
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            height=128,
            width=128,
            output_type="pt",
            noise_level=LEVEL,
        )
    conditions = traced.traced(**prompt)
    pipe.scheduler.set_timesteps(STEPS)
    now, after = (float(pipe.scheduler.sigmas[LEARNED + one]) for one in (0, 1))
    rows = []
    for kl in KLS:
        losses = [
            reference_update(script, pipe, latents, log_probabilities, advantages, prompt, kl),
            own_update(
                traced,
                learner if kl else Learner(traced.network),
                conditions,
                latents[LEARNED : LEARNED + 2],
                now,
                after,
                rewards,
                kl,
            ),
        ]
        theirs, ours = both = [measured(parameters, loss, counted) for loss in losses]
        seconds = timed(parameters, losses, told.rounds)
        apart = [float((a - b).norm() / b.norm()) for a, b in zip(ours.gradients, theirs.gradients) if b.norm() > 0]
        rows += [
            f"| {kl:g} | {name} | {least:.3f} | {one.bytes / 2**20:.1f} | {one.evaluations:g} | |"
            for name, one, least in zip(("flow_grpo", "palate"), both, seconds.min(axis=1))
        ]
        rows.append(
            f"| | | {median(seconds[0] / seconds[1])} times as fast | {1 - ours.bytes / theirs.bytes:.0%} less | "
            f"| {max(apart):.0e} |"
        )
    text = "\n".join(
        [
            "# What an update of Flow-GRPO takes",
            "",
            f"Written by `python tests/perf/grpo_update.py --reference PATH --rounds {told.rounds} "
            "--out docs/speed-alignment.md`,",
            "where PATH is a checkout of https://github.com/yifan123/flow_grpo, whose own functions make its update:",
            f"one denoise step of {SAMPLES} samples of one prompt, a tiny random SD3 with LoRA, guidance {GUIDANCE:g}",
            f"and one thread. CPU seconds are the least of {told.rounds} rounds of both in turn; how much faster is",
            "the median of the rounds' ratios with its 95% bootstrap interval.",
            "",
            "| KL | update | CPU seconds | MB kept for backward | evaluations a sample | gradients apart |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "*Apart* is the largest relative error of a weight's gradient. In both, nothing goes back through what",
            "guidance leads away from; here it is not evaluated with a graph either, and an update that learns from a",
            "rollout before anything has changed takes it from there. The reference's adapters, which are without",
            "effect, are not evaluated; flow_grpo turns them off as well.",
            "",
        ]
    )
    print(text)
    if told.out:
        told.out.write_text(text)


def repeated(one: Tensor) -> Tensor:
    """For each of the samples."""
    return one.expand(SAMPLES, *one.shape[1:])


def reference_update(
    script: ModuleType,
    pipe: Any,
    latents: list[Tensor],
    log_probabilities: list[Tensor],
    advantages: Tensor,
    prompt: dict[str, Tensor],
    kl: float,
) -> Callable[[], Tensor]:
    """Its loss of one step, as its training loop puts it together."""
    config = SimpleNamespace(
        train=SimpleNamespace(cfg=True), sample=SimpleNamespace(guidance_scale=GUIDANCE, noise_level=LEVEL)
    )
    batch = {
        "latents": torch.stack(latents[:-1], dim=1),
        "next_latents": torch.stack(latents[1:], dim=1),
        "timesteps": pipe.scheduler.timesteps.repeat(SAMPLES, 1),
    }
    asked = [
        torch.cat([repeated(prompt[f"negative_{name}"]), repeated(prompt[name])])
        for name in ("prompt_embeds", "pooled_prompt_embeds")
    ]
    layers = [part for part in pipe.transformer.modules() if isinstance(part, LoraLayer)]

    def evaluated() -> tuple[Tensor, ...]:
        return script.compute_log_prob(pipe.transformer, pipe, batch, LEARNED, *asked, config)

    def loss() -> Tensor:
        _, log_probability, mean, deviation = evaluated()
        ratio = torch.exp(log_probability - log_probabilities[LEARNED])
        policy = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
        if not kl:
            return policy
        with torch.no_grad():
            for layer in layers:
                layer.enable_adapters(False)
            _, _, start, _ = evaluated()
            for layer in layers:
                layer.enable_adapters(True)
        return policy + kl * (((mean - start) ** 2).mean(dim=(1, 2, 3), keepdim=True) / (2 * deviation**2)).mean()

    return loss


def own_update(
    traced: TracedPipeline,
    learner: Learner,
    conditions: Conditions,
    latents: list[Tensor],
    now: float,
    after: float,
    rewards: Tensor,
    kl: float,
) -> Callable[[], Tensor]:
    """Ours, of the same step and its rollout."""
    window = WindowSettings(width=1, first=LEARNED, last=LEARNED, branch=False, level=LEVEL)
    algorithm = Grpo(GrpoSettings(clip=CLIP, kl=kl, kl_scaling="flow_grpo", window=window))
    policy, rows = InBatches(traced), torch.arange(SAMPLES)
    (start, end), none = latents, torch.zeros(1, dtype=torch.long)
    asked = (traced.network, start, torch.full((SAMPLES,), now), conditions[torch.zeros(SAMPLES, dtype=torch.long)])
    with torch.no_grad():
        unguided = policy.unguided(*asked)
        old = window.step(start, policy.velocity(*asked, unguided), now, after)
    step = RandomStep(start, unguided, rows, end, now, after, old)
    rollout = Rollout(none, conditions, SAMPLES, end, rewards, (step,))
    return lambda: algorithm.loss(Update(policy, learner, rollout, none, 0, True, 0, 3.0, TimesSettings()))[0]


if __name__ == "__main__":
    main()
