"""FETV (Liu et al. 2023, arXiv:2311.01813): three people rate the videos of four systems from 1 to 5.

Two ratings by one person of two systems on one prompt are read as that person's side-by-side verdict: good, same or
bad as the candidate's rating is higher, equal or lower. The files hold one JSON object a line, though named .json.
"""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, RootModel

from annotation.votes.vote import vote
from palate.errors import ImportRefusedError
from palate.records import Case, Record, Sample, Verdict
from palate.source import Source

Mark = Annotated[int, Field(strict=True, ge=1, le=5)]
AXES = ("static_quality", "temporal_quality", "alignment")
SYSTEMS = ("cogvideo", "damo-text2video", "text2video-zero", "zeroscope")


class _Parts(BaseModel):
    spatial: list[str] | None
    temporal: list[str] | None


class _Prompt(BaseModel):
    prompt: str
    video_id: str | None
    content: _Parts = Field(alias="major content")
    attributes: _Parts = Field(alias="attribute control")
    complexity: list[str] = Field(alias="prompt complexity")


class _Marks(BaseModel):
    video_id: str
    static_quality: Mark
    temporal_quality: Mark
    alignment: Mark


class _Line(RootModel[dict[int, _Marks]]):
    """The index of a prompt, and its marks."""


@dataclass(frozen=True)
class Rating:
    """One person's marks, from 1 to 5 on each axis, for one system's video of one prompt."""

    annotator: str
    system: str
    prompt: int
    marks: dict[str, int]
    source: str


def read(folder: Path, study: str) -> list[Record]:
    """The 33,426 derived verdicts of `folder`, the repository or its manual_eval_results: 11,142 for each axis.

    Raises ImportRefusedError for a broken line, an unknown video, a mark outside 1..5 or a missing rating.
    """
    root = folder.parent if folder.name == "manual_eval_results" else folder
    cases = [case for case, _ in _cases(root)]
    rated = {(one.annotator, one.prompt, one.system): one for one in ratings(root)}
    samples = {(i, system): Sample(case=case.id, system=system) for i, case in enumerate(cases) for system in SYSTEMS}
    records: list[Record] = []
    for annotator in sorted({one for one, _, _ in rated}):
        for i, case in enumerate(cases):
            for pair in combinations(SYSTEMS, 2):
                ours, theirs = (rated[annotator, i, system] for system in pair)
                verdicts = {axis: _verdict(ours.marks[axis] - theirs.marks[axis]) for axis in AXES}
                both = (samples[i, pair[0]], samples[i, pair[1]])
                records += vote(study, case, both, None, annotator, f"fetv {ours.source} {theirs.source}", verdicts)
    return records


def ratings(root: Path) -> list[Rating]:
    """The raw ratings of all videos, also of the real ones ("ground-truth"), which have no part in the verdicts.

    A store holds verdicts only, so agreement on the marks themselves is computed from this.
    """
    videos = [video for _, video in _cases(root)]
    rated: list[Rating] = []
    for folder in sorted((root / "manual_eval_results").glob("human*")):
        for system in (*SYSTEMS, "ground-truth"):
            source = Source(folder / f"manual_eval_results_{system}.json")
            seen: set[int] = set()
            for line, rows in source.objects(_Line):
                for prompt, marks in rows.root.items():
                    if prompt in seen or not 0 <= prompt < len(videos):
                        raise source.refuse(line, f"prompt {prompt} is unknown or rated twice", "get the file again")
                    if marks.video_id != videos[prompt]:
                        raise source.refuse(
                            line, f"video {marks.video_id} is not prompt {prompt}'s", "check the video id"
                        )
                    seen.add(prompt)
                    rated.append(
                        Rating(folder.name, system, prompt, marks.model_dump(include=set(AXES)), source.at(line))
                    )
            if system in SYSTEMS and len(seen) < len(videos):
                raise source.refuse(
                    len(seen), f"only {len(seen)} of {len(videos)} prompts are rated", "get the whole file"
                )
    if not rated:
        raise ImportRefusedError(f"{root}: no manual_eval_results/human*", "give the folder of FETV-EVAL")
    return rated


def _cases(root: Path) -> list[tuple[Case, str]]:
    """Each prompt's case, and the id of the real video that its ratings must name ("None" where there is none)."""
    source = Source(root / "datas" / "fetv_data.json")
    cases: list[tuple[Case, str]] = []
    for line, row in source.objects(_Prompt):
        found = {
            "subject": row.content.spatial,
            "motion": row.content.temporal,
            "attribute": row.attributes.spatial,
            "change": row.attributes.temporal,
            "complexity": row.complexity,
        }
        tags = {tag: "; ".join(sorted(values)) for tag, values in found.items() if values}
        with source.line(line):
            cases.append((Case(suite="fetv", prompt=row.prompt, tags=tags, axes=AXES), str(row.video_id)))
    return cases


def _verdict(difference: int) -> Verdict:
    return Verdict.GOOD if difference > 0 else Verdict.BAD if difference < 0 else Verdict.SAME
