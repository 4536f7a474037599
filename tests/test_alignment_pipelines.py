"""`palate align ... --generator`: diffusers pipelines on disk, tiny and random, are taught by their own text."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

diffusers = pytest.importorskip("diffusers", reason="pip install 'palate[align]'")
pytest.importorskip("peft", reason="pip install 'palate[align]'")

import tiny_pipelines  # noqa: E402 (diffusers may be missing)
import transformers  # noqa: E402

from alignment.cli import align  # noqa: E402
from alignment.recipe import ALGORITHMS  # noqa: E402
from alignment.reinforce import Setup  # noqa: E402
from models.adapters import LoraSettings  # noqa: E402
from models.families import FAMILIES, PipelineSettings, open_pipeline  # noqa: E402
from models.journal import read  # noqa: E402
from models.weights import load_checkpoint  # noqa: E402
from palate.config import load  # noqa: E402
from palate.errors import CheckpointError, ConfigError  # noqa: E402
from palate.records import Run  # noqa: E402
from palate.store import Store  # noqa: E402

ROUNDS = ("rollout.prompts=2", "rollout.group=2", "rollout.steps=3", "fit.steps=2", "fit.save_every=2", "trackers=[]")
REWARD = (
    "reward.kind=measured",
    'reward.rewards=[{kind="pixels", names=["sharpness"]}]',
    'reward.terms={"pixels.sharpness"={weight=0.1}}',
)
SIZES = {
    family: tuple(f"generator.{name}={size}" for name, size in sizes.items())
    for family, sizes in tiny_pipelines.SIZES.items()
}
LORA = ("generator.lora.rank=2", "generator.lora.alpha=8")
WINDOW = ("grpo.window.last=1",)


class Folders(dict[str, Path]):
    """Of each family, made when it is first asked for."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def __missing__(self, family: str) -> Path:
        self[family] = tiny_pipelines.save(self.where / family, tiny_pipelines.MADE[family]())
        return self[family]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return Folders(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    path.write_text("a red circle moves left\n\na blue square stays\n  a circle moves up\n")
    return f"prompts={path}"


def setup_of(kind: str, family: str, weights: dict[str, Path], *told: str) -> Setup:
    named = (f"generator.family={family}", *SIZES[family], *LORA, *ROUNDS, *REWARD, *told)
    return Setup.of(kind, load(ALGORITHMS[kind].recipe, None, named), weights[family])


@pytest.mark.parametrize("family", tiny_pipelines.MADE)
def test_one_option_teaches_another_generator(
    family: str, weights: dict[str, Path], prompts: str, tmp_path: Path
) -> None:
    """And what it wrote is read by diffusers itself, to the picture that the taught network draws."""
    out, store = tmp_path / "run", str(tmp_path / "r.db")
    told = (prompts, *REWARD, *ROUNDS, *SIZES[family], *LORA, *WINDOW, "generator.dtype=float32", "fit.lr=1e-2")
    where = ("--generator", family, "--weights", str(weights[family]), "--out", str(out), "--store", store, "--json")
    facts = json.loads(CliRunner().invoke(align, ["grpo", *where, *told], catch_exceptions=False).stdout)
    lines = read(out / "metrics.jsonl")
    assert [(line["clipfrac"], line["approx_kl"], line["reward_failed"]) for line in lines] == [(0, 0, 0)] * 2
    with Store(store) as record:
        tasks = [run.task for run in record.select(Run)]
        (run,) = record.select(Run, task="align grpo")
    assert sorted(tasks) == ["align grpo", "begun: align grpo"]
    assert run.outputs == tuple(facts["checkpoints"])
    assert list((out / "samples").rglob("*.mp4"))

    kind = getattr(diffusers, FAMILIES[family].pipeline)
    base, theirs, ours = (kind.from_pretrained(weights[family]) for _ in range(3))
    if hasattr(kind, "load_lora_weights"):
        theirs.load_lora_weights(out, weight_name="transformer.safetensors")
    else:
        theirs.transformer.load_lora_adapter(out, weight_name="transformer.safetensors")
    merge(out / "transformer.safetensors", ours.transformer)
    drawn = [latents(one, family) for one in (base, theirs, ours)]
    torch.testing.assert_close(drawn[1], drawn[2], rtol=1e-3, atol=1e-4)
    assert (drawn[1] - drawn[0]).abs().max() > 1e-3


@pytest.mark.parametrize("family", tiny_pipelines.MADE)
def test_samples_are_drawn_in_the_precision_that_weights_have_by_default(
    family: str, weights: dict[str, Path], prompts: str
) -> None:
    """Some pipelines hand latents to their decoder as they are, which refuses what is wider than its weights."""
    setup = setup_of("awm", family, weights, prompts)
    assert setup.recipe.generator.dtype == "bfloat16"
    rollout = setup.objective.draw(0)
    assert rollout.latents.isfinite().all()
    assert rollout.rewards.isfinite().all()


def merge(path: Path, network: Any) -> None:
    """Weights that are as if they had been trained: W + B A, layer by layer."""
    tensors, card = load_checkpoint(path)
    assert card["recipe"]["generator"]["lora"] == {
        "rank": 2,
        "alpha": 8,
        "targets": list(LoraSettings().targets),
    }
    for name in {name.rsplit(".lora_", 1)[0] for name in tensors}:
        change = tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
        network.get_submodule(name.removeprefix("transformer.")).weight.data += change


def latents(pipeline: Any, family: str) -> torch.Tensor:
    call = PipelineSettings.model_validate({"family": family, **tiny_pipelines.SIZES[family]}).call()
    pipeline.set_progress_bar_config(disable=True)
    rng = torch.Generator().manual_seed(1)
    told = {"num_inference_steps": 2, "output_type": "latent", "return_dict": False, "generator": rng}
    return pipeline(prompt="a red circle", **call, **told)[0]


@pytest.mark.parametrize("kind", [kind for kind in ALGORITHMS if kind != "nrg"])  # whose guide no pipeline asks
def test_every_online_algorithm_teaches_a_pipeline(
    kind: str, weights: dict[str, Path], prompts: str, tmp_path: Path
) -> None:
    more = {"grpo": (*WINDOW, "grpo.kl=0.1"), "nft": ("nft.rise=0.5",)}.get(kind, ())
    setup = setup_of(kind, "wan", weights, prompts, *more, "fit.lr=1e-2")
    frozen = {name: p.clone() for name, p in setup.student.network.named_parameters() if not p.requires_grad}
    setup.run(tmp_path)
    now = dict(setup.student.network.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in frozen.items())
    adapters = [p for name, p in now.items() if "lora_B" in name]
    assert all(p.dtype == torch.float32 for p in adapters)
    assert max(p.abs().max() for p in adapters) > 0
    kept = torch.load(tmp_path / "state.pt", weights_only=True)["model"]
    assert not set(kept) & {f"network.{name}" for name in frozen}  # what never changes is not saved again and again


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("whole", ["true", "false"])
def test_the_ratio_is_exactly_1_in_every_precision_and_batch(
    dtype: str, batch: int, whole: str, weights: dict[str, Path], prompts: str
) -> None:
    """Training would be refused if any ratio were off by 1e-13, and the batch does not change the gradient."""
    told = (f"generator.dtype={dtype}", f"rollout.batch={batch}", f"generator.whole={whole}", "grpo.clip=1e-12")
    more = (prompts, "grpo.window.width=2", "grpo.window.last=0", "rollout.group=4")
    setup = setup_of("grpo", "wan", weights, *told, *more)
    loss, watched = setup.objective(0)
    loss.backward()
    assert watched["approx_kl"] == 0
    gradients = [p.grad for p in setup.student.network.parameters() if p.grad is not None]
    assert max(gradient.abs().max() for gradient in gradients) > 0


def test_the_gradient_does_not_depend_on_batch_or_checkpointing(weights: dict[str, Path], prompts: str) -> None:
    found = []
    for batch, checkpointing in ((0, "false"), (1, "false"), (3, "true")):
        told = (f"rollout.batch={batch}", f"generator.checkpointing={checkpointing}", "generator.dtype=float32")
        # equal weights, since a reward of rounded pixels may tell rounding from rounding
        setup = setup_of("rwr", "wan", weights, prompts, *told, "rwr.temperature=1e6")
        setup.objective(0)[0].backward()
        found.append(torch.cat([p.grad.flatten() for p in setup.student.network.parameters() if p.grad is not None]))
    assert found[0].abs().max() > 0
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-3, atol=1e-5 * float(found[0].abs().max()))


def test_a_rollout_in_batches_keeps_little_for_the_backward_pass(weights: dict[str, Path], prompts: str) -> None:
    kept = []
    for batch in (0, 1):
        setup = setup_of("awm", "wan", weights, prompts, f"rollout.batch={batch}", "generator.checkpointing=false")
        size = 0

        def note(saved: torch.Tensor) -> torch.Tensor:
            nonlocal size
            size += saved.numel() * saved.element_size()
            return saved

        setup.objective(0)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
            setup.objective(1)
        kept.append(size)
    assert kept[1] < 0.5 * kept[0]


def test_a_dry_run_counts_what_learns_and_what_is_frozen(
    weights: dict[str, Path], prompts: str, tmp_path: Path
) -> None:
    told = (prompts, *REWARD, *ROUNDS, *SIZES["wan"], *LORA, *WINDOW, "--dry-run", "--json")
    where = ("--generator", "wan", "--weights", str(weights["wan"]), "--out", str(tmp_path / "run"))
    plan = json.loads(CliRunner().invoke(align, ["grpo", *where, *told], catch_exceptions=False).stdout)
    network = diffusers.WanTransformer3DModel.from_pretrained(weights["wan"] / "transformer")
    layers = [part for name, part in network.named_modules() if name.endswith(("to_q", "to_k", "to_v", "to_out.0"))]
    assert plan["frozen"] == sum(p.numel() for p in network.parameters())
    assert plan["parameters"] == sum(2 * (one.in_features + one.out_features) for one in layers)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (REWARD, r"prompts: .*give prompts=FILE"),
        (("prompts=/nowhere.txt", *REWARD), r"prompts: /nowhere\.txt cannot be read"),
        (("generator.lora.targets=['nothing']", *REWARD), r"lora\.targets: no linear layer.*name ends of such as"),
        (("trackers=['nothing']",), "trackers: 'nothing' is none"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(
    told: tuple[str, ...], says: str, weights: dict[str, Path], tmp_path: Path
) -> None:
    recipe = load(ALGORITHMS["nft"].recipe, None, ("generator.family=wan", *SIZES["wan"], *told))
    if told[0].startswith("trackers"):
        recipe = load(ALGORITHMS["nft"].recipe, None, (*ROUNDS, *told))
        with pytest.raises(ConfigError, match=says):
            Setup.of("nft", recipe).run(tmp_path)
    else:
        with pytest.raises(ConfigError, match=says):
            Setup.of("nft", recipe, weights["wan"])


def test_weights_that_are_not_the_generators_are_refused(weights: dict[str, Path], tmp_path: Path) -> None:
    recipe = load(ALGORITHMS["nft"].recipe, None, ("generator.family=wan", *REWARD))
    with pytest.raises(CheckpointError, match="no weights of wan: give --weights"):
        Setup.of("nft", recipe)
    with pytest.raises(CheckpointError, match=r"holds no pipeline of diffusers.*hf download"):
        Setup.of("nft", recipe, tmp_path)
    with pytest.raises(CheckpointError, match="holds a StableDiffusion3Pipeline, no WanPipeline"):
        Setup.of("nft", recipe, weights["sd3"])
    with pytest.raises(ConfigError, match=r"generator.*family.*'wam'"):
        load(ALGORITHMS["nft"].recipe, None, ("generator.family=wam",))


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_weights_that_want_a_package_that_is_missing_are_refused(weights: dict[str, Path], tmp_path: Path) -> None:
    """As published, Flux 2's tokenizer is a processor of pictures too."""
    folder = tmp_path / "flux2"
    shutil.copytree(weights["flux2"], folder)
    transformers.PixtralImageProcessorPil().save_pretrained(folder / "tokenizer")
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "PixtralProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"flux2 cannot be loaded \(.*wants torchvision"):
        open_pipeline(PipelineSettings(family="flux2"), folder, "cpu")


def test_prompts_of_a_file_come_each_at_most_once_a_round_and_again_for_the_same_seed(prompts: str) -> None:
    from alignment.task import PromptFile

    file = PromptFile(Path(prompts.removeprefix("prompts=")))
    assert sorted(file(3, 0)) == ["a blue square stays", "a circle moves up", "a red circle moves left"]
    assert file(2, 5) == file(2, 5)
    assert len({tuple(file(2, seed)) for seed in range(20)}) > 3
    assert len(file(7, 0)) == 7
    assert np.unique(file(7, 0)).size <= 3


@pytest.mark.parametrize(("name", "family"), [("sd3.5", "sd3"), ("wan-2.2", "wan")])
def test_the_recipes_of_papers_are_ready_to_run(
    name: str, family: str, weights: dict[str, Path], prompts: str, tmp_path: Path
) -> None:
    """Down to the plan, on tiny weights: every field, every adapted layer, the window and the batches fit."""
    recipe = Path(__file__).parents[1] / "alignment" / "recipes" / f"{name}.toml"
    told = load(ALGORITHMS["grpo"].recipe, recipe)
    assert told.generator.family == family
    small = load(ALGORITHMS["grpo"].recipe, recipe, (prompts, *SIZES[family], "generator.shard=false"))
    plan = Setup.of("grpo", small, weights[family]).plan()
    assert plan.samples_a_step == told.rollout.samples / told.updates
    assert plan.parameters > 0
