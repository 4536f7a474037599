"""Votes that come a part at a time: the same numbers as all at once, and no more memory for more of them."""

import tracemalloc
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate import spool
from palate.accords import Accords, accords
from palate.digest import Digests, digest
from palate.gsb import Contests, contests, slices
from palate.records import UNKNOWN_ANNOTATOR, Case, Comparison, Judgement, Sample, Side
from palate.report import figures
from palate.spool import Spool
from palate.standings import Standings, standings
from palate.stats.estimate import Clusters, two_way
from palate.stats.plan import components
from palate.stats.tally import Tally
from palate.stats.wins import pooled, weighted
from palate.store import Store
from palate.votes import Labels, Votes

VOTES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(-1, 1), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=60
)


def parts_of(columns, prompt, size=3):
    """The same columns, `size` prompts at a time."""
    for first in range(0, int(prompt.max()) + 1, size):
        at = (prompt >= first) & (prompt < first + size)
        if at.any():
            yield [column[at] for column in columns]


@settings(max_examples=40, deadline=None)
@given(VOTES)
def test_a_tally_is_the_sums_by_definition(votes):
    """Of every group: the counts, and what its prompts, annotators and both add to the variance, cluster by cluster."""
    columns = group, outcome, prompt, annotator = np.array(votes).T
    tally = Tally()
    for part in parts_of(columns, prompt):
        tally.add(*part)
    for one in set(group.tolist()):
        at = group == one
        found, onehot = tally.counts(one), (outcome[at][:, None] == [1, 0, -1]).astype(float)
        assert found.n == at.sum()
        np.testing.assert_allclose(found.totals, onehot.sum(0))
        away = onehot - onehot.mean(0)
        both = prompt[at] * 10 + annotator[at]
        for label, outer in zip(
            (prompt[at], annotator[at], both),
            (found.sampling.by_prompt, found.sampling.by_annotator, found.sampling.by_both),
        ):
            sums = np.array([away[label == cluster].sum(0) for cluster in np.unique(label)])
            expected = sums.T @ sums * len(sums) / max(len(sums) - 1, 1)
            np.testing.assert_allclose(outer, expected, atol=1e-12)
        assert found.sampling.clusters == {
            "prompts": len(np.unique(prompt[at])),
            "annotators": len(np.unique(annotator[at])),
        }
        other = pooled(-outcome[at], prompt[at], annotator[at])
        np.testing.assert_allclose(found.swapped.sampling.by_both, other.sampling.by_both, atol=1e-12)


def test_nothing_that_varies_has_no_deviation_in_parts():
    """Shares that are the same in every part leave no variance, however large the counts are."""
    tally, n = Tally(), 3 * 10**5
    outcome, annotator = np.tile([1, 0, -1], n // 3), np.zeros(n, int)
    for prompt in range(4):
        tally.add(np.zeros(n, int), outcome, np.full(n, prompt), annotator)
    assert tally.counts(0).sampling.deviation(np.array([1, 0, -1]) / (4 * n)) is None


def test_weights_and_unknown_annotators_in_parts():
    rng = np.random.default_rng(0)
    prompt, annotator, outcome = rng.integers(0, 30, 400), rng.integers(0, 5, 400), rng.integers(-1, 2, 400)
    weight = rng.uniform(0.2, 3, 5)[annotator]
    whole = weighted(outcome, prompt, annotator, weight)
    tally, unknown = Tally(), Tally()
    for o, p, a, w in parts_of((outcome, prompt, annotator, weight), prompt):
        tally.add(np.zeros(len(o), int), o, p, a, w)
        unknown.add(np.zeros(len(o), int), o, p, np.where(p == 3, -1, a))
    found = tally.counts(0, "weighted")
    np.testing.assert_allclose(found.totals, whole.totals)
    onehot = (outcome[:, None] == [1, 0, -1]) * weight[:, None]
    expected = two_way(onehot - weight[:, None] * onehot.sum(0) / onehot.sum(), prompt, annotator)
    for name in ("by_prompt", "by_annotator", "by_both"):
        np.testing.assert_allclose(getattr(found.sampling, name), getattr(expected, name), rtol=1e-10)
    assert found.moments is None
    assert unknown.counts(0).sampling.n_annotators is None
    assert unknown.counts(0).sampling.note


def test_clusters_in_parts_are_clusters_at_once():
    rng = np.random.default_rng(1)
    scores, row = rng.normal(size=(9, 4)), rng.integers(0, 9, 500)
    prompt, annotator = rng.integers(0, 40, 500), rng.integers(0, 6, 500)
    clusters, whole = Clusters(scores, 6), two_way(scores, prompt, annotator, row=row)
    for part in parts_of((row, prompt, annotator), prompt):
        clusters.add(*part)
    for name in ("by_prompt", "by_annotator", "by_both", "n_prompts", "n_annotators"):
        np.testing.assert_allclose(getattr(clusters.sampling, name), getattr(whole, name))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=3))))
def test_digests_add_up(rows):
    digests = Digests()
    for one in (rows[::2], rows[1::2]):
        names = np.unique(np.array([name for _, name in one], object))
        codes = np.array([int(np.flatnonzero(names == name)[0]) for _, name in one], np.int32)
        digests.add(np.array([group for group, _ in one], int), Labels(names, codes))
    groups = sorted({group for group, _ in rows})
    assert digests.digest(groups) == digest(name for _, name in rows)
    for group in groups:
        assert digests.digest([group]) == digest(name for one, name in rows if one == group)


@pytest.fixture
def store(tmp_path):
    """Four systems, both ways round, on both sides, in slices; people and a program; gold, and one unknown voter."""
    rng = np.random.default_rng(5)
    records = []
    with Store(f"sqlite:///{tmp_path}/store.db") as record:
        for number in range(40):
            case = Case(suite="s", prompt=f"prompt {number}", tags={"subject": ("a; b", "b", "c")[number % 3]})
            samples = [Sample(case=case.id, system=f"system {k}") for k in range(4)]
            records += [case, *samples]
            for one, other in ((0, 1), (2, 1), (3, 0), (2, 3)):
                pair = (one, other) if rng.random() < 0.6 else (other, one)
                side = Side.LEFT if rng.random() < 0.5 else Side.RIGHT
                ids = {"candidate": samples[pair[0]].id, "baseline": samples[pair[1]].id}
                role = "gold" if rng.random() < 0.1 else "normal"
                comparison = Comparison(study="s", case=case.id, candidate_side=side, role=role, **ids)
                records.append(comparison)
                for person in rng.choice(6, 3, replace=False):
                    drawn = {
                        axis: str(rng.choice(["good", "same", "bad", "both_bad"])) for axis in ("overall", "motion")
                    }
                    name = UNKNOWN_ANNOTATOR if number == 39 else f"person {person}"
                    vote = {"annotator": name, "simulated": number % 4 == 0, "source": f"{number}", "verdicts": drawn}
                    records.append(Judgement(comparison=comparison.id, **vote))
        record.add(records)
        yield record


def test_a_store_read_in_parts_gives_the_same_figures(store):
    sliced = slices(store.select(Case), "subject")
    votes, parts = store.votes(), list(store.vote_parts(judgements=20))
    assert len(parts) > 10
    assert sorted(one for part in parts for one in part.judgement.tolist()) == sorted(votes.judgement.tolist())
    assert all(set(a.case.present()).isdisjoint(b.case.present()) for a, b in pairwise(parts))
    only = list(store.vote_parts(study="s", axis="motion", judgements=20))
    assert sum(map(len, only)) == len(store.votes(axis="motion"))
    assert not list(store.vote_parts(study="none"))
    gap = {one: len(one) + hash(one) % 7 / 3 for one in set(votes.comparison.tolist())}
    asked = (
        (Contests(), contests(votes)),
        (Contests("majority", baseline="system 1"), contests(votes, "majority", baseline="system 1")),
        (Contests("majority", slices=sliced), contests(votes, "majority", slices=sliced)),
        (Accords(), accords(votes)),
    )
    rated = ({}, {"side": True}, {"raters": True, "ties": "rao_kupper"}, {"style": {"length": gap}})
    for streamed, whole in (*asked, *((Standings(**one), standings(votes, **one)[0]) for one in rated)):
        for part in parts:
            streamed.add(part)
        found = streamed.found()
        found = found[0] if isinstance(found, tuple) else found
        assert len(found) == len(whole) > 0
        kinds = {Contests: 0, Standings: 1, Accords: 2}
        told = [
            figures(*[rows if kinds[type(streamed)] == kind else [] for kind in range(3)], {})
            for rows in (found, whole)
        ]
        for mine, other in zip(*told, strict=True):
            assert all_but_numbers(mine) == all_but_numbers(other)
            numbers = [[one.estimate.value, one.estimate.low, one.estimate.high] for one in (mine, other)]
            np.testing.assert_allclose(*np.array(numbers, float), rtol=1e-9, atol=1e-9)


def all_but_numbers(figure):
    """What a figure says, the digest of its rows among it, but its value and its interval."""
    told = figure.model_dump()
    return {**told, "estimate": {**told["estimate"], "value": 0, "low": 0, "high": 0}}


def test_plans_are_measured_in_parts(store):
    streamed, whole = Contests(), Contests()
    for part in store.vote_parts(axis="overall", judgements=20):
        streamed.add(part)
    whole.add(store.votes(axis="overall"))
    pairs = [(one, other) for one, other in zip(streamed.counts(), whole.counts(), strict=True) if one.moments]
    assert pairs
    for one, other in pairs:
        assert list(vars(components(one)).values()) == pytest.approx(list(vars(components(other)).values()), rel=1e-9)


def made_up(number, prompts=20, people=5):
    """A part of 1,800 votes of 6 systems on prompts of its own."""
    rng = np.random.default_rng(number)
    prompt, pair, person = (one.ravel() for one in np.meshgrid(range(prompts), range(18), range(people), indexing="ij"))
    pairs = np.array([(a, b) for a in range(6) for b in range(6) if a != b][:18])
    n = len(prompt)

    def labels(names, codes=None):
        return Labels(np.asarray(names, object), (np.zeros(n) if codes is None else codes).astype(np.int32))

    systems = np.array([f"system {k}" for k in range(6)], object)
    shown = [f"comparison {number} {k:04d}" for k in range(prompts * 18)]
    return Votes(
        judgement=labels([f"judgement {number} {k:05d}" for k in range(n)], np.arange(n)),
        comparison=labels(shown, prompt * 18 + pair),
        case=labels([f"case {number} {k:02d}" for k in range(prompts)], prompt),
        annotator=labels([f"person {k}" for k in range(people)], person),
        axis=labels(["overall"]),
        candidate=labels(systems, pairs[pair, 0]),
        baseline=labels(systems, pairs[pair, 1]),
        verdict=labels(["bad", "good", "same"], rng.integers(0, 3, n)),
        candidate_side=labels(["left"]),
        role=labels(["normal"]),
        simulated=np.zeros(n, bool),
        study=labels(["s"]),
    )


def test_memory_does_not_grow_with_votes(monkeypatch):
    monkeypatch.setattr(spool, "IN_MEMORY", 1 << 14)

    def peak(parts):
        counted = Contests(), Contests("majority"), Standings(), Accords()
        tracemalloc.start()
        for number in range(parts):
            part = made_up(number)
            for one in counted:
                one.add(part)
        found = [one.found() for one in counted]
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found[0][0].basis.prompts == 20 * parts
        return most

    peak(2)  # what Python keeps for good is kept from here on
    few, many = peak(4), peak(24)
    assert many < few + 100_000, "20 more parts of 1,800 votes, at least 24 bytes each, had to be 864,000"
    one = made_up(0)
    assert sum(getattr(one, field.name).codes.nbytes for field in fields(one) if field.name != "simulated") > 50_000


def test_spool_keeps_parts_apart(monkeypatch):
    monkeypatch.setattr(spool, "IN_MEMORY", 100)
    kept, numbers = Spool(), np.arange(60, dtype=np.int32).reshape(3, 20)
    for at in range(4):
        kept.append(at % 2, numbers + at)
    for key in (0, 1):
        for at, part in zip((key, key + 2), kept.parts(key), strict=True):
            assert (part == numbers + at).all()
    kept.close()
    with pytest.raises(ValueError, match="closed"):
        kept.append(0, numbers)
