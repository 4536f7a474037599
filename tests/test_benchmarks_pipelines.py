"""`palate bench run --generator`: tiny random pipelines of diffusers answer a suite with what they learned."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

diffusers = pytest.importorskip("diffusers", reason="pip install 'palate[align]'")
pytest.importorskip("peft", reason="pip install 'palate[align]'")

import tiny_pipelines  # noqa: E402 (diffusers may be missing)
from tiny_pipelines import SIZES  # noqa: E402

from benchmarks.cli import bench  # noqa: E402
from benchmarks.runner import seed_of  # noqa: E402
from models.adapters import LoraSettings, adapt, adapters_of  # noqa: E402
from models.families import FAMILIES  # noqa: E402
from models.pipeline_generator import PipelineGenerator, PipelineSampler  # noqa: E402
from models.weights import save_checkpoint  # noqa: E402
from palate.errors import CheckpointError, ConfigError  # noqa: E402
from palate.records import Case, Sample  # noqa: E402
from palate.store import Store  # noqa: E402

EXACT = {"steps": 2, "dtype": "float32"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    return {name: tiny_pipelines.save(folder / name, made()) for name, made in tiny_pipelines.MADE.items()}


@pytest.fixture
def record(tmp_path: Path) -> str:
    """A store with a suite of two prompts, one of which has a reference."""
    url = str(tmp_path / "record.db")
    with Store(url) as store:
        plain = Case(suite="own", prompt="a red circle moves left")
        store.add([plain, Case(suite="own", prompt="@Image_1 moves", conditions={"@Image_1": "a blue square"})])
    return url


def run(record: str, family: str, weights: Path | None, *systems: str, **sampler: Any) -> dict[str, Any]:
    told = ["run", "own", "--store", record, "--json", "--generator", family]
    told += [word for name in systems for word in ("--system", name)]
    told += ["--weights", str(weights)] if weights else []
    told += [f"{name}={value}" for name, value in sampler.items()]
    return json.loads(CliRunner().invoke(bench, told, catch_exceptions=False).stdout)


@pytest.mark.parametrize("family", tiny_pipelines.MADE)
def test_a_pipeline_answers_as_diffusers_own_call_does(family: str, weights: dict[str, Path], record: str) -> None:
    facts = run(record, family, weights[family], "base", **SIZES[family], **EXACT)
    assert [(one["samples"], one["failed"]) for one in facts["systems"]] == [(2, 1)]
    with Store(record) as store:
        failed, made = sorted(store.select(Sample), key=lambda one: one.failure is None)
        case = store.get(made.case)
        assert isinstance(case, Case)
        assert made.seed == seed_of(case, 0)
        assert (failed.failure or "").startswith("DataError: this generator takes text alone")
        video = store.media.video(made.media or "")
    pipeline = getattr(diffusers, FAMILIES[family].pipeline).from_pretrained(weights[family])
    size = {name.replace("frames", "num_frames"): value for name, value in SIZES[family].items()}
    noise = torch.Generator().manual_seed(made.seed)
    asked = {"prompt": case.prompt, "num_inference_steps": 2, "output_type": "np", "return_dict": False}
    theirs = pipeline(**asked, generator=noise, **size)
    theirs = np.asarray(theirs[0]).reshape(-1, size["height"], size["width"], 3)
    assert video.frames.shape == theirs.shape
    assert video.fps == (FAMILIES[family].fps or 1.0)
    generator = PipelineGenerator.load(family, weights[family], None, "float32")
    sampler = PipelineSampler(**SIZES[family], **EXACT)
    (ours,) = generator.clips([case.prompt], [made.seed], sampler)
    np.testing.assert_allclose(ours, theirs * 255, atol=0.6)
    (other,) = generator.clips([case.prompt], [made.seed + 1], sampler)
    assert (other != ours).any()


@pytest.mark.parametrize("whole", [False, True])
def test_what_was_learned_answers_under_its_own_name(
    whole: bool, weights: dict[str, Path], record: str, tmp_path: Path
) -> None:
    """Adapters as `palate align` writes them give what W + B A gives; whole networks, what they are."""
    learned = tmp_path / "learned"
    taught = diffusers.WanPipeline.from_pretrained(weights["wan"])
    torch.manual_seed(1)
    adapt(taught.transformer, LoraSettings(rank=2, alpha=8.0, targets=("to_q", "to_v")))
    for name, p in taught.transformer.named_parameters():
        if "lora_B" in name:
            p.data = 5 * torch.randn_like(p)
    plain = diffusers.WanPipeline.from_pretrained(weights["wan"])
    tensors = adapters_of(taught.transformer)
    for name in {name.rsplit(".lora_", 1)[0] for name in tensors}:
        change = tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
        plain.transformer.get_submodule(name.removeprefix("transformer.")).weight.data += change
    if whole:
        path = learned / "transformer" / "diffusion_pytorch_model.safetensors"
        save_checkpoint(path, plain.transformer.state_dict(), {})
    else:
        save_checkpoint(learned / "transformer.safetensors", tensors, {})
    facts = run(record, "wan", weights["wan"], "base", f"taught={learned}", **SIZES["wan"], **EXACT)["systems"]
    assert [one["system"] for one in facts] == ["base", "taught"]
    assert facts[0]["checkpoint"] != facts[1]["checkpoint"]
    prompt, sampler = "a red circle moves left", PipelineSampler(**SIZES["wan"], **EXACT)
    base, ours = (
        PipelineGenerator.load("wan", weights["wan"], one, "float32").clips([prompt], [3], sampler)
        for one in (None, learned)
    )
    asked = {"num_inference_steps": 2, "height": 16, "width": 16, "num_frames": 5, "output_type": "np"}
    theirs = plain(prompt, generator=torch.Generator().manual_seed(3), return_dict=False, **asked)[0]
    np.testing.assert_allclose(ours, theirs * 255, atol=1)
    assert np.abs(ours.astype(float) - base).max() > 5


def test_guidance_is_the_pipelines_own_unless_it_is_told(weights: dict[str, Path]) -> None:
    generator = PipelineGenerator.load("wan", weights["wan"], None, "float32")
    sampler = PipelineSampler(**SIZES["wan"], **EXACT)
    clips = [
        generator.clips(["a red circle"], [0], sampler.model_copy(update={"guidance": scale}))
        for scale in (None, 5.0, 500.0)
    ]
    assert (clips[0] == clips[1]).all()  # 5 is what WanPipeline says itself
    assert (clips[0] != clips[2]).any()


def test_what_does_not_fit_is_refused_before_anything_is_asked(
    weights: dict[str, Path], record: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    other = tmp_path / "other"
    save_checkpoint(other / "transformer_2.safetensors", {"transformer.x.lora_A.weight": torch.zeros(1, 1)}, {})
    for refusal, problem, told in (
        (ConfigError, "no generator 'wam': choose one of shapes, wan", ("wam", weights["wan"], "base")),
        (ConfigError, "--system 'a' is there 2 times", ("wan", weights["wan"], "a", "a")),
        (CheckpointError, "no weights of wan: give --weights", ("wan", None, "base")),
        (CheckpointError, "holds a StableDiffusion3Pipeline, no WanPipeline", ("wan", weights["sd3"], "base")),
        (CheckpointError, "holds no transformer", ("wan", weights["wan"], f"a={tmp_path / 'empty'}")),
        (CheckpointError, "was not learned from these weights", ("wan", weights["wan"], f"a={other}")),
        (CheckpointError, "no checkpoint at ", ("shapes", tmp_path / "none", "base")),
    ):
        with pytest.raises(refusal, match=problem):
            run(record, *told)
    with pytest.raises(ConfigError, match="guidence is no setting, did you mean guidance"):
        run(record, "wan", weights["wan"], "base", guidence=3)
    with Store(record) as store:
        assert store.count(Sample) == 0
