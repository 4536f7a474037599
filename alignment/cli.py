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


generator_option = click.option(
    "--generator", help="what is taught: shapes (by default), or a family of `palate align generators`"
)
weights_option = click.option(
    "--weights", type=click.Path(path_type=Path), help="its weights: a folder in diffusers' format, or a checkpoint"
)
dry_run_option = click.option("--dry-run", is_flag=True, help="only say how large the run is")


@align.command()
@store_option
@json_option
@click.option("--study", help="whose preferences to learn from (see `palate annotate prefer`)")
@click.option("--axis", default=None, help="which preferences of the study; default: overall")
@click.option("--policy", default=None, help="only the study's preferences of this policy")
@click.option(
    "--table",
    type=click.Path(path_type=Path, dir_okay=False),
    help="instead of a study: a CSV in VideoAlign's format, its videos beside it",
)
@generator_option
@weights_option
@out_option
@dry_run_option
@settings_options
def dpo(
    store: str,
    as_json: bool,
    study: str | None,
    axis: str | None,
    policy: str | None,
    table: Path | None,
    generator: str | None,
    weights: Path | None,
    out: Path,
    dry_run: bool,
    recipe: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Flow-DPO on the preferences of a study or a table. Run it again to go on after a stop.

    A table's labels become preferences by the recipe's table.axis, aggregation, ties, votes and margin.
    """
    from dataclasses import asdict

    from alignment.pairs import of_record, of_table
    from alignment.runs import begun, telling_how_to_go_on
    from alignment.train import DpoRecipe, DpoSetup, align_dpo
    from annotation.preferences import standing
    from models.launch import first_process, joined
    from palate.config import load
    from palate.errors import ConfigError
    from palate.records import OVERALL, Comparison, Judgement, Preference
    from palate.store import Store

    if (study is None) == (table is None) or (table and (axis or policy)):
        raise ConfigError("one source of preferences is needed", "give --study (with --axis, --policy) or --table")
    named = (f"generator.family={generator}",) if generator else ()
    with joined(), Store(store) as record:
        settings = load(DpoRecipe, recipe, (*named, *overrides))
        if table:
            preferred, source = of_table(table, settings.table), ("--table", str(table.resolve()))
        else:
            wanted = {"study": str(study), "axis": axis or OVERALL} | ({"policy": policy} if policy else {})
            source = tuple(part for name, value in wanted.items() for part in (f"--{name}", value))
            comparisons = list(record.select(Comparison, study=study))
            judgements = record.select(Judgement, comparison=[one.id for one in comparisons])
            preferred = of_record(record, standing(record.select(Preference, **wanted), comparisons, judgements))
        setup = DpoSetup.of(settings, preferred, weights)
        plan = setup.plan()
        if dry_run:
            return report(as_json, plan.text(), asdict(plan)) if first_process() else None
        run = begun("align dpo", settings, weights, out, setup.student.checkpoint, source)
        if first_process():
            record.add([run])
            click.echo(f"{plan.text()}\nif it stops: palate runs resume {run.id} --store {store}", err=True)
        with telling_how_to_go_on(run, store):
            written = align_dpo(record, setup, out)
        if not first_process():
            return None
    facts = {
        "run": run.id,
        "checkpoint": written.checkpoint,
        "checkpoints": written.checkpoints,
        "path": str(written.path),
        "preferences": len(preferred.pairs),
        "evaluations": plan.rounds * plan.evaluations_a_round,
        **asdict(plan),
    }
    text = f"{written.path} is aligned on {len(preferred.pairs)} preferences ({written.checkpoint[:12]})"
    return report(as_json, text, facts)


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
    @generator_option
    @weights_option
    @out_option
    @dry_run_option
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

        from alignment.recipe import ALGORITHMS
        from alignment.reinforce import Setup, reinforce
        from alignment.runs import begun, telling_how_to_go_on
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
    "nrg": "Reward-guided sampling: a learned value of states leads the sampler, against a reward.",
    "nft": "DiffusionNFT: good samples apart from bad ones on the forward process, against a reward.",
    "awm": "Advantage-weighted matching, against a reward.",
    "rwr": "Flow-RWR: matching own samples by their reward.",
    "sft": "RAFT: matching the best of own samples.",
    "online-dpo": "Flow-DPO on the best and the worst of own samples.",
}.items():
    _online(_kind, _about)
