import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from annotation.votes import fetv, genai_bench, pairwise_csv
from annotation.votes.cli import votes
from palate.errors import ConfigError, ImportRefusedError
from palate.records import UNKNOWN_ANNOTATOR, Case, Comparison, Judgement, Sample, Side, Verdict
from palate.stats.agreement import alpha, count_table
from palate.store import Store

VOTES = Path(__file__).resolve().parents[2] / "shared" / "data" / "votes"
real = pytest.mark.skipif(not VOTES.exists(), reason="the public votes are not beside this checkout")

LLMFAO = "prompt=prompt,left=left,right=right,annotator=worker,verdict=winner"
LLMFAO_VERDICTS = "left=good,right=bad,tie=same"
VIDEOALIGN = "prompt=prompt,a.media=path_A,b.media=path_B,axis.visual=VQ,axis.motion=MQ,axis.text=TA"


def import_votes(store, file, *options):
    arguments = ["import", str(file), "--store", store, "--json", *options]
    return json.loads(CliRunner().invoke(votes, arguments, catch_exceptions=False).stdout)


def of(records, kind):
    return list({one.id: one for one in records if isinstance(one, kind)}.values())


@pytest.fixture
def store(tmp_path):
    return f"sqlite:///{tmp_path}/store.db"


@pytest.fixture
def tiny_fetv(tmp_path):
    """Two prompts, two people, in FETV's layout."""
    prompts = [("a dog runs", "video1"), ("a cup of moon", None)]
    rows = [
        {
            "video_id": video,
            "prompt": prompt,
            "major content": {"spatial": ["people", "animals"], "temporal": ["actions"]},
            "attribute control": {"spatial": None, "temporal": []},
            "prompt complexity": ["simple"],
        }
        for prompt, video in prompts
    ]
    (tmp_path / "datas").mkdir()
    (tmp_path / "datas" / "fetv_data.json").write_text("\n".join(map(json.dumps, rows)))
    for human in range(2):
        folder = tmp_path / "manual_eval_results" / f"human{human}"
        folder.mkdir(parents=True)
        for mark, system in enumerate([*fetv.SYSTEMS, "ground-truth"], 1):
            lines = [
                {str(i): {"video_id": str(video), "static_quality": mark, "temporal_quality": 3, "alignment": 6 - mark}}
                for i, (_, video) in enumerate(prompts)
            ]
            (folder / f"manual_eval_results_{system}.json").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return tmp_path


def test_ratings_become_verdicts(tiny_fetv):
    records = fetv.read(tiny_fetv, "s")
    assert len(of(records, Case)) == 2
    assert len(of(records, Sample)) == 8
    assert len(of(records, Comparison)) == 12
    judgements = of(records, Judgement)
    assert len(judgements) == 24
    # systems are in order of their marks: the candidate, the earlier, has the lower static quality, and so on
    expected = {"static_quality": Verdict.BAD, "temporal_quality": Verdict.SAME, "alignment": Verdict.GOOD}
    assert all(one.verdicts == expected and not one.simulated for one in judgements)
    assert of(records, Case)[0].tags == {"subject": "animals; people", "motion": "actions", "complexity": "simple"}
    assert records == fetv.read(tiny_fetv / "manual_eval_results", "s")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"alignment": 5', '"alignment": 6', r"cogvideo.json:1: 0.alignment: .*less than or equal to 5"),
        ('"alignment": 5', '"alignment": 4.5', "valid integer"),
        ('"alignment": 5', '"alignment": null', "valid integer"),
        ('"temporal_quality": 3, ', "", "temporal_quality: Field required"),
        ('"video1"', '"video2"', "cogvideo.json:1: video video2 is not prompt 0's"),
        ('"1": {', '"7": {', "cogvideo.json:2: prompt 7 is unknown"),
        ('"1": {', '"0": {', "cogvideo.json:2: prompt 0 is unknown or rated twice"),
        ("}}\n", "}\n", "cogvideo.json:1: the line: Invalid JSON"),
    ],
)
def test_a_rating_that_fits_no_rule_is_refused(tiny_fetv, old, new, message):
    path = tiny_fetv / "manual_eval_results" / "human1" / "manual_eval_results_cogvideo.json"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ImportRefusedError, match=message):
        fetv.read(tiny_fetv, "s")


def test_a_rater_who_stopped_early_is_refused(tiny_fetv):
    path = tiny_fetv / "manual_eval_results" / "human1" / "manual_eval_results_zeroscope.json"
    path.write_text(path.read_text().splitlines()[0])
    with pytest.raises(ImportRefusedError, match="only 1 of 2 prompts"):
        fetv.read(tiny_fetv, "s")
    path.unlink()
    with pytest.raises(ImportRefusedError, match="No such file"):
        fetv.read(tiny_fetv, "s")
    with pytest.raises(ImportRefusedError, match="No such file"):
        fetv.read(tiny_fetv / "elsewhere", "s")


@real
def test_fetv_counts_and_agreement(store):
    assert import_votes(store, VOTES / "fetv", "--format", "fetv")["judgements"] == 11_142
    with Store(store) as record:
        held = record.votes(study="fetv")
        assert Counter(held.axis.tolist()) == dict.fromkeys(fetv.AXES, 11_142)
        assert len(set(held.case.tolist())) == 619
        assert set(held.annotator.tolist()) == {"human0", "human1", "human2"}
        assert not held.simulated.any()
    rated = [one for one in fetv.ratings(VOTES / "fetv") if one.system in fetv.SYSTEMS]
    videos = [f"{one.system} {one.prompt}" for one in rated]
    for axis, expected in zip(fetv.AXES, (0.647, 0.634, 0.614)):
        table = count_table(videos, [one.marks[axis] - 1 for one in rated], 5)
        assert alpha(table, "ordinal").value == pytest.approx(expected, abs=0.005)


@real
def test_genai_bench_counts(store):
    found = import_votes(store, VOTES / "genai_bench" / "video_generation_votes.jsonl", "--format", "genai-bench")
    assert found["judgements"] == 1_069
    with Store(store) as record:
        held = record.votes()
    assert Counter(held.verdict.tolist()) == {"good": 325, "bad": 375, "same": 138, "both_bad": 231}
    assert set(held.annotator.tolist()) == {UNKNOWN_ANNOTATOR}
    assert set(held.candidate_side.tolist()) == {"left"}
    assert len(set(held.case.tolist())) == 214


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"idx": 1, "prompt": "p", "human_vote": "maybe"}', ":2: human_vote"),
        ('{"idx": 1, "human_vote": "leftvote"}', ":2: prompt: Field required"),
        ('{"idx": 1, "prompt": "", "human_vote": "leftvote"}', ":2: prompt: .*at least 1"),
        ('{"idx": 1, "prompt": "p", "human_vo', ":2: the line: Invalid JSON"),
        ("[]", ":2: the line"),
    ],
)
def test_a_broken_genai_line_stores_nothing(store, tmp_path, line, message):
    path = tmp_path / "votes.jsonl"
    path.write_text('{"idx": 0, "prompt": "p", "human_vote": "tievote"}\n' + line + "\n")
    with pytest.raises(ImportRefusedError, match=message):
        import_votes(store, path, "--format", "genai-bench")
    with Store(store) as record:
        assert not list(record.select(Judgement))
        assert not list(record.select(Case))


def test_pairs_of_one_prompt_stay_apart(tmp_path):
    path = tmp_path / "votes.jsonl"
    row = {"prompt": "p\u2028q", "human_vote": "tievote"}  # U+2028 ends no line
    path.write_text("\n".join(json.dumps({"idx": i, **row}, ensure_ascii=False) for i in (0, 1)), encoding="utf-8")
    records = genai_bench.read(path, "s")
    assert len(of(records, Case)) == 1
    assert len(of(records, Comparison)) == 2
    assert [one.source.split(":")[1] for one in of(records, Judgement)] == ["1", "2"]


@real
def test_llmfao_counts_and_a_second_import(store):
    path = VOTES / "llmfao" / "crowd-comparisons.csv"
    options = ["--format", "pairwise-csv", "--study", "llmfao", "--columns", LLMFAO, "--verdicts", LLMFAO_VERDICTS]
    first = import_votes(store, path, *options)
    assert first["judgements"] == 8_931
    with Store(store) as record:
        held = record.votes(study="llmfao")
    assert Counter(held.verdict.tolist()) == {"same": 3_471, "good": 2_911, "bad": 2_549}
    assert len(set(held.annotator.tolist())) == 124
    assert len({*held.candidate.tolist(), *held.baseline.tolist()}) == 59
    assert set(held.candidate_side.tolist()) == {"left"}
    again = import_votes(store, path, *options)
    assert again["added"] == 0


@real
def test_videoalign_brings_its_videos(store):
    path = VOTES / "videoalign" / "datasets" / "train" / "example.csv"
    verdicts = "A=good,B=bad,same=same"
    import_votes(store, path, "--format", "pairwise-csv", "--columns", VIDEOALIGN, "--verdicts", verdicts)
    with Store(store) as record:
        samples = list(record.select(Sample))
        assert len(samples) == 6
        assert {one.system for one in samples} == {"a", "b"}
        assert all(len(record.media.video(one.media).frames) > 10 for one in samples[:1])
        held = record.votes(axis="visual")
        assert {one.candidate_side for one in record.select(Comparison)} == {None}
    assert Counter(held.verdict.tolist()) == {"bad": 4, "same": 4, "good": 4}


def table(path, *rows):
    path.write_text("\n".join(["prompt,x,y,who,vote", *rows]) + "\n", encoding="utf-8")
    return path


COLUMNS = {"prompt": "prompt", "left": "x", "right": "y", "annotator": "who", "verdict": "vote"}
WORDS = {"L": "good", "R": "bad", "=": "same", "-": "both_bad"}


def test_a_table_of_votes(tmp_path):
    path = table(tmp_path / "t.csv", '"two\nlines",m,n,ann,L', "p,n,m,bob,-")
    records = pairwise_csv.read(path, "s", COLUMNS, WORDS, add_media=lambda path: pytest.fail("no videos here"))
    first, second = of(records, Judgement)
    assert (first.annotator, first.verdicts) == ("ann", {"overall": Verdict.GOOD})
    assert second.verdicts == {"overall": Verdict.BOTH_BAD}
    assert [one.source.split(":")[1] for one in (first, second)] == ["3", "4"]  # the line a row ends on
    assert [one.candidate_side for one in of(records, Comparison)] == [Side.LEFT, Side.LEFT]
    assert [one.prompt for one in of(records, Case)] == ["two\nlines", "p"]
    hidden = pairwise_csv.read(
        path, "s", {"prompt": "prompt", "verdict": "vote", "tag.topic": "x"}, WORDS, add_media=str
    )
    assert {one.system for one in of(hidden, Sample)} == {"a", "b"}
    assert {one.annotator for one in of(hidden, Judgement)} == {UNKNOWN_ANNOTATOR}
    assert [one.tags for one in of(hidden, Case)] == [{"topic": "m"}, {"topic": "n"}]
    assert of(hidden, Comparison)[0].candidate_side is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("p,m,n,ann,left", ":3: unknown verdict 'left'"),
        (",m,n,ann,L", ":3: nothing in prompt"),
        ("p,m,n,,L", ":3: nothing in who"),
        ("p,m,n,ann", ":3: not 5 cells"),
        ("p,m,n,ann,L,more", ":3: not 5 cells"),
        ("p,m,m,ann,L", ":3: .*two different samples"),
        ('"p,m,n,ann,L', ":3: not CSV"),
    ],
)
def test_a_row_that_fits_no_rule_is_refused(tmp_path, row, message):
    path = table(tmp_path / "t.csv", "p,m,n,ann,L", row)
    with pytest.raises(ImportRefusedError, match=message):
        pairwise_csv.read(path, "s", COLUMNS, WORDS, add_media=str)


def test_missing_columns_and_videos_are_refused(tmp_path):
    path = table(tmp_path / "t.csv", "p,m,n,ann,L")
    with pytest.raises(ImportRefusedError, match="no column winner"):
        pairwise_csv.read(path, "s", {**COLUMNS, "verdict": "winner"}, WORDS, add_media=str)
    with pytest.raises(ImportRefusedError, match=":2: no file"):
        pairwise_csv.read(path, "s", {**COLUMNS, "left.media": "x", "right.media": "y"}, WORDS, add_media=str)
    (tmp_path / "m").write_bytes(b"no video")
    (tmp_path / "n").write_bytes(b"no video")
    columns = {**COLUMNS, "left.media": "x", "right.media": "y"}
    with Store(f"sqlite:///{tmp_path}/store.db") as record, pytest.raises(ImportRefusedError, match=":2: "):
        pairwise_csv.read(path, "s", columns, WORDS, record.media.add_file)
    path.write_bytes(b"prompt\xff")
    with pytest.raises(ImportRefusedError, match="not UTF-8"):
        pairwise_csv.read(path, "s", COLUMNS, WORDS, add_media=str)


@pytest.mark.parametrize(
    ("columns", "words", "message"),
    [
        ({"prompt": "prompt"}, WORDS, "no column for the prompt or for any verdict"),
        ({"verdict": "vote"}, WORDS, "no column for the prompt"),
        ({**COLUMNS, "worker": "who"}, WORDS, "unknown column keys worker"),
        ({"prompt": "prompt", "verdict": "vote", "left": "x"}, WORDS, "come in pairs"),
        ({**COLUMNS, "a": "x", "b": "y"}, WORDS, "come in pairs"),
        (COLUMNS, {"L": "better"}, "'better' is no verdict"),
    ],
)
def test_a_mapping_that_makes_no_sense(tmp_path, columns, words, message):
    with pytest.raises(ConfigError, match=message):
        pairwise_csv.read(table(tmp_path / "t.csv"), "s", columns, words, add_media=str)


def test_mappings_on_the_command_line(store, tmp_path):
    path = table(tmp_path / "t.csv", "p,m,n,ann,good")
    columns = ("--columns", "prompt=prompt,left=x", "--columns", "right=y,verdict=vote")
    assert import_votes(store, path, "--format", "pairwise-csv", *columns)["judgements"] == 1
    for wrong in (("--columns", "prompt"), ("--verdicts", "=good")):
        with pytest.raises(ConfigError, match="not KEY=VALUE"):
            import_votes(store, path, "--format", "pairwise-csv", *columns, *wrong)
    with pytest.raises(ConfigError, match="fixed columns"):
        import_votes(store, path, "--format", "fetv", *columns)
