"""`palate bench any2caption`: what a captioner tells of a video that is not made yet, from which conditions."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from palate.cli import json_option

if TYPE_CHECKING:
    from benchmarks.any2caption import Captioner
    from palate.records import Estimate
    from palate.report import Split


@click.command()
@click.option(
    "--captioner",
    type=click.Path(path_type=Path),
    help="a .safetensors of `palate model captioner`, or the folder of a vision-language model; default: the shipped",
)
@click.option("--conditions", multiple=True, help="such as image+pose; by default each alone, all, and all but each")
@click.option("--shots", "count", type=click.IntRange(min=2), default=100, show_default=True, help="of each set")
@click.option("--split", type=click.Choice(["train", "heldout"]), default="heldout", show_default=True)
@click.option("--seed", default=0, show_default=True, help="which shots")
@click.option("--encoder", type=click.Path(path_type=Path), help="BERTScore's model: a folder of transformers")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="every reply, as JSON lines")
@json_option
def any2caption(
    captioner: Path | None,
    conditions: tuple[str, ...],
    count: int,
    split: "Split",
    seed: int,
    encoder: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Caption shots of the shapes world from images, depth, poses, camera paths, identities and segmentations.

    Prints, for each set of conditions, whether all six parts are
    there, whether each says what the conditions tell, how often
    something is said that they do not, and text metrics.
    """
    try:
        from benchmarks import any2caption as bench
    except ImportError as error:
        raise _missing(error) from error
    from palate.files import whole_file

    chosen = [bench.set_named(text) for text in conditions] or bench.sets()
    asked = _opened(captioner)
    shown = bench.shots(count, split, seed)
    answers = {kinds: bench.ask(asked, shown, kinds) for kinds in chosen}
    if out:
        with whole_file(out) as file:
            file.writelines(f"{json.dumps(one.row)}\n".encode() for each in answers.values() for one in each)
    found = {bench.name_of(kinds): bench.measures(each, encoder) for kinds, each in answers.items()}
    added: dict[str, Estimate] = {**dict(bench.gains(answers))} if set(bench.sets()) <= set(chosen) else {}
    if as_json:
        rows = {name: {key: one.model_dump(mode="json") for key, one in of.items()} for name, of in found.items()}
        facts = {name: one.model_dump(mode="json") for name, one in added.items()}
        click.echo(json.dumps({"sets": rows, "added": facts}))
        return
    click.echo(_text(found, added))


def _opened(path: Path | None) -> "Captioner":
    try:
        from models.captioner import SeeingCaptioner
        from models.tiny_captioner import SHIPPED_CAPTIONER, TinyCaptioner
    except ImportError as error:
        raise _missing(error) from error
    if path is None or path.suffix == ".safetensors":
        return TinyCaptioner.load(path or SHIPPED_CAPTIONER)
    return SeeingCaptioner.open(path)


def _missing(error: ImportError) -> Exception:
    from palate.errors import ConfigError

    return ConfigError(f"captions need transformers, nltk and torchmetrics ({error})", "pip install 'palate[caption]'")


def _text(found: "dict[str, dict[str, Estimate]]", added: "dict[str, Estimate]") -> str:
    from palate.report_text import table

    names = list(next(iter(found.values())))
    parts = [name for name in names if name.startswith("right: ")]
    facts = [name for name in names if name.startswith("dense: ")]
    blocks = [
        table(["in percent", *some], [[of, *(_shown(each[name]) for name in some)] for of, each in found.items()])
        for some in (parts, facts, [name for name in names if name not in parts + facts])
    ]
    if added:
        rows = [[name, _shown(one, 1, 2)] for name, one in added.items()]
        blocks.append(table(["condition", "facts of the dense part that it adds to the others"], rows))
    notes = sorted({one.note for each in found.values() for one in each.values() if one.note.endswith("no caption")})
    return "\n\n".join([*blocks, "\n".join(["Intervals are 95%, over shots.", *notes])])


def _shown(estimate: "Estimate", scale: float = 100, digits: int = 1) -> str:
    ends = (estimate.value, estimate.low, estimate.high)
    value, low, high = ("–" if x is None else f"{scale * x:.{digits}f}" for x in ends)
    return f"{value} [{low}, {high}]"
