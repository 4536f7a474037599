"""`palate align`: from preferences to a better generator."""

from pathlib import Path

import click

from palate.cli import json_option, report, settings_options, store_option

out_option = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="folder of the run"
)


@click.group()
def align() -> None:
    """Train a generator on what people prefer."""


@align.command()
@store_option
@json_option
@click.option("--study", required=True, help="whose preferences to learn from (see `palate annotate prefer`)")
@click.option("--policy", default=None, help="only the preferences of this policy")
@click.option(
    "--base", type=click.Path(path_type=Path), default=None, help="checkpoint to align; default: the shipped one"
)
@out_option
@settings_options
def dpo(
    store: str,
    as_json: bool,
    study: str,
    policy: str | None,
    base: Path | None,
    out: Path,
    recipe: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Flow-DPO on a study's preferences."""
    from alignment.train import DpoRecipe, align_dpo, evaluations
    from annotation.preferences import standing
    from models.weights import SHIPPED
    from palate.config import load
    from palate.records import Comparison, Judgement, Preference
    from palate.store import Store

    settings = load(DpoRecipe, recipe, overrides)
    wanted = {"study": study} | ({"policy": policy} if policy else {})
    with Store(store) as record:
        comparisons = list(record.select(Comparison, study=study))
        judgements = record.select(Judgement, comparison=[one.id for one in comparisons])
        chosen = standing(record.select(Preference, **wanted), comparisons, judgements)
        aligned = align_dpo(record, chosen, base or SHIPPED, settings, out)
    path = out / "generator.safetensors"
    facts = {
        "checkpoint": aligned.checkpoint,
        "path": str(path),
        "preferences": len(chosen),
        "evaluations": evaluations(settings),
    }
    report(as_json, f"{path} is aligned on {len(chosen)} preferences ({aligned.checkpoint[:12]})", facts)


@align.command()
@store_option
@json_option
@click.option("--base", help="a language model of transformers; default: a tiny one from nothing, for the shapes world")
@out_option
@settings_options
def prompt(
    store: str, as_json: bool, base: str | None, out: Path, recipe: Path | None, overrides: tuple[str, ...]
) -> None:
    """SFT and then GRPO of the language model that rewrites prompts. Run it again to go on after a stop.

    KEY=VALUE sets the stages, such as rl.steps=0, or sft.steps=0 to begin RL with --base as it is.
    """
    from palate.config import load
    from palate.errors import ConfigError

    try:
        from alignment.algorithms.prompt import PromptRecipe, Training
    except ImportError as error:
        raise ConfigError(f"training an enhancer needs trl ({error})", "pip install 'palate[enhancer]'") from error
    from palate.store import Store

    training = Training(load(PromptRecipe, recipe, overrides), out, base)
    with Store(store) as record:
        path, run = training.recorded()
        record.add([run])
    report(as_json, f"{path} is trained ({run.outputs[0][:12]})", {"checkpoint": run.outputs[0], "path": str(path)})


def _online(kind: str, about: str) -> None:
    """Adds the command of an online algorithm (alignment/recipe.py)."""

    @store_option
    @json_option
    @click.option("--generator", help="what is taught: shapes (by default), or a family of `palate align generators`")
    @click.option(
        "--weights", type=click.Path(path_type=Path), help="its weights: a folder in diffusers' format, or a checkpoint"
    )
    @out_option
    @click.option("--dry-run", is_flag=True, help="only say how large the run is")
    @settings_options
    def command(
        store: str,
        as_json: bool,
        generator: str | None,
        weights: Path | None,
        out: Path,
        dry_run: bool,
        recipe: Path | None,
        overrides: tuple[str, ...],
    ) -> None:
        from dataclasses import asdict

        from alignment.begun import begun, telling_how_to_go_on
        from alignment.recipe import ALGORITHMS
        from alignment.reinforce import Setup, reinforce
        from models.launch import first_process, joined
        from palate.config import load
        from palate.store import Store

        named = (f"generator.family={generator}",) if generator else ()
        with joined():
            setup = Setup.of(kind, load(ALGORITHMS[kind].recipe, recipe, (*named, *overrides)), weights)
            plan = setup.plan()
            if dry_run:
                return report(as_json, plan.text(), asdict(plan)) if first_process() else None
            with Store(store) as record:
                run = begun(f"align {kind}", setup.recipe, weights, out, setup.student.checkpoint)
                if first_process():
                    record.add([run])
                    click.echo(f"{plan.text()}\nif it stops: palate runs resume {run.id} --store {store}", err=True)
                with telling_how_to_go_on(run, store):
                    written = reinforce(record, setup, out)
            if not first_process():
                return None
        facts = {
            "run": run.id,
            "checkpoint": written.checkpoint,
            "checkpoints": written.checkpoints,
            "path": str(written.path),
            **asdict(plan),
        }
        return report(as_json, f"{written.path} is aligned ({written.checkpoint[:12]})", facts)

    align.command(kind, help=f"{about} Run it again to go on after a stop.", short_help=about)(command)


@align.command()
@json_option
def generators(as_json: bool) -> None:
    """What --generator may be, beside shapes: pipelines of diffusers."""
    from models.families import FAMILIES

    lines = [f"{name}: {family.pipeline}, guidance {family.guidance:g}" for name, family in FAMILIES.items()]
    report(as_json, "\n".join(lines), {name: family.pipeline for name, family in FAMILIES.items()})


for _kind, _about in {
    "grpo": "Flow-GRPO: policy gradients on random denoise steps, against a reward.",
    "nft": "DiffusionNFT: good samples apart from bad ones on the forward process, against a reward.",
    "awm": "Advantage-weighted matching, against a reward.",
    "rwr": "Flow-RWR: matching own samples by their reward.",
    "sft": "RAFT: matching the best of own samples.",
    "online-dpo": "Flow-DPO on the best and the worst of own samples.",
}.items():
    _online(_kind, _about)
