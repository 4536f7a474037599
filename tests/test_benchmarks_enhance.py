"""`palate enhance`: one prompt, a suite, and input that is no prompt. The model has learned nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tiny_vlm import write

from benchmarks.enhance_cli import enhance
from models.tiny_enhancer import TinyShape, tiny_model, tiny_tokenizer
from palate.errors import CheckpointError, ConfigError, PromptError
from palate.media import MediaFolder

CAPTION = "a red circle moves left, on a white background"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("untrained")
    tokenizer = tiny_tokenizer([CAPTION], 300)
    tokenizer.save_pretrained(folder)
    language = tiny_model(TinyShape(width=16, hidden=16, layers=1, heads=2), tokenizer, 0)
    language.generation_config.eos_token_id = list(range(len(tokenizer)))  # it says one token and stops
    language.save_pretrained(folder)
    return str(folder)


def invoked(*arguments: str) -> Result:
    return CliRunner().invoke(enhance, arguments)


def test_it_prints_thought_rewrite_what_it_kept_and_why_the_prompt_stands(model: str) -> None:
    result = invoked("--model", model, "white bg, red circle, left")
    assert result.exit_code == 0, result.output
    lines = dict(line.split(": ", 1) for line in result.stdout.splitlines())
    assert list(lines) == ["thought", "rewrite", "kept", "note"]
    assert lines["rewrite"] == "white bg, red circle, left"
    assert lines["kept"] == "white, bg, red, circle, left"
    told = json.loads(invoked("--model", model, "--json", "white bg, red circle, left").stdout.splitlines()[-1])
    assert told["note"] == lines["note"]


def test_a_suite_is_rewritten_line_by_line_in_its_order(tmp_path: Path, model: str) -> None:
    out, store = tmp_path / "lines.jsonl", str(tmp_path / "palate.db")
    result = invoked(
        "--model", model, "--suite", "shapes", "--cases", "5", "--out", str(out), "--store", store, "--json"
    )
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    told = json.loads(result.stdout.splitlines()[-1])
    assert len(rows) == 5 == told["rewritten"] + told["as they were"]
    assert all(row["rewrite"] and row["case"].startswith("case-") for row in rows)
    assert len({row["case"] for row in rows}) == 5


@pytest.mark.parametrize("prompt", ["", "x" * 100_000, "\x00\x07"])
def test_what_is_no_prompt_is_refused_with_one_line(prompt: str, model: str) -> None:
    refused = invoked("--model", model, prompt).exception
    assert isinstance(refused, PromptError)
    assert len(str(refused)) < 200


def test_a_prompt_or_a_suite_with_a_file_and_a_model_that_there_is(model: str, tmp_path: Path) -> None:
    for given in ([], ["a", "--suite", "shapes"], ["--suite", "shapes"]):
        assert isinstance(invoked("--model", model, *given).exception, ConfigError)
    assert isinstance(invoked("--model", str(tmp_path), "a").exception, CheckpointError)


def test_a_picture_is_shown_of_a_handle_from_a_file(tmp_path: Path) -> None:
    seeing = str(write(tmp_path / "model", "qwen2_vl"))
    folder = MediaFolder(tmp_path / "media")
    picture = folder.path(folder.add_picture(np.full((56, 56, 3), 200, np.uint8)))
    result = invoked("--model", seeing, "@Image_1 waves", "--show", f"@Image_1={picture}")
    assert result.exit_code == 0, result.output
    assert "rewrite: @Image_1 waves" in result.stdout
    assert isinstance(invoked("--model", seeing, "@Image_1 waves", "--show", "@Image_1").exception, ConfigError)
    assert isinstance(invoked("--suite", "omnivideo", "--show", f"@Image_1={picture}").exception, ConfigError)
