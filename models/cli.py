"""`palate model`: pretrain a generator, sample from one, read its card."""

from pathlib import Path

import click

from palate.cli import json_option, report, settings_options, store_option

checkpoint_option = click.option(
    "--checkpoint", type=click.Path(path_type=Path), default=None, help="a .safetensors file; default: the shipped one"
)


@click.group()
def model() -> None:
    """Networks that turn prompts into videos."""


@model.command()
@store_option
@json_option
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="folder of the run")
@settings_options
def pretrain(store: str, as_json: bool, out: Path, recipe: Path | None, overrides: tuple[str, ...]) -> None:
    """Train the shapes generator; run it again to go on after a stop."""
    from models.gallery import glimpses
    from models.journal import JOURNAL, curves
    from models.pretrain import PretrainRecipe, pretrain
    from palate.config import load
    from palate.records import Run
    from palate.store import Store
    from palate.version import code_version

    settings = load(PretrainRecipe, recipe, overrides)
    with Store(store) as record:
        generator = pretrain(settings, out)
        parents = tuple(filter(None, (str(generator.card.get("base", "")),)))
        told = settings.model_dump(mode="json")
        made = (generator.checkpoint,)
        run = Run(
            task="model pretrain", recipe=told, code=code_version(), seed=settings.seed, parents=parents, outputs=made
        )
        record.add([run, *curves(out / JOURNAL, run), *glimpses(out, run, record.media)])
    path = out / "generator.safetensors"
    report(
        as_json,
        f"{path} is trained ({generator.checkpoint[:12]})",
        {"checkpoint": generator.checkpoint, "path": str(path)},
    )


@model.command()
@click.argument("prompt")
@checkpoint_option
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="the mp4 to write")
@settings_options
def sample(
    prompt: str, checkpoint: Path | None, seed: int, out: Path, recipe: Path | None, overrides: tuple[str, ...]
) -> None:
    """Draw one video for a prompt."""
    from models.generator import Generator, SamplerSettings
    from models.weights import SHIPPED
    from palate import shapes
    from palate.config import load
    from palate.media import encode_video

    sampler = load(SamplerSettings, recipe, overrides)
    generator = Generator.load(checkpoint or SHIPPED)
    encode_video(out, generator.clips([prompt], [seed], sampler)[0], shapes.FPS, scale=8)
    click.echo(f"{out}: {prompt!r}, seed {seed}")


@model.command()
@checkpoint_option
def card(checkpoint: Path | None) -> None:
    """Print a checkpoint's card: how it was trained, and its hash."""
    import json

    from models.weights import SHIPPED, file_hash, load_checkpoint

    path = checkpoint or SHIPPED
    _, written = load_checkpoint(path)
    click.echo(json.dumps({**written, "sha256": file_hash(path)}, indent=2))


@model.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="folder of the run")
@json_option
@settings_options
def captioner(out: Path, as_json: bool, recipe: Path | None, overrides: tuple[str, ...]) -> None:
    """Train the shapes world's captioner of conditions; run it again to go on after a stop."""
    from models.tiny_captioner import CaptionerRecipe, train
    from palate.config import load

    checkpoint = train(load(CaptionerRecipe, recipe, overrides), out)
    path = out / "captioner.safetensors"
    report(as_json, f"{path} is trained ({checkpoint[:12]})", {"checkpoint": checkpoint, "path": str(path)})
