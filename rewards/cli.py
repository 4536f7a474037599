"""`palate reward`: numbers for samples, learned from what people prefer."""

from pathlib import Path

import click

from palate.cli import json_option, report, settings_options, store_option
from rewards.examine_cli import alarm, audit, bench, percent

AXES = "motion_quality,overall,prompt_following,visual_quality"
AT_ONCE = 32  # samples decoded and scored together


@click.group()
def reward() -> None:
    """From samples to numbers: train, score, and find out what the numbers are worth."""


@reward.command()
@store_option
@json_option
@click.option("--study", help="learn from the verdicts of this study, ties among them")
@click.option("--preferences", help="learn from the preferences of this study (see `palate annotate prefer`)")
@click.option("--table", type=click.Path(path_type=Path), help="learn from a CSV in VideoAlign's format")
@click.option("--axes", default=AXES, show_default=True, help="what of a study's verdicts to learn")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="folder of the run")
@settings_options
def train(
    store: str,
    as_json: bool,
    study: str | None,
    preferences: str | None,
    table: Path | None,
    axes: str,
    out: Path,
    recipe: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Learn one score an axis from pairs that people judged; run it again to go on after a stop.

    Under `torchrun --nproc-per-node N -m palate reward train ...` N processes share each step.
    """
    from models.journal import JOURNAL, curves
    from models.launch import first_process, joined
    from palate.config import load
    from palate.records import Estimate, Run
    from palate.store import Store
    from palate.version import code_version
    from rewards.pairs import one_source
    from rewards.train import RewardRecipe
    from rewards.train import train as learn

    settings = load(RewardRecipe, recipe, overrides)
    with Store(store) as record, joined():
        pairs = one_source(record, study, preferences, table, tuple(axes.split(",")))
        made = learn(pairs, settings, out)
        if not first_process():
            return
        told = settings.model_dump(mode="json")
        run = Run(
            task="reward train",
            recipe=told,
            code=code_version(),
            seed=settings.seed,
            parents=(pairs.digest,),
            outputs=(made.checkpoint,),
        )
        record.add([run, *curves(out / JOURNAL, run)])
    path = out / "reward.safetensors"
    facts = {"checkpoint": made.checkpoint, "path": str(path), "pairs": len(pairs), **made.card}
    lines = [f"{path} learned from {len(pairs)} pairs ({made.checkpoint[:12]}); accuracy on prompts it never saw:"]
    lines += [
        f"  {axis}: {percent(Estimate.model_validate(found))}, {found['n']} pairs"
        for axis, found in made.card["accuracy"].items()
    ]
    report(as_json, "\n".join(lines), facts)


@reward.command()
@store_option
@json_option
@click.option("--study", required=True, help="whose comparisons to judge")
@click.option("--axis", default="overall", show_default=True)
@settings_options
def judge(store: str, as_json: bool, study: str, axis: str, recipe: Path | None, overrides: tuple[str, ...]) -> None:
    """Let a vision-language model judge a study's pairs in both orders; `model` names it, and it may abstain.

    Its judgements are marked as a machine's. What it has judged before is not asked again.
    """
    from tqdm import tqdm

    from models.weights import device_of
    from palate.config import load
    from palate.errors import ConfigError, DataError
    from palate.records import Case, Comparison, Judgement, Sample
    from palate.store import Store
    from rewards.pairs import Shown

    try:
        from rewards.judge import JudgeSettings, LocalJudge, Opinion, opinion
    except ImportError as error:
        raise ConfigError(f"a judge needs transformers ({error})", "pip install 'palate[judge]'") from error
    settings = load(JudgeSettings, recipe, overrides)
    with Store(store, create=False) as record:
        pairs = list(record.select(Comparison, study=study))
        if not pairs:
            raise DataError(f"{record.name} has no comparisons of {study}", "check the name, or plan some")
        done = {one.comparison for one in record.select(Judgement, annotator=f"judge {settings.model}")}
        samples = {one.id: one for one in record.select(Sample)}
        prompts = {one.id: one.prompt for one in record.select(Case)}
        ask = LocalJudge(settings, device_of(settings.device))
        asked, abstained = 0, 0
        for pair in tqdm([one for one in pairs if one.id not in done], desc=f"judge {study}"):
            media = [samples[side].media for side in (pair.candidate, pair.baseline)]
            if None in media:
                found = Opinion(None, "a video is missing", ("", ""))
            else:
                shown = [Shown(prompts[pair.case], record.media.path(name)).answer() for name in media if name]
                try:
                    found = opinion(ask, shown[0], shown[1], axis)
                except DataError as error:
                    found = Opinion(None, str(error), ("", ""))
            record.add([found.judgement(pair, axis, settings)])
            asked, abstained = asked + 1, abstained + (found.verdict is None)
    facts = {"judged": asked, "abstained": abstained, "before": len(pairs) - asked}
    report(
        as_json, f"{asked} pairs judged, {abstained} without a verdict; {len(pairs) - asked} were judged before", facts
    )


@reward.command()
@settings_options
def serve(recipe: Path | None, overrides: tuple[str, ...]) -> None:
    """Score over HTTP for other machines: the rewards of a recipe, and `serve.port` and the like.

    The other machine names it in its own recipe: kind = "remote", url, and the columns with their units.
    """
    from palate.config import load
    from palate.errors import ConfigError
    from rewards.configured import ServeRecipe

    settings = load(ServeRecipe, recipe, overrides)
    try:
        import uvicorn

        from rewards.serve import Service
    except ImportError as error:
        raise ConfigError(f"serving needs starlette and uvicorn ({error})", "pip install 'palate[serve]'") from error
    app = Service(settings.build(), settings.serve).app()
    uvicorn.run(app, host=settings.serve.host, port=settings.serve.port, log_level="warning")


@reward.command("import")
@json_option
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="the checkpoint to write")
@settings_options
def import_reward(as_json: bool, folder: Path, out: Path, recipe: Path | None, overrides: tuple[str, ...]) -> None:
    """Take over the published KwaiVGI/VideoReward, from FOLDER; settings are `base` and `template`."""
    from palate.config import load
    from rewards.video_reward import vlm_encoder
    from rewards.vlm_question import VlmSettings

    vlm_encoder()
    from rewards.videoalign import load_published

    made = load_published(folder, load(VlmSettings, recipe, overrides))
    checkpoint = made.save(out)
    facts = {"checkpoint": checkpoint, "path": str(out), "axes": made.axes}
    report(as_json, f"{out} scores {', '.join(made.axes)} ({checkpoint[:12]})", facts)


@reward.command()
@store_option
@json_option
@click.option("--reward", "path", type=click.Path(path_type=Path), help="a checkpoint of `palate reward train`, or:")
@click.option("--system", required=True, help="whose samples to score")
@click.option("--raw", is_flag=True, help="a checkpoint's logits, not standard deviations of its calibration videos")
@settings_options
def score(
    store: str,
    as_json: bool,
    path: Path | None,
    system: str,
    raw: bool,
    recipe: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Score every sample of a system by a checkpoint, or by the rewards of a recipe.

    A sample that cannot be scored is a row with the reason.
    """
    from palate.config import load
    from palate.errors import ConfigError, DataError
    from palate.records import Case, Sample, Score
    from palate.store import Store
    from rewards.configured import RewardsRecipe
    from rewards.reward import Answer, Reward, columns_of
    from rewards.video_reward import VideoReward

    if (path is None) == (recipe is None):
        raise ConfigError("one thing to score with is needed", "give --reward or --recipe")
    with Store(store, create=False) as record:
        samples = list(record.select(Sample, system=system))
        if not samples:
            raise DataError(f"{record.name} has no samples of {system}", "check the name, or make some")
        rewards: tuple[Reward, ...]
        if path:
            model = VideoReward.load(path, standardise=not raw)
            model.name = f"video_reward.{model.checkpoint[:12]}"
            rewards = (model,)
        else:
            rewards = load(RewardsRecipe, recipe, overrides).build()
        prompts = {case.id: case.prompt for case in record.select(Case, id=sorted({one.case for one in samples}))}
        rows: list[Score] = []
        for start in range(0, len(samples), AT_ONCE):
            part = samples[start : start + AT_ONCE]
            shown = [one for one in part if one.media]
            videos = [record.media.video(one.media) for one in shown if one.media]
            answers = [Answer(prompts[one.case], video.frames, video.fps) for one, video in zip(shown, videos)]
            for column in columns_of(rewards, answers):
                rows += column.scores([one.id for one in shown])
                rows += [
                    Score(sample=one.id, scorer=column.name, failure=one.failure or "it has no video")
                    for one in part
                    if not one.media
                ]
        added = record.add(rows)
    failed = sum(one.failure is not None for one in rows)
    facts = {"scores": len(rows), "failed": failed, "added": added, "scorers": sorted({one.scorer for one in rows})}
    report(as_json, f"{len(rows)} scores of {len(samples)} samples, {failed} failed; {added} added to the store", facts)


for examination in (bench, audit, alarm):
    reward.add_command(examination)
