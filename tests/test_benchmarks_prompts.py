"""Prompts that people use, as suites: real files in whole, and a bad line refuses a file by its number."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.cli import bench
from benchmarks.prompts import Layout, read
from palate.errors import ConfigError, DataError, ImportRefusedError
from palate.records import Case
from palate.store import Store

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
VIDEOALIGN = SHARED / "votes" / "videoalign" / "datasets" / "video_eval_prompts"
GENEVAL = SHARED / "prompts" / "geneval" / "test_metadata.jsonl"


@pytest.mark.parametrize(("name", "count"), [("vbench", 946), ("videogen_eval", 400), ("TA_hard", 72)])
def test_videoaligns_tables_come_in_whole_in_both_languages(name: str, count: int) -> None:
    path = VIDEOALIGN / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    rows = list(csv.DictReader(path.open(encoding="utf-8-sig", newline="")))
    assert len(rows) == count
    for column in ("prompt", "prompt_zh"):
        cases = read(path, "csv", name, {"prompt": column})
        assert [case.prompt for case in cases] == list(dict.fromkeys(row[column].strip() for row in rows))


def test_geneval_comes_in_whole_with_its_checks() -> None:
    if not GENEVAL.exists():
        pytest.skip(f"{GENEVAL} is not here")
    cases = read(GENEVAL, "geneval", "geneval", {})
    lines = [json.loads(line) for line in GENEVAL.read_text().splitlines()]
    assert Counter(case.tags["task"] for case in cases) == Counter(
        tag for tag, _ in {(line["tag"], json.dumps(line, sort_keys=True)) for line in lines}
    )
    by_prompt = {case.prompt: case.tags["checks"] for case in cases}
    assert by_prompt["a photo of two wine glasses"].splitlines() == [
        "Are there fewer than 3 of: wine glass?",
        "Is this there, 2 of it: wine glass?",
    ]
    position = "a photo of a tennis racket right of a spoon"
    assert by_prompt[position].splitlines()[1] == "Is this there, 1 of it: tennis racket, right of the spoon?"


def test_vbench_own_file_keeps_its_dimensions(tmp_path: Path) -> None:
    path = tmp_path / "VBench_full_info.json"
    entries = [
        {"prompt_en": "In a still frame, a stop sign", "dimension": ["temporal_flickering"]},
        {"prompt_en": "a bird and a cat", "dimension": ["multiple_objects", "color"], "auxiliary_info": {"color": {}}},
    ]
    path.write_text(json.dumps(entries))
    assert [case.tags["dimension"] for case in read(path, "vbench", "vbench", {})] == [
        "temporal_flickering",
        "multiple_objects; color",
    ]
    path.write_text(json.dumps([*entries, {"prompt_en": "x"}]))
    with pytest.raises(ImportRefusedError, match=r"info\.json:1: 2\.dimension: Field required"):
        read(path, "vbench", "vbench", {})


def test_lines_and_tables_with_tags(tmp_path: Path) -> None:
    text, table = tmp_path / "a.txt", tmp_path / "a.jsonl"
    text.write_text("A cat.\nA dog, “brown”\u2028with spots.\nA cat.\n", encoding="utf-8")
    assert [case.prompt for case in read(text, "lines", "own", {})] == ["A cat.", "A dog, “brown”\u2028with spots."]
    table.write_text('{"text": "A cat.", "level": 3}\n{"text": "A dog.", "level": null}\n')
    cases = read(table, "jsonl", "own", {"prompt": "text", "tag.motion": "level"})
    assert [(case.prompt, case.tags) for case in cases] == [("A cat.", {"motion": "3"}), ("A dog.", {"motion": "null"})]


@pytest.mark.parametrize(
    ("layout", "text", "columns", "problem"),
    [
        ("lines", "A cat.\n\nA dog.\n", {}, r":2: an empty line"),
        ("csv", "prompt,zh\nA cat.,x\nA dog.\n", {}, r":3: more or fewer cells"),
        ("csv", "prompt\nA cat.\n   \n\n", {}, r"prompt: String should have at least 1 character"),
        ("csv", "text\nA cat.\n", {}, r":1: no column 'prompt': its columns are text"),
        ("jsonl", '{"prompt": "A"}\n{"text": "B"}\n', {}, r":2: no column 'prompt'"),
        ("jsonl", '{"prompt": "A"}\n{"prompt": \n', {}, r":2: the line: Invalid JSON"),
        ("geneval", '{"tag": "x", "prompt": "A", "include": []}\n', {}, r":1: include: List should have at least 1"),
        ("lines", "", {}, "holds no prompt"),
    ],
)
def test_a_bad_line_refuses_the_file(
    tmp_path: Path, layout: Layout, text: str, columns: dict[str, str], problem: str
) -> None:
    path = tmp_path / "prompts"
    path.write_text(text)
    with pytest.raises(ImportRefusedError, match=problem):
        read(path, layout, "own", columns)


def test_columns_that_are_no_use_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt\nA cat.\n")
    for columns in ({"axis": "prompt"}, {"tag.": "prompt"}):
        with pytest.raises(ConfigError, match="is no column"):
            read(path, "csv", "own", columns)
    with pytest.raises(ConfigError, match="columns of its own"):
        read(path, "lines", "own", {"prompt": "prompt"})


def test_imported_prompts_are_a_suite_and_what_the_generator_cannot_say_is_a_failed_sample(tmp_path: Path) -> None:
    path, url = tmp_path / "own.txt", str(tmp_path / "record.db")
    path.write_text("a red circle moves left, on a white background\na cat plays chess\n")
    imported = ["import", str(path), "--format", "lines", "--suite", "own", "--store", url, "--json"]
    for new in (2, 0):
        told = CliRunner().invoke(bench, imported, catch_exceptions=False)
        assert json.loads(told.output) == {"suite": "own", "cases": 2, "new": new}
    asked = ["run", "own", "--system", "base", "--store", url, "--workers", "1", "steps=1"]
    told = CliRunner().invoke(bench, asked, catch_exceptions=False)
    assert "1 of 2 failed, most often so: DataError: the word 'cat' in 'a cat plays chess'" in told.output
    with Store(url) as store:
        assert {case.prompt for case in store.select(Case, suite="own")} == set(path.read_text().splitlines())
    listed = CliRunner().invoke(bench, ["list", "--store", url], catch_exceptions=False).stdout.splitlines()
    assert [line for line in listed if not line.startswith(("shapes", "omnivideo"))] == ["own: 2 cases, imported"]
    shown = CliRunner().invoke(bench, ["list", "own", "--store", url, "--cases", "2"], catch_exceptions=False).stdout
    assert sorted(shown.splitlines()) == sorted(path.read_text().splitlines())
    refused = CliRunner().invoke(bench, ["list", "own"])
    assert isinstance(refused.exception, DataError)
    assert "no suite 'own'" in str(refused.exception)
    refused = CliRunner().invoke(bench, ["run", "other", "--system", "base", "--store", url])
    assert isinstance(refused.exception, DataError)
    assert "import it with" in str(refused.exception)
    refused = CliRunner().invoke(bench, [*imported[:5], "shapes", *imported[6:]])
    assert isinstance(refused.exception, ConfigError)
