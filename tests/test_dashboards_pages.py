"""Every page on every kind of record: it says what it shows, and plainly what there is not."""

import base64
import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from dashboard_records import judged, partial, scaling_csv
from scipy.stats import binomtest
from streamlit.testing.v1 import AppTest

from annotation.quality import Rule, answers
from annotation.quality import table as quality
from dashboards.cli import dash
from dashboards.exhibit import Card, Clips, Exhibit, Item, Missing, Remark
from dashboards.export import Given, report
from dashboards.reader import Reader
from dashboards.show import _drawn
from dashboards.views import PAGES, scaling
from palate.errors import ConfigError
from palate.gsb import contests
from palate.records import Comparison, Curve, Estimate, Figure, Glimpse, Judgement, Run
from palate.report_cli import metrics
from palate.stats.wins import Form
from palate.store import Store
from palate.trained import Trained

VOTED = ("GSB", "Leaderboard", "Annotators", "Samples", "Rewards")  # pages where a vote is seen


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("records")
    urls = {name: str(folder / f"{name}.db") for name in ("empty", "partial", "simulated", "people", "both")}
    Store(urls["empty"]).close()
    partial(urls["partial"])
    judged(urls["simulated"], simulated=True)
    judged(urls["people"], simulated=False)
    judged(urls["both"], simulated=False, prompts=10)
    judged(urls["both"], simulated=True, prompts=10)
    return urls


def items(url: str, title: str, **given: str) -> list[Item]:
    return list(PAGES[title](Reader(url), Given(given)))


def exhibit(found: list[Item], key: str) -> Exhibit:
    return next(one for one in found if isinstance(one, Exhibit) and one.key == key)


def script(url: str, title: str) -> None:
    from dashboards.reader import opened
    from dashboards.show import page
    from dashboards.views import PAGES

    page(opened(url), title, PAGES[title])


def opened(url: str, title: str, **query: str) -> Any:
    app = AppTest.from_function(script, args=(url, title), default_timeout=120)
    for key, value in query.items():
        app.query_params[key] = value
    return app.run()


@pytest.mark.parametrize("title", PAGES)
@pytest.mark.parametrize("record", ["empty", "partial", "simulated", "people"])
def test_every_page_stands_on_every_record(records: dict[str, str], record: str, title: str) -> None:
    app = opened(records[record], title)
    assert not app.exception
    assert not app.error
    assert app.title[0].value == title
    if record == "empty":  # nothing is drawn, and a command is given
        assert any(code.value.startswith("palate ") for code in app.code)
        assert not app.get("arrow_vega_lite_chart")
    else:
        assert any(len(element.value) for element in (*app.dataframe, *app.code, *app.markdown))


@pytest.mark.parametrize("title", VOTED)
def test_simulated_votes_are_marked_on_screen_in_charts_and_in_files(records: dict[str, str], title: str) -> None:
    app = opened(records["simulated"], title)
    assert any("SIMULATED votes" in warning.value for warning in app.warning)
    found = [one for one in items(records["simulated"], title) if isinstance(one, Exhibit)]
    marked = [one for one in found if one.simulated]
    assert marked
    for one in marked:
        assert one.file.startswith("SIMULATED-")
        rows = list(csv.DictReader(io.StringIO(one.csv.decode())))
        assert {row["votes"] for row in rows} == {"SIMULATED"}
    html = report(Reader(records["simulated"]), [title], {})
    assert html.count('<span class="simulated">') == len(marked)
    assert html.count("SIMULATED VOTES") >= sum(len(one.charts) for one in marked)
    assert not any(one.simulated for one in items(records["people"], title) if isinstance(one, Exhibit))
    assert "SIMULATED" not in report(Reader(records["people"]), [title], {})


def test_people_are_shown_first_where_there_are_both(records: dict[str, str]) -> None:
    assert exhibit(items(records["both"], "GSB"), "gsb-by-axis").simulated is False
    assert exhibit(items(records["both"], "GSB", votes="SIMULATED"), "gsb-by-axis").simulated is True
    assert opened(records["both"], "GSB", votes="SIMULATED").warning


def test_gsb_is_what_the_statistics_say_with_ratios_as_percentages(records: dict[str, str]) -> None:
    with Store(records["people"]) as store:
        votes = store.votes(study="new against old")
    wanted = {one.basis.axis: one for one in contests(votes, candidate="new")}
    shown = exhibit(items(records["people"], "GSB", candidate="new"), "gsb-by-axis")
    assert shown.table["axis"].tolist() == ["overall", "prompt_following"]
    for row in shown.table.to_dict("records"):
        one = wanted[row["axis"]]
        assert (row["good"], row["same"], row["bad"]) == (one.good, one.same, one.bad)
        for name, form in (("ratio", Form.RATIO), ("net", Form.NET)):
            estimate = one.forms[form]
            assert (row[name], row[f"{name} low"], row[f"{name} high"]) == (estimate.value, estimate.low, estimate.high)
    assert re.fullmatch(r"\d{3}%", shown.formats["ratio"](shown.table["ratio"][0]))
    assert all(word in shown.says for word in ("verdicts", "prompts", "people", "pooled", "two-way cluster-robust t"))


def test_we_may_ship_what_is_surely_better_and_never_on_simulated_votes(records: dict[str, str]) -> None:
    def answer(record: str, **given: str) -> Card:
        return next(one for one in items(records[record], "GSB", **given) if isinstance(one, Card))

    assert (answer("people", candidate="new").tone, answer("people", candidate="new").answer[:3]) == ("good", "Yes")
    assert answer("people", candidate="old", baseline="new").tone == "bad"
    assert answer("people", candidate="third").tone == "open"
    assert answer("simulated", candidate="new").answer.startswith("No answer")
    assert answer("simulated", candidate="new").tone == "open"


def test_a_majority_has_no_interval_for_every_look_and_the_page_still_answers_by_pooled(
    records: dict[str, str],
) -> None:
    found = items(records["people"], "GSB", candidate="new", rule="majority")
    assert "net at any time" not in exhibit(found, "gsb-by-axis").table
    assert next(one for one in found if isinstance(one, Card)).tone == "good"


def test_slices_are_the_contests_of_their_cases(records: dict[str, str]) -> None:
    table = exhibit(items(records["people"], "GSB", candidate="new", by="subject", across="scene"), "gsb-slices").table
    assert set(zip(table["subject"], table["scene"])) == {
        (a, b) for a in ("animal", "person") for b in ("indoors", "outdoors")
    }
    whole = exhibit(items(records["people"], "GSB", candidate="new"), "gsb-by-axis").table
    assert table["n"].sum() == whole["n"][0]
    assert np.average(table["net"], weights=table["n"]) == pytest.approx(whole["net"][0])


def test_filters_come_from_the_url_and_one_that_is_not_offered_is_dropped(records: dict[str, str]) -> None:
    app = opened(records["people"], "GSB", candidate="third", axis="prompt_following")
    chosen = {box.label: box.value for box in app.selectbox}
    assert (chosen["Candidate"], chosen["Decide on axis"]) == ("third", "prompt_following")
    assert not opened(records["people"], "GSB", candidate="nobody").exception
    with pytest.raises(ConfigError, match="candidate=nobody"):
        items(records["people"], "GSB", candidate="nobody")


def test_the_ladder_ranks_the_better_system_first_and_matrices_mirror_themselves(records: dict[str, str]) -> None:
    found = items(records["people"], "Leaderboard")
    ladder = exhibit(found, "ratings").table
    assert ladder["system"][0] == "new"
    assert {"rating low", "rating high", "rank from", "rank to", "rank (UB)", "n"} <= set(ladder)
    matrix = exhibit(found, "matrix").table.set_index(["system", "against"])
    for one, other in (("new", "old"), ("third", "old")):
        there, back = matrix.loc[(one, other)], matrix.loc[(other, one)]
        assert there["win rate"] == pytest.approx(1 - back["win rate"])
        assert there["win rate low"] == pytest.approx(1 - back["win rate high"])
        assert there["n"] == back["n"]
    trend = exhibit(items(records["people"], "Leaderboard", pinned="old"), "trend").table.set_index("release")
    assert trend.loc["new", "significant"] == "better"
    assert trend.loc["third", "significant"] == "not yet known"


def test_worst_cases_come_first_and_prompts_cannot_speak_markdown(records: dict[str, str]) -> None:
    table = exhibit(items(records["people"], "Samples", candidate="new"), "cases").table
    assert table["net"].is_monotonic_increasing
    app = opened(records["people"], "Samples", find="prompt <b>7</b>")
    said = " ".join(one.value for one in app.markdown)
    assert r"prompt \<b>7\</b> of \*many\*" in said
    assert any(
        isinstance(one, Remark) and "No case fits" in one.text
        for one in items(records["people"], "Samples", find="xyz")
    )


def test_the_walk_ends_at_the_run_that_made_the_checkpoint(records: dict[str, str]) -> None:
    app = opened(records["people"], "Samples", candidate="new", walk="true")
    assert any("toy train" in code.value for code in app.code)
    assert opened(records["people"], "Samples", id="nonsense").warning


def test_annotators_are_counted_and_their_shares_have_intervals(records: dict[str, str]) -> None:
    table = exhibit(items(records["people"], "Annotators"), "annotators").table
    with Store(records["people"]) as store:
        votes = store.votes(axis="overall")
    assert len(table) == 6
    for row in table.to_dict("records"):
        own = votes.select(votes.annotator == row["annotator"])
        gold = own.select(own.role == "gold")
        assert row["verdicts"] == len(own)
        assert row["same"] == pytest.approx((own.verdict == "same").mean())
        assert (row["gold"], row["gold n"]) == (pytest.approx((gold.verdict == "good").mean()), len(gold))
        assert row["same low"] < row["same"] < row["same high"]
        assert row["repeat n"] == 10  # two studies, five repeats in each
        wilson = binomtest(int((own.verdict == "same").sum()), len(own)).proportion_ci(method="wilson")
        assert (row["same low"], row["same high"]) == pytest.approx(tuple(wilson))
        side = np.where(own.verdict == "good", own.candidate_side == "left", own.candidate_side == "right")
        decided = side[own.verdict != "same"]
        assert row["left p"] == pytest.approx(binomtest(int(decided.sum()), len(decided)).pvalue)
    with Store(records["people"]) as store:
        asked = {one.id: one for one in store.select(Comparison)}
        told = quality(answers(asked, store.select(Judgement), {}, "overall"), Rule())
    assert table["reliability"].tolist() == pytest.approx([one.reliability.value for one in told])
    assert table["reliability low"].tolist() == pytest.approx([one.reliability.low for one in told])
    assert table["reliability n"].tolist() == [one.reliability.n for one in told]
    done = [one for one in items(records["people"], "Annotators") if isinstance(one, Card)]
    assert done[0].answer == "It is done"
    more = [one for one in items(records["people"], "Annotators", overlap="8") if isinstance(one, Card)]
    assert more[0].answer == "196 judgements are left"  # 98 comparisons have six each


def test_scores_are_means_over_cases_and_order_pairs_no_better_than_they_should(records: dict[str, str]) -> None:
    table = exhibit(items(records["people"], "Benchmarks", scorer="toy.strict"), "scores").table.set_index("system")
    assert table.loc["new", "mean low"] < table.loc["new", "mean"] < table.loc["new", "mean high"]
    assert table.loc["new", "n"] == 40
    accuracy = exhibit(items(records["people"], "Rewards"), "accuracy").table
    assert (
        (accuracy["accuracy low"] < accuracy["accuracy"]) & (accuracy["accuracy"] < accuracy["accuracy high"])
    ).all()


def test_how_metrics_agree_with_votes_is_what_the_report_told(records: dict[str, str], tmp_path: Path) -> None:
    missing = next(one for one in items(records["both"], "Benchmarks") if isinstance(one, Missing))
    assert missing.command == "palate report metrics"
    url = str(tmp_path / "r.db")
    judged(url, simulated=False, prompts=10)
    judged(url, simulated=True, prompts=10)
    CliRunner().invoke(metrics, ["--store", url], catch_exceptions=False)
    with Store(url) as store:
        told = list(store.select(Figure))
        newer = Estimate(value=0.9, low=0.8, high=1.0, n=7, method="known")
        old = next(one for one in told if one.name == "metric.overall.kendall" and not one.simulated)
        store.add([old.model_copy(update={"estimate": newer})])
    for kind in ("people", "SIMULATED"):
        shown = exhibit(items(url, "Benchmarks", votes=kind, measure="accuracy without ties"), "agreement-accuracy")
        assert shown.simulated == (kind == "SIMULATED") == shown.file.startswith("SIMULATED")
        wanted = {
            (one.selection["scorer"], one.selection["axis"]): one
            for one in told
            if one.name.endswith(".accuracy") and one.simulated == shown.simulated
        }
        assert len(wanted) == len(shown.table) == 4
        for row in shown.table.to_dict("records"):
            one = wanted[row["scorer"], row["axis"]]
            assert (row["id"], row["n"]) == (one.id, one.estimate.n)
            limits = (one.estimate.value, one.estimate.low, one.estimate.high)
            assert (row["agreement"], row["agreement low"], row["agreement high"]) == limits
    table = exhibit(items(url, "Benchmarks", measure="Kendall tau-b"), "agreement-kendall").table
    row = table[(table["scorer"] == old.selection["scorer"]) & (table["axis"] == "overall")].iloc[0]
    assert (len(table), row["agreement"], row["n"]) == (4, 0.9, 7)  # the newest, in the place of the one before
    app = opened(url, "Benchmarks", votes="SIMULATED")
    assert not app.exception
    assert any("SIMULATED votes" in one.value for one in app.warning)
    assert any("Do metrics agree with the simulated annotators?" in one.value for one in app.subheader)
    assert any("agreement" in one.value for one in app.dataframe)


def audit_of(reward: str, name: str, change: float | None, told: dict[str, str], simulated: bool = False) -> Figure:
    known = {"low": None if change is None else change - 0.1, "high": None if change is None else change + 0.1}
    note = "every answer was refused" if change is None else ""
    return Figure(
        name=f"audit.overall.{name}",
        estimate=Estimate(value=change, **known, n=0 if change is None else 12, method="known", note=note),
        selection={"reward": reward, "study": "s", "axis": "overall", "audit": "first", **told},
        evidence="judgements",
        rows=12,
        digest="0" * 64,
        simulated=simulated,
    )


def test_the_newest_audit_of_each_reward_is_shown(records: dict[str, str], tmp_path: Path) -> None:
    found = items(records["people"], "Rewards")
    assert any(isinstance(one, Missing) and one.command.startswith("palate reward audit") for one in found)
    url, ours, theirs = str(tmp_path / "r.db"), "a" * 64, "b" * 64
    deviations = {"unit": "standard deviations"}
    codec = {"probe": "codec", "expected": "stays", "found": "as it should", **deviations}
    length = {"probe": "length", "expected": "free", "found": "", **deviations}
    with Store(url) as store:
        store.add(
            [
                audit_of(ours, "codec", 0.7, {**codec, "found": "FAILS"}),
                audit_of(ours, "accuracy", 0.6, {"group": "old"}),
            ]
        )
        store.add([audit_of(theirs, "codec", 0.2, codec, simulated=True)])
        store.add(
            [
                audit_of(ours, name, change, {**told, "audit": "second"})
                for name, change, told in (
                    ("codec", 0.1, codec),
                    ("length", None, length),
                    ("calibration_error", 0.2, {"unit": "share"}),
                    ("calibration_error_of_calibrated", 0.15, {"unit": "share"}),
                    ("accuracy", 0.8, {"group": "experts", "unit": "share"}),
                )
            ]
        )
    found = items(url, "Rewards")
    probes = exhibit(found, "audit-probes")
    assert probes.table["probe"].tolist() == ["codec", "length"]
    assert probes.table["change"].tolist()[0] == 0.1
    assert probes.table["verdict"].tolist() == ["as it should", ""]
    assert np.isnan(probes.table["change"].tolist()[1])
    assert probes.table["note"].tolist()[1] == "every answer was refused"
    assert "0 of 1 judged probes fail" in probes.title
    assert exhibit(found, "audit-calibration").table["calibration error"].tolist() == [0.2, 0.15]
    assert exhibit(found, "audit-groups").table["annotators"].tolist() == ["experts"]
    other = items(url, "Rewards", reward="b" * 12)
    assert exhibit(other, "audit-probes").simulated
    assert not any(isinstance(one, Exhibit) and one.key == "audit-calibration" for one in other)
    for reward in ("a", "b"):
        app = opened(url, "Rewards", reward=reward * 12)
        assert not app.exception
        assert any("SIMULATED votes" in one.value for one in app.warning) == (reward == "b")
        assert any("What moves the reward" in one.value for one in app.subheader)
        assert any("probe" in one.value for one in app.dataframe)
    for one in found:
        for chart in one.charts if isinstance(one, Exhibit) else ():
            chart.to_dict()


def test_a_watched_run_shows_proxy_against_gold_and_whether_the_alarm_stopped_it(tmp_path: Path) -> None:
    url = str(tmp_path / "r.db")
    looks = {"looks": {"prompts": 64, "alarm": {"looks": 5, "level": 0.05}}}
    task = {True: "stopped by the alarm: align awm", False: "align awm"}
    with Store(url) as store:
        store.add([Run(task="align grpo", recipe={}, code="0", seed=0)])
        for stopped in (True, False):
            run = Run(task=task[stopped], recipe=looks, code="0", seed=int(stopped))
            gold, proxy = ((0.6, 0.58, 0.5), (1.0, 1.2, 1.5)) if stopped else ((0.6, 0.61), (1.0, 1.1))
            told = {"look_gold": gold, "look_proxy": proxy}
            steps = tuple(range(0, 10 * len(gold), 10))
            store.add([run, *(Curve(run=run.id, metric=name, steps=steps, readings=of) for name, of in told.items())])
    assert "No run was watched" not in " ".join(one.what for one in items(url, "Rewards") if isinstance(one, Missing))
    with Store(url) as store:
        for run in [*store.select(Run, task=list(task.values()))]:
            found = items(url, "Rewards", watched=f"{run.task}, {run.id[4:12]}")
            table = exhibit(found, "watched").table
            (card,) = (one for one in found if isinstance(one, Card) and "alarm ring" in one.question)
            if run.task == task[True]:
                assert (card.tone, card.answer) == ("bad", "Yes, at step 20: the run was stopped")
                assert table["gold"].tolist() == [0.6, 0.58, 0.5]
                assert table["proxy"].tolist() == [1.0, 1.2, 1.5]
            else:
                assert (card.tone, len(table)) == ("open", 2)
            app = opened(url, "Rewards", watched=f"{run.task}, {run.id[4:12]}")
            assert not app.exception
            assert any("Proxy and gold over training" in one.value for one in app.subheader)


def test_two_runs_are_told_apart_by_what_differs(records: dict[str, str]) -> None:
    table = exhibit(items(records["people"], "Training"), "recipes").table
    assert table["setting"].tolist() == ["fit.lr", "(code)"]
    with Store(records["people"]) as store:
        assert len(exhibit(items(records["people"], "Training"), "runs").table) == store.count(Run) == 2


def test_curves_are_those_of_the_record(records: dict[str, str]) -> None:
    found = exhibit(items(records["people"], "Training", metric="reward_mean"), "curves").table
    with Store(records["people"]) as store:
        kept = [one for one in store.select(Curve) if one.metric == "reward_mean"]
        assert len(kept) == store.count(Run) == found["run"].nunique()
    assert len(found) == sum(len(one.steps) for one in kept)
    assert sorted(found["reward_mean"]) == sorted(reading for one in kept for reading in one.readings)
    assert any(
        "loss over steps" in one.title for one in items(records["people"], "Training") if isinstance(one, Exhibit)
    )


def test_what_a_run_drew_is_shown_in_order_of_steps_on_screen_and_in_the_report(tmp_path: Path) -> None:
    url, runs = str(tmp_path / "r.db"), [Run(task="toy", recipe={}, code="0", seed=seed) for seed in range(3)]
    steady, roaming, blind = runs
    with Store(url) as store:
        clips = [store.media.add_video(np.full((4, 32, 32, 3), 20 * n, np.uint8), 8) for n in range(10)]
        store.add(runs)
        for place in (1, 0):
            for step in (100, 0, 20, 40, 60, 80, 10):
                told = {"step": step, "place": place, "media": clips[step // 10 % 10]}
                store.add([Glimpse(run=steady.id, prompt=f"prompt {place}", **told)])
                store.add([Glimpse(run=roaming.id, prompt=f"prompt {place} of {step}", **told)])

    def drawn(run: Run, **given: str) -> tuple[list[Clips], str]:
        found = items(url, "Training", run=f"toy, {run.id[4:12]}", **given)
        return [one for one in found if isinstance(one, Clips)], " ".join(
            one.text if isinstance(one, Remark) else one.what for one in found if isinstance(one, Remark | Missing)
        )

    (shown,), said = drawn(steady)
    assert [one.label for one in shown.clips] == ["step 0", "step 10", "step 20", "step 60", "step 80", "step 100"]
    assert "prompt 0" in shown.title
    assert "the same prompt from the same noise" in said
    assert "prompt 1" in drawn(steady, glimpse="2. prompt 1")[0][0].title
    (shown,), said = drawn(roaming)
    assert "did not keep to one prompt" in said
    assert [one.note for one in shown.clips][:2] == ["prompt 0 of 0", "prompt 0 of 10"]
    shown, said = drawn(blind)
    assert shown == []
    assert "drew nothing while it learned" in said
    html = report(Reader(url), ["Training"], {"run": f"toy, {steady.id[4:12]}"})
    assert html.count("<video") == 6
    assert html.index("<b>step 0</b>") < html.index("<b>step 100</b>")
    assert not opened(url, "Training", run=f"toy, {steady.id[4:12]}").exception


class Uploads(Given):
    """With a file of runs."""

    def file(self, key: str, label: str) -> bytes | None:
        return scaling_csv()


def test_an_uploaded_table_of_runs_gives_back_the_law_it_was_drawn_from(
    records: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "REPLICATES", 20)
    found = list(PAGES["Scaling"](Reader(records["empty"]), Uploads({})))
    law = exhibit(found, "law").table.set_index("coefficient")
    assert law.loc["E", "value low"] < 1.7 < law.loc["E", "value high"]
    assert exhibit(found, "extrapolation").table["predicted"].notna().all()
    assert any(isinstance(one, Card) and "best size" in one.question for one in found)
    assert isinstance(items(records["people"], "Scaling")[0], Missing)


def test_a_sweep_of_the_record_gives_the_law_of_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "REPLICATES", 20)
    store = str(tmp_path / "palate.db")
    with Store(store) as record:
        for number, row in enumerate(csv.DictReader(io.StringIO(scaling_csv().decode()))):
            size, tokens, loss = float(row["params"]), float(row["tokens"]), float(row["loss"])
            trained = Trained(
                sweep="grid",
                identity=str(number),
                params=round(size),
                tokens=round(tokens),
                flops=6 * size * tokens,
                settings={},
            )
            record.add(trained.records(Estimate(value=loss, low=loss, high=loss, n=1, method="known"), "code", 0))
    found = items(store, "Scaling")
    law = exhibit(found, "law").table.set_index("coefficient")
    assert law.loc["E", "value low"] < 1.7 < law.loc["E", "value high"]
    assert isinstance(items(store, "Scaling", sweep="a CSV file")[0], Missing)


def test_every_chart_is_valid_vega_lite(records: dict[str, str]) -> None:
    drawn = [one for title in PAGES for one in items(records["people"], title) if isinstance(one, Exhibit)]
    assert sum(len(one.charts) for one in drawn) >= 10
    for one in drawn:
        for chart in one.charts:
            chart.to_dict()  # checks it against the schema


def test_what_the_browser_is_sent_has_every_table_that_its_chart_names(records: dict[str, str]) -> None:
    """Tables go beside the drawing; a layer's own, such as the line at zero, must go along."""
    named = 0
    for title in PAGES:
        for one in items(records["people"], title):
            for chart in one.charts if isinstance(one, Exhibit) else ():
                sent = _drawn(chart)
                wanted = set(re.findall(r"'data': {'name': '([^']+)'", str({**sent, "datasets": {}})))
                assert wanted == set(sent["datasets"])
                named += len(wanted)
    assert named > 12


def test_a_filter_that_changes_only_numbers_leaves_the_drawing_as_it_is(records: dict[str, str]) -> None:
    def drawings(axis: str) -> list[dict[str, Any]]:
        shown = exhibit(items(records["people"], "Leaderboard", axis=axis), "ratings")
        return [{**_drawn(chart), "datasets": None} for chart in shown.charts]

    assert drawings("overall") == drawings("prompt_following")


def test_the_report_is_one_file_that_asks_nothing_of_a_server(records: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    told = ["export", "--store", records["people"], "--out", str(out), "--page", "gsb", "candidate=new"]
    assert CliRunner().invoke(dash, told, catch_exceptions=False).exit_code == 0
    html = out.read_text()
    assert "<script" not in html
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert "May we ship new in place of old?" in html
    data = re.search(r'download="gsb-by-axis.csv" href="data:text/csv;base64,([^"]+)"', html)
    assert data
    assert len(list(csv.DictReader(io.StringIO(base64.b64decode(data[1]).decode())))) == 2
    wrong = CliRunner().invoke(dash, ["export", "--store", records["people"], "--page", "nothing"])
    assert isinstance(wrong.exception, ConfigError)


def test_visitors_give_the_password_where_there_is_one(
    records: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "password"
    secret.write_text("open sesame\n")
    monkeypatch.setenv("PALATE_STORE", records["empty"])
    monkeypatch.setenv("PALATE_DASH_PASSWORD_FILE", str(secret))
    app = AppTest.from_file(str(Path(__file__).parents[1] / "dashboards" / "app.py"), default_timeout=120).run()
    assert not app.title
    app.text_input[0].set_value("sesame").run()
    assert app.error
    assert not app.title
    app.text_input[0].set_value("open sesame").run()
    assert app.title[0].value == "Overview"
