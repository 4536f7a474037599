"""OmniVideo: what an all-round video model is asked, written to the published design of Kling-Omni's OmniVideo-1.0.

The original (arXiv:2512.16776, section 4.1 and table 1) is not public. Ours lies in `data/omnivideo`, one JSON object a
line in a file a task; `palate bench validate` checks it, and a suite of your own in the same form.
"""

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from palate.errors import DataError, ImportRefusedError, PromptError
from palate.prompt import Handle, Prompt, Request, parse, refusals
from palate.records import Axis, Case
from palate.source import Source

SUITE = "omnivideo"
DATA = Path(__file__).parent / "data" / "omnivideo"

Task = Literal[
    "text",
    "image_reference",
    "element_reference",
    "add",
    "remove",
    "replace",
    "stylise",
    "attribute",
    "effects",
    "background",
    "weather",
    "next_shot",
    "previous_shot",
    "new_angle",
    "motion_transfer",
    "camera_transfer",
    "first_frame",
    "first_last_frame",
    "composition",
    "visual_prompt",
    "reasoning",
    "multi_shot",
]
Subject = Literal["human", "cartoon", "animal", "clothing", "prop"]
Scenario = Literal["professional", "ecommerce", "social"]
Challenge = Literal["complex_action", "wide_angle", "emotion", "cross_style", "multi_element"]
Language = Literal["en", "zh"]
TASKS: tuple[str, ...] = get_args(Task)
LANGUAGES: tuple[Language, ...] = get_args(Language)
EDITS = ("add", "remove", "replace", "stylise", "attribute", "effects", "background", "weather", "new_angle")

# What a task cannot do without: handles by name, or one of a kind.
_NEEDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*EDITS, "next_shot", "previous_shot", "camera_transfer"), ("@Video_1",)),
    **dict.fromkeys(("image_reference", "first_frame", "visual_prompt"), ("@Image_1",)),
    "first_last_frame": ("@Image_1", "@Image_2"),
    "motion_transfer": ("@Video_1", "@Image_1"),
}


def axes(task: str) -> tuple[Axis, ...]:
    """What people judge in an answer: Kling-Omni's axes, those left out for which a task gives nothing to go by."""
    found = ["overall", "dynamic_quality", "prompt_following"]
    if task != "text":
        found.append("identity_consistency")
    if task in EDITS:
        found.append("video_consistency")
    return (*found, "visual_quality")


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Sentence = Annotated[str, StringConstraints(min_length=2, max_length=900)]
Question = Annotated[str, StringConstraints(min_length=10, max_length=300, pattern=r"\?$")]


class Words(_Stored):
    """The same in English and Chinese."""

    en: Sentence
    zh: Sentence


class Shot(Words):
    seconds: int


class Reference(_Stored):
    """An asset beside the prompt: its handle, and what it shows, concrete enough to photograph, film or generate."""

    handle: str
    about: Annotated[str, StringConstraints(min_length=10, max_length=900)]

    @property
    def seconds(self) -> float | None:
        """How long a clip lasts, as `about` says."""
        said = re.search(r"\b([0-9]+(?:\.[0-9]+)?)[ -](?:s|seconds?)\b", self.about)
        return float(said[1]) if said else None


class Item(_Stored):
    """One line of the suite: what is asked in two languages, its references, and what to look for in an answer."""

    id: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*-[0-9]+$")]
    task: Task
    subject: Subject
    scenario: Scenario
    challenge: Challenge
    seconds: int
    prompt: Words
    shots: tuple[Shot, ...] = ()
    references: tuple[Reference, ...] = ()
    checks: Annotated[tuple[Question, ...], Field(min_length=3, max_length=6)]

    def asked(self, language: Language) -> Prompt:
        """The whole prompt, shots included.

        Raises:
            PromptError: text that is not of the prompt language.
        """
        heads = [f"[Shot {number}, {shot.seconds} s] " for number, shot in enumerate(self.shots, 1)]
        return parse("\n".join(head + text for head, text in zip(["", *heads], self.said(language), strict=True)))

    def said(self, language: Language) -> list[str]:
        """The prompt's own words, and those of each shot."""
        return [getattr(words, language) for words in (self.prompt, *self.shots)]

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        given = [reference.handle for reference in self.references]
        if len(set(given)) < len(given):
            raise ValueError("a handle has two references")
        try:
            assets = {Handle(one.handle.removeprefix("@")): one.seconds for one in self.references}
            asked = {language: self.asked(language) for language in LANGUAGES}
        except PromptError as error:
            raise ValueError(str(error)) from error
        self._fits_its_task(list(assets))
        if unsaid := [str(one) for one, seconds in assets.items() if one.kind == "video" and seconds is None]:
            raise ValueError(f"what {unsaid[0]} shows does not say how long it lasts, as in '6 s, hand-held'")
        for language, prompt in asked.items():
            found = refusals(Request(prompt, self.seconds, assets))
            if found:
                raise ValueError(f"{language}: {found[0]}")
        return self

    def _fits_its_task(self, handles: list[Handle]) -> None:
        lacking = [name for name in _NEEDS.get(self.task, ()) if name not in map(str, handles)]
        if lacking:
            raise ValueError(f"{self.task} needs {lacking[0]}")
        wrong = {
            "text takes no references": self.task == "text" and bool(handles),
            "element_reference needs an element": self.task == "element_reference"
            and all(one.kind != "element" for one in handles),
            "composition needs two references": self.task == "composition" and len(handles) < 2,
            "multi_shot needs two shots or more": self.task == "multi_shot" and len(self.shots) < 2,
            f"{self.task} has one shot": self.task != "multi_shot" and bool(self.shots),
        }
        for reason, holds in wrong.items():
            if holds:
                raise ValueError(reason)

    def case(self, suite: str, language: Language) -> Case:
        """The case of the record. Its conditions describe the references; `benchmarks.assets` puts files there."""
        return Case(
            suite=suite,
            prompt=str(self.asked(language)),
            conditions={reference.handle: reference.about for reference in self.references},
            tags={
                "id": self.id,
                "task": self.task,
                "subject": self.subject,
                "scenario": self.scenario,
                "challenge": self.challenge,
                "language": language,
                "seconds": str(self.seconds),
                "checks": "\n".join(self.checks),
            },
            axes=axes(self.task),
        )


def files(path: Path) -> list[Path]:
    """The files of a suite: `path` itself, or the *.jsonl in it. Raises ImportRefusedError where there is none."""
    found = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not found:
        raise ImportRefusedError(f"{path} has no *.jsonl", "give a suite's folder or file")
    return found


def items(path: Path = DATA) -> list[Item]:
    """The items of a suite, in the order of files and lines.

    Raises:
        ImportRefusedError: the first line that does not fit, by file and number.
    """
    return [item for file in files(path) for _, item in Source(file).objects(Item)]


def cases(language: Language, split: str, count: int | None, seed: int) -> list[Case]:
    """`count` cases (None: all), spread evenly over the tasks: which of a task depends on the seed.

    Raises:
        DataError: another split than heldout, or more than there are.
    """
    if split != "heldout":
        raise DataError(f"no split {split!r} in {SUITE}", "use heldout: nobody should train on it")
    found = _in_turn(items(), seed)
    if count is not None and count > len(found):
        raise DataError(f"{SUITE} has fewer than {count} cases", f"ask for {len(found)} or fewer")
    suite = SUITE if language == "en" else f"{SUITE}-{language}"
    return [item.case(suite, language) for item in found[:count]]


def _in_turn(found: Iterable[Item], seed: int) -> list[Item]:
    """One of each task, then the next of each."""
    rng = np.random.default_rng(seed)
    by_task: dict[str, list[Item]] = {task: [] for task in TASKS}
    for item in found:
        by_task[item.task].append(item)
    turns = [
        (turn, place, group[at])
        for place, group in enumerate(by_task.values())
        for turn, at in enumerate(rng.permutation(len(group)))
    ]
    return [item for _, _, item in sorted(turns, key=lambda one: one[:2])]


cases_en, cases_zh = partial(cases, "en"), partial(cases, "zh")
