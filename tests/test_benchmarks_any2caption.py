"""Any2Caption: metrics against captioners whose faults are known, and the command."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from transformers import BertConfig, BertModel, BertTokenizerFast

from benchmarks import any2caption, text_metrics
from benchmarks.any2caption import ask, gains, measures, name_of, set_named, sets
from benchmarks.cli import bench
from palate import givens
from palate.errors import CheckpointError, ConfigError
from palate.givens import CONDITIONS, Givens, Shot

SHOWN = any2caption.shots(12, "heldout", 0)


@dataclass
class Scripted:
    """Knows the shots, and says all of them, or what it is told of them; it spoils every `spoils`th reply."""

    all_of_it: bool = False
    spoils: int = 0

    def replies(self, given: Sequence[Givens]) -> list[str]:
        said = [self.one(shot, CONDITIONS if self.all_of_it else made.kinds) for made, (shot, _) in zip(given, SHOWN)]
        return ["I cannot." if self.spoils and at % self.spoils == 0 else one for at, one in enumerate(said)]

    def one(self, shot: Shot, kinds: Sequence[givens.Condition]) -> str:
        return givens.caption(shot, kinds).model_dump_json()


@pytest.mark.parametrize("kinds", sets())
def test_a_captioner_that_tells_the_truth_is_right_everywhere(kinds: any2caption.Kinds) -> None:
    found = measures(ask(Scripted(), SHOWN, kinds))
    for name, one in found.items():
        if name == "METEOR":  # its penalty for one chunk is not nothing
            assert one.value is not None
            assert one.value > 0.98
        elif one.value is not None:
            assert one.value == pytest.approx(0.0 if name == "invented" else 1.0), name
    assert found["right: dense"].value is not None


def test_a_captioner_that_says_more_than_is_given_invents() -> None:
    found = measures(ask(Scripted(all_of_it=True), SHOWN, ("pose",)))
    assert found["invented"].value == 1.0
    assert found["right: action"].value == 1.0
    assert found["right: camera"].value is None  # poses tell nothing of it


def test_a_wrong_count_costs_its_share_of_the_parts_that_say_it() -> None:
    class Miscounting(Scripted):
        def one(self, shot: Shot, kinds: Sequence[givens.Condition]) -> str:
            known = {name: value for name, value in shot.facts.items() if name in givens.told(kinds)}
            return givens.caption_of(
                {**known, "count": "three" if known["count"] != "three" else "two"}
            ).model_dump_json()

    found = measures(ask(Miscounting(), SHOWN, CONDITIONS))
    assert found["right: dense"].value == pytest.approx(7 / 8)
    assert found["right: main_object"].value == pytest.approx(3 / 4)
    assert found["right: action"].value == 1.0
    assert (found["dense: count"].value, found["dense: colour"].value) == (0.0, 1.0)
    assert found["BLEU"].value < 1.0  # type: ignore[operator]


def test_a_reply_without_a_caption_is_no_caption_and_no_zero() -> None:
    answers = ask(Scripted(spoils=4), SHOWN, CONDITIONS)
    found = measures(answers)
    assert found["captions"].value == 0.75
    assert found["integrity"].value == 0.75
    assert found["right: dense"].value == 1.0
    assert found["right: dense"].note.startswith("3 of 12 replies are no caption")
    assert all(bool(one.failure) == (one.caption is None) for one in answers)
    assert measures(ask(Scripted(spoils=1), SHOWN, CONDITIONS))["BLEU"].value is None


def test_a_condition_adds_the_facts_that_it_alone_tells() -> None:
    added = {kind: one.value for kind, one in gains({kinds: ask(Scripted(), SHOWN, kinds) for kinds in sets()})}
    alone = {"image": 2, "depth": 1, "camera": 1}  # background and style, distance, camera
    assert added == {kind: alone.get(kind, 0) for kind in CONDITIONS}


def test_sets_have_names() -> None:
    assert [name_of(kinds) for kinds in sets()][5:8] == ["segmentation", "all", "all but image"]
    assert set_named("pose+image") == ("image", "pose")
    with pytest.raises(ConfigError, match="no condition 'sound'"):
        set_named("sound")


def test_text_metrics_by_hand() -> None:
    """One word of six is another."""
    said, wanted = "a red circle moves left slowly", "a red circle moves right slowly"
    assert text_metrics.rouge_l(said, wanted) == pytest.approx(5 / 6)
    precisions = np.array([5 / 6, (3 + 1) / (5 + 1), (2 + 1) / (4 + 1), (1 + 1) / (3 + 1)])  # smoothed but for words
    assert text_metrics.bleu(said, wanted) == pytest.approx(float(np.exp(np.log(precisions).mean())), abs=1e-6)
    mean = 10 * (5 / 6) ** 2 / (10 * 5 / 6)  # precision and recall are alike; five words in two chunks
    assert text_metrics.meteor(said, wanted) == pytest.approx(mean * (1 - 0.5 * (2 / 5) ** 3))
    assert text_metrics.meteor("circles moving", "circle moved") > 0.4  # stems
    assert text_metrics.bleu("so it is as it was", "so it is as it was") == pytest.approx(1.0)


def test_bertscore_on_tiny_random_weights(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "circle", "moves", "left"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(tmp_path)
    said = ["a red circle moves left", "a blue circle", "moves moves moves moves moves"]
    alike, near, far = text_metrics.bertscore(said, ["a red circle moves left"] * 3, tmp_path)
    assert alike == pytest.approx(1.0, abs=1e-5)
    assert max(near, far) < 0.999
    with pytest.raises(CheckpointError, match="is no model"):
        text_metrics.bertscore(said, said, tmp_path / "nowhere")


def test_the_command_runs_the_shipped_captioner(tmp_path: Path) -> None:
    out = tmp_path / "replies.jsonl"
    told = ["any2caption", "--shots", "12", "--conditions", "camera", "--conditions", "pose+identity"]
    done = CliRunner().invoke(bench, [*told, "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["sets"]
    assert list(found) == ["camera", "pose + identity"]
    assert found["camera"]["right: camera"]["value"] > 0.5  # chance is one in seven
    assert found["pose + identity"]["right: camera"]["value"] is None
    assert len(out.read_text().splitlines()) == 24
    shown = CliRunner().invoke(bench, told)
    assert "right: main_object" in shown.output
