"""The prompt enhancer's training (Kling-Omni 2.3, arXiv:2512.16776): SFT on thoughts and rewrites, then RL.

TRL drives both: SFTTrainer on (request -> thought -> rewrite), and GRPOTrainer on requests alone, with the terms of
alignment/prompt_reward.py as its reward functions, each logged under its name. Both go on after a stop from TRL's own
checkpoints. Everything asked is of the train split of the shapes world.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from pydantic import Field
from transformers.trainer_utils import get_last_checkpoint
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from alignment.prompt_reward import (
    PromptWeights,
    Similarity,
    Video,
    factual,
    good_prompts,
    plausibility,
    richness,
)
from models.enhancer import answer, answered, messages
from models.generator import Generator, SamplerSettings
from models.language import language_model, tokenizer_of, weights_hash
from models.slots import SLOTS, Slots
from models.tiny_enhancer import TinyShape, tiny_model, tiny_tokenizer
from models.weights import SHIPPED, file_hash
from palate.config import Settings, dump
from palate.errors import ConfigError
from palate.records import Run
from palate.version import code_version
from palate.wishes import KINDS, Kind, Wish, draw_wish

HARD: tuple[Kind, ...] = ("misspelt", "injected", "handles")
RL_SEED = 1_000_003  # the wishes of RL are others than those of SFT


class SftPart(Settings):
    """`wishes` different requests, in batches, with Adam and a cosine to zero. No steps: the base is taken as it is."""

    wishes: int = Field(default=30_000, ge=1)
    steps: int = Field(default=1_000, ge=0)
    batch: int = Field(default=32, ge=1)
    lr: float = Field(default=3e-3, gt=0)
    warmup: int = Field(default=50, ge=0)
    save_every: int = Field(default=250, ge=1)


class RlPart(Settings):
    """GRPO: each step answers `prompts` requests `group` times each. `beta` weighs the KL to the start of RL."""

    steps: int = Field(default=30, ge=0)
    prompts: int = Field(default=8, ge=1)
    group: int = Field(default=8, ge=2)  # one answer has nobody to be compared with
    lr: float = Field(default=3e-4, gt=0)
    beta: float = Field(default=0.02, ge=0)
    temperature: float = Field(default=1.2, gt=0)  # after SFT it is sure of nearly every word
    longest: int = Field(default=64, ge=1)  # tokens of an answer; the longest true one has 53
    save_every: int = Field(default=10, ge=1)
    weights: PromptWeights = PromptWeights()
    sampler: SamplerSettings = SamplerSettings()


class PromptRecipe(Settings):
    """What `palate align prompt` is told. `tiny` is the model that is made where no base is given."""

    seed: int = Field(default=0, ge=0)
    tiny: TinyShape = TinyShape()
    sft: SftPart = SftPart()
    rl: RlPart = RlPart()


def wishes(count: int, seed: int) -> list[Wish]:
    """Of the train split, those that are hard to read twice as often as the others."""
    rng = np.random.default_rng(seed)
    return [draw_wish(rng, "train", (*KINDS, *HARD)) for _ in range(count)]


@dataclass(frozen=True)
class Training:
    """A recipe, a folder, and what to begin with: a model of transformers, or None for a tiny one from nothing."""

    recipe: PromptRecipe
    folder: Path
    base: str | None = None
    generator: Path = SHIPPED

    def run(self) -> Path:
        """The stages that have steps, each once; returns the folder of the model that comes out.

        Raises:
            ConfigError: there is nothing to do, or the folder holds a run of another recipe.
            CheckpointError: the base is no language model.
        """
        told = self.recipe
        start = Path(self.base) if self.base else None
        if not told.rl.steps and not told.sft.steps:
            raise ConfigError("neither SFT nor RL has steps", "set sft.steps or rl.steps")
        if start is None and not told.sft.steps:
            raise ConfigError("RL from nothing", "give a --base, or set sft.steps")
        if self.base:
            tokenizer_of(self.base)
        self._claim()
        learned = self._once("sft", self.sft) if start is None or told.sft.steps else start
        return self._once("rl", lambda out: self.rl(learned, out)) if told.rl.steps else learned

    def recorded(self) -> tuple[Path, Run]:
        """Runs it; the folder of the model, and what the record is to say."""
        path = self.run()
        parents = (file_hash(self.generator), *([weights_hash(Path(self.base))] if self.base else []))
        return path, Run(
            task="align prompt",
            recipe=self.recipe.model_dump(mode="json"),
            code=code_version(),
            seed=self.recipe.seed,
            parents=parents,
            outputs=(weights_hash(path),),
        )

    def _claim(self) -> None:
        told = f'base = "{self.base or ""}"\n' + dump(self.recipe)
        kept = self.folder / "recipe.toml"
        if kept.exists() and kept.read_text() != told:
            raise ConfigError(f"{self.folder} holds a run of another recipe", "give another --out, or remove it")
        self.folder.mkdir(parents=True, exist_ok=True)
        kept.write_text(told)

    def _once(self, stage: str, learn: Callable[[Path], None]) -> Path:
        done, partial = self.folder / stage, self.folder / f"{stage}.partial"
        if not done.exists():
            learn(partial)
            partial.rename(done)
        return done

    def sft(self, out: Path) -> None:
        """SFTTrainer on the thought and the rewrite alone, not on the request."""
        told = self.recipe.sft
        asked = wishes(told.wishes, self.recipe.seed)
        if self.base is None:
            hidden = Slots(SLOTS)
            texts = (
                hidden.hide(text, wish.handles) for wish in asked for text in (wish.text, wish.thought, wish.rewrite)
            )
            tokenizer = tiny_tokenizer(texts, self.recipe.tiny.vocabulary)
            model: Any = tiny_model(self.recipe.tiny, tokenizer, self.recipe.seed)
        else:
            tokenizer, model = tokenizer_of(self.base), language_model(self.base)
        slots = Slots.of(tokenizer)
        rows = [
            {
                "prompt": messages(slots.hide(wish.text, wish.handles)),
                "completion": [
                    {"role": "assistant", "content": slots.hide(answer(wish.thought, wish.rewrite), wish.handles)}
                ],
            }
            for wish in asked
        ]
        settings = SFTConfig(
            **self._common("sft", told.steps, told.lr, told.save_every),
            per_device_train_batch_size=told.batch,
            train_sampling_strategy="group_by_length",
            lr_scheduler_type="cosine",
            warmup_steps=told.warmup,
            adam_beta2=0.98,  # a short run
            max_length=None,
        )
        self._train(SFTTrainer(model, settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer), out)

    def rl(self, start: Path, out: Path) -> None:
        """GRPOTrainer from `start` against the terms of the reward."""
        told = self.recipe.rl
        asked = wishes(told.steps * told.prompts, self.recipe.seed + RL_SEED)
        tokenizer = tokenizer_of(start)
        slots = Slots.of(tokenizer)
        rows = [{"prompt": messages(slots.hide(wish.text, wish.handles)), "wish": at} for at, wish in enumerate(asked)]
        terms = reward_functions(asked, Video(Generator.load(self.generator), told.sampler), slots)
        weights = told.weights.model_dump()
        settings = GRPOConfig(
            **self._common("rl", told.steps, told.lr, told.save_every),
            per_device_train_batch_size=told.prompts * told.group,
            num_generations=told.group,
            max_completion_length=told.longest,
            temperature=told.temperature,
            beta=told.beta,
            reward_weights=[weights[name] for name in terms],
        )
        data = Dataset.from_list(rows)
        rewards: list[Any] = list(terms.values())
        trainer = GRPOTrainer(str(start), rewards, settings, train_dataset=data, processing_class=tokenizer)
        self._train(trainer, out)

    def _common(self, stage: str, steps: int, lr: float, save_every: int) -> dict[str, Any]:
        here = torch.cuda.is_available()
        return {
            "output_dir": str(self.folder / f"{stage}-steps"),
            "max_steps": steps,
            "learning_rate": lr,
            "save_steps": save_every,
            "logging_steps": 1,
            "seed": self.recipe.seed,
            "use_cpu": not here,
            "bf16": here,
            "activation_checkpointing": False,
            "dataloader_pin_memory": here,
            "report_to": "none",
        }

    def _train(self, trainer: SFTTrainer | GRPOTrainer, out: Path) -> None:
        """Goes on from the last checkpoint; writes the model and, in `log.jsonl`, what each step reported."""
        steps = Path(str(trainer.args.output_dir))
        trainer.train(resume_from_checkpoint=get_last_checkpoint(str(steps)) if steps.exists() else None)
        trainer.save_model(str(out))
        (out / "log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in trainer.state.log_history))


RewardFunction = Callable[..., list[float]]


def reward_functions(asked: Sequence[Wish], video: Video, slots: Slots) -> dict[str, RewardFunction]:
    """The terms as TRL calls them: with the answers, and of each the number of its wish. Named as in the log."""
    each: Mapping[str, Callable[[Wish, str], float]] = {
        "factual": factual,
        "richness": richness,
        "plausibility": plausibility,
        "similarity": Similarity(good_prompts()),
    }

    def of(score: Callable[[Sequence[Wish], Sequence[str]], list[float]], name: str) -> RewardFunction:
        def term(completions: list[list[dict[str, str]]], wish: list[int], **_: object) -> list[float]:
            those = [asked[number] for number in wish]
            parts = [answered(slots.show(said[0]["content"], one.handles)) for one, said in zip(those, completions)]
            told = [(one, part[1]) for one, part in zip(those, parts) if part]
            known = iter(score([one for one, _ in told], [text for _, text in told]))
            return [next(known) if part else 0.0 for part in parts]

        term.__name__ = name
        return term

    def one_by_one(score: Callable[[Wish, str], float]) -> Callable[[Sequence[Wish], Sequence[str]], list[float]]:
        return lambda those, rewrites: [score(wish, text) for wish, text in zip(those, rewrites)]

    return {**{name: of(one_by_one(score), name) for name, score in each.items()}, "video": of(video, "video")}
