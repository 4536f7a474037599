"""`palate reward`: numbers for samples, learned from what people prefer."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from palate.cli import json_option, report, settings_options, store_option

if TYPE_CHECKING:
    from palate.records import Estimate
    from palate.store import Store
    from rewards.pairs import PairSet

AXES = "motion_quality,overall,prompt_following,visual_quality"
AT_ONCE = 32  # samples decoded and scored together
reward_option = click.option(
    "--reward", "path", type=click.Path(path_type=Path), required=True, help="a checkpoint of `palate reward train`"
)


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
    from palate.config import load
    from palate.records import Run
    from palate.store import Store
    from palate.version import code_version
    from rewards.launch import first_process, joined
    from rewards.train import RewardRecipe
    from rewards.train import train as learn

    settings = load(RewardRecipe, recipe, overrides)
    with Store(store) as record, joined():
        pairs = _pairs(record, study, preferences, table, tuple(axes.split(",")))
        made = learn(pairs, settings, out)
        if not first_process():
            return
        told = settings.model_dump(mode="json")
        record.add(
            [
                Run(
                    task="reward train",
                    recipe=told,
                    code=code_version(),
                    seed=settings.seed,
                    parents=(pairs.digest,),
                    outputs=(made.checkpoint,),
                )
            ]
        )
    path = out / "reward.safetensors"
    facts = {"checkpoint": made.checkpoint, "path": str(path), "pairs": len(pairs), **made.card}
    lines = [f"{path} learned from {len(pairs)} pairs ({made.checkpoint[:12]}); accuracy on prompts it never saw:"]
    lines += [
        f"  {axis}: {_shown(found['value'], found['low'], found['high'])}, {found['n']} pairs"
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


@reward.command()
@store_option
@json_option
@click.option("--judges", type=click.Path(path_type=Path), help="GenAI-Bench's votes with judges' replies (JSONL)")
@click.option("--reward", "path", type=click.Path(path_type=Path), help="a checkpoint, on pairs that people judged:")
@click.option("--study", help="the verdicts of this study")
@click.option("--preferences", help="the preferences of this study")
@click.option("--table", type=click.Path(path_type=Path), help="a CSV in VideoAlign's format")
@click.option("--systems", default="", help="only pairs with a video of these systems, such as ones never trained on")
def bench(
    store: str,
    as_json: bool,
    judges: Path | None,
    path: Path | None,
    study: str | None,
    preferences: str | None,
    table: Path | None,
    systems: str,
) -> None:
    """How often a reward, or judges that answer in words, agree with people; baselines beside them."""
    from palate.errors import ConfigError
    from palate.report_text import table as columns
    from palate.store import Store
    from rewards.bench import bench_judges, bench_pairs, unseen

    if (judges is None) == (path is None):
        raise ConfigError("one thing to examine is needed", "give --judges or --reward")
    if judges:
        found = bench_judges(judges)
        parts = ("parsed", "four_way", "three_way", "without_ties", "without_ties_parsed", "first")
        head = ["judge", "replies that parse", "right of 4", "right of 3", "no ties", "no ties, parsed", "says first"]
        cells = [[row.judge, *(_percent(getattr(row, part)) for part in parts)] for row in found]
    else:
        from rewards.video_reward import VideoReward, score_videos

        assert path is not None
        model = VideoReward.load(path)
        with Store(store) as record:
            pairs = _pairs(record, study, preferences, table, model.axes).on(model.axes)
        pairs = unseen(pairs, systems.split(",")) if systems else pairs
        found = bench_pairs(path.name, pairs, score_videos(model, pairs))
        head = ["scorer", "axis", "without ties", "with ties", "invalid"]
        cells = [
            [row.scorer, row.axis, _percent(row.without_ties), _percent(row.with_ties), str(row.invalid)]
            for row in found
        ]
    report(as_json, columns(head, cells), {"rows": [_plain(row) for row in found]})


@reward.command()
@store_option
@json_option
@reward_option
@click.option("--study", required=True, help="whose pairs and people to examine it on")
@click.option("--answers", "count", default=128, show_default=True, help="how many videos to probe")
@click.option("--groups", type=click.Path(path_type=Path), help="JSON: annotator -> group; default: each alone")
def audit(store: str, as_json: bool, path: Path, study: str, count: int, groups: Path | None) -> None:
    """Probes that should or should not move a reward, its calibration, and with whom it agrees."""
    import json

    import numpy as np

    from palate.errors import ConfigError
    from palate.store import Store
    from rewards.audit import by_group, probe, reliability, text
    from rewards.pairs import from_votes
    from rewards.video_reward import VideoReward, score_videos

    model, logits = VideoReward.load(path), VideoReward.load(path, standardise=False)
    with Store(store, create=False) as record:
        pairs = from_votes(record, study, model.axes)
        voters = sorted(set(record.votes(study=study).annotator.tolist()))
        try:
            named = json.loads(groups.read_text()) if groups else {}
        except (OSError, ValueError) as error:
            raise ConfigError(f"{groups} is no JSON ({error})", "write annotator -> group") from error
        members: dict[str, list[str]] = {}
        for voter in voters:
            members.setdefault(named.get(voter, voter), []).append(voter)
        sets = {name: from_votes(record, study, model.axes, own) for name, own in sorted(members.items())}
    used = np.unique(np.concatenate([pairs.first, pairs.second]))
    chosen = np.random.default_rng(0).permutation(used)[:count]
    findings = probe(model, [pairs.videos[row].answer() for row in chosen])
    values = score_videos(logits, pairs)
    lead = values[pairs.first] - values[pairs.second]
    judged = [axis for axis in model.axes if (np.abs(pairs.label(axis)) == 1).sum() >= 10]
    curves = {
        axis: reliability(axis, pairs.label(axis), lead[:, model.axes.index(axis)], list(pairs.prompts))
        for axis in judged
    }
    score_of = {video.file: values[row] for row, video in enumerate(pairs.videos)}
    axis = "overall" if "overall" in judged else judged[0]
    place = model.axes.index(axis)
    agreed = by_group(sets, axis, lambda one: np.array([score_of[video.file][place] for video in one.videos]))
    facts = {
        "findings": [_plain(one) for one in findings],
        "calibration": {axis: _plain(one) for axis, one in curves.items()},
        "groups": {name: one.model_dump(mode="json") for name, one in agreed.items()},
    }
    report(as_json, text(findings, curves, agreed), facts)


@reward.command()
@json_option
@click.argument("table", type=click.Path(path_type=Path))
@settings_options
def alarm(as_json: bool, table: Path, recipe: Path | None, overrides: tuple[str, ...]) -> None:
    """Does gold fall while the proxy rises? TABLE is a CSV of look, prompt, gold, proxy.

    The setting `looks` is how many are planned in all. The last line, or "state" in JSON, says when to stop.
    """
    from palate.config import load
    from palate.report_text import table as columns
    from rewards.alarm import AlarmSettings, HackingAlarm, read_looks

    watch = HackingAlarm(load(AlarmSettings, recipe, overrides))
    for gold, proxy in read_looks(table):
        watch.look(gold, proxy)
    rows = [
        [
            str(one.look),
            _number(one.gold),
            _number(one.proxy),
            f"{one.statistic:.2f}",
            f"{one.threshold:.2f}",
            one.state,
        ]
        for one in watch.history
    ]
    last = watch.history[-1]
    advice = "nothing falls" if last.state == "calm" else f"{last.state}: go back to look {last.stop}"
    if last.lost:
        advice += f"; gold lost {_number(last.lost)}"
    head = ["look", "gold", "proxy", "largest fall, standard errors", "rings above", "state"]
    facts = {"state": last.state, "stop": last.stop, "looks": [_plain(one) for one in watch.history]}
    report(as_json, f"{columns(head, rows)}\n\n{advice}", facts)


def _plain(row: object) -> dict[str, object]:
    """A row for machines; a number that JSON cannot say is left out as null."""
    from math import isfinite

    from palate.records import Estimate

    return {
        key: value.model_dump(mode="json")
        if isinstance(value, Estimate)
        else None
        if isinstance(value, float) and not isfinite(value)
        else value
        for key, value in vars(row).items()
    }


def _number(found: "Estimate") -> str:
    value, low, high = ("–" if one is None else f"{one:.3f}" for one in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def _percent(found: "Estimate | None") -> str:
    return "–" if found is None else _shown(found.value, found.low, found.high)


def _pairs(
    record: "Store", study: str | None, preferences: str | None, table: Path | None, axes: tuple[str, ...]
) -> "PairSet":
    """What to learn from, of exactly one source."""
    from palate.errors import ConfigError
    from palate.records import Preference
    from rewards.pairs import from_preferences, from_videoalign, from_votes

    if sum(source is not None for source in (study, preferences, table)) != 1:
        raise ConfigError("one source of pairs is needed", "give --study, --preferences or --table")
    if study:
        return from_votes(record, study, axes)
    return from_videoalign(table) if table else from_preferences(record, record.select(Preference, study=preferences))


def _shown(value: float | None, low: float | None, high: float | None) -> str:
    number, *interval = ("–" if one is None else f"{100 * one:.1f}" for one in (value, low, high))
    return f"{number}% [{', '.join(interval)}]"
