"""`palate bench captions`: how much of a video a captioner tells, by VidCapBench's questions."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from palate.cli import json_option, settings_options

if TYPE_CHECKING:
    from palate.records import Estimate


@click.command()
@click.argument("questions", type=click.Path(path_type=Path))
@click.argument("captions", type=click.Path(path_type=Path))
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="keeps every reply; share it, resume it")
@click.option("--repeats", type=click.IntRange(min=1), default=1, show_default=True, help="how often each is judged")
@click.option("--prices", nargs=2, type=float, metavar="IN OUT", help="of a million tokens, for the cost")
@click.option("--dry-run", is_flag=True, help="count calls, tokens and cost, and ask nothing")
@click.option(
    "--tokenizer", type=click.Path(path_type=Path), help="by which conciseness counts: the paper's is flan-t5's folder"
)
@click.option("--out", type=click.Path(path_type=Path), help="every judgement, as JSON lines")
@json_option
@settings_options
def captions(
    questions: Path,
    captions: Path,
    folder: Path,
    repeats: int,
    prices: tuple[float, float] | None,
    dry_run: bool,
    tokenizer: Path | None,
    out: Path | None,
    as_json: bool,
    recipe: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Have a model answer QUESTIONS from CAPTIONS alone, and a judge mark the answers (VidCapBench).

    Both files are JSON lines as VidCapBench has them: {"video_dir", "QA_pairs": [{"question", "answer",
    "sub_category"}]} and {"video_dir", "model_generation"}. The data is yours to get: it may not be passed on.

    KEY=VALUE says who is asked, such as judge.url=http://127.0.0.1:8000/v1 judge.model=qwen answerer.per_minute=60.
    """
    from collections import Counter
    from contextlib import closing

    from benchmarks import caption_metrics, vidcapbench
    from palate.config import load
    from palate.errors import DataError
    from palate.files import whole_file
    from palate.report_text import table
    from rewards.chat import Chat

    settings = load(vidcapbench.CaptionSettings, recipe, overrides)
    asked = vidcapbench.load(questions, captions)
    count = caption_metrics.tokens_by(tokenizer) if tokenizer else None
    with closing(Chat(settings.answerer, folder)) as answerer, closing(Chat(settings.judge, folder)) as judge:
        due = vidcapbench.bill(asked, repeats, answerer, judge)
        cost = f", at most {due.cost(*prices):.2f}" if prices else ""
        told = f"{due.calls} calls to make ({due.answered} are kept), about {due.tokens_in} tokens in, at most "
        click.echo(f"{told}{due.tokens_out} out{cost}", err=True)
        if dry_run:
            if as_json:
                click.echo(json.dumps({**vars(due), "cost": due.cost(*prices) if prices else None}))
            return
        marked = vidcapbench.run(asked, repeats, answerer, judge)
    lost = Counter(one.failure for one in marked if one.failure).most_common()
    if sum(count for _, count in lost) == len(marked):
        remedy = "mend that, and run the command again: what was answered is kept"
        raise DataError(f"no question was answered and judged, most often so: {lost[0][0]}", remedy)
    if out:
        with whole_file(out) as file:
            file.writelines(f"{json.dumps(one.row(), ensure_ascii=False)}\n".encode() for one in marked)
    found = caption_metrics.summary(marked, count)
    if as_json:
        rows = {part: {name: one.model_dump(mode="json") for name, one in of.items()} for part, of in found.items()}
        click.echo(json.dumps(rows))
        return
    for names in (caption_metrics.METRICS, caption_metrics.RATES, ["judged alike"]):
        rows = [[part, *(_shown(of[name]) for name in names)] for part, of in found.items() if set(names) <= of.keys()]
        click.echo(table(["in percent", *names], rows) + "\n")
    notes = sorted({one.note for of in found.values() for one in of.values() if one.note})
    notes += [f"{count} of {len(marked)} judgements failed: {reason}" for reason, count in lost]
    click.echo(
        "\n".join(["Intervals are 95%, over videos. Conciseness is 100 x accuracy / mean tokens of a caption.", *notes])
    )


def _shown(estimate: "Estimate") -> str:
    value, low, high = ("–" if x is None else f"{x:.1f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"
