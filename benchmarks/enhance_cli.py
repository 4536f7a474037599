"""`palate enhance`: what a language model makes of a prompt, or of every prompt of a suite."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.cli import count_option, seed_option, split_option
from palate.cli import json_option, report, store_option

if TYPE_CHECKING:
    from models.enhancer import Enhanced, Enhancer
    from palate.media import Frames


@click.command()
@click.argument("prompt", required=False)
@click.option(
    "--model", help="a language model of transformers with a chat template; by default the shapes world's, shipped"
)
@click.option(
    "--show",
    "shown",
    multiple=True,
    metavar="@HANDLE=FILE",
    help="the picture or clip that a handle of PROMPT stands for; --model must be a vision-language model",
)
@click.option("--suite", help="rewrite the prompts of a suite instead, as JSON lines")
@split_option
@count_option
@seed_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="the file for a suite's lines")
@store_option
@json_option
def enhance(
    prompt: str | None,
    model: str | None,
    shown: tuple[str, ...],
    suite: str | None,
    split: str,
    count: int | None,
    seed: int,
    out: Path | None,
    store: str,
    as_json: bool,
) -> None:
    """Rewrite PROMPT for a generator: prints the model's thought, its rewrite, and what of the prompt it kept.

    A rewrite that loses or invents a handle such as @Image_1 is
    refused, and the prompt is used as it is, with a note. Whatever a prompt says is text to rewrite.
    """
    from palate.errors import ConfigError

    if (prompt is None) == (suite is None):
        raise ConfigError("a prompt or a suite is needed, and not both", "give PROMPT, or --suite NAME --out FILE")
    if suite is not None and shown:
        raise ConfigError("pictures are shown for one prompt", "leave out --show, or give PROMPT in place of --suite")
    enhancer = _loaded(model)
    if prompt is not None:
        enhanced = enhancer.enhance_seen(prompt, _pictures(shown)) if shown else enhancer.enhance([prompt])[0]
        return report(as_json, _text(enhanced), _facts(enhanced))
    assert suite is not None
    if out is None:
        raise ConfigError("no file for the suite's lines", "give --out FILE")
    return _suite(enhancer, suite, split, count, seed, out, store, as_json)


def _pictures(shown: tuple[str, ...]) -> "dict[str, Frames]":
    from palate.errors import ConfigError
    from palate.media import decode_video

    if odd := next((one for one in shown if not all(one.partition("="))), None):
        raise ConfigError(f"--show {odd!r} is not @HANDLE=FILE", "write it as @Image_1=cat.png")
    pairs = (one.partition("=") for one in shown)
    return {handle: decode_video(Path(file)).frames for handle, _, file in pairs}


def _loaded(model: str | None) -> "Enhancer":
    from palate.errors import ConfigError

    try:
        from transformers.utils.logging import disable_progress_bar

        from models.enhancer import SHIPPED_ENHANCER, Enhancer
    except ImportError as error:
        raise ConfigError(f"a language model needs transformers ({error})", "pip install 'palate[enhancer]'") from error
    disable_progress_bar()
    return Enhancer(model or SHIPPED_ENHANCER)


def _suite(
    enhancer: "Enhancer", suite: str, split: str, count: int | None, seed: int, out: Path, store: str, as_json: bool
) -> None:
    from benchmarks.suite import stored_or_named
    from palate.errors import PromptError
    from palate.files import whole_file
    from palate.store import Store

    with Store(store) as record:
        cases = stored_or_named(record, suite).cases(split, count, seed)
    rows: dict[str, dict[str, object]] = {}
    for case in cases:
        try:
            enhancer.check(case.prompt)
        except PromptError as error:
            rows[case.id] = {"request": case.prompt, "failure": str(error)}
    for case, enhanced in zip(
        [case for case in cases if case.id not in rows],
        enhancer.enhance([case.prompt for case in cases if case.id not in rows]),
    ):
        rows[case.id] = _facts(enhanced)
    with whole_file(out) as file:
        for case in cases:
            file.write(f"{json.dumps({'case': case.id, **rows[case.id]}, ensure_ascii=False)}\n".encode())
    counts = {
        "rewritten": sum("note" in row and not row["note"] for row in rows.values()),
        "as they were": sum(bool(row.get("note")) for row in rows.values()),
        "no prompt": sum("failure" in row for row in rows.values()),
    }
    told = ", ".join(f"{number} {name}" for name, number in counts.items())
    report(as_json, f"{out}: {told}", {"path": str(out), **counts})


def _text(enhanced: "Enhanced") -> str:
    lines = {
        "thought": enhanced.thought or "none",
        "rewrite": enhanced.rewrite,
        "kept": ", ".join(enhanced.kept) or "no word as it was",
        "note": enhanced.note,
    }
    return "\n".join(f"{name}: {line}" for name, line in lines.items() if line)


def _facts(enhanced: "Enhanced") -> dict[str, object]:
    return {**vars(enhanced), "kept": enhanced.kept}
