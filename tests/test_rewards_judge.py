"""A model that judges pairs: both orders, strict replies, and silence."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_vlm
import torch
from click.testing import CliRunner
from test_rewards_cli import record_of

from palate.errors import CheckpointError
from palate.records import Judgement, Verdict
from palate.store import Store
from rewards.cli import reward
from rewards.judge import JudgeSettings, LocalJudge, opinion
from rewards.reward import Answer

DARK, BRIGHT = (Answer("a lamp", np.full((8, 32, 32, 3), level, np.uint8), 8.0) for level in (10, 200))


def says(better: str) -> str:
    return json.dumps({"better": better, "reason": "it is"})


def by_sight(first: Answer, second: Answer, axis: str) -> str:
    ahead = float(first.frames.mean()) - float(second.frames.mean())
    return says("first" if ahead > 0 else "second" if ahead < 0 else "same")


def test_a_judge_that_sees_gives_its_verdict_whichever_comes_first() -> None:
    assert opinion(by_sight, BRIGHT, DARK, "overall").verdict is Verdict.GOOD
    assert opinion(by_sight, DARK, BRIGHT, "overall").verdict is Verdict.BAD
    found = opinion(by_sight, DARK, DARK, "overall")
    assert found.verdict is Verdict.SAME
    assert found.replies == (says("same"), says("same"))


def test_a_judge_that_likes_a_place_is_found_out_and_its_replies_are_kept() -> None:
    found = opinion(lambda first, second, axis: says("second"), BRIGHT, DARK, "overall")
    assert found.verdict is None
    assert found.why == "its verdict turns with the order: bad, then good"
    assert found.replies == (says("second"), says("second"))


@pytest.mark.parametrize(
    "reply",
    [
        "first",
        '{"better": "left", "reason": ""}',
        '{"better": "first"}',
        '{"better": 1, "reason": ""}',
        '{"better"',
        says("first") + " I think",
        '{"better": "first", "reason": "", "sure": true}',
    ],
)
def test_what_is_not_the_json_asked_for_is_no_verdict(reply: str) -> None:
    found = opinion(lambda *_: reply, BRIGHT, DARK, "overall")
    assert found.verdict is None
    assert "order 1 is not the JSON" in found.why
    assert found.replies[0] == reply
    fenced = opinion(lambda *a: f"```json\n{by_sight(*a)}\n```", BRIGHT, DARK, "overall")
    assert fenced.verdict is Verdict.GOOD


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_a_model_is_shown_both_videos_in_their_order(family: str, tmp_path: Path) -> None:
    base = tiny_vlm.write(tmp_path, family)
    judge = LocalJudge(JudgeSettings(model=str(base), frame_pixels=28 * 28, max_tokens=3))
    seen = []

    def watched(**told: torch.Tensor) -> torch.Tensor:
        seen.append(told["pixel_values_videos"].mean(dim=1))
        return plain(**told)

    plain = judge.model.generate
    judge.model.generate = watched
    assert isinstance(judge(DARK, BRIGHT, "overall"), str)
    judge(BRIGHT, DARK, "overall")
    half = len(seen[0]) // 2
    assert (seen[0][:half] < seen[0][half:]).all()
    torch.testing.assert_close(seen[0], seen[1].roll(half))
    with pytest.raises(CheckpointError, match="no vision-language model"):
        LocalJudge(JudgeSettings(model="/nowhere/at/all"))


def test_the_command_keeps_what_a_random_model_babbles_and_asks_once(tmp_path: Path) -> None:
    base, store = tiny_vlm.write(tmp_path / "base", "qwen2_vl"), record_of(tmp_path, 2)
    told = ["judge", "--store", store, "--study", "s", "--json", f"model={base}", "max_tokens=4", "frame_pixels=784"]
    told += ["device=cpu"]
    first = json.loads(CliRunner().invoke(reward, told, catch_exceptions=False).stdout)
    assert first == {"judged": 2, "abstained": 2, "before": 0}
    again = json.loads(CliRunner().invoke(reward, told, catch_exceptions=False).stdout)
    assert again == {"judged": 0, "abstained": 0, "before": 2}
    with Store(store) as record:
        rows = [one for one in record.select(Judgement) if one.annotator.startswith("judge ")]
    assert all(one.simulated and "not the JSON" in (one.skip or "") for one in rows)
    assert all(len(json.loads(one.reasons)) == 2 for one in rows)
