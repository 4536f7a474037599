"""Hypothesis strategies for records of every kind, with references to records that are given."""

from collections.abc import Sequence

from hypothesis import strategies as st

from palate.records import (
    Case,
    Comparison,
    Curve,
    Estimate,
    Figure,
    Glimpse,
    Judgement,
    Preference,
    Record,
    Run,
    Sample,
    Score,
    Side,
    Verdict,
)

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
axes = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
numbers = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.booleans() | st.integers() | numbers | st.text(max_size=10)
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
json_values = st.recursive(
    st.none() | scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
)
seeds = st.integers(-(2**63), 2**63 - 1)
estimates = st.builds(
    Estimate,
    value=st.none() | numbers,
    low=st.none() | numbers,
    high=st.none() | numbers,
    n=st.integers(0, 10**9),
    method=names,
    clusters=st.dictionaries(names, st.integers(0, 10**6), max_size=2),
    note=names,
)


def cases() -> st.SearchStrategy[Case]:
    words = st.dictionaries(names, names, max_size=3)
    split = st.sampled_from(["train", "heldout"])
    listed = st.lists(axes, max_size=3).map(tuple)
    return st.builds(Case, suite=names, prompt=names, split=split, conditions=words, tags=words, axes=listed)


def samples(case: str) -> st.SearchStrategy[Sample]:
    return st.builds(
        Sample,
        case=st.just(case),
        system=names,
        seed=st.none() | seeds,
        checkpoint=st.none() | hashes,
        sampler=st.dictionaries(names, scalars, max_size=3),
        failure=st.none() | names,
    )


def comparisons(case: str, candidate: str, baseline: str) -> st.SearchStrategy[Comparison]:
    return st.builds(
        Comparison,
        study=names,
        case=st.just(case),
        candidate=st.just(candidate),
        baseline=st.just(baseline),
        candidate_side=st.none() | st.sampled_from(Side),
        role=st.sampled_from(["normal", "gold", "repeat"]),
    )


@st.composite
def judgements(draw: st.DrawFn, comparison: str, supersedes: str | None = None) -> Judgement:
    skipped = draw(st.booleans())
    return Judgement(
        comparison=comparison,
        annotator=draw(names),
        simulated=draw(st.booleans()),
        source=draw(names),
        verdicts={} if skipped else draw(st.dictionaries(axes, st.sampled_from(Verdict), min_size=1, max_size=3)),
        skip=draw(names) if skipped else None,
        reasons=draw(names),
        seconds=draw(st.none() | st.floats(0, 1e6)),
        supersedes=supersedes,
    )


def preferences(case: str, winner: str, loser: str, votes: Sequence[str]) -> st.SearchStrategy[Preference]:
    return st.builds(
        Preference,
        study=names,
        case=st.just(case),
        axis=axes,
        winner=st.just(winner),
        loser=st.just(loser),
        weight=st.floats(0, 1, exclude_min=True),
        policy=names,
        judgements=st.just(tuple(votes)),
        simulated=st.booleans(),
    )


def scores(sample: str) -> st.SearchStrategy[Score]:
    outcome = st.tuples(numbers, st.none()) | st.tuples(st.none(), names)
    more = st.tuples(names, names, st.dictionaries(names, scalars, max_size=3))
    return st.tuples(outcome, more).map(
        lambda drawn: Score(
            sample=sample,
            value=drawn[0][0],
            failure=drawn[0][1],
            scorer=drawn[1][0],
            unit=drawn[1][1],
            detail=drawn[1][2],
        )
    )


runs = st.builds(
    Run,
    task=names,
    recipe=st.dictionaries(names, json_values, max_size=3),
    code=names,
    seed=seeds,
    parents=st.lists(hashes, max_size=2).map(tuple),
    outputs=st.lists(hashes, max_size=2).map(tuple),
)


def curves(run: str) -> st.SearchStrategy[Curve]:
    points = st.dictionaries(st.integers(0, 2**53), numbers, min_size=1, max_size=5)
    return st.builds(
        lambda metric, points: Curve(
            run=run, metric=metric, steps=tuple(sorted(points)), readings=tuple(points[at] for at in sorted(points))
        ),
        names,
        points,
    )


def glimpses(run: str) -> st.SearchStrategy[Glimpse]:
    return st.builds(
        Glimpse,
        run=st.just(run),
        step=st.integers(0, 2**53),
        place=st.integers(0, 9),
        prompt=names,
        media=hashes.map(lambda sha: f"{sha}.mp4"),
    )


figures = st.builds(
    Figure,
    name=names,
    estimate=estimates,
    selection=st.dictionaries(names, scalars, max_size=3),
    evidence=st.sampled_from(["judgements", "scores", "runs"]),
    rows=st.integers(0, 2**31 - 1),
    digest=hashes,
    simulated=st.booleans(),
)


@st.composite
def worlds(draw: st.DrawFn) -> list[Record]:
    """A record of every kind, each referring to others of the list; in any order."""
    case = draw(cases())
    one = draw(samples(case.id))
    other = draw(samples(case.id).filter(lambda sample: sample.id != one.id))
    shown = draw(comparisons(case.id, one.id, other.id))
    first = draw(judgements(shown.id))
    second = draw(judgements(shown.id, supersedes=first.id))
    liked = draw(preferences(case.id, one.id, other.id, [second.id]))
    run = draw(runs)
    learned = [run, draw(curves(run.id)), draw(glimpses(run.id)), draw(figures)]
    everything = [case, one, other, shown, first, second, liked, draw(scores(one.id)), *learned]
    return draw(st.permutations(everything))


def any_record() -> st.SearchStrategy[Record]:
    return worlds().flatmap(st.sampled_from)
