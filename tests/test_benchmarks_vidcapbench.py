"""VidCapBench's protocol against a real server with a scripted judge, on a set whose truth is known."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scripted_judge import Server, serving

from benchmarks import caption_metrics, vidcap_shapes, vidcapbench
from benchmarks.cli import bench
from benchmarks.vidcap_shapes import FACTS
from benchmarks.vidcapbench import QA, UNPARSED, Asked, Mark, Marked
from palate.errors import CheckpointError, ConfigError, DataError, ImportRefusedError
from rewards.chat import Chat, ChatSettings, Question, object_in


def small_set(tmp_path: Path, count: int = 6) -> tuple[Path, Path, list[int]]:
    """Two files, and of each caption the number of facts that it tells wrong."""
    rng = np.random.default_rng(3)
    found = vidcap_shapes.scenes(count, 1)
    wrong = [at % 3 for at in range(count)]
    told = [vidcap_shapes.mistold(one, rng.choice(FACTS, n, replace=False), rng) for one, n in zip(found, wrong)]
    return (*vidcap_shapes.write(tmp_path, found, [str(one) for one in told]), wrong)


def asked_of(server: Server, asked: list[Asked], folder: Path, repeats: int = 1, **more: Any) -> list[Marked]:
    settings = ChatSettings(url=server.url, wait=0.01, **more)
    with closing(Chat(settings, folder)) as chat:
        return vidcapbench.run(asked, repeats, chat, chat)


def test_scores_are_the_known_truth_of_the_captions(tmp_path: Path) -> None:
    questions, captions, wrong = small_set(tmp_path, 12)
    asked = vidcapbench.load(questions, captions)
    with serving() as server:
        marked = asked_of(server, asked, tmp_path / "replies")
        first = {vidcapbench.answer_question(one.asked, 0) for one in marked}
        second = {vidcapbench.judge_question(one.asked, one.answer, 0) for one in marked}
        assert len(server.requests) == len(first) + len(second) < 2 * len(marked)  # the same is asked once
    by_video = {f"{at}.mp4": [m.mark for m in marked if m.asked.video == f"{at}.mp4"] for at in range(12)}
    for video, number in zip(by_video, wrong, strict=True):
        assert by_video[video].count(2) >= len(FACTS) - number - 1  # a count told wrong may cost the second motion
        assert by_video[video].count(-1) >= number
    estimate = caption_metrics.measures(marked)["accuracy"]
    share = 100 * np.array([marks.count(2) / len(marks) for marks in by_video.values()])
    assert estimate.value == pytest.approx(share.mean())
    half = 2.200985 * share.std(ddof=1) / np.sqrt(12)  # t with 11 degrees of freedom
    assert (estimate.low, estimate.high) == pytest.approx((share.mean() - half, min(share.mean() + half, 100)))
    assert estimate.clusters == {"videos": 12}
    assert {name: one.value for name, one in caption_metrics.rates(marked).items()} == {
        "replied": 100.0,
        "parsed": 100.0,
        "abstained": 0.0,
    }


def marks(*given: Mark | None, video: str = "v", sub: str = "color", caption: str = "a b c d") -> list[Marked]:
    return [
        Marked(Asked(video, caption, QA(question=f"{video}{at}", answer="x", sub_category=sub)), 0, "y", mark)
        for at, mark in enumerate(given)
    ]


def test_metrics_are_the_papers_formulas() -> None:
    found = [*marks(2, 2, 1, 0, -1, None, video="v"), *marks(0, 0, -1, video="w", caption="a b c d e f g h")]
    values = {name: one.value for name, one in caption_metrics.measures(found, {"v": 4, "w": 8}).items()}
    a, b, c, d = 2, 1, 3, 2
    assert values == pytest.approx(
        {
            "accuracy": 100 * a / (a + b + c + d),
            "precision": 100 * (a + b) / (a + b + d),
            "coverage": 100 * (a + b + d) / (a + b + c + d),
            "conciseness": 100 * (100 * a / (a + b + c + d)) / ((4 + 8) / 2),
        }
    )
    assert caption_metrics.measures(found)["accuracy"].note == "1 of 9 judgements give no mark"
    nothing = caption_metrics.measures(marks(0, 0))
    assert nothing["precision"].value is None
    assert nothing["accuracy"].value == 0.0
    assert set(caption_metrics.by_dimension([*found, *marks(2, sub="object motion")])) == {
        "all",
        "aesthetics",
        "motion",
    }


def test_conciseness_counts_tokens_as_the_authors_do_or_says_that_nobody_counted(tmp_path: Path) -> None:
    """A T5 tokenizer, as theirs is: pieces and the end; and `eval.py` has one mean length for all dimensions."""
    pytest.importorskip("diffusers", reason="tiny_pipelines needs the extra `align`")
    import tiny_pipelines

    tiny_pipelines.t5()[0].save_pretrained(tmp_path / "t5")
    told = [
        *marks(2, 0, video="v", caption="a red circle"),
        *marks(2, 2, 0, video="w", caption="a blue square moves up"),
    ]
    told += marks(2, 0, video="w", sub="events", caption="a blue square moves up")
    counted = caption_metrics.summary(told, caption_metrics.tokens_by(tmp_path / "t5"))
    mean = ((3 + 1) + (5 + 1)) / 2
    for part, right in (("all", 4 / 7), ("aesthetics", 3 / 5), ("content", 1 / 2)):
        assert counted[part]["conciseness"].value == pytest.approx(100 * 100 * right / mean)
    assert counted["content"]["accuracy"].clusters == {"videos": 1}
    nobody = caption_metrics.summary(told)["all"]["conciseness"]
    assert (nobody.value, nobody.low, nobody.high) == (None, None, None)
    assert nobody.note == caption_metrics.UNCOUNTED
    questions, captions, _ = small_set(tmp_path)
    with serving() as server:
        who = ["--folder", str(tmp_path / "replies"), f"judge.url={server.url}", f"answerer.url={server.url}"]
        command = ["captions", str(questions), str(captions), *who, "--tokenizer"]
        counted = CliRunner().invoke(bench, [*command, str(tmp_path / "t5")], catch_exceptions=False)
        refused = CliRunner().invoke(bench, [*command, str(tmp_path / "replies")])
    assert caption_metrics.UNCOUNTED not in counted.stdout
    assert "holds no tokenizer" in str(refused.exception)
    assert isinstance(refused.exception, ConfigError)


def test_intervals_over_videos_cover_what_they_say() -> None:
    """Truth known: videos differ in how well they are told, so questions of a video are alike."""
    rng, covered, naive = np.random.default_rng(5), 0, 0
    for _ in range(200):
        given = []
        for video in range(40):
            right = rng.beta(1, 2)
            given += marks(*(2 if rng.random() < right else 0 for _ in range(8)), video=str(video))
        found = caption_metrics.measures(given)["accuracy"]
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 100 / 3 <= found.high
        naive += abs(found.value - 100 / 3) <= 196 * np.sqrt(2 / 9 / 320)
    assert covered >= 182
    assert naive < 170


@pytest.mark.parametrize(
    ("reply", "mark", "failure"),
    [
        ('{"analysis": "2 of 2 words agree", "score": 0}', 0, ""),
        ('```json\n{"analysis": "x", "score": -1}\n```', -1, ""),
        ('{"analysis": "cannot tell", "score": null}', None, ""),
        ('{"analysis": "x", "score": "2"}', None, UNPARSED),
        ('{"analysis": "x", "score": 3}', None, UNPARSED),
        ('{"analysis": "x", "score": 2, "sure": true}', None, UNPARSED),
        ("I would give it a 2.", None, UNPARSED),
        ("", None, UNPARSED),
    ],
)
def test_only_the_json_asked_for_is_a_mark(tmp_path: Path, reply: str, mark: int | None, failure: str) -> None:
    def script(body: dict[str, Any]) -> str:
        return reply if "compare" in body["messages"][0]["content"] else "red"

    with serving(script) as server:
        (one,) = asked_of(server, [marks(2)[0].asked], tmp_path)
    assert (one.mark, one.failure, one.answer) == (mark, failure, "red")
    assert object_in(reply).strip("`") == object_in(reply)


def test_what_was_asked_is_not_asked_again_and_a_stopped_run_goes_on(tmp_path: Path) -> None:
    questions, captions, _ = small_set(tmp_path)
    asked = vidcapbench.load(questions, captions)
    with serving() as server:
        whole = asked_of(server, asked, tmp_path / "whole")
        part = asked_of(server, asked[:11], tmp_path / "part")
        assert part == whole[:11]
        before = len(server.requests)
        assert asked_of(server, asked, tmp_path / "part", concurrency=3) == whole
        assert len(server.requests) - before < 2 * len(asked) - 11
        before = len(server.requests)
        with closing(Chat(ChatSettings(url=server.url), tmp_path / "part")) as chat:
            due = vidcapbench.bill(asked, 1, chat, chat)
            assert (due.calls, due.tokens_in, due.cost(1, 1)) == (0, 0, 0)
            fresh = vidcapbench.bill(asked, 2, chat, chat)
            assert (fresh.calls, fresh.answered) == (2 * len(asked), 2 * len(asked))
            assert fresh.cost(2e6, 0) == 2 * fresh.tokens_in
        assert len(server.requests) == before


def test_many_are_asked_at_once_but_no_more_than_told(tmp_path: Path) -> None:
    asked = [one.asked for one in marks(*[2] * 12)]
    with serving(delay=0.05) as server:
        asked_of(server, asked, tmp_path / "three", concurrency=3)
        assert 2 <= server.most <= 3
    with serving() as server:
        asked_of(server, asked[:4], tmp_path / "slow", concurrency=4, per_minute=600)
        gaps = np.diff(sorted(server.times))
        assert server.times[-1] - server.times[0] > 0.05 * (len(gaps) - 1)


def test_a_server_that_stumbles_is_asked_again_and_one_that_fails_leaves_a_row(tmp_path: Path) -> None:
    asked = [one.asked for one in marks(2, 2)]
    with serving(status=lambda number: 503 if number % 2 else 200) as server:
        assert [one.failure for one in asked_of(server, asked, tmp_path / "a", concurrency=1)] == ["", ""]
    with serving(status=lambda number: 429) as server:
        lost = asked_of(server, asked, tmp_path / "b", tries=2)
        assert [one.failure for one in lost] == ["answer: HTTP 429, 2 times"] * 2
        assert caption_metrics.rates(lost)["replied"].value == 0.0
    with serving() as server:  # failures are not kept
        assert [one.failure for one in asked_of(server, asked, tmp_path / "b")] == ["", ""]
    gone = ChatSettings(url=server.url, tries=1)
    with closing(Chat(gone, tmp_path / "c")) as chat:
        (reply,) = chat.ask([Question("a", "b")])
    assert (reply.failure or "").startswith("ConnectError")
    with serving(status=lambda number: 401) as server, pytest.raises(ConfigError, match=r"HTTP 401 .* OPENAI_API_KEY"):
        asked_of(server, asked, tmp_path / "d")


def test_repeats_tell_consistent_questions_from_the_others(tmp_path: Path) -> None:
    def moody(body: dict[str, Any]) -> str:
        if "Question: v1\n" in body["messages"][1]["content"] and "compare" in body["messages"][0]["content"]:
            return json.dumps({"analysis": "", "score": [2, 1, 0][body["seed"]]})
        return honest_about_anything(body)

    with serving(moody) as server:
        marked = asked_of(server, [one.asked for one in marks(2, 2, 2)], tmp_path, repeats=3)
    alike, others = caption_metrics.consistent(marked)
    assert {one.asked.qa.question for one in others} == {"v1"}
    assert (len(alike), [one.mark for one in others]) == (6, [2, 1, 0])
    found = caption_metrics.summary(marked)
    assert found["all"]["judged alike"].value == pytest.approx(200 / 3)
    assert found["alike (AE)"]["accuracy"].value == 100.0
    assert found["not alike (HE)"]["accuracy"].value == pytest.approx(100 / 3)


def honest_about_anything(body: dict[str, Any]) -> str:
    return json.dumps({"analysis": "", "score": 2}) if "compare" in body["messages"][0]["content"] else "y"


@pytest.mark.slow
def test_a_model_of_transformers_answers_here(tmp_path: Path) -> None:
    """Random weights: what it says is noise, but noise that can be read, kept, and said again."""
    transformers = pytest.importorskip("transformers", reason="the extra `judge` is not installed")
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: at for at, word in enumerate(["<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"])}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", eos_token="</s>")
    config = transformers.LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    told = ChatSettings(url=f"local:{tmp_path / 'model'}", max_tokens=4, temperature=1.0)
    with pytest.raises(CheckpointError, match="no chat template"):
        Chat(told, tmp_path / "replies")
    tokenizer.chat_template = "{% for one in messages %}{{ one.content }} {% endfor %}"
    tokenizer.save_pretrained(tmp_path / "model")
    questions = [Question("a b", "c d e", repeat) for repeat in range(3)]
    with closing(Chat(told, tmp_path / "replies")) as chat, closing(Chat(told, tmp_path / "again")) as again:
        replies = list(chat.ask(questions))
        assert list(again.ask(questions[::-1])) == replies[::-1]
        assert chat.known(questions[0]) == replies[0]
    assert {reply.tokens_in for reply in replies} == {5}
    assert all(0 < reply.tokens_out <= 4 for reply in replies)
    assert len({reply.text for reply in replies}) > 1
    with pytest.raises(CheckpointError, match="is no language model"):
        Chat(ChatSettings(url=f"local:{tmp_path / 'replies'}"), tmp_path)


@pytest.mark.parametrize(
    ("questions", "captions", "problem"),
    [
        ([{"video_dir": "a", "QA_pairs": []}], [], r"questions\.jsonl:1: a has no caption"),
        ([], [{"video": "a", "model_generation": "x"}], r"captions\.jsonl:1: video_dir: Field required"),
        ([], [{"video_dir": "a", "model_generation": "x"}], r"a has no questions"),
        ([], [{"video_dir": "a", "model_generation": "x"}] * 2, r"captions\.jsonl:2: a has two captions"),
        (
            [{"video_dir": "a", "QA_pairs": [{"question": "q", "answer": "a", "sub_category": "mood"}]}],
            [{"video_dir": "a", "model_generation": "x"}],
            r"questions\.jsonl:1: no sub-category 'mood'",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, questions: list[object], captions: list[object], problem: str
) -> None:
    paths = [tmp_path / "questions.jsonl", tmp_path / "captions.jsonl"]
    for path, rows in zip(paths, (questions, captions)):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ImportRefusedError, match=problem):
        vidcapbench.load(*paths)


def test_the_command_counts_first_then_asks(tmp_path: Path) -> None:
    questions, captions, _ = small_set(tmp_path)
    arguments = ["captions", str(questions), str(captions), "--folder", str(tmp_path / "replies"), "--json"]
    with serving() as server:
        who = [f"judge.url={server.url}", f"answerer.url={server.url}"]
        told = CliRunner().invoke(bench, [*arguments, "--dry-run", "--prices", "1", "2", *who], catch_exceptions=False)
        assert json.loads(told.stdout)["calls"] == 2 * 6 * len(FACTS)
        assert json.loads(told.stdout)["cost"] > 0
        assert not server.requests
        out = tmp_path / "marks.jsonl"
        told = CliRunner().invoke(bench, [*arguments, "--out", str(out), *who], catch_exceptions=False)
        found = json.loads(told.stdout)
        text = CliRunner().invoke(bench, [*arguments[:-1], *who], catch_exceptions=False).stdout
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert found["all"]["accuracy"]["value"] == pytest.approx(100 * np.mean([row["score"] == 2 for row in rows]))
    assert f"{found['all']['accuracy']['value']:.1f} [" in text
    assert {"all", "aesthetics", "content", "motion"} == found.keys()


def test_the_command_says_why_nobody_answered_and_what_failed(tmp_path: Path) -> None:
    """A dead server is a reason in one line; a judge that says no JSON for some is a line under the table."""
    questions, captions, _ = small_set(tmp_path)
    arguments = ["captions", str(questions), str(captions), "--folder", str(tmp_path / "replies")]
    dead = ["answerer.url=http://127.0.0.1:9/v1", "answerer.tries=1"]
    refused = CliRunner().invoke(bench, [*arguments, *dead])
    assert isinstance(refused.exception, DataError)
    assert "no question was answered and judged, most often so: answer: ConnectError" in str(refused.exception)

    def terse(body: dict[str, Any]) -> str:
        text = body["messages"][1]["content"]
        return "2" if "What shape" in text else honest_about_anything(body)

    with serving(terse) as server:
        who = [f"judge.url={server.url}", f"answerer.url={server.url}"]
        told = CliRunner().invoke(bench, [*arguments, *who], catch_exceptions=False)
    assert f"6 of 30 judgements failed: {UNPARSED}" in told.stdout


def test_what_is_mistold_is_told_otherwise_and_nothing_else_is() -> None:
    rng = np.random.default_rng(0)
    for scene in vidcap_shapes.scenes(40, 0):
        for fact in FACTS:
            told = vidcap_shapes.mistold(scene, [fact], rng)
            answers = [[qa.answer for qa in vidcap_shapes.questions(one)] for one in (scene, told)]
            differ = {name for name, ours, theirs in zip(FACTS, *answers, strict=True) if ours != theirs}
            assert fact in differ
            assert differ - {fact} <= ({"motion"} if fact == "count" and len(scene.things[0].motions) > 1 else set())
