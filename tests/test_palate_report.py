import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from annotation.votes import fetv
from palate.accords import accords
from palate.digest import digest
from palate.errors import DataError
from palate.gsb import Contests, contests, outcomes, slices
from palate.provenance import walk
from palate.records import UNKNOWN_ANNOTATOR, Case, Comparison, Figure, Judgement, Sample, Score, Side
from palate.report import figures, mean_over_cases, means_over_cases, score_difference, score_figure
from palate.report_cli import report
from palate.report_text import gsb_text, table
from palate.standings import standings
from palate.stats import wins
from palate.stats.estimate import two_way
from palate.stats.wins import Form, holm
from palate.store import Store
from palate.style import style

README = Path(__file__).resolve().parents[1] / "README.md"
FETV = Path(__file__).resolve().parents[2] / "shared" / "data" / "votes" / "fetv"
TAGS = ("animals; people", "people", "food")


@pytest.fixture
def store(tmp_path):
    with Store(f"sqlite:///{tmp_path}/store.db") as record:
        yield record


def study(
    rng, systems=("new", "old"), cases=12, people=4, axes=("overall",), simulated=False, odds=(0.5, 0.3, 0.2), **more
):
    """Records of everybody judging each case's pair of samples, with good / same / bad drawn by `odds`."""
    records = []
    for number in range(cases):
        case = Case(suite="s", prompt=f"prompt {number}", tags={"subject": TAGS[number % 3]}, axes=axes)
        pair = [Sample(case=case.id, system=system) for system in systems]
        comparison = Comparison(
            study="s", case=case.id, candidate=pair[0].id, baseline=pair[1].id, candidate_side=Side.LEFT, **more
        )
        records += [case, *pair, comparison]
        for person in range(people):
            verdicts = {axis: str(rng.choice(["good", "same", "bad"], p=odds)) for axis in axes}
            name, source = f"person {person}", f"{number} {more}"
            records.append(
                Judgement(
                    comparison=comparison.id, annotator=name, simulated=simulated, source=source, verdicts=verdicts
                )
            )
    return records


def both_ways(record, verdicts, people=("ann", "bob")):
    """Votes on two cases, the second shown with the systems the other way round."""
    for number, (systems, verdict) in enumerate(zip((("new", "old"), ("old", "new")), verdicts)):
        case = Case(suite="s", prompt=f"prompt {number}")
        pair = [Sample(case=case.id, system=system) for system in systems]
        comparison = Comparison(study="s", case=case.id, candidate=pair[0].id, baseline=pair[1].id, candidate_side=None)
        votes = [
            Judgement(
                comparison=comparison.id, annotator=who, simulated=False, source="t", verdicts={"overall": verdict}
            )
            for who in people
        ]
        record.add([case, *pair, comparison, *votes])
    return record.votes()


def aside(votes):
    contests = Contests()
    contests.add(votes)
    return contests.aside


def test_both_orders_are_one_contest(store):
    votes = both_ways(store, ("good", "bad"))
    (contest,) = contests(votes)
    assert (contest.candidate, contest.good, contest.bad) == ("new", 4, 0)
    (turned,) = contests(votes, candidate="old")
    assert (turned.candidate, turned.baseline, turned.good, turned.bad) == ("old", "new", 0, 4)
    (against,) = contests(votes, baseline="new")
    assert (against.candidate, against.bad) == ("old", 4)
    with pytest.raises(DataError, match="no votes"):
        contests(votes, candidate="other")


def test_both_bad_counts_as_same_and_is_shown(store):
    (contest,) = contests(both_ways(store, ("both_bad", "good")))
    assert (contest.good, contest.same, contest.bad, contest.both_bad) == (0, 2, 2, 2)
    head, _, row = gsb_text([contest], [], [], []).splitlines()[:3]
    assert head.index("both-bad votes") + len("both-bad votes") - 1 == row.index("2", head.index("both-bad"))


def test_unknown_annotators_are_not_one_person(store):
    (contest,) = contests(both_ways(store, ("good", "good"), people=(UNKNOWN_ANNOTATOR,)))
    assert contest.basis.people is None
    assert contest.forms[Form.NET].clusters == {"prompts": 2}
    assert "annotators are unknown" in contest.forms[Form.NET].note
    text = gsb_text([contest], [], [], [])
    assert "unknown" in text.splitlines()[2]
    assert "annotators are unknown: the interval does not cover other annotators" in text


def test_simulated_votes_are_never_mixed_with_peoples(store):
    rng = np.random.default_rng(0)
    store.add([*study(rng, odds=(1, 0, 0)), *study(rng, odds=(0, 0, 1), simulated=True)])
    votes = store.votes()
    real, made_up = contests(votes)
    assert (real.basis.simulated, real.good, real.bad) == (False, 48, 0)
    assert (made_up.basis.simulated, made_up.good, made_up.bad) == (True, 0, 48)
    text = gsb_text([real, made_up], *standings(votes)[:1], accords(votes), [])
    assert text.startswith("*** Rows marked SIMULATED")
    assert "\nSIMULATED  overall" in text
    shown = figures([real, made_up], [], [], {})
    assert [one.simulated for one in shown] == [False] * 5 + [True] * 5
    assert "SIMULATED" not in gsb_text([real], [], [], [])


def test_gold_and_repeats_are_not_counted(store):
    rng = np.random.default_rng(1)
    store.add([*study(rng), *study(rng, role="gold"), *study(rng, role="repeat")])
    votes = store.votes()
    (contest,) = contests(votes)
    assert contest.good + contest.same + contest.bad == 48
    assert aside(votes) == 96


def test_majorities_count_comparisons(store):
    store.add(study(np.random.default_rng(2), people=3))
    (pooled,), (majority,) = contests(store.votes()), contests(store.votes(), "majority")
    assert pooled.good + pooled.same + pooled.bad == 36
    assert majority.good + majority.same + majority.bad == 12
    assert "majority" in majority.forms[Form.NET].method
    assert "aggregated" in majority.forms[Form.NET].note


def test_a_slice_without_votes_and_a_single_system_are_told(store):
    """A tag of cases that nobody judged; and a study that only set a system's own samples against each other."""
    store.add([*study(np.random.default_rng(0)), Case(suite="s", prompt="unasked", tags={"mood": "calm"})])
    for votes, sliced in (
        (store.votes(), slices(store.select(Case), "mood")),
        (store.votes(candidate="nobody"), None),
    ):
        with pytest.raises(DataError, match="no votes in this selection"):
            contests(votes, slices=sliced)
    with pytest.raises(DataError, match="no case has the tag"):
        slices(store.select(Case), "colour")
    case = Case(suite="s", prompt="alone")
    pair = [Sample(case=case.id, system="new", seed=seed) for seed in (0, 1)]
    shown = Comparison(study="s", case=case.id, candidate=pair[0].id, baseline=pair[1].id, candidate_side=None)
    vote = {"annotator": "ann", "simulated": False, "source": "t", "verdicts": {"motion": "good"}}
    store.add([case, *pair, shown, Judgement(comparison=shown.id, **vote)])
    with pytest.raises(DataError, match="no votes in this selection"):
        contests(store.votes(axis="motion"))
    assert standings(store.votes(axis="motion")) == ([], [])


def test_seeds_of_a_case_are_comparisons_of_their_own(store):
    """Two seeds of a case, unanimous and opposed; and two samples of one system, as a knockout shows them."""
    case = Case(suite="s", prompt="p")
    samples = [Sample(case=case.id, system=system, seed=seed) for seed in (0, 1) for system in ("new", "old")]
    store.add([case, *samples])
    for one, other, verdict in ((0, 1, "good"), (2, 3, "bad"), (0, 2, "good")):
        ids = {"candidate": samples[one].id, "baseline": samples[other].id}
        comparison = Comparison(study="s", case=case.id, candidate_side=None, **ids)
        votes = [
            Judgement(
                comparison=comparison.id, annotator=who, simulated=False, source="t", verdicts={"overall": verdict}
            )
            for who in ("ann", "bob")
        ]
        store.add([comparison, *votes])
    votes = store.votes()
    (majority,) = contests(votes, "majority")
    assert (majority.good, majority.same, majority.bad) == (1, 0, 1)
    assert aside(votes) == 2
    (accord,) = accords(votes)
    assert (accord.comparisons, accord.share.value) == (3, 1)


def test_p_is_corrected_over_the_axes_of_a_pair(store):
    store.add(study(np.random.default_rng(3), axes=("a", "b", "c"), odds=(0.45, 0.3, 0.25)))
    found = contests(store.votes())
    assert [one.basis.axis for one in found] == ["a", "b", "c"]
    assert [one.p_holm for one in found] == pytest.approx(holm([one.p for one in found]))
    assert any(one.p_holm > one.p for one in found)


def test_slices(store):
    store.add(study(np.random.default_rng(4)))
    sliced = contests(store.votes(), slices=slices(store.select(Case), "subject"))
    assert [(one.slice, one.basis.prompts) for one in sliced] == [("animals", 4), ("food", 4), ("people", 8)]
    with pytest.raises(DataError, match="tag"):
        slices(store.select(Case), "topic")


def test_ratings_that_cannot_be_are_explained(store):
    store.add(study(np.random.default_rng(5), odds=(1, 0, 0)))
    found, missing = standings(store.votes())
    assert found == []
    assert "overall: no ratings, nothing bounds the lead of new" in missing[0]


def test_one_vote_a_comparison_has_no_agreement(store):
    store.add(study(np.random.default_rng(6), people=1))
    assert accords(store.votes()) == []


def test_the_command_stores_what_it_shows(store, tmp_path):
    store.add(study(np.random.default_rng(7), axes=("overall", "motion")))
    arguments = ["gsb", "--store", f"sqlite:///{tmp_path}/store.db", "--study", "s"]
    text = CliRunner().invoke(report, arguments, catch_exceptions=False).stdout
    for words in ("ratio (G+S)/(B+S)", "pooled, two-way cluster-robust t", "Holm-corrected", "alpha ordinal", "rank"):
        assert words in text
    held = {one.id: one for one in store.select(Figure)}
    assert len(held) == 2 * (5 + 2 * 2 + 3)  # axes x (forms and any time + systems x (rating, win rate) + agreements)
    shown = json.loads(CliRunner().invoke(report, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert {one["id"] for one in shown} == set(held)
    assert len(list(store.select(Figure))) == len(held)  # shown again, stored once
    ratio = next(one for one in held.values() if one.name == "gsb.overall.ratio")
    assert ratio.selection == {
        "study": "s",
        "axis": "overall",
        "candidate": "new",
        "baseline": "old",
        "aggregation": "pooled",
    }
    votes = store.votes(axis="overall")
    assert (ratio.rows, ratio.digest) == (48, digest(votes.judgement.tolist()))
    assert all("the same" in walk(store, id).behind[0].title for id in held)


def test_the_command_by_tag(store, tmp_path):
    store.add(study(np.random.default_rng(8)))
    arguments = ["gsb", "--store", f"sqlite:///{tmp_path}/store.db", "--by", "subject", "--candidate", "old", "--json"]
    shown = json.loads(CliRunner().invoke(report, arguments, catch_exceptions=False).stdout)
    ratios = [one for one in shown if one["name"] == "gsb.overall.ratio"]
    assert [one["selection"]["slice"] for one in ratios] == ["animals", "food", "people"]
    assert {one["selection"]["candidate"] for one in ratios} == {"old"}
    assert all("the same" in walk(store, one["id"]).behind[0].title for one in shown)


@pytest.mark.skipif(not FETV.exists(), reason="FETV's votes are not beside this checkout")
def test_fetv_majorities_inflate(store):
    """Counts published for these files: pooled against majority ratios of 1.39 / 1.86, 4.26 / 12.85 and 1.21 / 1.40.

    And every number of the README's table.
    """
    store.add({one.id: one for one in fetv.read(FETV, "fetv")}.values())
    votes = store.votes()
    expected = {
        ("temporal_quality", "damo-text2video", "zeroscope"): (1.39, 1.86, 0.228, 0.360),
        ("temporal_quality", "cogvideo", "text2video-zero"): (4.26, 12.85, 0.738, 0.900),
        ("alignment", "damo-text2video", "zeroscope"): (1.21, 1.40, None, None),
    }
    pooled, majority = (
        {(one.basis.axis, one.candidate, one.baseline): one.forms for one in contests(votes, rule)}
        for rule in ("pooled", "majority")
    )
    for key, (one, two, net, inflated) in expected.items():
        assert pooled[key][Form.RATIO].value == pytest.approx(one, abs=0.005)
        assert majority[key][Form.RATIO].value == pytest.approx(two, abs=0.005)
        if net is not None:
            assert pooled[key][Form.NET].value == pytest.approx(net, abs=0.0006)
            assert majority[key][Form.NET].value == pytest.approx(inflated, abs=0.0006)
    rows = re.findall(r"^\| ([a-z ]+), (\S+) v (\S+) \| (.+) \| (.+) \| (.+) \|$", README.read_text(), re.M)
    assert len(rows) == 3
    for axis, candidate, baseline, independent, clustered, majorities in rows:
        key = axis.replace(" ", "_"), candidate, baseline
        part = votes.select((votes.axis == key[0]) & (votes.candidate == candidate) & (votes.baseline == baseline))
        iid = wins.analytic(wins.pooled(outcomes(part), np.arange(len(part))), Form.NET)
        for told, one in ((independent, iid), (clustered, pooled[key][Form.NET])):
            assert told == f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
        assert majorities == f"{majority[key][Form.NET].value:.3f}"
    for accord, nominal, ordinal in zip(accords(votes), (0.31, 0.31, 0.43), (0.47, 0.49, 0.62)):
        assert accord.nominal.value == pytest.approx(nominal, abs=0.006)
        assert accord.ordinal.value == pytest.approx(ordinal, abs=0.006)


def scored(rng, system, shift=0.0, failing=0, cases=20, seeds=2):
    records = []
    for number in range(cases):
        case = Case(suite="s", prompt=f"prompt {number}", split="heldout")
        for seed in range(seeds):
            sample = Sample(case=case.id, system=system, seed=seed)
            lost = number * seeds + seed < failing
            value = None if lost else float(number + shift + rng.normal())
            score = Score(sample=sample.id, scorer="judge", value=value, failure="no reply" if lost else None)
            records += [case, sample, score]
    return records


def test_a_score_is_clustered_by_case(store):
    store.add(scored(np.random.default_rng(9), "new", failing=2))
    figure = score_figure(store, "judge", "new", "s", "heldout")
    estimate = figure.estimate
    assert estimate.n == 38
    assert estimate.clusters == {"cases": 19}
    assert "2 samples of new have no score" in estimate.note
    assert (figure.rows, figure.evidence) == (38, "scores")
    # two equal seeds a case: the interval is that of the 19 case means, all cases being of one size
    cases = {}
    samples = {one.id: one for one in store.select(Sample)}
    for one in store.select(Score):
        if one.value is not None:
            cases.setdefault(samples[one.sample].case, []).append(one.value)
    means = np.array([np.mean(values) for values in cases.values()])
    assert estimate.value == pytest.approx(means.mean())
    assert (estimate.high - estimate.low) / 2 == pytest.approx(2.1009 * means.std(ddof=1) / np.sqrt(19), rel=1e-4)
    for nothing in (("other", "new", "s"), ("judge", "old", "s"), ("judge", "new", "t")):
        with pytest.raises(DataError, match="no scores"):
            score_figure(store, *nothing, "heldout")
    with pytest.raises(DataError, match="no scores"):
        score_figure(store, "judge", "new", "s", "train")


def test_means_of_many_groups_at_once_are_those_of_each():
    generator = np.random.default_rng(0)
    values, cases = generator.normal(size=50), generator.integers(7, size=50)
    groups = np.append(generator.integers(4, size=49), 5)  # nothing in group 4, one value in group 5
    found = means_over_cases(values, cases, groups, {2: "a note"})
    assert sorted(found) == [0, 1, 2, 3, 5]
    for group, one in found.items():
        own = groups == group
        alone = mean_over_cases(values[own].tolist(), cases[own].tolist(), "a note" if group == 2 else "")
        assert one.clusters == alone.clusters
        assert one.model_dump(exclude={"clusters"}) == pytest.approx(alone.model_dump(exclude={"clusters"}))
        spread = two_way((values[own] - values[own].mean())[:, None] / own.sum(), cases[own], None)
        if deviation := spread.deviation(np.ones(1)):
            assert one.high - one.value == pytest.approx(spread.quantile(0.95) * deviation)


def test_a_paired_difference_is_narrower_than_two_means(store):
    rng = np.random.default_rng(10)
    store.add([*scored(rng, "new", shift=1.0, failing=2), *scored(rng, "old")])
    figure = score_difference(store, "judge", "new", "old", "s", "heldout")
    assert figure.estimate.n == 19  # the first case's two scores failed
    assert figure.estimate.low < 1.0 < figure.estimate.high
    assert "1 cases are scored for one system only" in figure.estimate.note
    assert figure.rows == 19 * 4
    store.add([figure])
    assert "the same 76 scores" in walk(store, figure.id).behind[0].title
    alone = score_figure(store, "judge", "new", "s", "heldout").estimate
    assert figure.estimate.high - figure.estimate.low < (alone.high - alone.low) / 3
    swapped = score_difference(store, "judge", "old", "new", "s", "heldout").estimate
    assert (swapped.value, swapped.low) == pytest.approx((-figure.estimate.value, -figure.estimate.high))
    with pytest.raises(DataError, match="no scores"):
        score_difference(store, "judge", "new", "nobody", "s", "heldout")


def test_one_case_has_no_interval(store):
    store.add(scored(np.random.default_rng(11), "new", cases=1))
    estimate = score_figure(store, "judge", "new", "s", "heldout").estimate
    assert (estimate.low, estimate.high) == (None, None)
    assert estimate.note


def test_table():
    assert table(["name", "n"], [["a", "5"], ["longer", "12"]]) == "name     n\n------  --\na        5\nlonger  12"
    assert table(["name"], []) == ""


def test_figures_are_records(store):
    store.add(study(np.random.default_rng(12)))
    shown = figures(contests(store.votes()), [], [], {"study": "s"})
    assert all(Figure.model_validate(one.model_dump()) == one for one in shown)
    assert store.add(shown) == 5


def test_the_side_is_taken_out(store, tmp_path):
    """Shown on both sides; whoever stands on the left wins more often."""
    rng = np.random.default_rng(13)
    for number in range(60):
        case = Case(suite="s", prompt=f"prompt {number}")
        pair = [Sample(case=case.id, system=system) for system in ("new", "old")]
        ids, left = {"candidate": pair[0].id, "baseline": pair[1].id}, number % 3 > 0
        side = Side.LEFT if left else Side.RIGHT
        shown = Comparison(study="s", case=case.id, candidate_side=side, **ids)
        verdict = {"overall": "good" if left == (rng.random() < 0.7) else "bad"}
        store.add([case, *pair, shown])
        store.add([Judgement(comparison=shown.id, annotator="ann", simulated=False, source="t", verdicts=verdict)])
    (plain, *_), _ = standings(store.votes())
    (fair, *_), _ = standings(store.votes(), side=True)
    assert plain.effects == ()
    assert fair.effects[0].estimate.value == pytest.approx(np.log(0.7 / 0.3), abs=0.6)
    assert abs(fair.elo.value - 1000) < abs(plain.elo.value - 1000)
    arguments = ["ratings", "--store", f"sqlite:///{tmp_path}/store.db", "--side", "--ties", "rao_kupper"]
    text = CliRunner().invoke(report, arguments, catch_exceptions=False).stdout
    assert "standing on the left adds" in text
    assert "all at once" in text
    assert "G/S/B" not in text


def test_what_raters_and_style_add_is_taken_out(store, tmp_path):
    """Equal systems. Ann prefers the left, Bob the right, and both what is brighter, as one system more often is."""
    rng = np.random.default_rng(14)
    records = []
    for number in range(300):
        case = Case(suite="s", prompt=f"prompt {number}")
        pair = [Sample(case=case.id, system=system) for system in ("new", "old")]
        bright = [float(rng.random() < share) for share in (0.7, 0.3)]
        left = bool(rng.random() < 0.5)
        shown = Comparison(
            study="s",
            case=case.id,
            candidate=pair[0].id,
            baseline=pair[1].id,
            candidate_side=Side.LEFT if left else Side.RIGHT,
        )
        records += [
            case,
            *pair,
            shown,
            *(Score(sample=one.id, scorer="light", value=v) for one, v in zip(pair, bright)),
        ]
        for who, lean in (("ann", 1.0), ("bob", -1.0)):
            x = lean * (1 if left else -1) + 1.5 * (bright[0] - bright[1])
            verdict = {"overall": "good" if rng.random() < 1 / (1 + np.exp(-x)) else "bad"}
            records.append(Judgement(comparison=shown.id, annotator=who, simulated=False, source="t", verdicts=verdict))
    store.add(records)
    (naive, *_), _ = standings(store.votes())
    assert (naive.system, naive.elo.value > 1020) == ("new", True)
    arguments = ["ratings", "--store", f"sqlite:///{tmp_path}/store.db", "--raters", "--style", "light"]
    shown = json.loads(CliRunner().invoke(report, [*arguments, "--json"], catch_exceptions=False).stdout)
    effects = {one["selection"]["effect"]: one["estimate"] for one in shown if one["name"] == "rating.overall.effect"}
    deviation = np.std([one.value for one in store.select(Score)])
    for name, true in {
        "standing on the left, for ann": 1.0,
        "standing on the left, for bob": -1.0,
        "a deviation of light": 1.5 * deviation,
    }.items():
        assert effects[name]["value"] == pytest.approx(true, abs=0.35)
    fair = [one["estimate"] for one in shown if one["name"] == "rating.overall.elo"]
    assert [one["value"] for one in fair] == pytest.approx([1000, 1000], abs=25)
    assert all("the same" in walk(store, one["id"]).behind[0].title for one in shown)
    unscored = CliRunner().invoke(report, [*arguments[:3], "--style", "dark"], catch_exceptions=False).stdout
    assert "a deviation of dark is not known for every verdict" in unscored


def test_style_is_measured_on_the_videos(store):
    """Twice as long, half the rate, and twice the pixels are a doubling more or less."""
    case = Case(suite="s", prompt="p")
    shapes = {"new": ((16, 32, 32, 3), 8.0), "old": ((8, 32, 16, 3), 16.0)}
    media = {name: store.media.add_video(np.zeros(size, np.uint8), fps) for name, (size, fps) in shapes.items()}
    pair = [Sample(case=case.id, system=name, media=file) for name, file in media.items()]
    shown = Comparison(study="s", case=case.id, candidate=pair[0].id, baseline=pair[1].id, candidate_side=None)
    vote = {"simulated": False, "source": "t", "verdicts": {"overall": "good", "motion": "bad"}}
    store.add([case, *pair, shown, Judgement(comparison=shown.id, annotator="ann", **vote)])
    assert style(store, [shown.id], ("seconds", "fps", "pixels")) == {
        "twice the seconds": {shown.id: 2.0},
        "twice the fps": {shown.id: -1.0},
        "twice the pixels": {shown.id: 1.0},
    }


def test_metrics_against_people(store, tmp_path):
    """A good scorer, and one that is noise; people see the difference of quality, and the same where it is small."""
    rng = np.random.default_rng(13)
    records = []
    for number in range(60):
        case = Case(suite="s", prompt=f"prompt {number}")
        pair = [Sample(case=case.id, system=system, seed=number) for system in ("new", "old")]
        quality = rng.normal(size=2)
        comparison = Comparison(study="s", case=case.id, candidate=pair[0].id, baseline=pair[1].id, candidate_side=None)
        gap = quality[0] - quality[1]
        verdict = "same" if abs(gap) < 0.5 else "good" if gap > 0 else "bad"
        vote = {"simulated": False, "source": "t", "verdicts": {"overall": verdict}}
        records += [case, *pair, comparison]
        records += [Judgement(comparison=comparison.id, annotator=who, **vote) for who in ("ann", "bob")]
        records += [Score(sample=one.id, scorer="eye", value=value) for one, value in zip(pair, quality)]
        records += [Score(sample=one.id, scorer="noise", value=float(rng.normal())) for one in pair]
        records += [Score(sample=one.id, scorer="blind", value=1.0) for one in pair if number < 20]
        records += [Score(sample=pair[0].id, scorer="broken", failure="no reply")]
    store.add(records)
    arguments = ["metrics", "--store", f"sqlite:///{tmp_path}/store.db", "--axis", "overall"]
    shown = json.loads(CliRunner().invoke(report, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert {one["selection"]["scorer"] for one in shown} == {"blind", "eye", "noise"}
    of = {(one["selection"]["scorer"], one["name"]): one["estimate"] for one in shown}
    eye, noise = (
        {name: of[scorer, f"metric.overall.{name}"] for name in ("accuracy", "tied_accuracy", "kendall", "spearman")}
        for scorer in ("eye", "noise")
    )
    assert eye["accuracy"]["value"] == 1
    assert eye["tied_accuracy"]["low"] > 0.8
    assert eye["kendall"]["low"] > 0.3
    assert eye["spearman"]["low"] > noise["spearman"]["high"]
    assert noise["accuracy"]["low"] < 0.5 < noise["accuracy"]["high"]
    assert eye["tied_accuracy"]["clusters"] == {"prompts": 60}
    assert "80 pairs without a score" in of["blind", "metric.overall.accuracy"]["note"]
    assert ("blind", "metric.overall.spearman") not in of
    assert all("the same 120 verdicts" in walk(store, one["id"]).behind[0].title for one in shown)
    text = CliRunner().invoke(report, [*arguments, "--scorer", "blind"], catch_exceptions=False).stdout
    assert "threshold is chosen on other prompts" in text
    assert "– Spearman:" in text
    nothing = CliRunner().invoke(report, [*arguments, "--scorer", "other"])
    assert isinstance(nothing.exception, DataError)
