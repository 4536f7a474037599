"""What annotators said becomes rows, whatever the server let through; and the page asks what was declared."""

from fractions import Fraction
from itertools import permutations
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.answers import REFUSED, WITHDRAWN, changes, judgements
from annotation.export import SHOWN, export_video, seconds
from annotation.interface import INTERFACES, Question, axes_of, labelling_xml, questions
from annotation.studio import Home, StudioError, running
from annotation.sync import title
from palate.errors import DataError, MediaError
from palate.media import decode_video, encode_video
from palate.records import OVERALL, Case, Comparison, Judgement, Sample, Side, Verdict

CASE = Case(suite="suite", prompt="prompt").id
ONE, OTHER = (Sample(case=CASE, system=name).id for name in ("new", "old"))
LEFT = Comparison(study="s", case=CASE, candidate=ONE, baseline=OTHER, candidate_side=Side.LEFT)
PEOPLE = {number: f"person{number}" for number in range(5)}


def answer(number: int, who: int, choice: str | None = "left", **about: object) -> dict:
    result = [{"from_name": OVERALL, "value": {"choices": [choice]}}] if choice else []
    basis = {"id": number, "unique_id": f"u{number}", "completed_by": who, "created_at": f"2026-01-01T00:{number:02}"}
    return {**basis, "result": result, "was_cancelled": False, "lead_time": 2.0, **about}


def read(*annotations: dict, overlap: int = 2, comparison: Comparison = LEFT) -> list[Judgement]:
    return list(judgements(comparison, annotations, PEOPLE, (OVERALL,), overlap))


@pytest.mark.parametrize("side", list(Side))
def test_left_and_right_become_good_and_bad_by_our_record_alone(side):
    comparison = LEFT.model_copy(update={"candidate_side": side})
    verdicts = [read(answer(1, 1, choice), comparison=comparison)[0].verdicts[OVERALL] for choice in (*Side, "same")]
    expected = [Verdict.GOOD, Verdict.BAD] if side == "left" else [Verdict.BAD, Verdict.GOOD]
    assert verdicts == [*expected, Verdict.SAME]


def test_of_each_person_the_first_answer_counts_and_of_all_the_first_few():
    given = [answer(1, 1), answer(2, 1, "right"), answer(3, 2, None), answer(4, 2), answer(5, 3), answer(6, 9)]
    for order in permutations(given):
        rows = {row.source[-2:]: row for row in read(*order)}
        assert rows["u1"].verdicts == rows["u4"].verdicts == {OVERALL: Verdict.GOOD}
        reasons = [rows[name].skip for name in ("u2", "u3", "u5", "u6")]
        assert reasons == [
            f"{REFUSED}a second answer by the same person",
            f"{REFUSED}an empty answer",
            f"{REFUSED}beyond the overlap of 2",
            f"{REFUSED}by nobody the server knows",
        ]


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ([{"from_name": OVERALL, "value": {"choices": ["up"]}}], "'up' is no answer on overall"),
        ([{"from_name": OVERALL, "value": {"choices": ["left", "same"]}}], "2 answers on overall"),
        ([{"from_name": "x", "value": {"choices": ["left"]}}], "an answer to 'x', which was not asked"),
        ([{"from_name": OVERALL, "value": {}}], "0 answers on overall"),
        ([{"from_name": "reasons", "value": {"text": ["why"]}}], "an empty answer"),
    ],
)
def test_what_no_page_of_ours_can_say_is_refused(result, reason):
    (row,) = read(answer(1, 1, result=result))
    assert row.skip == REFUSED + reason
    assert not row.verdicts


def test_a_skip_keeps_its_reason_and_a_time_that_is_no_time_is_unknown():
    reason = [{"from_name": "skip", "value": {"choices": ["cannot tell"]}}]
    words = [{"from_name": "reasons", "value": {"text": ["too dark\0"]}}]
    (row,) = read(answer(1, 1, result=reason + words, was_cancelled=True, lead_time=-1))
    assert (row.skip, row.reasons, row.seconds) == ("cannot tell", "too dark", None)
    assert read(answer(1, 1, None, was_cancelled=True))[0].skip == "no reason given"


@given(
    st.lists(st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["left", "right", "same", "up", ""])), max_size=6))
)
def test_however_annotations_come_change_and_go_what_stands_is_what_the_server_has(visits):
    rows: dict[str, Judgement] = {}
    for visit in visits:
        now = read(*(answer(number, number % 3, choice or None) for number, choice in dict(visit).items()))
        for again in (True, False):
            superseded = {row.supersedes for row in rows.values()}
            standing = {row.source: row for id, row in rows.items() if id not in superseded}
            added = changes(standing, now)
            assert again or not added
            assert not {row.id for row in added} & rows.keys()
            rows |= {row.id: row for row in added}
        superseded = {row.supersedes for row in rows.values()}
        left = [row for id, row in rows.items() if id not in superseded and row.skip != WITHDRAWN]
        assert {(row.source, row.skip, *row.verdicts.values()) for row in left} == {
            (row.source, row.skip, *row.verdicts.values()) for row in now
        }


@pytest.mark.parametrize("task", INTERFACES)
def test_a_page_asks_every_axis_with_a_key_of_its_own_and_names_no_side_of_ours(task):
    asked = questions(task)
    page = ElementTree.fromstring(labelling_xml(asked))
    assert axes_of(labelling_xml(asked)) == tuple(question.axis for question in asked)
    assert asked[0].axis == OVERALL
    keys = [choice.attrib["hotkey"] for choice in page.iter("Choice")]
    assert len(keys) == len(set(keys)) == 3 * len(asked) + 4
    assert {video.attrib["sync"] for video in page.iter("Video")} == {"pair"}
    assert not {"candidate", "baseline", "system"} & set(labelling_xml(asked).lower().split())


def test_wrong_declarations_are_refused():
    with pytest.raises(DataError, match="no interface"):
        questions("sculpture")
    for asked in ((), (Question("a", "A", "a"),) * 2):
        with pytest.raises(DataError, match="each once"):
            labelling_xml(asked)


def test_an_exported_clip_loops_with_the_period_and_tells_nothing(tmp_path):
    frames = np.zeros((10, 400, 400, 3), np.uint8)
    frames[:] = np.arange(0, 250, 25, dtype=np.uint8)[:, None, None, None]
    encode_video(tmp_path / "clip.mp4", frames, fps=10)
    with av.open(str(tmp_path / "clip.mp4")) as plain, av.open(str(tmp_path / "told.mp4"), "w") as told:
        told.metadata["comment"] = "made by kling-secret"
        stream = told.add_stream_from_template(plain.streams.video[0])
        for packet in plain.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                told.mux(packet)
    assert b"kling-secret" in (tmp_path / "told.mp4").read_bytes()
    assert seconds(tmp_path / "told.mp4") == 1
    period = Fraction(5, 4)
    for name in ("one.mp4", "two.mp4"):
        export_video(tmp_path / "told.mp4", tmp_path / name, period)
    data = (tmp_path / "one.mp4").read_bytes()
    assert data == (tmp_path / "two.mp4").read_bytes()
    assert not [word for word in (b"kling", b"Lavf", b"x264") if word in data]
    with av.open(str(tmp_path / "one.mp4")) as shown:
        times = [float(frame.time or 0) for frame in shown.decode(video=0)]
    assert len(times) == 10 * int(SHOWN / period)
    assert times[10] == pytest.approx(1.25)
    assert times[-1] == pytest.approx(15 * 1.25 + 0.9)
    assert float(seconds(tmp_path / "one.mp4")) == pytest.approx(16 * 1.25, abs=0.001)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "one.mp4", "told.mp4", "two.mp4"]
    with pytest.raises(MediaError):
        export_video(tmp_path / "none.mp4", tmp_path / "out.mp4", period)


def test_a_small_clip_is_shown_large(tmp_path):
    frames = np.zeros((4, 30, 30, 3), np.uint8)
    frames[:, 10:20, 10:20] = 200
    encode_video(tmp_path / "small.mp4", frames, fps=4, scale=4)
    export_video(tmp_path / "small.mp4", tmp_path / "large.mp4", Fraction(1))
    large = decode_video(tmp_path / "large.mp4").frames
    assert large.shape[1:3] == (480, 480)
    assert np.abs(large[0].astype(int) - frames[0].repeat(16, 0).repeat(16, 1)).mean() < 4


def test_secrets_are_kept_closed_and_names_say_nothing_of_the_study(tmp_path):
    home = Home(tmp_path / "home")
    assert home.token == Home(tmp_path / "home").token
    assert len(home.salt) == 32
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in Path(home.folder).iterdir())
    assert "kling" not in title(home, "kling")
    assert title(home, "kling") != title(Home(tmp_path / "other"), "kling")


def test_a_server_that_cannot_start_says_why_and_tells_no_secret(tmp_path):
    home = Home(tmp_path / "home")
    with pytest.raises(StudioError, match="does not start") as error, running(home, 0, tmp_path / "none"):
        pass
    assert home.token not in str(error.value)
    broken = tmp_path / "label-studio"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(StudioError, match="exit code 3"), running(home, 0, broken):
        pass
