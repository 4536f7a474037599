"""Videos made elsewhere, two systems side by side, and the way from a suite to a blind study in two commands."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from scipy import stats

from annotation.cli import annotate
from benchmarks import report, shapes
from benchmarks.assets import attach, fill, function_named, listed
from benchmarks.cli import bench
from benchmarks.omnivideo import cases_en, cases_zh
from benchmarks.samples_cli import samples
from models.generator import Generator
from models.weights import SHIPPED
from palate import shapes as world
from palate.errors import ConfigError, DataError, ImportRefusedError, MediaError
from palate.media import MediaFolder, encode_video
from palate.provenance import as_text, walk
from palate.records import Case, Comparison, Sample, Score
from palate.store import Store
from rewards.programmatic import SCORERS, STRICT


def invoke(group: Any, *arguments: object) -> Result:
    return CliRunner().invoke(group, list(map(str, arguments)))


def told(group: Any, *arguments: object) -> dict[str, Any]:
    result = invoke(group, *arguments, "--json")
    if result.exception:
        raise result.exception
    return json.loads(result.stdout)


def scored(store: Store, system: str, values: dict[str, list[float | None]], cases: list[Case]) -> None:
    """Samples of a system with scores by one scorer; None is a sample that failed."""
    for case in cases:
        for seed, value in enumerate(values[case.prompt]):
            failure = "it burst" if value is None else None
            sample = Sample(case=case.id, system=system, seed=seed, failure=failure)
            store.add([sample, *([] if value is None else [Score(sample=sample.id, scorer="judge", value=value)])])


@pytest.fixture
def contest(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "record.db"))
    rng = np.random.default_rng(0)
    cases = [Case(suite="s", prompt=f"p{i}", tags={"mood": "calm" if i % 3 else "wild"}) for i in range(12)]
    store.add(cases)
    base = {case.prompt: [float(x) for x in rng.normal(size=2)] for case in cases}
    new: dict[str, list[float | None]] = {p: [x + 0.5 + 0.2 * rng.normal() for x in xs] for p, xs in base.items()}
    new["p0"] = [None, None]
    scored(store, "base", {p: list(xs) for p, xs in base.items()}, cases)
    scored(store, "new", new, cases)
    return store


def test_the_difference_is_paired_and_slices_add_up(contest: Store) -> None:
    found = report.compare(contest, "new", "base", "s", "heldout", "mood")
    assert [row.slice for row in found.rows] == ["all", "calm", "wild"]
    every, calm, wild = (row.difference.estimate for row in found.rows)
    assert (every.n, calm.n, wild.n) == (11, 8, 3)
    assert every.value is not None
    assert calm.value is not None
    assert wild.value is not None
    assert every.value == pytest.approx((8 * calm.value + 3 * wild.value) / 11)
    means: dict[str, dict[str, float]] = {}
    of = {case.id: case.prompt for case in contest.select(Case)}
    for system in ("new", "base"):
        values: dict[str, list[float]] = {}
        for sample in contest.select(Sample, system=system):
            for score in contest.select(Score, sample=sample.id):
                values.setdefault(of[sample.case], []).append(score.value or 0.0)
        means[system] = {prompt: float(np.mean(x)) for prompt, x in values.items()}
    both = sorted(means["new"].keys() & means["base"].keys())
    oracle = stats.ttest_rel([means["new"][p] for p in both], [means["base"][p] for p in both]).confidence_interval()
    assert (every.low, every.high) == pytest.approx((oracle.low, oracle.high))
    swapped = report.compare(contest, "base", "new", "s", "heldout").rows[0].difference.estimate
    assert (swapped.low, swapped.high) == pytest.approx((-oracle.high, -oracle.low))


def test_every_number_can_be_walked_back_and_a_new_score_is_noticed(contest: Store) -> None:
    found = report.compare(contest, "new", "base", "s", "heldout", "mood")
    contest.add(found.figures)
    for figure in found.figures:
        assert f"the same {figure.rows} scores" in as_text(walk(contest, figure.id))
    calm = next(case for case in contest.select(Case) if case.tags["mood"] == "calm")
    late = Sample(case=calm.id, system="new", seed=99)
    contest.add([late, Score(sample=late.id, scorer="judge", value=1.0)])
    changed = ["CHANGED" in as_text(walk(contest, row.difference.id)) for row in found.rows]
    assert changed == [True, True, False]


def test_all_shapes_of_the_report_say_the_same(contest: Store) -> None:
    found = report.compare(contest, "new", "base", "s", "heldout", "mood")
    text, marked, page = report.as_text(found), report.as_markdown(found), report.as_html(found)
    facts = json.loads(report.as_json(found))
    for row, fact in zip(found.rows, facts["rows"], strict=True):
        assert fact["difference"]["value"] == row.difference.estimate.value
        for cell in row.cells:
            assert cell in text
            assert cell in marked
            assert cell in page
    assert page.count("<svg") == 3
    assert re.search(r"\| judge \| all \| .* \| 11 \|", marked)
    assert facts["failures"]["new"] == {"samples": 24, "failed": {"it burst": 2}}
    assert "new: 24 samples; 2 failed: it burst" in text
    with pytest.raises(DataError, match="nobody has no samples of s"):
        report.compare(contest, "new", "nobody", "s", "heldout")
    case = next(contest.select(Case))
    contest.add([Sample(case=case.id, system="mute")])
    with pytest.raises(DataError, match="share no score"):
        report.compare(contest, "new", "mute", "s", "heldout")


def shaken(folder: Path) -> Path:
    """The shipped generator with noise on its weights, as a run of training leaves a checkpoint in its folder."""
    generator = Generator.load(SHIPPED)
    rng = torch.Generator().manual_seed(0)
    for p in generator.network.parameters():
        p.data += 0.3 * p.std(correction=0) * torch.randn(p.shape, generator=rng)
    generator.save(folder / "shaken" / "generator.safetensors")
    return folder / "shaken"


def test_a_suite_answered_and_planned_is_a_blind_study(tmp_path: Path) -> None:
    """`palate bench run ... && palate annotate plan ...`, and the table of both systems beside it."""
    url = tmp_path / "record.db"
    run = ("run", "shapes", "--system", "base", "--system", f"shaken={shaken(tmp_path)}", "--cases", 12, "--workers", 1)
    assert [one["failed"] for one in told(bench, *run, "--store", url)["systems"]] == [0, 0]
    plan = ("plan", "--study", "s", "--candidate", "shaken", "--baseline", "base", "--suite", "shapes", "--store", url)
    assert told(annotate, *plan)["added"] == 13
    with Store(str(url)) as store:
        shown = list(store.select(Comparison, study="s"))
        systems = {sample.id: sample.system for sample in store.select(Sample)}
    assert {(systems[one.candidate], systems[one.baseline]) for one in shown} == {("shaken", "base")}
    assert {str(one.candidate_side) for one in shown} == {"left", "right"}
    page = tmp_path / "report.html"
    table = ("compare", "shaken", "base", "--suite", "shapes", "--store", url, "--format", "html", "--out", page)
    assert invoke(bench, *table).exit_code == 0
    assert all(scorer in page.read_text() for scorer in SCORERS)
    facts = told(bench, "compare", "shaken", "base", "--suite", "shapes", "--store", url)
    prompt = next(row for row in facts["rows"] if row["scorer"] == STRICT)
    assert prompt["difference"]["high"] < 0  # shaken weights do not know what is asked
    with Store(str(url)) as store:
        assert store.get(prompt["difference"]["figure"])


def filled(path: Path, changes: dict[int, dict[str, str]]) -> list[dict[str, str]]:
    """A manifest with changes by row."""
    rows = list(csv.DictReader(path.open(newline="")))
    for at, change in changes.items():
        rows[at] |= change
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def videos(folder: Path, cases: list[Case]) -> list[str]:
    """Right answers, made elsewhere."""
    folder.mkdir()
    for number, case in enumerate(cases):
        clip = world.render(world.parse(case.prompt), np.random.default_rng(number))
        encode_video(folder / f"v{number}.mp4", clip, world.FPS, 4)
    return [f"v{number}.mp4" for number in range(len(cases))]


def test_videos_made_elsewhere_come_in_by_manifest_and_are_scored(tmp_path: Path) -> None:
    url, out, folder = tmp_path / "record.db", tmp_path / "m.csv", tmp_path / "videos"
    assert told(samples, "manifest", "--suite", "shapes", "--cases", 5, "--out", out, "--store", url)["cases"] == 5
    names = videos(folder, shapes.cases("heldout", 5))
    changes = {0: {"file": names[0]}, 1: {"file": names[1], "seed": "7"}, 2: {"failure": "refused by the service"}}
    filled(out, changes)
    bring = ("import", folder, "--manifest", out, "--system", "elsewhere", "--store", url)
    facts = told(samples, *bring)
    assert (facts["samples"], facts["left_out"], len(facts["unnamed"])) == (3, 2, 3)
    with Store(str(url)) as store:
        found = {sample.case: sample for sample in store.select(Sample, system="elsewhere")}
        first, second, third = (found[case.id] for case in shapes.cases("heldout", 3))
        assert (first.seed, second.seed, third.failure) == (None, 7, "refused by the service")
        strict = [score.value for score in store.select(Score, scorer=STRICT)]
        assert strict == [1.0, 1.0]
    assert told(samples, *bring)["new"] == 0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({1: {"file": "v9.mp4"}}, r":3: .*v9\.mp4 is not there"),
        ({1: {"file": "broken.mp4"}}, r":3: .*broken\.mp4 does not decode"),
        ({1: {"case": "case-" + "0" * 24, "file": "v1.mp4"}}, r":3: case-0+ is not in the store"),
        ({1: {"prompt": "another", "file": "v1.mp4"}}, r":3: the prompt is not that of case-"),
        ({1: {"file": "v1.mp4", "failure": "none"}}, r":3: a file and a failure"),
        ({1: {"file": "v1.mp4", "seed": "one"}}, r":3: seed: Input should be a valid integer"),
    ],
)
def test_a_manifest_that_does_not_fit_brings_nothing(
    tmp_path: Path, changes: dict[int, dict[str, str]], problem: str
) -> None:
    url, out, folder = tmp_path / "record.db", tmp_path / "m.csv", tmp_path / "videos"
    told(samples, "manifest", "--suite", "shapes", "--cases", 2, "--out", out, "--store", url)
    videos(folder, shapes.cases("heldout", 2))
    (folder / "broken.mp4").write_bytes(b"no video")
    filled(out, {0: {"file": "v0.mp4"}, **changes})
    result = invoke(samples, "import", folder, "--manifest", out, "--system", "x", "--store", url)
    assert isinstance(result.exception, ImportRefusedError)
    assert re.search(problem, str(result.exception))
    with Store(str(url)) as store:
        assert store.count(Sample) == 0


def test_one_case_and_seed_has_one_row(tmp_path: Path) -> None:
    url, out, folder = tmp_path / "record.db", tmp_path / "m.csv", tmp_path / "videos"
    told(samples, "manifest", "--suite", "shapes", "--cases", 2, "--out", out, "--store", url)
    videos(folder, shapes.cases("heldout", 2))
    rows = filled(out, {0: {"file": "v0.mp4"}})
    filled(out, {1: {**rows[0], "file": "v1.mp4"}})
    result = invoke(samples, "import", folder, "--manifest", out, "--system", "x", "--store", url)
    assert ":3: line 2 has this case and seed too" in str(result.exception)


def draw(about: str, path: Path) -> None:
    """As a text-to-image model would, but for clips."""
    picture = np.full((8, 8, 3), len(about) % 256, np.uint8)
    if path.suffix == ".png":
        media = MediaFolder(path.parent / "made")
        path.write_bytes(media.path(media.add_picture(picture)).read_bytes())


def test_references_are_listed_made_and_attached(tmp_path: Path) -> None:
    cases = [case for case in cases_en("heldout", 44, 0) if case.tags["task"] in ("image_reference", "first_frame")]
    folder, media = tmp_path / "assets", MediaFolder(tmp_path / "media")
    wanted = listed(cases, folder)
    assert {asset.path.suffix for asset in wanted} == {".png"}
    with pytest.raises(DataError, match=r"is not there, and \d+ more are not"):
        attach(cases, folder, media)
    assert fill(cases, folder, draw) == len(wanted)
    assert fill(cases, folder, draw) == 0
    attached = attach(cases, folder, media)
    for case, plain in zip(attached, cases, strict=True):
        assert case.conditions.keys() == plain.conditions.keys()
        assert all(media.path(name).is_file() for name in case.conditions.values())
        assert case.tags == plain.tags
    chinese = [case for case in cases_zh("heldout", 44, 0) if case.tags["task"] in ("image_reference", "first_frame")]
    assert [case.conditions for case in attach(chinese, folder, media)] == [case.conditions for case in attached]
    (folder / cases[0].tags["id"] / "Image_1.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match="does not decode"):
        attach(cases, folder, media)


def test_the_command_lists_and_makes_references(tmp_path: Path) -> None:
    url, folder = tmp_path / "record.db", tmp_path / "assets"
    lacking = told(bench, "assets", "omnivideo", "--folder", folder, "--store", url)["missing"]
    assert str(folder / "first_frame-01" / "Image_1.png") in lacking
    assert all(about for about in lacking.values())
    made = told(bench, "assets", "omnivideo", "--folder", folder, "--store", url, "--make", f"{__name__}:draw")
    pictures = sum(name.endswith(".png") for name in lacking)
    assert (made["made"], len(made["missing"])) == (pictures, len(lacking) - pictures)
    for name in ("nowhere:draw", "json:nothing", "json"):
        with pytest.raises(ConfigError, match="cannot be loaded"):
            function_named(name)
