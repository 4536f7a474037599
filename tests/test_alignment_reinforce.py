"""`palate align`: runs of the online algorithms on a tiny generator, stopped, killed and refused."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_generator import killed_before

from alignment.cli import align
from alignment.recipe import ALGORITHMS, GrpoRecipe
from alignment.reinforce import Setup
from alignment.runs_cli import runs
from alignment.task import MeasuredSettings, reward_of
from alignment.verifier import Verifier, VerifierSettings
from models.fit import StoppedError
from models.generator import Generator
from models.journal import read
from palate import shapes
from palate.config import load
from palate.errors import CheckpointError, ConfigError, FileError, RecordError
from palate.records import Case, Curve, Run
from palate.store import Store
from rewards.pixels import PixelReward
from rewards.reward import Answer

SMALL = (
    "rollout.prompts=2",
    "rollout.group=3",
    "rollout.steps=3",
    "fit.steps=4",
    "fit.save_every=2",
    "updates=2",
    "trackers=[]",
)
WINDOW = ("grpo.window.last=1",)
MORE = {"grpo": (*WINDOW, "grpo.kl=0.1")}


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_a_command_trains_and_the_run_is_in_the_record(kind: str, base: Path, tmp_path: Path) -> None:
    arguments = [
        kind,
        "--weights",
        str(base),
        "--out",
        str(tmp_path / "run"),
        "--store",
        str(tmp_path / "r.db"),
        "--json",
    ]
    done = CliRunner().invoke(align, [*arguments, *SMALL, *MORE.get(kind, ())], catch_exceptions=False)
    facts = json.loads(done.stdout)
    aligned = Generator.load(Path(facts["path"]))
    assert aligned.checkpoint == facts["checkpoint"]
    with Store(str(tmp_path / "r.db")) as record:
        (run,) = record.select(Run, task=f"align {kind}")
    assert (run.task, run.outputs) == (f"align {kind}", (aligned.checkpoint,))
    assert run.parents == (Generator.load(base).checkpoint,)
    journal = read(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in journal] == [0, 1, 2, 3]
    with Store(str(tmp_path / "r.db")) as record:
        (loss,) = record.select(Curve, run=run.id, metric="loss")
    assert list(loss.readings) == [line["loss"] for line in journal]
    assert all(line["reward_failed"] == 0 for line in journal)


def test_only_the_named_parts_learn(base: Path, tmp_path: Path) -> None:
    """Under RWR, which learns from tied rewards too: this generator is never right."""
    recipe = ALGORITHMS["rwr"].recipe
    written = Setup.of("rwr", load(recipe, None, (*SMALL, 'generator.learned=["qkv", "words"]')), base).run(tmp_path)
    before, after = (dict(Generator.load(path).network.named_parameters()) for path in (base, written.path))
    changed = {name for name, p in before.items() if not torch.equal(p, after[name])}
    assert changed == {name for name in before if "qkv" in name or name.startswith("words")}
    with pytest.raises(ConfigError, match=r"the network has no kqv: give some of .*qkv"):
        Setup.of("rwr", load(recipe, None, (*SMALL, 'generator.learned=["kqv"]')), base)


@pytest.mark.parametrize("kind", ["grpo", "nft", "nrg"])
def test_a_run_killed_with_9_goes_on_bit_for_bit(kind: str, base: Path, tmp_path: Path) -> None:
    told = (*SMALL, *MORE.get(kind, ()), "fit.steps=6")
    whole = Setup.of(kind, load(ALGORITHMS[kind].recipe, None, told), base).run(tmp_path / "whole")
    assert killed_before(3, kind, base, tmp_path / "broken", told) == -signal.SIGKILL
    broken = Setup.of(kind, load(ALGORITHMS[kind].recipe, None, told), base).run(tmp_path / "broken")
    assert broken.checkpoints == whole.checkpoints
    assert read(tmp_path / "broken" / "metrics.jsonl") == read(tmp_path / "whole" / "metrics.jsonl")


def test_a_dry_run_says_how_large_the_run_is_and_writes_nothing(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["grpo", "--weights", str(base), "--out", str(out), "--dry-run", "--json", *SMALL, *WINDOW]
    plan = json.loads(CliRunner().invoke(align, arguments, catch_exceptions=False).stdout)
    parameters = sum(p.numel() for p in Generator.load(base).network.parameters())
    # Two prompts, three samples, three steps: begins at 0 or 1, so 1.5 of 3 steps are shared, and 2 states are trained.
    assert plan["evaluations_a_round"] == 2 * 1.5 + 6 * 1.5 + 2 * 3
    assert plan["samples_a_step"] == 3
    assert plan["parameters"] == parameters
    assert plan["bytes"] > 5 * 4 * parameters
    assert not out.exists()
    again = CliRunner().invoke(align, [*arguments, "passes=2", "fit.save_every=4"], catch_exceptions=False)
    twice = json.loads(again.stdout)
    assert twice["evaluations_a_round"] - plan["evaluations_a_round"] == 2 * 3  # drawn once, learned from again
    assert (plan["rounds"], twice["rounds"]) == (2, 1)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ("grpo.windw.last=1", "did you mean window"),
        ("grpo.window.last=2", "does not fit in 3 denoise steps"),
        ("rollout.group=1", "greater than or equal to 2"),
        ("fit.save_every=3", "multiples of updates"),
        ("updates=3", "multiple of updates"),
        ("passes=3", r"times passes \(3\)"),
        ("grpo.window.first=5", "after its last"),
        ("reward.families=[]", "no families"),
        ("generator=wan", "generator"),
        ("reward=verifier", "reward"),
        ("looks.gold=verifier", "looks.gold"),
        ("fit.save_every=0", "greater than or equal to 1"),
        ("fit.watch_every=0", "greater than or equal to 1"),
        ("fit.lr=-1.0", "greater than 0"),
        ("fit.clip=0.0", "greater than 0"),
        ("seed=-1", "greater than or equal to 0"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(told: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(GrpoRecipe, None, (*SMALL, *WINDOW, told))


def test_a_device_that_is_none_and_a_folder_that_is_a_file_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no device 'gpu'"):
        Setup.of("nft", load(ALGORITHMS["nft"].recipe, None, [*SMALL, "device=gpu"]), base)
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot be written"):
        Setup.of("nft", load(ALGORITHMS["nft"].recipe, None, SMALL), base).run(tmp_path / "file" / "run")


def test_what_is_looked_at_may_be_scored_by_any_reward() -> None:
    gold = ("looks.gold.kind=measured", "looks.gold.rewards=[{kind='pixels'}]", 'looks.gold.terms={"sharpness"={}}')
    told = load(ALGORITHMS["nft"].recipe, None, (*SMALL, *gold, "looks.prompts=50"))
    assert isinstance(told.looks.gold, MeasuredSettings)
    assert told.looks.prompts == 50
    with pytest.raises(ConfigError, match="no number to look at"):
        load(ALGORITHMS["nft"].recipe, None, (*SMALL, *gold, "looks.every=2", "looks.gold.per_prompt=true"))


def test_a_look_is_at_steps_that_are_watched() -> None:
    with pytest.raises(ConfigError, match=r"looks\.every \(4\) must be a multiple of fit\.watch_every \(3\)"):
        load(ALGORITHMS["nft"].recipe, None, (*SMALL, "looks.every=4", "fit.watch_every=3"))


def test_a_reference_that_moves_does_not_hold() -> None:
    with pytest.raises(ConfigError, match=r"dpo\.renew moves the reference"):
        load(ALGORITHMS["online-dpo"].recipe, None, (*SMALL, "dpo.renew=2", "times.split=0.5", "times.hold=1.0"))


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_last_good_state(base: Path, tmp_path: Path) -> None:
    setup = Setup.of("nft", load(ALGORITHMS["nft"].recipe, None, SMALL), base)
    sound = setup.objective.algorithm.loss

    def breaks(update):  # type: ignore[no-untyped-def]
        loss, watched = sound(update)
        return (loss * float("nan") if update.step == 3 else loss), watched

    setup.objective.algorithm.loss = breaks  # type: ignore[method-assign]
    with pytest.raises(StoppedError, match=r"step 3 is not a finite number.*smaller fit\.lr"):
        setup.run(tmp_path)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 2
    assert not (tmp_path / "generator.safetensors").exists()


def test_the_verifier_pays_for_what_the_caption_asks() -> None:
    rng = np.random.default_rng(0)
    scenes = [shapes.draw_scene(rng, "train") for _ in range(6)]
    clips = np.stack([shapes.render(scene, rng) for scene in scenes])
    paid = Verifier(VerifierSettings(strict=1.0, fraction=0.5, visual=2.0))
    right = paid([str(scene) for scene in scenes], clips)
    assert (right > 1.5 + 2 * 0.8).all()
    wrong = paid([str(scene) for scene in scenes[1:] + scenes[:1]], clips)
    assert (wrong < right - 1).all()
    assert np.isnan(paid(["a red cat"], clips[:1])).all()


def test_captions_to_ask_are_of_the_train_split_and_the_same_for_a_seed() -> None:
    verifier = Verifier(VerifierSettings(families=("count",)))
    asked = verifier.ask(20, 3)
    assert asked == verifier.ask(20, 3) != verifier.ask(20, 4)
    assert all(shapes.split_of(shapes.parse(caption)) == "train" for caption in asked)
    assert all(shapes.parse(caption).family == "count" for caption in asked)


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_the_recipe_that_comes_with_an_algorithm_is_one(kind: str) -> None:
    recipe = Path(__file__).parents[1] / "alignment" / "recipes" / f"{kind}.toml"
    assert load(ALGORITHMS[kind].recipe, recipe) != load(ALGORITHMS[kind].recipe)


def test_runs_are_listed_and_what_sets_two_apart_is_told(tmp_path: Path) -> None:
    store = str(tmp_path / "r.db")
    one, other = (
        Run(task="align nft", recipe={"fit": {"lr": lr, "steps": 4}}, code="1", seed=0, outputs=(made * 64,))
        for lr, made in ((1e-4, "a"), (2e-4, "b"))
    )
    with Store(store) as record:
        record.add([one, other, Run(task="model pretrain", recipe={}, code="1", seed=0)])
    listed = CliRunner().invoke(runs, ["list", "--store", store, "--task", "align nft"], catch_exceptions=False).stdout
    assert one.id in listed
    assert "pretrain" not in listed
    told = CliRunner().invoke(runs, ["compare", one.id, other.id, "--store", store, "--json"], catch_exceptions=False)
    assert json.loads(told.stdout)["differ"] == {"recipe.fit.lr": [1e-4, 2e-4], "made": ["a" * 20, "b" * 20]}
    case = Case(suite="s", prompt="p")
    with Store(store) as record:
        record.add([case])
    with pytest.raises(RecordError, match="not two runs"):
        CliRunner().invoke(runs, ["compare", one.id, case.id, "--store", store], catch_exceptions=False)


def test_rewards_in_different_units_are_added_in_deviations_of_each_prompts_samples() -> None:
    """GDPO: the darker half of one prompt's samples and of another's, whatever the spread of either."""
    lines = "reward.rewards=[{kind='pixels', names=['exposure', 'motion']}]"
    terms = "reward.terms={'pixels.exposure'={weight=-1.0}, 'pixels.motion'={weight=0.5}}"
    told = ("reward.kind=measured", lines, terms)
    rng = np.random.default_rng(0)
    clips = np.concatenate([rng.integers(0, top, (3, 8, 24, 24, 3), dtype=np.uint8) for top in (255, 40)])
    prompts = ["a"] * 3 + ["b"] * 3
    with pytest.raises(ConfigError, match="sum of different units"):
        reward_of(load(ALGORITHMS["awm"].recipe, None, told).reward, 8.0)(prompts, clips)
    recipe = load(ALGORITHMS["awm"].recipe, None, (*told, "reward.per_prompt=true"))
    found = reward_of(recipe.reward, 8.0)(prompts, clips).reshape(2, 3)
    answers = [Answer(prompt, clip, 8.0) for prompt, clip in zip(prompts, clips)]
    exposure, motion = (column.value.reshape(2, 3) for column in PixelReward(("exposure", "motion")).score(answers))

    def scaled(x: np.ndarray) -> np.ndarray:
        return (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True).clip(1e-3)

    np.testing.assert_allclose(found, -scaled(exposure) + 0.5 * scaled(motion), rtol=1e-6)
    with pytest.raises(ConfigError, match="no number to look at over training"):
        load(ALGORITHMS["awm"].recipe, None, (*told, "reward.per_prompt=true", "looks.every=2"))
