"""`palate annotate quality`: whether to believe the annotators."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from palate.cli import json_option, settings_options, store_option
from palate.errors import DataError

if TYPE_CHECKING:
    from annotation.quality import Annotator, Rule
    from palate.gsb import Contest
    from palate.records import Estimate


@click.command()
@click.option("--study", required=True, help="name of the experiment")
@settings_options
@store_option
@json_option
def quality(study: str, recipe: Path | None, overrides: tuple[str, ...], store: str, as_json: bool) -> None:
    """Say of each annotator how far to believe them, and who is weighed down, asked again or left out.

    Settings: axis, votes, reliable, gold, side_p, smoothing. Votes stay as they are: good / same / bad is counted both
    with every verdict alike and weighed by this rule. Simulated people are not mixed in with others unless there are no
    others.
    """
    import json
    from dataclasses import asdict

    from annotation.export import seconds
    from annotation.quality import Rule, alphas, answers, reconsidered, table
    from palate.config import load
    from palate.records import Comparison, Judgement, Sample
    from palate.report import figures
    from palate.store import Store

    rule = load(Rule, recipe, overrides)
    with Store(store, create=False) as record:
        comparisons = {one.id: one for one in record.select(Comparison, study=study)}
        if not comparisons:
            raise DataError(f"{record.name} has no study {study}", "check the name, or plan it first")
        given = list(record.select(Judgement, comparison=list(comparisons)))
        people = [one for one in given if not one.simulated]
        shown = {sample for one in comparisons.values() for sample in (one.candidate, one.baseline)}
        samples = [one for one in record.select(Sample, id=shown) if one.media]
        length = {name: float(seconds(record.media.path(name))) for name in {one.media for one in samples if one.media}}
        lengths = {one.id: length[one.media] for one in samples if one.media}
        found = answers(comparisons, people or given, lengths, rule.axis)
        rows, alpha = table(found, rule), alphas(found)
        votes = record.votes(study=study, axis=rule.axis)
        pairs = reconsidered(votes.select(votes.simulated == (not people)), rows)
        shown = figures([one for one, _ in pairs], [], [], {"study": study})
        shown += figures([one for _, one in pairs if one], [], [], {"study": study, "rule": rule.name})
        record.add(shown)
    if as_json:
        facts = {"annotators": [asdict(row) for row in rows], "alpha": alpha, "simulated": not people}
        facts["figures"] = [{"id": one.id, **one.model_dump(mode="json")} for one in shown]
        click.echo(json.dumps(facts, default=lambda one: one.model_dump(mode="json")))
    else:
        click.echo(_text(rows, alpha, pairs, rule, simulated=not people))


def _text(
    rows: "list[Annotator]",
    alpha: "Mapping[Any, Estimate]",
    pairs: "list[tuple[Contest, Contest | None]]",
    rule: "Rule",
    simulated: bool,
) -> str:
    from palate.report_text import table
    from palate.stats.wins import Form

    head = ["annotator", "votes", "gold", "left", "p left", "ties", "repeats alike", "as most", "pace"]
    cells = [
        [
            row.name,
            str(row.votes),
            _shown(row.gold),
            _shown(row.left),
            "–" if row.left_p is None else f"{row.left_p:.2g}",
            _shown(row.ties),
            _shown(row.consistency),
            _shown(row.agreement),
            "–" if row.pace is None else f"{row.pace:.1f}",
            _shown(row.reliability),
            f"{row.weight:.2f}",
            f"{row.advice}: {row.reason}" if row.reason else row.advice,
        ]
        for row in rows
    ]
    kind = "SIMULATED people" if simulated else "people"
    agreed = ", ".join(f"{metric} {_shown(one)}" for metric, one in alpha.items())
    foot = (
        f"{kind} on {rule.axis}. Krippendorff's alpha: {agreed}.\n"
        "Pace is the time taken over the clip's length. Reliability: 0 is guessing, 1 always right."
    )
    parts = [table([*head, "reliability", "weight", "advice"], cells), foot]
    if pairs:
        forms = {Form.NET: "net (G-B)/N", Form.RATIO: "ratio (G+S)/(B+S)"}
        counted = [
            [one.candidate, one.baseline, str(one.good), str(one.same), str(one.bad)]
            + ["–" if each is None else _shown(each.forms[form]) for form in forms for each in (one, weighed)]
            for one, weighed in pairs
        ]
        both = [f"{name}{how}" for name in forms.values() for how in ("", ", weighted")]
        parts.append(table(["candidate", "baseline", "G", "S", "B", *both], counted))
        parts.append(f"Weighted: a verdict counts its annotator's weight, by the rule {rule.name}. Nothing is removed.")
    return "\n\n".join(parts)


def _shown(estimate: "Estimate") -> str:
    if estimate.value is None:
        return "–"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
