"""Prompts that people already use, as cases: VBench, GenEval, VideoGen-Eval, TA-Hard, lists of lines, any table.

A file is taken whole or not at all: one bad line refuses it, by its number.
"""

import csv
import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, JsonValue, RootModel

from benchmarks import omnivideo
from palate.errors import ConfigError, ImportRefusedError
from palate.records import Case
from palate.source import Source

Layout = Literal["vbench", "geneval", "lines", "csv", "jsonl", "omnivideo", "omnivideo-zh"]


class _VBench(BaseModel):
    """An entry of VBench_full_info.json."""

    prompt_en: str
    dimension: list[str] = Field(min_length=1)


class _VBenchFile(RootModel[list[_VBench]]):
    pass


class _Things(BaseModel):
    """What must, or must not, be in the picture."""

    name: str = Field(alias="class")
    count: int = Field(ge=1)
    color: str | None = None
    position: tuple[str, int] | None = None  # such as left of the thing with this index


class _GenEval(BaseModel):
    tag: str
    prompt: str
    include: list[_Things] = Field(min_length=1)
    exclude: list[_Things] = []

    def checks(self) -> list[str]:
        """As questions whose right answer is yes."""
        found = [f"Are there fewer than {one.count} of: {one.name}?" for one in self.exclude]
        for one in self.include:
            where = f", {one.position[0]} the {self.include[one.position[1]].name}" if one.position else ""
            thing = " ".join(filter(None, (one.color, one.name)))
            found.append(f"Is this there, {one.count} of it: {thing}{where}?")
        return found


class _Row(RootModel[dict[str, JsonValue]]):
    pass


def read(path: Path, layout: Layout, suite: str, columns: Mapping[str, str]) -> list[Case]:
    """The cases of a file, in its order; a prompt that stands there twice is one case.

    Args:
        columns: of a csv or jsonl, what a column holds -> its name: `prompt` and any `tag.NAME`.

    Raises:
        ConfigError: columns that are no use, or none for the prompt.
        ImportRefusedError: the file cannot be read, or a line of it does not fit.
    """
    if columns and layout not in ("csv", "jsonl"):
        raise ConfigError(f"{layout} has columns of its own", "leave out --columns")
    if layout.startswith("omnivideo"):
        language: omnivideo.Language = "zh" if layout.endswith("zh") else "en"
        cases = [item.case(suite, language) for item in omnivideo.items(path)]
    else:
        readers: dict[str, Callable[[Source, str, Mapping[str, str]], list[Case]]] = {
            "vbench": _vbench,
            "geneval": _geneval,
            "lines": _lines,
            "csv": _csv,
            "jsonl": _jsonl,
        }
        cases = readers[layout](Source(path), suite, {"prompt": "prompt", **columns})
    if not cases:
        raise ImportRefusedError(f"{path} holds no prompt", "give the file with the prompts")
    return list({case.id: case for case in cases}.values())


def _vbench(source: Source, suite: str, columns: Mapping[str, str]) -> list[Case]:
    with source.line(1):  # the whole file is one JSON list
        entries = _VBenchFile.model_validate_json(source.text).root
        return [
            Case(suite=suite, prompt=one.prompt_en, tags={"dimension": "; ".join(one.dimension)}) for one in entries
        ]


def _geneval(source: Source, suite: str, columns: Mapping[str, str]) -> list[Case]:
    cases: list[Case] = []
    for line, row in source.objects(_GenEval):
        with source.line(line):
            tags = {"task": row.tag, "checks": "\n".join(row.checks())}
            cases.append(Case(suite=suite, prompt=row.prompt, tags=tags))
    return cases


def _lines(source: Source, suite: str, columns: Mapping[str, str]) -> list[Case]:
    cases: list[Case] = []
    for number, text in enumerate(source.lines(), 1):
        if not text.strip():
            raise source.refuse(number, "an empty line", "take it out")
        with source.line(number):
            cases.append(Case(suite=suite, prompt=text.strip()))
    return cases


def _csv(source: Source, suite: str, columns: Mapping[str, str]) -> list[Case]:
    rows = csv.DictReader(source.lines(), strict=True)
    cases: list[Case] = []
    try:
        _check_columns(source, columns, rows.fieldnames or ())
        for row in rows:
            if None in row or None in row.values():
                raise source.refuse(rows.line_num, "more or fewer cells than the header", "mend the line")
            cases.append(_case(source, rows.line_num, suite, row, columns))
    except csv.Error as error:
        raise source.refuse(rows.line_num, str(error), "save the table as CSV again") from error
    return cases


def _jsonl(source: Source, suite: str, columns: Mapping[str, str]) -> list[Case]:
    cases: list[Case] = []
    for line, row in source.objects(_Row):
        cells = {name: value if isinstance(value, str) else json.dumps(value) for name, value in row.root.items()}
        _check_columns(source, columns, cells, line)
        cases.append(_case(source, line, suite, cells, columns))
    return cases


def _check_columns(source: Source, columns: Mapping[str, str], given: Collection[str], line: int = 1) -> None:
    for key, name in columns.items():
        if key != "prompt" and not re.fullmatch(r"tag\..+", key):
            raise ConfigError(f"{key!r} is no column", "use prompt and tag.NAME")
        if name not in given:
            raise source.refuse(line, f"no column {name!r}", f"its columns are {', '.join(given)}")


def _case(source: Source, line: int, suite: str, row: Mapping[str, str], columns: Mapping[str, str]) -> Case:
    tags = {key.removeprefix("tag."): row[name] for key, name in columns.items() if key.startswith("tag.")}
    with source.line(line):
        return Case(suite=suite, prompt=row[columns["prompt"]].strip(), tags={k: v for k, v in tags.items() if v})
