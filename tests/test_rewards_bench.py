"""The reward bench on real votes, and on the cases that the published protocols get wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from palate.errors import ConfigError, DataError, ImportRefusedError
from palate.records import Verdict
from rewards.bench import bench, bench_judges, bench_pairs, parse_label, unseen
from rewards.cli import reward
from rewards.pairs import PairSet, Shown

GENAI = (
    Path(__file__).resolve().parents[2] / "shared" / "data" / "votes" / "genai_bench" / "video_generation_votes.jsonl"
)
# What GenAI-Bench's leaderboard of 2024-08-09 says of video generation, in percent.
LEADERBOARD = {
    "random": 25.16,
    "gpt4o": 48.46,
    "gemini-1.5-pro": 46.21,
    "llava": 30.40,
    "llavanext": 21.70,
    "blip2": 16.93,
    "videollava": 0.0,
    "cogvlm": 24.60,
    "qwenVL": 2.15,
    "instructblip": 3.74,
    "idefics1": 0.19,
    "ottervideo": 0.0,
    "otterimage": 0.0,
    "kosmos2": 0.0,
}
JUDGES = 18


@pytest.fixture(scope="module")
def votes() -> Path:
    if not GENAI.is_file():
        pytest.skip(f"GenAI-Bench's votes are not at {GENAI}")
    return GENAI


def test_the_eighteen_judges_of_genai_bench(votes: Path) -> None:
    rows = {row.judge: row for row in bench_judges(votes)}
    judges = {name: row for name, row in rows.items() if not name.startswith("always")}
    assert len(judges) == JUDGES
    for judge, percent in LEADERBOARD.items():
        assert round(100 * (judges[judge].four_way.value or 0), 2) == pytest.approx(percent, abs=0.011), judge
    lines = [json.loads(line) for line in votes.read_text().splitlines()]
    labels = {"[[A>B]]", "[[B>A]]", "[[A=B=Good]]", "[[A=B=Bad]]"}
    for judge, row in judges.items():
        said = [line["judge_votes"][judge] for line in lines]
        assert row.parsed.value == pytest.approx(np.mean([one in labels for one in said]))
        assert row.parsed.n == 1069
    gpt4o = judges["gpt4o"]
    assert gpt4o.parsed.value == 1.0
    assert gpt4o.four_way.clusters == {"prompts": 214}
    assert gpt4o.four_way.low < 0.4846 < gpt4o.four_way.high  # type: ignore[operator]
    assert judges["gemini-1.5-pro"].first.high < 0.5  # type: ignore[union-attr, operator]
    assert judges["llava"].first.value == pytest.approx(1067 / 1069)  # type: ignore[union-attr]
    assert judges["videollava"].without_ties_parsed is None
    always = rows["always [[B>A]]"]
    assert always.four_way.value == pytest.approx(375 / 1069)
    assert judges["llava"].four_way.value < always.four_way.value  # type: ignore[operator]


def test_a_reply_parses_as_one_label_or_not_at_all() -> None:
    assert parse_label(" [[A>B]]\n") is Verdict.GOOD
    assert parse_label("[[A=B=Bad]]") is Verdict.BOTH_BAD
    for reply in (None, "", "2", "[[A=B]]", "[[A>B]], or rather [[A=B=Good]]", "[[A>]]"):
        assert parse_label(reply) is None


def test_invalid_labels_are_left_out_not_wrong() -> None:
    """Two right and two invalid labels: the published code says 0.5."""
    label = np.array([1, -1, np.nan, np.nan, 1, -1])
    row = bench("r", "overall", label, np.array([2.0, -1.0, 3.0, -3.0, 1.0, -1.0]), list("abcdef"))
    assert row.without_ties is not None
    assert (row.without_ties.value, row.without_ties.n, row.invalid) == (1.0, 4, 2)


def test_a_tie_threshold_is_not_drawn_between_equal_margins() -> None:
    """Labels tie and win at one margin: no threshold gets both right, and the published code says 1.0."""
    label, margin = np.tile([0.0, 1.0], 20), np.full(40, 0.5)
    row = bench("r", "overall", label, margin, [f"p{i // 2}" for i in range(40)])
    assert row.with_ties is not None
    assert row.with_ties.value == 0.5


def test_a_random_scorer_gains_nothing_from_its_threshold() -> None:
    """Chosen on the reported pairs it would gain about 4 points at n = 200."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(40):
        label = rng.permutation(np.tile([-1.0, 0.0, 1.0], 67))[:200]
        row = bench("r", "overall", label, rng.standard_normal(200), [str(i) for i in range(200)])
        assert row.with_ties is not None
        values.append(row.with_ties.value)
    assert np.mean(values) == pytest.approx(1 / 3, abs=0.02)


def a_set(label: list[int]) -> PairSet:
    videos = tuple(Shown(f"p{i // 2}", Path(f"{i}.mp4"), "old" if i < 12 else "new") for i in range(2 * len(label)))
    first = np.arange(0, len(videos), 2)
    votes = np.eye(3)[1 - np.array(label)][:, None]
    return PairSet(("overall",), videos, first, first + 1, votes, 0, "x")


def test_baselines_stand_beside_the_scorer_and_unseen_systems_can_be_chosen() -> None:
    pairs = a_set([1, -1, 0, 1, 0, 0, 1, -1, 0, 0])
    values = np.zeros((20, 1))
    values[pairs.first, 0] = pairs.label("overall")
    scorer, random, ties = bench_pairs("mine", pairs, values)
    assert [row.scorer for row in (scorer, random, ties)] == ["mine", "random", "all ties"]
    assert scorer.without_ties.value == scorer.with_ties.value == 1.0  # type: ignore[union-attr]
    assert ties.without_ties.value == 0.0  # type: ignore[union-attr]
    assert ties.with_ties.value == 0.5  # type: ignore[union-attr]
    assert len(unseen(pairs, ["new"])) == 4
    with pytest.raises(DataError, match="new, old"):
        unseen(pairs, ["newer"])
    assert np.isnan(pairs.on(("visual_quality", "overall")).label("visual_quality")).all()


def test_the_command(votes: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(reward, ["bench", "--judges", str(votes)], catch_exceptions=False).stdout
    (gpt4o,) = [line for line in shown.splitlines() if line.startswith("gpt4o")]
    assert "100.0% [98.3, 100.0]  48.5% [" in gpt4o
    rows = json.loads(CliRunner().invoke(reward, ["bench", "--judges", str(votes), "--json"]).stdout)["rows"]
    assert len(rows) == JUDGES + 4
    with pytest.raises(ConfigError, match="one thing"):
        CliRunner().invoke(reward, ["bench"], catch_exceptions=False)
    (tmp_path / "v.jsonl").write_text('{"prompt": "p", "human_vote": "neither", "judge_votes": {}}\n')
    with pytest.raises(ImportRefusedError, match="'neither' is no vote"):
        CliRunner().invoke(reward, ["bench", "--judges", str(tmp_path / "v.jsonl")], catch_exceptions=False)
