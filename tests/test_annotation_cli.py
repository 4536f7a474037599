"""The commands walk the loop on a real store, and a second walk changes nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from annotation.cli import annotate
from annotation.gold import RUINED, gold_pairs
from annotation.preferences import standing
from palate.errors import DataError
from palate.media import MediaFolder
from palate.records import Case, Comparison, Judgement, Preference, Sample, Score
from palate.store import Store

CASES = [Case(suite="suite", prompt=f"prompt {number}") for number in range(6)]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store with four samples of two systems for each case; "new" is better, and one of its samples failed."""
    store = Store(str(tmp_path / "palate.db"))
    media = store.media.add_video(np.zeros((2, 16, 16, 3), np.uint8), fps=8)
    records = [*CASES, Case(suite="other", prompt="prompt")]
    for number, case in enumerate(records[:]):
        for system, quality in (("new", 0.7), ("old", 0.3)):
            for seed in range(4):
                failed = (system, seed, number) == ("new", 3, 0)
                about = {"media": None, "failure": "no memory"} if failed else {"media": media}
                sample = Sample.model_validate({"case": case.id, "system": system, "seed": seed, **about})
                value = {"failure": "no video"} if failed else {"value": quality + 0.1 * seed}
                scorers = ("shapes.prompt", "shapes.motion", "shapes.visual")
                scores = [Score.model_validate({"sample": sample.id, "scorer": name, **value}) for name in scorers]
                records += [sample, *scores]
    with store:
        store.add(records)
    return str(tmp_path / "palate.db")


def run(url: str, *arguments: str) -> dict:
    result = CliRunner().invoke(annotate, [*arguments, "--store", url, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def everything(url: str) -> list[str]:
    with Store(url) as store:
        return [one.id for kind in (Comparison, Judgement, Preference) for one in store.select(kind)]


def test_from_samples_to_preferences_and_again_for_nothing(url):
    plan = ("plan", "--study", "s", "--candidate", "new", "--baseline", "old", "--suite", "suite", "--repeat", "0.25")
    simulate = ("simulate", "--study", "s", "people=4", "overlap=2", "taste.careless=0.0")
    prefer = ("prefer", "--study", "s", "--aggregation", "majority")
    made = run(url, *plan)
    assert made == {"study": "s", "comparisons": 29, "repeats": 6, "gold": 0, "failed": 1, "unpaired": 1, "added": 29}
    assert run(url, *simulate)["added"] == 58
    found = run(url, *prefer)
    assert found["added"] == found["preferences"] > 10
    before = everything(url)
    assert [run(url, *command)["added"] for command in (plan, simulate, prefer)] == [0, 0, 0]
    assert everything(url) == before
    assert "nothing new" in CliRunner().invoke(annotate, [*plan, "--store", url]).output

    with Store(url) as store:
        systems = {sample.id: sample.system for sample in store.select(Sample)}
        winners = [systems[one.winner] for one in store.select(Preference)]
        assert winners.count("new") > 0.8 * len(winners)
        assert all(one.simulated for one in store.select(Judgement))
        assert all(one.simulated for one in store.select(Preference))


def test_gold_is_a_video_beside_its_ruin_and_tells_the_careful_from_the_careless(url):
    plan = ("plan", "--study", "s", "--candidate", "new", "--baseline", "old", "--suite", "suite", "--gold", "20")
    made = run(url, *plan)
    assert (made["comparisons"], made["repeats"], made["gold"]) == (23 + 2 + 20, 2, 20)
    assert run(url, *plan)["added"] == 0
    with Store(url) as store:
        gold = list(store.select(Comparison, study="s", role="gold"))
        samples = {one.id: one for one in store.select(Sample)}
        media = store.media
        assert {samples[one.candidate].system for one in gold} == {"new", "old"}
        assert abs(sum(1 if one.candidate_side == "left" else -1 for one in gold)) <= 1
        for one in gold:
            better, worse = samples[one.candidate], samples[one.baseline]
            assert (worse.system, worse.case, worse.sampler) == (RUINED, better.case, {"of": better.id})
            assert media.video(worse.media).frames.shape == media.video(better.media).frames.shape
    run(url, "simulate", "--study", "s", "people=4", "overlap=4", "taste.careless=0.5", "taste.skip=0.0")
    gold_right = [one["gold"]["value"] for one in run(url, "quality", "--study", "s")["annotators"]]
    assert [one["gold"]["n"] for one in run(url, "quality", "--study", "s")["annotators"]] == [20] * 4
    assert sorted(right > 0.8 for right in gold_right) == [False, False, True, True]
    assert min(gold_right) < 0.6
    assert all(not {one.winner, one.loser} & {pair.baseline for pair in gold} for one in preferred(url))


def preferred(url: str) -> list[Preference]:
    run(url, "prefer", "--study", "s")
    with Store(url) as store:
        found = list(store.select(Preference))
    assert found
    return found


def test_a_ruined_video_has_its_frames_out_of_order_and_its_detail_gone(url, tmp_path):
    grey = np.random.default_rng(0).integers(0, 60, (12, 40, 64, 1)) + 16 * np.arange(12)[:, None, None, None]
    frames = grey.repeat(3, 3).astype(np.uint8)
    media = MediaFolder(tmp_path / "media")
    sample = Sample(case=CASES[0].id, system="new", media=media.add_video(frames, 8))
    ((better, worse),) = gold_pairs([sample, sample.model_copy(update={"media": None})], 1, media, 0)
    assert better == sample
    ruined = media.video(str(worse.media)).frames
    order = [int(np.abs(one.mean() - frames.mean((1, 2, 3))).argmin()) for one in ruined]
    assert sorted(order) == list(range(12)) != order
    changes = [np.abs(np.diff(one[:, 1:4].astype(int), axis=1)).mean() for one in (frames, ruined)]
    assert changes[1] < changes[0] / 3  # inside a square nothing does, but for the encoding
    assert gold_pairs([sample], 1, media, 0)[0][1].id == worse.id
    with pytest.raises(DataError, match="2 gold pairs of 1 videos"):
        gold_pairs([sample], 2, media, 0)


def test_a_study_shows_its_pairs_in_one_plan_only(url):
    plan = ("plan", "--study", "s", "--candidate", "new", "--baseline", "old", "--suite", "suite")
    run(url, *plan)
    with pytest.raises(DataError, match="already shows"):
        run(url, *plan, "--seed", "1")


def test_a_knockout_goes_on_round_by_round_and_yields_its_best(url):
    knockout = (
        "knockout",
        "--study",
        "k",
        "--system",
        "old",
        "--suite",
        "suite",
        "--overlap",
        "3",
        "--split",
        "heldout",
    )
    simulate = ("simulate", "--study", "k", "taste.weights.overall.prompt=60.0", "taste.careless=0.0", "taste.skip=0.0")
    assert run(url, *knockout) == {"study": "k", "round": 1, "waiting": 12, "failed": 0, "added": 12}
    assert run(url, *knockout) == {"study": "k", "round": 1, "waiting": 12, "failed": 0, "added": 0}
    assert run(url, *simulate)["added"] == 36
    assert run(url, *knockout) == {"study": "k", "round": 2, "waiting": 6, "failed": 0, "added": 6}
    assert run(url, *simulate)["added"] == 18
    assert run(url, *knockout) == {"study": "k", "round": 2, "waiting": 0, "failed": 0, "added": 0}
    assert run(url, "prefer", "--study", "k", "--contrasts", "3")["added"] == 18
    with Store(url) as store:
        seeds = {sample.id: sample.seed for sample in store.select(Sample)}
        learnt = list(store.select(Preference, study="k"))
        assert {seeds[one.winner] for one in learnt} == {3}
        assert standing(learnt, store.select(Comparison), store.select(Judgement)) == learnt


def test_other_people_add_their_judgements_and_a_recipe_tells_their_taste(url, tmp_path):
    run(url, "plan", "--study", "s", "--candidate", "new", "--baseline", "old", "--suite", "suite", "--repeat", "0")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("people = 2\noverlap = 1\n[taste]\nskip = 1.0\n")
    told = run(url, "simulate", "--study", "s", "--recipe", str(recipe))
    assert told["skips"] == told["added"] == 23
    assert run(url, "simulate", "--study", "s", "--recipe", str(recipe), "seed=1")["added"] == 23
    assert run(url, "prefer", "--study", "s")["preferences"] == 0


def test_each_round_of_a_ranking_adds_pairs_that_were_not_shown(url):
    rank = ("rank", "--study", "r", "--suite", "suite", "--budget", "10", "--repeat", "0.2")
    assert run(url, *rank) == {"study": "r", "before": 0, "added": 12}
    assert run(url, "simulate", "--study", "r", "people=3", "overlap=1")["added"] == 12
    assert run(url, *rank) == {"study": "r", "before": 12, "added": 12}
    assert run(url, *rank, "--gold", "3") == {"study": "r", "before": 24, "added": 15}
    assert run(url, *rank)["added"] == 12
    with Store(url) as store:
        normal = list(store.select(Comparison, study="r", role="normal"))
        ruins = {one.id for one in store.select(Sample, system=RUINED)}
    assert len({frozenset((one.candidate, one.baseline)) for one in normal}) == 40
    assert len(ruins) == 3
    assert not ruins & {sample for one in normal for sample in (one.candidate, one.baseline)}


@pytest.mark.parametrize(
    "command",
    [
        ("plan", "--study", "s", "--candidate", "newer", "--baseline", "old", "--suite", "suite"),
        ("knockout", "--study", "s", "--system", "new", "--suite", "sweet"),
        ("knockout", "--study", "s", "--system", "new", "--suite", "suite"),  # held-out cases, unless asked for
        ("simulate", "--study", "s"),
        ("rank", "--study", "s", "--suite", "sweet", "--budget", "3"),
        ("prefer", "--study", "s"),
    ],
)
def test_names_that_the_store_does_not_know_are_refused(url, command):
    with pytest.raises(DataError):
        run(url, *command)
