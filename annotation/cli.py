"""`palate annotate`: from samples to comparisons to judgements to preferences, in the store.

Every command is a function of the store and its options, so running it again adds nothing and says so.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from annotation.quality_cli import quality
from annotation.studio_cli import pull, push, serve, watch
from palate.cli import json_option, report, settings_options, store_option
from palate.errors import DataError

if TYPE_CHECKING:
    from palate.records import Comparison, Sample
    from palate.store import Store

study_option = click.option("--study", required=True, help="name of the experiment")
suite_option = click.option("--suite", required=True, help="the suite whose cases were answered")
axis_option = click.option("--axis", default="overall", show_default=True, help="what is judged")
gold_option = click.option(
    "--gold",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="pairs to add whose answer is known: a video beside a ruined copy of itself",
)
seed_option = click.option("--seed", default=0, show_default=True)


@click.group()
def annotate() -> None:
    """Which of two videos is better: whom to ask, what they said, what follows."""


for _command in (serve, push, pull, watch, quality):
    annotate.add_command(_command)


@annotate.command()
@study_option
@click.option("--candidate", required=True, help="the system in question")
@click.option("--baseline", required=True, help="the system to compare it with")
@suite_option
@click.option("--repeat", default=0.1, show_default=True, help="share of the pairs to show twice, sides swapped")
@gold_option
@seed_option
@store_option
@json_option
def plan(
    study: str,
    candidate: str,
    baseline: str,
    suite: str,
    repeat: float,
    gold: int,
    seed: int,
    store: str,
    as_json: bool,
) -> None:
    """Choose the pairs of two systems to show, blind and balanced.

    Repeats and gold pairs examine the people: `annotate quality` reads them, and no report counts them.
    """
    from annotation.design import versus
    from annotation.gold import gold_pairs
    from palate.records import Comparison
    from palate.store import Store

    with Store(store, create=False) as record:
        new, old = (_samples(record, suite, system) for system in (candidate, baseline))
        known = gold_pairs([*new, *old], gold, record.media, seed)
        chosen = versus(study, new, old, seed, known, repeat)
        ids = {one.id for one in chosen.comparisons}
        pairs = {(one.candidate, one.baseline) for one in chosen.comparisons}
        for one in record.select(Comparison, study=study):
            if (one.candidate, one.baseline) in pairs and one.id not in ids:
                raise DataError(
                    f"study {study} already shows these samples otherwise", "give this plan its own --study"
                )
        record.add(worse for _, worse in known)
        added = record.add(chosen.comparisons)
    repeats = sum(one.role == "repeat" for one in chosen.comparisons)
    facts = {"comparisons": len(ids), "repeats": repeats, "gold": gold}
    facts |= {"failed": chosen.failed, "unpaired": chosen.unpaired}
    text = f"{len(ids)} comparisons, {repeats} of them repeats and {gold} gold; "
    text += f"{chosen.failed} samples failed, {chosen.unpaired} unpaired"
    _tell(as_json, study, text, facts, added)


@annotate.command()
@study_option
@click.option("--system", required=True, help="the system whose samples meet")
@suite_option
@click.option(
    "--split", type=click.Choice(["train", "heldout"]), default="train", show_default=True, help="whose cases"
)
@click.option("--overlap", type=click.IntRange(min=1), default=1, show_default=True, help="judgements each needs")
@axis_option
@seed_option
@store_option
@json_option
def knockout(
    study: str, system: str, suite: str, split: str, overlap: int, axis: str, seed: int, store: str, as_json: bool
) -> None:
    """Choose the next round of a knockout among one system's samples, once the last round is judged.

    The rounds so far are played again from the judgements in the store: nothing else is kept. Judge a round in full
    before the next, because a judgement that comes late can change who went on.
    """
    from annotation.design import advance, knockout_round
    from annotation.preferences import Policy, preferences
    from palate.records import Judgement
    from palate.store import Store

    with Store(store, create=False) as record:
        entrants: dict[str, tuple[str, ...]] = {}
        samples = _samples(record, suite, system, split)
        failed = sum(sample.media is None for sample in samples)
        for sample in samples:
            if sample.media:
                entrants[sample.case] = (*entrants.get(sample.case, ()), sample.id)
        rounds = waiting = added = 0
        while not waiting and (pairs := knockout_round(study, entrants, seed)):
            rounds += 1
            added += record.add(pairs)
            judgements = list(record.select(Judgement, comparison=[one.id for one in pairs]))
            asked = Counter(one.comparison for one in judgements)
            waiting = sum(asked[one.id] < overlap for one in pairs)
            entrants = advance(entrants, pairs, preferences(pairs, judgements, Policy(axis=axis)), seed)
    state = f"round {rounds}, {waiting} comparisons to judge" if waiting else f"decided in {rounds} rounds"
    facts = {"round": rounds, "waiting": waiting, "failed": failed}
    _tell(as_json, study, f"{state}; {failed} samples failed", facts, added)


@annotate.command()
@study_option
@suite_option
@click.option("--budget", type=click.IntRange(min=1), required=True, help="how many comparisons to add")
@click.option("--repeat", default=0.1, show_default=True, help="share of the pairs to show twice, sides swapped")
@gold_option
@axis_option
@seed_option
@store_option
@json_option
def rank(
    study: str,
    suite: str,
    budget: int,
    repeat: float,
    gold: int,
    axis: str,
    seed: int,
    store: str,
    as_json: bool,
) -> None:
    """Choose the next pairs among all systems of a suite, where it is least certain which system is best.

    Each run adds a round, led by the judgements so far.
    """
    from annotation.active import next_round
    from annotation.gold import RUINED, gold_pairs
    from palate.records import Case, Comparison, Judgement, Sample
    from palate.store import Store

    with Store(store, create=False) as record:
        cases = [case.id for case in record.select(Case, suite=suite)]
        samples = [one for one in record.select(Sample, case=cases) if one.system != RUINED]
        asked = list(record.select(Comparison, study=study))
        judgements = record.select(Judgement, comparison=[one.id for one in asked])
        known = gold_pairs(samples, gold, record.media, seed + len(asked))  # others each round
        chosen = next_round(study, samples, asked, judgements, budget, seed, axis, known, repeat)
        record.add(worse for _, worse in known)
        added = record.add(chosen)
    _tell(as_json, study, f"{len(asked)} comparisons before", {"before": len(asked)}, added)


@annotate.command()
@study_option
@settings_options
@store_option
@json_option
def simulate(study: str, recipe: str | None, overrides: tuple[str, ...], store: str, as_json: bool) -> None:
    """Let simulated people judge what they have not judged of a study, by the scores of its samples.

    To them the ruined copies of gold pairs are the worst there is: 0 in everything.

    Settings: people, overlap, seed, taste.* and features.*, as in `people=8 taste.tie=2.0`.
    """
    from annotation.design import assign
    from annotation.gold import RUINED
    from annotation.simulate import Population, Simulation, measured
    from palate.config import load
    from palate.records import Judgement, Sample, Score
    from palate.store import Store

    told = load(Simulation, Path(recipe) if recipe else None, overrides)
    population = Population(told.taste, told.people, told.seed)
    with Store(store, create=False) as record:
        comparisons = _comparisons(record, study)
        judged = {
            one.comparison for one in record.select(Judgement, source=population.source, comparison=list(comparisons))
        }
        due = [one for one in comparisons.values() if one.id not in judged]
        shown = {sample for one in due for sample in (one.candidate, one.baseline)}
        features = measured(record.select(Score, sample=shown, scorer=list(told.features)), told.features)
        ruined = record.select(Sample, id=shown, system=RUINED)
        features |= {one.id: dict.fromkeys(told.features.values(), 0.0) for one in ruined}
        lists = assign(due, population.annotators, told.overlap, told.seed)
        given = [population.judge(comparisons[one], features, person) for person, own in lists.items() for one in own]
        added = record.add(given)
    skips = sum(one.skip is not None for one in given)
    text = f"{len(given)} judgements by {told.people} simulated people, {skips} of them skips"
    facts = {"judgements": len(given), "skips": skips, "source": population.source}
    _tell(as_json, study, text, facts, added)


@annotate.command()
@study_option
@axis_option
@click.option("--aggregation", type=click.Choice(["vote_share", "majority"]), default="vote_share", show_default=True)
@click.option("--ties", type=click.Choice(["count", "drop"]), default="count", show_default=True)
@click.option("--votes", type=click.IntRange(min=1), default=1, show_default=True, help="fewest votes")
@click.option("--margin", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="smallest lead, as a share")
@click.option(
    "--contrasts", "per_case", type=click.IntRange(min=1), help="knockout: this many of the best's wins a case"
)
@store_option
@json_option
def prefer(
    study: str,
    axis: str,
    aggregation: Literal["vote_share", "majority"],
    ties: Literal["count", "drop"],
    votes: int,
    margin: float,
    per_case: int | None,
    store: str,
    as_json: bool,
) -> None:
    """Turn the judgements of a study into preferences, under a stated policy."""
    from annotation.preferences import Policy, contrasts, preferences
    from palate.records import Judgement
    from palate.store import Store

    policy = Policy(axis=axis, aggregation=aggregation, ties=ties, votes=votes, margin=margin)
    with Store(store, create=False) as record:
        comparisons = _comparisons(record, study)
        judgements = list(record.select(Judgement, comparison=list(comparisons)))
        found = preferences(comparisons.values(), judgements, policy)
        if per_case:
            found = contrasts(found, per_case)
        added = record.add(found)
    text = f"{len(found)} preferences from {len(judgements)} judgements, by {policy.name}"
    facts = {"axis": axis, "preferences": len(found), "judgements": len(judgements), "policy": policy.name}
    _tell(as_json, study, text, facts, added)


def _samples(record: "Store", suite: str, system: str, split: str | None = None) -> "list[Sample]":
    from palate.records import Case, Sample

    cases = {case.id for case in record.select(Case, suite=suite, **({"split": split} if split else {}))}
    samples = [sample for sample in record.select(Sample, system=system) if sample.case in cases]
    if not samples:
        of = f"the {split} cases of suite {suite}" if split else f"suite {suite}"
        raise DataError(f"{record.name} has no samples of {system} for {of}", "make some, or check the names")
    return samples


def _comparisons(record: "Store", study: str) -> "dict[str, Comparison]":
    from palate.records import Comparison

    comparisons = {one.id: one for one in record.select(Comparison, study=study)}
    if not comparisons:
        raise DataError(f"{record.name} has no study {study}", "plan it first with `palate annotate plan`")
    return comparisons


def _tell(as_json: bool, study: str, text: str, facts: Mapping[str, object], added: int) -> None:
    news = f"{added} added to the store" if added else "nothing new"
    report(as_json, f"study {study}: {text}; {news}", {"study": study, **facts, "added": added})
