"""`palate align dpo`: offline Flow-DPO from a record or a table, on tiny generators of each family."""

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

diffusers = pytest.importorskip("diffusers", reason="pip install 'palate[align]'")
pytest.importorskip("peft", reason="pip install 'palate[align]'")

import tiny_pipelines  # noqa: E402 (diffusers may be missing)

from alignment.algorithms.dpo import FlowDpo  # noqa: E402
from alignment.cli import align  # noqa: E402
from alignment.pairs import Pair, Preferred, of_record, of_table  # noqa: E402
from alignment.runs_cli import runs  # noqa: E402
from alignment.train import DpoRecipe, DpoSetup  # noqa: E402
from annotation.preferences import Policy, preferences  # noqa: E402
from models.families import folder_hash  # noqa: E402
from models.fit import StoppedError  # noqa: E402
from models.journal import read  # noqa: E402
from models.weights import load_checkpoint  # noqa: E402
from palate import shapes  # noqa: E402
from palate.config import load  # noqa: E402
from palate.errors import ConfigError, DataError  # noqa: E402
from palate.media import encode_video  # noqa: E402
from palate.records import Case, Comparison, Judgement, Preference, Run, Sample, Side, Verdict  # noqa: E402
from palate.store import Store  # noqa: E402

FAMILIES = [family for family in tiny_pipelines.MADE if family != "ltx"]
TWO = "wan of two networks"
PROMPTS = ("a red circle moves left", "a blue square stays")
SMALL = ("dpo.split=0.0", "dpo.hold=0.0", "dpo.batch=4", "dpo.beta=500.0", "generator.dtype=float32")
FIT = ("fit.steps=4", "fit.save_every=2", "fit.lr=1e-2", "fit.warmup=1", "fit.ema=0.0")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    class Folders(dict[str, Path]):
        def __missing__(self, family: str) -> Path:
            where = tmp_path_factory.mktemp("weights") / family
            made = tiny_pipelines.wan(two=True) if family == TWO else tiny_pipelines.MADE[family]()
            if family == TWO:
                made.register_to_config(boundary_ratio=0.5)
            self[family] = tiny_pipelines.save(where, made)
            return self[family]

    return Folders()


def videos(folder: Path, family: str, count: int = 4) -> list[Path]:
    """Files of noise, larger than the pipeline's size and longer than it draws: they are cut."""
    rng, size = np.random.default_rng(0), tiny_pipelines.SIZES[family]
    frames = 26 if "frames" in size else 1
    shape = (frames, size["height"] + 8, size["width"] + 24, 3)
    files = [folder / f"{place}.mp4" for place in range(count)]
    for file in files:
        encode_video(file, rng.integers(0, 256, shape, dtype=np.uint8), 24.0 if frames > 1 else 1.0)
    return files


def preferred(files: list[Path]) -> Preferred:
    rows = [(PROMPTS[0], files[:2], 1.0), (PROMPTS[1], files[2:4], 0.5)]
    return Preferred(tuple(Pair(prompt, *two, weight) for prompt, two, weight in rows), ("table",), "0" * 64)


def setup(family: str, weights: dict[str, Path], pairs: Preferred, *told: str) -> DpoSetup:
    size = (f"generator.{name}={value}" for name, value in tiny_pipelines.SIZES[family].items())
    named = (f"generator.family={family}", *size, "generator.lora.rank=2", *SMALL, *FIT, *told)
    return DpoSetup.of(load(DpoRecipe, None, named), pairs, weights[family])


def gradient(objective: FlowDpo, step: int = 0) -> tuple[float, torch.Tensor]:
    loss, _ = objective(step)
    loss.backward()
    found = [p.grad for p in objective.learner.network.parameters() if p.grad is not None]
    return float(loss.detach()), torch.cat([one.flatten() for one in found])


@pytest.mark.parametrize("family", FAMILIES)
def test_at_the_reference_the_loss_is_ln_2_and_a_swapped_pair_turns_the_gradient_round(
    family: str, weights: dict[str, Path], tmp_path: Path
) -> None:
    told = ("generator.lora.targets=['to_q', 'to_qkv_mlp_proj']", "generator.checkpointing=false")
    objective = setup(family, weights, preferred(videos(tmp_path, family)), *told).objective(tmp_path / "latents")
    pairs, both = objective.pairs, [gradient(objective)]
    objective.pairs = replace(pairs, winner=pairs.loser, loser=pairs.winner)
    objective.learner.zero_grad()
    both.append(gradient(objective))
    (loss, forward), (other, back) = both
    assert loss == pytest.approx(np.log(2), rel=1e-5)
    assert other == pytest.approx(np.log(2), rel=1e-5)
    assert forward.abs().max() > 0
    assert (back + forward).norm() < 1e-4 * forward.norm()
    assert len(list((tmp_path / "latents").rglob("*.safetensors"))) == 4


def test_a_step_is_the_formula_by_hand(weights: dict[str, Path], tmp_path: Path) -> None:
    """After some learning, from the encoded latents and the network alone: -log sigmoid of the errors' differences."""
    one = setup("wan", weights, preferred(videos(tmp_path, "wan")), "fit.lr=0.1")
    one.run(tmp_path / "run", tmp_path / "latents")
    objective = one.objective(tmp_path / "latents")
    loss, watched = objective(7)
    rng = torch.Generator().manual_seed(7)
    chosen = torch.randint(2, (4,), generator=rng)
    shape = (4, *objective.pairs.latents.shape)
    eps = torch.randn(shape, generator=rng)
    torch.randn(shape, generator=rng)
    t = torch.sigmoid(torch.randn(4, generator=rng))
    gaps = []
    for rows in (objective.pairs.winner, objective.pairs.loser):
        x0 = objective.pairs.latents[rows[chosen]]
        x = x0 + t.view(-1, 1, 1, 1, 1) * (eps - x0)
        conditions = objective.pairs.conditions[objective.pairs.prompt[chosen]]
        errors = []
        for kept in (None, one.learner.reference):
            with one.learner.under(kept) as network:
                v = one.student.policy.velocity(network, x, t, conditions)
            errors.append((v - (eps - x0)).square().flatten(1).mean(1))
        gaps.append(errors[0] - errors[1])
    weight = objective.pairs.weight[chosen]
    by_hand = (weight * torch.log1p(torch.exp(250.0 * (gaps[0] - gaps[1])))).sum() / weight.sum()
    assert (gaps[0] - gaps[1]).abs().max() > 1e-5
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-3)
    assert watched["winner_drift"].item() == pytest.approx(gaps[0].mean().item(), rel=1e-2, abs=1e-6)


@pytest.mark.parametrize("checkpointing", ["true", "false"])
def test_rows_at_a_time_do_not_change_the_gradient(
    checkpointing: str, weights: dict[str, Path], tmp_path: Path
) -> None:
    files, found = videos(tmp_path, "wan"), []
    for rows in (0, 1, 3):
        told = (f"rows={rows}", f"generator.checkpointing={checkpointing}")
        found.append(gradient(setup("wan", weights, preferred(files), *told).objective(tmp_path / "latents"))[1])
    for other in found[1:]:
        assert (other - found[0]).norm() < 1e-3 * found[0].norm()


def test_training_tells_winners_from_losers_and_encodes_each_video_once(
    weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = preferred(videos(tmp_path, "wan"))
    one = setup("wan", weights, pairs, "fit.steps=30", "dpo.beta=2000.0")
    encoded: list[int] = []
    encode = type(one.student.policy.pipeline.vae).encode  # type: ignore[attr-defined]
    vae = type(one.student.policy.pipeline.vae)  # type: ignore[attr-defined]
    monkeypatch.setattr(vae, "encode", lambda *told: (encoded.append(0), encode(*told))[1])
    written = one.run(tmp_path / "run", tmp_path / "latents")
    assert len(encoded) == 4
    lines = read(tmp_path / "run" / "metrics.jsonl")
    assert lines[-1]["implicit_accuracy"] == 1
    assert lines[-1]["loss"] < lines[0]["loss"] == pytest.approx(np.log(2), rel=1e-5)
    again = setup("wan", weights, pairs, "fit.steps=30", "dpo.beta=2000.0").run(
        tmp_path / "again", tmp_path / "latents"
    )
    assert len(encoded) == 4
    assert again.checkpoints == written.checkpoints
    other = setup("wan", weights, pairs, "generator.height=32")  # another size, so other latents
    other.objective(tmp_path / "latents")
    assert len(encoded) == 8


def table(folder: Path, files: list[Path], labels: tuple[str, ...]) -> Path:
    path = folder / "pairs.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path_A", "path_B", "prompt", "VQ", "Overall"])
        for place, label in enumerate(labels):
            two = files[2 * (place % 2) : 2 * (place % 2) + 2]
            writer.writerow([*(one.name for one in two), PROMPTS[place % 2], "A", label])
    return path


def test_a_tables_labels_are_preferences_by_the_policy(tmp_path: Path) -> None:
    """Of the first pair: A, A, same. Of the second: B and a tie."""
    files = videos(tmp_path, "wan")
    path = table(tmp_path, files, ("A", "B", "A", "same", "same", "invalid"))

    def told(**policy: Any) -> list[tuple[str, str, float]]:
        return [(one.winner.name, one.loser.name, one.weight) for one in of_table(path, Policy(**policy)).pairs]

    first, second = ("0.mp4", "1.mp4"), ("3.mp4", "2.mp4")
    assert sorted(told()) == [(*first, pytest.approx(2 / 3)), (*second, 0.5)]
    assert sorted(told(ties="drop")) == [(*first, 1.0), (*second, 1.0)]
    assert told(margin=0.6) == [(*first, pytest.approx(2 / 3))]
    assert told(aggregation="majority") == [(*first, 1.0)]
    assert sorted(told(axis="visual_quality")) == [("0.mp4", "1.mp4", 1.0), ("2.mp4", "3.mp4", 1.0)]
    with pytest.raises(DataError, match=r"no labels on motion_quality: set table\.axis to one of"):
        told(axis="motion_quality")
    with pytest.raises(DataError, match="holds no preference"):
        told(votes=4)


def asked(family: str, weights: dict[str, Path], out: Path, store: Path) -> list[str]:
    kind = "wan" if family == TWO else family
    size = [f"generator.{name}={value}" for name, value in tiny_pipelines.SIZES[kind].items()]
    where = ["--generator", kind, "--weights", str(weights[family]), "--out", str(out), "--store", str(store)]
    return ["dpo", *where, *size, "generator.lora.rank=2", *SMALL, *FIT]


def test_a_table_teaches_wan_by_one_command_and_diffusers_reads_what_it_learned(
    weights: dict[str, Path], tmp_path: Path
) -> None:
    path = table(tmp_path, videos(tmp_path, "wan"), ("A", "B"))
    command = [*asked("wan", weights, tmp_path / "run", tmp_path / "r.db"), "--table", str(path), "--json"]
    plan = json.loads(CliRunner().invoke(align, [*command, "--dry-run"], catch_exceptions=False).stdout)
    assert not (tmp_path / "run").exists()
    assert (plan["samples_a_step"], plan["evaluations_a_round"], plan["rounds"]) == (8, 32, 4)
    facts = json.loads(CliRunner().invoke(align, command, catch_exceptions=False).stdout)
    with Store(str(tmp_path / "r.db")) as record:
        (run,) = record.select(Run, task="align dpo")
        (start,) = record.select(Run, task="begun: align dpo")
    assert run.outputs == tuple(facts["checkpoints"])
    assert (facts["preferences"], facts["evaluations"]) == (2, 128)
    pipeline = diffusers.WanPipeline.from_pretrained(weights["wan"])
    pipeline.load_lora_weights(tmp_path / "run", weight_name="transformer.safetensors")
    assert max(p.abs().max() for name, p in pipeline.transformer.named_parameters() if "lora_B" in name) > 0
    again = CliRunner().invoke(runs, ["resume", start.id, "--store", str(tmp_path / "r.db")], catch_exceptions=False)
    assert again.exit_code == 0
    assert facts["checkpoint"][:12] in again.stdout


def study(record: Store, folder: Path) -> None:
    """Two cases, two samples of each, and three people's verdicts."""
    files = videos(folder, "wan")
    cases = [Case(suite="s", prompt=prompt, split="train") for prompt in PROMPTS]
    samples = [
        Sample(case=cases[place // 2].id, system="a", seed=place, media=record.media.add_file(file))
        for place, file in enumerate(files)
    ]
    pairs = [
        Comparison(
            study="s",
            case=case.id,
            candidate=samples[2 * i].id,
            baseline=samples[2 * i + 1].id,
            candidate_side=Side.LEFT,
        )
        for i, case in enumerate(cases)
    ]
    said = [
        Judgement(comparison=one.id, annotator=str(who), simulated=True, source="test", verdicts={"overall": verdict})
        for one, verdicts in zip(pairs, ((Verdict.GOOD,) * 3, (Verdict.BAD, Verdict.BAD, Verdict.SAME)))
        for who, verdict in enumerate(verdicts)
    ]
    record.add([*cases, *samples, *pairs, *said])
    record.add(preferences(pairs, said, Policy()))


def test_a_studys_preferences_teach_a_picture_or_a_video_generator(weights: dict[str, Path], tmp_path: Path) -> None:
    store = tmp_path / "r.db"
    with Store(str(store)) as record:
        study(record, tmp_path)
    command = asked("wan", weights, tmp_path / "run", store)
    facts = json.loads(CliRunner().invoke(align, [*command, "--study", "s", "--json"], catch_exceptions=False).stdout)
    with Store(str(store)) as record:
        (run,) = record.select(Run, task="align dpo")
        known = {one.id for one in record.select(Preference)}
    assert set(run.parents) == {folder_hash(weights["wan"]), *known}
    assert load_checkpoint(Path(facts["path"]) / "transformer.safetensors")[1]["trained"].startswith("Flow-DPO on 2")
    assert len(list((tmp_path / "latents").rglob("*.safetensors"))) == 4  # beside the record's media
    with pytest.raises(DataError, match="no preferences to learn from"):
        CliRunner().invoke(align, [*command, "--study", "s", "--axis", "visual_quality"], catch_exceptions=False)
    with pytest.raises(ConfigError, match="one source of preferences"):
        CliRunner().invoke(align, command, catch_exceptions=False)
    pictures = asked("sd3", weights, tmp_path / "sd3", store)
    with pytest.raises(DataError, match=r"mp4: a clip of 26 frames: give pictures"):
        CliRunner().invoke(align, [*pictures, "--study", "s"], catch_exceptions=False)


def test_sound_cannot_be_learned_from_videos_without_it(weights: dict[str, Path], tmp_path: Path) -> None:
    files = videos(tmp_path, "ltx")
    with pytest.raises(DataError, match="LTX2Pipeline draws sound"):
        setup("ltx", weights, preferred(files)).objective(tmp_path / "latents")


def test_a_loss_that_is_not_a_number_stops_the_run_with_the_last_good_state(
    weights: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_of = FlowDpo.__call__

    def breaks(self: FlowDpo, step: int) -> Any:
        loss, watched = step_of(self, step)
        return (loss * float("nan") if step == 3 else loss), watched

    monkeypatch.setattr(FlowDpo, "__call__", breaks)
    one = setup("wan", weights, preferred(videos(tmp_path, "wan")))
    with pytest.raises(StoppedError, match="step 3 is not a finite number"):
        one.run(tmp_path / "run", tmp_path / "latents")
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == 2


def die_before(step: int, told: list[str]) -> None:
    """In a process of its own: the command, until SIGKILL meets it before a step."""
    step_of = FlowDpo.__call__

    def until_killed(self: FlowDpo, now: int) -> Any:
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return step_of(self, now)

    FlowDpo.__call__ = until_killed  # type: ignore[method-assign]
    align.main(told)


def test_a_run_killed_with_9_goes_on_bit_for_bit(weights: dict[str, Path], tmp_path: Path) -> None:
    path = table(tmp_path, videos(tmp_path, "wan"), ("A", "B"))
    whole, broken = (
        [*asked("wan", weights, tmp_path / name, tmp_path / "r.db"), "--table", str(path)]
        for name in ("whole", "broken")
    )
    CliRunner().invoke(align, whole, catch_exceptions=False)
    forks = get_context("forkserver")
    forks.set_forkserver_preload(["alignment.train", "alignment.reinforce"])
    for step in range(1, 4):
        child = forks.Process(target=die_before, args=(step, broken))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert (tmp_path / "broken" / "state.pt").exists() == (step >= 2)
    CliRunner().invoke(align, broken, catch_exceptions=False)
    folders = [tmp_path / name for name in ("whole", "broken")]
    assert read(folders[0] / "metrics.jsonl") == read(folders[1] / "metrics.jsonl")
    one, other = ((folder / "transformer.safetensors").read_bytes() for folder in folders)
    assert one == other


CHILD = """
import hashlib, os, sys
import torch
from alignment.cli import align
from models import fit as fitting
from models.launch import everyones, first_process
from models.state import whole
after = fitting._Average.update
def hashed(self, step):
    after(self, step)
    digest = hashlib.sha256(b"".join(whole(p.detach()).numpy().tobytes() for p in self.trained)).hexdigest()
    assert len(set(everyones(digest))) == 1, step
    gradients = torch.cat([whole(p.grad).flatten() for p in self.trained if p.grad is not None])
    if step == 0 and first_process():
        torch.save(gradients, os.environ["GRADIENTS"])
fitting._Average.update = hashed
align.main(sys.argv[1:])
"""


def torchrun(told: list[str], folder: Path, processes: int) -> torch.Tensor:
    """The gradients of its first step."""
    script, gradients = folder / "child.py", folder / f"gradients-{processes}.pt"
    script.write_text(CHILD)
    launch = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
    around = {**os.environ, "PYTHONPATH": ".", "GRADIENTS": str(gradients)}
    done = subprocess.run([*launch, str(script), *told], env=around, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return torch.load(gradients, weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "shard"), [("wan", "false"), ("wan", "true"), (TWO, "true")])
def test_two_processes_learn_what_one_learns(family: str, shard: str, weights: dict[str, Path], tmp_path: Path) -> None:
    """Each encodes half of the videos; every rank's weights are hashed after each step by the child itself.

    Of two networks a process's times may need one alone: sharded, each waits for the other to call the same.
    """
    path = table(tmp_path, videos(tmp_path, "wan"), ("A", "B"))
    one, two = (
        [*asked(family, weights, tmp_path / name, tmp_path / "r.db"), "--table", str(path), *more]
        for name, more in (("one", ()), ("two", (f"generator.shard={shard}",)))
    )
    gradients = [torchrun(told, tmp_path, processes) for processes, told in ((1, one), (2, two))]
    # Winners' and losers' nearly cancel, so rounding shows: one process with rows one by one is as far away, 1e-4.
    assert (gradients[0] - gradients[1]).norm() < 1e-3 * gradients[0].norm()
    alone, shared = (learned(tmp_path / name) for name in ("one", "two"))
    assert alone.norm() > 0
    # Adam's first step is as long along a gradient of 1e-9 as along one of 1: those that rounding turns round are why
    # weights are further apart than gradients
    assert (alone - shared).norm() < 0.05 * alone.norm()


def learned(folder: Path) -> torch.Tensor:
    """The adapters' second matrices, of all networks: they begin at zero."""
    files = [load_checkpoint(path)[0] for path in sorted(folder.glob("transformer*.safetensors"))]
    return torch.cat([values.flatten() for one in files for name, values in sorted(one.items()) if "lora_B" in name])


def test_the_shapes_generator_learns_from_clips_of_its_own_world_alone(base: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = [shapes.draw_scene(rng, "train") for _ in range(4)]
    files = [tmp_path / f"{place}.mp4" for place in range(4)]
    for file, scene in zip(files, scenes):
        encode_video(file, shapes.render(scene, rng), shapes.FPS, 8)
    pairs = tuple(Pair(str(scenes[i]), files[i], files[i + 1], 1.0) for i in (0, 2))
    recipe = load(DpoRecipe, None, ("fit.steps=4", "fit.save_every=2", "dpo.batch=2"))
    one = DpoSetup.of(recipe, Preferred(pairs, (), "0" * 64), base)
    loss, watched = one.objective(tmp_path / "latents")(0)
    assert loss.item() == pytest.approx(np.log(2), rel=1e-5)
    assert watched["held"] == 0
    written = one.run(tmp_path / "run", tmp_path / "latents")
    assert written.path.name == "generator.safetensors"
    encode_video(tmp_path / "long.mp4", np.zeros((30, 60, 60, 3), np.uint8), 8.0)
    other = Preferred((Pair("a", tmp_path / "long.mp4", files[0], 1.0),), (), "1" * 64)
    with pytest.raises(DataError, match=r"long\.mp4: a clip of 30 frames of 60 x 60"):
        DpoSetup.of(recipe, other, base).objective(tmp_path / "latents")


def test_what_is_not_in_the_record_is_named(tmp_path: Path) -> None:
    with Store(str(tmp_path / "r.db")) as record, pytest.raises(DataError, match="no preferences to learn from"):
        of_record(record, [])


def test_the_recipe_of_the_paper_is_ready_to_run(weights: dict[str, Path], tmp_path: Path) -> None:
    """Down to the plan, on tiny weights of two networks."""
    recipe = Path(__file__).parents[1] / "alignment" / "recipes" / "wan-2.2-dpo.toml"
    size = [f"generator.{name}={value}" for name, value in tiny_pipelines.SIZES["wan"].items()]
    told = load(DpoRecipe, recipe, (*size, "generator.shard=false"))
    plan = DpoSetup.of(told, preferred([tmp_path / "none.mp4"] * 4), weights[TWO]).plan()
    assert (plan.samples_a_step, plan.rounds) == (128, 250)
    assert plan.evaluations_a_round == 128 * 5  # in batches of two, which are evaluated again to go backward
