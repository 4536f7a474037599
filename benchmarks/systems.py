"""Systems that a suite is asked: a generator, its weights, and what each system has learned since."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.runner import Answering, Scorer
from palate import shapes
from palate.config import load
from palate.errors import CheckpointError, ConfigError

SHAPES = "shapes"


def systems(
    told: Sequence[str],
    family: str,
    weights: Path | None,
    recipe: Path | None,
    overrides: Sequence[str],
    scorer: Scorer,
    media: Path,
) -> list[Answering[Any]]:
    """What each system answers with.

    Args:
        told: NAME, or NAME=LEARNED with what `palate align` or `palate model pretrain` wrote, a folder or a file.
        family: shapes, or a family of diffusers' pipelines; one for all systems, as is the sampler.

    Raises:
        ConfigError: a family or a setting that is none, or a name twice.
        CheckpointError: weights that are not there.
    """
    named = [(name, Path(learned) if learned else None) for name, _, learned in (one.partition("=") for one in told)]
    for name, count in Counter(name for name, _ in named).items():
        if count > 1 or not name:
            raise ConfigError(f"--system {name!r} is there {count} times", "give each system a name of its own")
    if family == SHAPES:
        from models.generator import Generator, SamplerSettings
        from models.weights import SHIPPED, file_hash

        sampler = load(SamplerSettings, recipe, overrides)
        given = [(name, learned or weights or SHIPPED) for name, learned in named]
        files = [(name, path / "generator.safetensors" if path.is_dir() else path) for name, path in given]
        return [
            Answering(
                partial(Generator.load_for_worker, path), name, file_hash(path), sampler, scorer, media, shapes.FPS
            )
            for name, path in files
        ]
    try:
        from models.families import FAMILIES
        from models.pipeline_generator import PipelineGenerator, PipelineSampler, checkpoint_of
    except ImportError as error:
        raise ConfigError(f"pipelines cannot be loaded ({error})", "pip install 'palate[align]'") from error
    if family not in FAMILIES:
        raise ConfigError(f"no generator {family!r}", f"choose one of {', '.join([SHAPES, *FAMILIES])}")
    if weights is None:
        raise CheckpointError(f"no weights of {family}", "give --weights, a folder in diffusers' format")
    asked = load(PipelineSampler, recipe, overrides)
    return [
        Answering(
            partial(PipelineGenerator.load, family, weights, learned, asked.dtype),
            name,
            checkpoint_of(weights, learned),
            asked,
            scorer,
            media,
            fps=FAMILIES[family].fps or 1.0,  # a picture stands for a second
            scale=1,
            chunk=1,
        )
        for name, learned in named
    ]
