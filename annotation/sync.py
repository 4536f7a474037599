"""Comparisons to Label Studio, and what people said back into the record. Either may be run again, or after a kill.

Label Studio is told nothing that unblinds, because everybody who may log in can read all of it. A project, its tasks
and their files have opaque names, and which side is the candidate stays in our record.

Nor does it check anything. It takes any answer from anybody, twice, beyond the overlap, and lets it be edited and
deleted. So every annotation becomes exactly one row that stands: verdicts, a skip, or a refusal with its reason; and
what changes later supersedes the row before.
"""

import hmac
import html
import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from shutil import copyfile
from typing import Any, TypeVar

from annotation.client import Client, Project, StudioError
from annotation.design import blind_name
from annotation.export import export_video, seconds
from annotation.interface import LEFT, REASONS, RIGHT, SAME, SKIP, Question, axes_of, guide_html, labelling_xml
from annotation.studio import Home
from palate.errors import DataError
from palate.media import MediaFolder
from palate.records import Axis, Case, Comparison, Judgement, Sample, Side, Verdict
from palate.store import Store

T = TypeVar("T")

CHUNK = 1000  # tasks in one request, and so the most that a kill can undo
AGAIN = timedelta(minutes=1)  # read once more by the next pull, for answers that were being written during this one
REFUSED = "refused: "
WITHDRAWN = "withdrawn: the annotation was deleted"
NOBODY = "unknown"

_SOURCE = "label-studio annotation "
_FILE = re.compile(r"[0-9a-f]{64}\.(mp4|wav|png)")


@dataclass(frozen=True)
class Pulled:
    """What a pull found: annotations read, of them refused, and rows that were new to the record."""

    annotations: int
    refused: int
    added: int


def title(home: Home, study: str) -> str:
    """The name of a study's project: not the study's own, which may name the systems."""
    return f"Videos {_opaque(home, 'project', study)[:16]}"


def push(
    store: Store,
    study: str,
    home: Home,
    client: Client,
    asked: tuple[Question, ...],
    overlap: int,
    told: Callable[[int], object] = lambda _: None,
) -> int:
    """Make every comparison of a study that has two videos a task, unless it is one already.

    Args:
        told: called with the number of tasks that have just arrived.

    Returns:
        How many tasks were new.

    Raises:
        DataError: the study has no comparison to show.
        StudioError: the server cannot be reached or refuses; what has arrived stays, and need not go again.
        MediaError: a video is missing or cannot be read.
    """
    comparisons = {one.id: one for one in store.select(Comparison, study=study) if one.candidate_side}
    shown = [sample for one in comparisons.values() for sample in (one.candidate, one.baseline)]
    samples = {one.id: one for one in store.select(Sample, id=shown) if one.media}
    cases = {one.id: one for one in store.select(Case, id=list({one.case for one in comparisons.values()}))}
    due = {
        _pair(home, one.id): one for one in comparisons.values() if one.candidate in samples and one.baseline in samples
    }
    if not due:
        raise DataError(f"study {study} has no pair of videos to show", "plan it first with `palate annotate plan`")
    project = _project(home, client, study, asked, overlap)
    if project.tasks:
        for task in client.tasks(project.id):
            due.pop(task["data"].get("pair"), None)
    folder = home.served / _folder(home, study)
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    client.serve_folder(project.id, str(folder.absolute()))
    shelf = _Shelf(store.media, home, folder)
    # By name, which is as good as at random: the order says nothing of cases, systems, gold or repeats.
    for part in _parts(sorted(due)):
        client.add(project.id, [_task(due[pair], pair, cases, samples, shelf) for pair in part])
        told(len(part))
    return len(due)


def pull(store: Store, study: str, home: Home, client: Client, everything: bool = False) -> Pulled:
    """Read what has changed at the server since the last pull into the record.

    Args:
        everything: read what has not changed too, which notices tasks that were deleted whole.

    Raises:
        StudioError: the study was never pushed there, or the server cannot be reached.
    """
    project = client.project(title(home, study))
    if project is None:
        raise StudioError(f"{client.url} has no project for study {study}", "push it first")
    mark = home.folder / f"pulled-{_folder(home, study)}-{project.id}"
    since = mark.read_text() if mark.exists() and not everything else None
    if since is None:
        tasks = client.annotated(project.id)
    else:
        touched = [task["id"] for task in client.tasks(project.id, since)]
        tasks = [task for part in _parts(touched) for task in client.annotated(project.id, part)]
    comparisons = {_pair(home, one.id): one for one in store.select(Comparison, study=study)}
    # Two tasks of one comparison are one: what a killed push sent may have arrived after it was sent again.
    given: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for task in tasks:
        given[task["data"].get("pair")] += task["annotations"]
    mine = {pair: one for pair, one in comparisons.items() if since is None or pair in given}
    standing = _standing(store.select(Judgement, comparison=[one.id for one in mine.values()]))
    people, axes = client.people(), axes_of(project.page)
    read = [
        judgement
        for pair, one in mine.items()
        for judgement in judgements(one, given[pair], people, axes, project.overlap)
    ]
    added = store.add(changes(standing, read))
    if tasks:
        latest = max(datetime.fromisoformat(task["updated_at"]) for task in tasks)
        mark.write_text((latest - AGAIN).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    refused = sum((one.skip or "").startswith(REFUSED) for one in read)
    return Pulled(len(read), refused, added)


def judgements(
    comparison: Comparison,
    annotations: Iterable[Mapping[str, Any]],
    people: Mapping[int, str],
    axes: Collection[Axis],
    overlap: int,
) -> Iterator[Judgement]:
    """One row for every annotation of a comparison, the earliest first: verdicts, a skip, or a refusal.

    Of each person the first answer counts, and of all people the first `overlap`.

    Args:
        annotations: as Label Studio exports them.
        people: user number -> e-mail address.
        axes: the questions that were asked.
    """
    answered: set[str] = set()
    for one in sorted(annotations, key=lambda one: (one["created_at"], one["id"])):
        annotator = people.get(_number(one["completed_by"]), NOBODY)
        choices, reasons = _answers(one["result"])
        verdicts, skip = {}, None
        if one["was_cancelled"]:
            skip = "; ".join(choices.get(SKIP, ())) or "no reason given"
        elif annotator == NOBODY:
            skip = f"{REFUSED}by nobody the server knows"
        elif fault := _fault(choices, axes):
            skip = REFUSED + fault
        elif annotator in answered:
            skip = f"{REFUSED}a second answer by the same person"
        elif len(answered) >= overlap:
            skip = f"{REFUSED}beyond the overlap of {overlap}"
        else:
            answered.add(annotator)
            verdicts = {axis: _verdict(choices[axis][0], comparison) for axis in axes if axis in choices}
        time = one["lead_time"]
        yield Judgement(
            comparison=comparison.id,
            annotator=annotator,
            simulated=False,
            source=_SOURCE + one["unique_id"],
            verdicts=verdicts,
            skip=skip,
            reasons=reasons,
            seconds=time if isinstance(time, int | float) and 0 <= time < math.inf else None,
        )


def changes(standing: Mapping[str, Judgement], read: Sequence[Judgement]) -> list[Judgement]:
    """The rows to add, so that what stands is what was read: new ones, corrections, and withdrawals of what is gone.

    Args:
        standing: source -> the row that stands, of all comparisons that were read.
    """
    rows: list[Judgement] = []
    for one in read:
        before = standing.get(one.source)
        if before is None:
            rows.append(one)
        elif before.model_copy(update={"supersedes": None}) != one:
            rows.append(one.model_copy(update={"supersedes": before.id}))
    present = {one.source for one in read}
    for source, before in standing.items():
        if source not in present and before.skip != WITHDRAWN:
            gone = {"supersedes": before.id, "verdicts": {}, "skip": WITHDRAWN, "reasons": "", "seconds": None}
            rows.append(before.model_copy(update=gone))
    return rows


def _standing(rows: Iterable[Judgement]) -> dict[str, Judgement]:
    ours = [one for one in rows if one.source.startswith(_SOURCE)]
    superseded = {one.supersedes for one in ours}
    return {one.source: one for one in ours if one.id not in superseded}


def _number(person: object) -> int:
    """A user's number, which the server writes by itself or in a mapping."""
    found = person.get("id") if isinstance(person, Mapping) else person
    return found if isinstance(found, int) else -1


def _answers(result: Iterable[Mapping[str, Any]]) -> tuple[dict[str, list[str]], str]:
    choices: dict[str, list[str]] = {}
    reasons: list[str] = []
    for item in result:
        value = item.get("value", {})
        if item.get("from_name") == REASONS:
            reasons += [str(text).replace("\0", "") for text in value.get("text", [])]
        else:
            picked = value.get("choices", [])
            choices.setdefault(str(item.get("from_name")), []).extend(map(str, picked))
    return choices, "\n".join(reasons)


def _fault(choices: Mapping[str, Sequence[str]], axes: Collection[Axis]) -> str | None:
    for name, picked in choices.items():
        if name not in axes and name != SKIP:
            return f"an answer to {name[:40]!r}, which was not asked"
        if name in axes and len(picked) != 1:
            return f"{len(picked)} answers on {name}"
        if name in axes and picked[0] not in (LEFT, SAME, RIGHT):
            return f"{picked[0][:40]!r} is no answer on {name}"
    return None if choices.keys() & set(axes) else "an empty answer"


def _verdict(choice: str, comparison: Comparison) -> Verdict:
    if choice == SAME:
        return Verdict.SAME
    return Verdict.GOOD if choice == comparison.candidate_side else Verdict.BAD


def _project(home: Home, client: Client, study: str, asked: tuple[Question, ...], overlap: int) -> Project:
    page = labelling_xml(asked)
    project = client.project(title(home, study))
    if project is None:
        return client.create(title(home, study), page, guide_html(), overlap)
    if (project.page, project.overlap) != (page, overlap):
        client.redefine(project.id, page, overlap)
    return project


@dataclass
class _Shelf:
    """The exported files of one study."""

    media: MediaFolder
    home: Home
    folder: Path
    lengths: dict[str, Fraction] = field(default_factory=dict)

    def length(self, name: str) -> Fraction:
        """Seconds that a video plays."""
        if name not in self.lengths:
            self.lengths[name] = seconds(self.media.path(name))
        return self.lengths[name]

    def video(self, name: str, opaque: str, period: Fraction) -> str:
        """The address of a video under its opaque name, exported once for each length and linked after that."""
        clean = self.home.folder / "clean" / f"{name.removesuffix('.mp4')}-{period.numerator}-{period.denominator}.mp4"
        if not clean.exists():
            clean.parent.mkdir(exist_ok=True)
            export_video(self.media.path(name), clean, period)
        place = self.folder / f"{opaque}.mp4"
        if not place.exists():
            place.hardlink_to(clean)
        return self._address(place)

    def reference(self, handle: str, value: str, opaque: str) -> str:
        """A condition as HTML: a picture, a video, a sound or words."""
        label = f"<b>{html.escape(handle)}</b> "
        if not _FILE.fullmatch(value):
            return f"<p>{label}{html.escape(value)}</p>"
        place = self.folder / f"{opaque}{Path(value).suffix}"
        if not place.exists():
            copyfile(self.media.path(value), place)
        source = self._address(place)
        shown = {
            ".png": f'<img src="{source}" height="140">',
            ".mp4": f'<video src="{source}" height="140" controls loop muted></video>',
            ".wav": f'<audio src="{source}" controls></audio>',
        }
        return f"<p>{label}{shown[Path(value).suffix]}</p>"

    def _address(self, place: Path) -> str:
        return f"/data/local-files/?d={self.folder.name}/{place.name}"


def _task(
    comparison: Comparison, pair: str, cases: Mapping[str, Case], samples: Mapping[str, Sample], shelf: _Shelf
) -> dict[str, str]:
    left, right = (
        samples[comparison.candidate if comparison.candidate_side == side else comparison.baseline].media or ""
        for side in Side
    )
    period = max(shelf.length(left), shelf.length(right))
    salt = shelf.home.salt
    case = cases[comparison.case]
    return {
        "pair": pair,
        "prompt": case.prompt,
        "left": shelf.video(left, blind_name(comparison.id, Side.LEFT, salt), period),
        "right": shelf.video(right, blind_name(comparison.id, Side.RIGHT, salt), period),
        "references": "".join(
            shelf.reference(handle, value, _opaque(shelf.home, "reference", comparison.id, handle))
            for handle, value in case.conditions.items()
        ),
    }


def _parts(things: Sequence[T]) -> Iterator[Sequence[T]]:
    return (things[start : start + CHUNK] for start in range(0, len(things), CHUNK))


def _pair(home: Home, comparison: str) -> str:
    return _opaque(home, "pair", comparison)


def _folder(home: Home, study: str) -> str:
    return _opaque(home, "folder", study)[:32]


def _opaque(home: Home, *what: str) -> str:
    return hmac.digest(home.salt, "\0".join(what).encode(), "sha256").hex()
