"""In simulations whose truth is known the careless are found, and without them the result lies nearer the truth."""

import json
from dataclasses import fields
from itertools import product

import krippendorff
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.special import softmax

from annotation.cli import annotate
from annotation.quality import Answers, Rule, alphas, table, weights
from annotation.simulate import rao_kupper
from palate.errors import DataError
from palate.provenance import as_text, walk
from palate.records import Case, Comparison, Judgement, Record, Sample, Side, Verdict
from palate.stats.reliability import dawid_skene
from palate.stats.wins import Form, pooled, value_and_deviation, weighted
from palate.store import Store


def crowd(
    seed: int, people: int = 20, careless: int = 4, votes: int = 60, left: float = 0.0
) -> tuple[Answers, set[str], float]:
    """People of whom some answer at random; who they are, and the true net preference of the careful."""
    rng = np.random.default_rng(seed)
    comparisons = people * votes // 3
    ahead = 0.8 + 2.0 * rng.standard_normal(comparisons)
    unit = np.concatenate([rng.permutation(comparisons) for _ in range(3)])
    person = np.arange(len(unit)) % people
    side = np.where(unit % 2, 1, -1)
    chances = np.stack(rao_kupper(ahead[unit] + left * side, 2.45)[::-1])
    guess = person < careless
    chances[:, guess] = 1 / 3
    draw = rng.random(len(unit))
    outcome = (draw > chances[0]).astype(int) + (draw > chances[0] + chances[1]) - 1
    good, _, bad = rao_kupper(ahead, 2.45)
    names = np.array([f"p{number:02}" for number in range(people)], object)
    labels = unit.astype(str).astype(object)
    nan = np.full(len(unit), np.nan)
    answers = Answers(labels, labels, names[person], outcome, side, np.zeros(len(unit), bool), nan, nan)
    return answers, set(names[:careless]), float((good - bad).mean())


def test_the_careless_are_found_and_leaving_them_out_brings_the_result_nearer_the_truth():
    right = found = there = nearer = 0
    for seed in range(20):
        answers, careless, truth = crowd(seed)
        rows = table(answers, Rule())
        out = {row.name for row in rows if row.advice == "leave out"}
        right, found, there = right + len(out & careless), found + len(out), there + len(careless)
        weight = weights(rows)
        mine = np.array([weight[name] for name in answers.annotator])
        kept = mine > 0
        raw, _ = value_and_deviation(pooled(answers.outcome, answers.pair), Form.NET)
        better = weighted(answers.outcome[kept], answers.pair[kept], answers.annotator[kept], mine[kept])
        nearer += abs(value_and_deviation(better, Form.NET)[0] - truth) < abs(raw - truth)
    assert right / found >= 0.9
    assert right / there >= 0.9
    assert nearer >= 16  # of 20 studies


def test_a_favoured_side_shows_with_its_p_value_and_costs_half_the_weight():
    fair = table(crowd(0, careless=0, votes=120)[0], Rule())
    assert sum(row.advice != "keep" for row in fair) <= 3
    assert np.mean([row.left_p < 0.05 for row in fair if row.left_p is not None]) < 0.3
    leaning = table(crowd(0, careless=0, votes=120, left=2.0)[0], Rule())
    assert all((row.left_p or 1) < 0.01 and (row.left.value or 0) > 0.6 for row in leaning)
    assert any(row.advice == "weigh down" and row.reason == "favours a side" for row in leaning)


def test_every_column_of_the_table_is_what_a_hand_count_gives():
    rows = [  # comparison, pair, annotator, outcome, side, gold, seconds, length
        ("1", "1", "ann", 1, 1, False, 10, 5),
        ("1", "1", "bob", 1, 1, False, 20, 5),
        ("2", "1", "ann", 1, -1, False, 30, 5),
        ("3", "3", "ann", 0, 1, False, 5, 5),
        ("3", "3", "bob", -1, 1, False, 5, 5),
        ("4", "4", "ann", -1, -1, True, 5, 5),
        ("5", "5", "ann", 1, 1, True, 5, 5),
    ]
    columns = [np.array(column) for column in zip(*rows)]
    first, pair, who = (column.astype(object) for column in columns[:3])
    seconds, length = (column.astype(float) for column in columns[6:])
    ann, bob = table(Answers(first, pair, who, columns[3], columns[4], columns[5], seconds, length), Rule())
    assert (ann.name, ann.votes, bob.votes) == ("ann", 5, 2)
    assert (ann.gold.value, ann.gold.n) == (0.5, 2)
    assert (ann.left.value, ann.left.n, ann.left_p) == (0.75, 4, pytest.approx(0.625))
    assert ann.ties.value == 0.2
    assert (ann.consistency.value, ann.consistency.n) == (1.0, 1)
    assert (ann.agreement.value, ann.agreement.n) == (pytest.approx(2 / 3), 3)
    assert ann.pace == 1.0
    assert (bob.gold.value, bob.gold.note) == (None, "no known answers")
    assert ann.advice == bob.advice == "ask again"


def test_somebody_who_always_gives_one_answer_is_left_out():
    answers, _, _ = crowd(1, careless=0)
    stuck = answers.annotator == "p03"
    answers.outcome[stuck] = 1
    assert {row.name: row.advice for row in table(answers, Rule())}["p03"] == "leave out"


def test_dawid_and_skene_climb_to_a_maximum_of_the_likelihood():
    """The oracle is the likelihood itself, written out over every unit's three possible truths."""
    answers, _, _ = crowd(2, people=6, careless=2, votes=30)
    unit, person = (np.unique(labels, return_inverse=True)[1] for labels in (answers.pair, answers.annotator))
    skill = dawid_skene(unit, person, answers.outcome + 1, rounds=500)

    def likelihood(confusion: np.ndarray, share: np.ndarray) -> float:
        total = 0.0
        for one in range(unit.max() + 1):
            at = unit == one
            total += np.log(sum(share[t] * confusion[person[at], t, answers.outcome[at] + 1].prod() for t in range(3)))
        return total

    best = likelihood(skill.confusion, skill.share)
    assert np.allclose(skill.confusion.sum(2), 1)
    assert np.allclose(skill.truth.sum(1), 1)
    rng = np.random.default_rng(0)
    for size, _ in product((0.01, 0.1), range(10)):
        near = softmax(np.log(np.maximum(skill.confusion, 1e-6)) + size * rng.standard_normal(skill.confusion.shape), 2)
        share = softmax(np.log(np.maximum(skill.share, 1e-6)) + size * rng.standard_normal(3))
        assert likelihood(near, share) < best + 1e-6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dawid_and_skene_are_those_of_an_independent_package():
    from crowdkit.aggregation import DawidSkene  # brings scikit-learn and transformers, hence slow

    answers, _, _ = crowd(2, people=6, careless=2, votes=60)
    unit, person = (np.unique(labels, return_inverse=True)[1] for labels in (answers.pair, answers.annotator))
    votes = pd.DataFrame({"task": unit, "worker": person, "label": answers.outcome + 1})
    other = DawidSkene(n_iter=20, tol=-1).fit(votes)
    skill = dawid_skene(unit, person, answers.outcome + 1, rounds=20)
    assert other.probas_.sort_index()[[0, 1, 2]].to_numpy() == pytest.approx(skill.truth, abs=1e-8)
    after = dawid_skene(unit, person, answers.outcome + 1, rounds=21).confusion  # theirs is fitted once more at the end
    for number in range(6):
        theirs = other.errors_.loc[number].reindex(index=[0, 1, 2], columns=[0, 1, 2], fill_value=0).to_numpy().T
        assert theirs == pytest.approx(after[number], abs=1e-6)


@pytest.mark.parametrize(("metric", "careless"), list(product(("nominal", "ordinal"), (0, 10))))
def test_alpha_is_that_of_an_independent_package(metric, careless):
    answers, _, _ = crowd(3, careless=careless)
    answers.gold[:10] = True
    answers.outcome[:10] = 1
    units, comparison = np.unique(answers.comparison, return_inverse=True)
    counts = np.zeros((len(units), 3), int)
    np.add.at(counts, (comparison[10:], answers.outcome[10:] + 1), 1)
    found = alphas(answers)[metric]
    assert found.value == pytest.approx(krippendorff.alpha(value_counts=counts, level_of_measurement=metric))
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


def test_alpha_of_people_who_shared_nothing_says_so():
    answers, _, _ = crowd(3)
    first = np.unique(answers.comparison, return_index=True)[1]
    alone = Answers(*(getattr(answers, field.name)[first] for field in fields(Answers)))
    assert {one.note for one in alphas(alone).values()} == {"no comparison has two votes"}


def test_no_votes_are_refused():
    empty = np.zeros(0)
    with pytest.raises(DataError, match="no votes"):
        dawid_skene(empty.astype(int), empty.astype(int), empty.astype(int))


def test_the_command_prints_a_row_for_each_person_from_the_store(tmp_path):
    url = str(tmp_path / "palate.db")
    with Store(url) as store:
        media = store.media.add_video(np.zeros((8, 16, 16, 3), np.uint8), fps=8)
        records: list[Record] = []
        for number in range(30):
            case = Case(suite="suite", prompt=f"prompt {number}")
            new, old = (Sample(case=case.id, system=name, media=media) for name in ("new", "old"))
            comparison = Comparison(
                study="s", case=case.id, candidate=new.id, baseline=old.id, candidate_side=list(Side)[number % 2]
            )
            records += [case, new, old, comparison]
            better = Verdict.GOOD if number % 3 else Verdict.BAD
            for person, verdict in (("ann", better), ("bob", better), ("cat", list(Verdict)[number // 3 % 3])):
                about = {"verdicts": {"overall": verdict}, "seconds": 2.0}
                named = {"comparison": comparison.id, "annotator": person, "simulated": False, "source": "test"}
                records.append(Judgement.model_validate(named | about))
        store.add(records)
    run = CliRunner().invoke(annotate, ["quality", "--study", "s", "--store", url, "--json"], catch_exceptions=False)
    told = json.loads(run.output)
    ann, bob, cat = told["annotators"]
    assert not told["simulated"]
    assert [one["name"] for one in (ann, bob, cat)] == ["ann", "bob", "cat"]
    assert ann["votes"] == 30
    assert ann["pace"] == 2.0
    assert (ann["advice"], bob["advice"], cat["advice"]) == ("keep", "keep", "leave out")
    text = CliRunner().invoke(annotate, ["quality", "--study", "s", "--store", url], catch_exceptions=False).output
    assert "no better than guessing" in text
    ordinal = told["alpha"]["ordinal"]
    shown = f"ordinal {ordinal['value']:.2f} [{ordinal['low']:.2f}, {ordinal['high']:.2f}]"
    assert f"nominal {told['alpha']['nominal']['value']:.2f}" in text
    assert shown in text
    raw, weighed = (
        next(
            one for one in told["figures"] if one["name"] == "gsb.overall.net" and ("rule" in one["selection"]) == rule
        )
        for rule in (False, True)
    )
    assert raw["estimate"]["value"] == pytest.approx((20 + 20 + 12 - 10 - 10 - 9) / 90)
    assert weighed["estimate"]["value"] == pytest.approx((20 - 10) / 30)  # without cat
    assert (raw["estimate"]["n"], weighed["estimate"]["n"], weighed["rows"]) == (90, 60, 90)
    assert "reliable=0.4" in weighed["selection"]["rule"]
    assert "0.33 [" in text
    with Store(url) as store:
        assert store.count(Judgement) == 90
        for one in (raw, weighed):
            assert "the same 90 verdicts" in as_text(walk(store, one["id"]))
    with pytest.raises(DataError, match="no study"):
        CliRunner().invoke(annotate, ["quality", "--study", "t", "--store", url], catch_exceptions=False)
