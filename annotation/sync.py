"""Comparisons to Label Studio, and what people said back into the record. Either may be run again, or after a kill.

Label Studio is told nothing that unblinds, because everybody who may log in can read all of it. A project, its tasks
and their files have opaque names, and which side is the candidate stays in our record.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import select

from annotation.answers import REFUSED, WITHDRAWN, changes, judgements, standing
from annotation.client import Client, Project, StudioError
from annotation.interface import Question, axes_of, guide_html, labelling_xml
from annotation.shelf import Pair, Shelf
from annotation.studio import Home
from palate.errors import DataError
from palate.records import Case, Comparison, Judgement, Side
from palate.schema import TABLES
from palate.store import Store

T = TypeVar("T")

CHUNK = 1000  # tasks in one request, and so the most that a kill can undo
NAMED = 500  # tasks named in one request; the server refuses one with more than 1,000 parameters
AGAIN = timedelta(minutes=1)  # read once more by the next pull, for answers that were being written during this one


@dataclass(frozen=True)
class Pulled:
    """What a pull found: annotations read, of them refused, and rows that were new to the record."""

    annotations: int
    refused: int
    added: int


def title(home: Home, study: str) -> str:
    """The name of a study's project: not the study's own, which may name the systems."""
    return f"Videos {home.opaque('project', study)[:16]}"


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
        told: called with the number of tasks that have just arrived, from another thread.

    Returns:
        How many tasks were new.

    Raises:
        DataError: the study has no comparison to show.
        StudioError: the server cannot be reached or refuses; what has arrived stays, and need not go again.
        MediaError: a video is missing or cannot be read.
    """
    due = {home.opaque("pair", one.id): one for one in _pairs(store, study)}
    if not due:
        raise DataError(f"study {study} has no pair of videos to show", "plan it first with `palate annotate plan`")
    project = _project(home, client, study, asked, overlap)
    for pair in client.pairs(project.id) if project.tasks else ():
        due.pop(pair, None)
    folder = home.served / _folder(home, study)
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    client.serve_folder(project.id, str(folder.absolute()))
    shelf = Shelf(store.media, home, folder)

    def tasks(part: Sequence[Pair]) -> list[dict[str, str]]:
        cases = {one.id: one for one in store.select(Case, id={one.case for one in part})}
        return [shelf.task(one, cases[one.case]) for one in part]

    def send(tasks: Sequence[dict[str, str]]) -> int:
        client.add(project.id, tasks)
        told(len(tasks))
        return len(tasks)

    # By name, which is as good as at random: the order says nothing of cases, systems, gold or repeats.
    parts = _parts([due[pair] for pair in sorted(due)], CHUNK)
    with ThreadPoolExecutor(1) as sender:  # the next tasks are made while the server takes these
        return sum(sender.map(send, map(tasks, parts)))


def pull(store: Store, study: str, home: Home, client: Client, everything: bool = False) -> Pulled:
    """Read what has changed at the server since the last pull into the record.

    Args:
        everything: read what has not changed too, which notices tasks that were deleted whole.

    Raises:
        StudioError: the study was never pushed there, or the server cannot be reached.
    """
    project = pushed(client, home, study)
    mark = home.folder / f"pulled-{_folder(home, study)}-{project.id}"
    since = mark.read_text() if mark.exists() and not everything else None
    if since is None:
        tasks = client.annotated(project.id)
    else:
        touched = client.touched(project.id, since)
        tasks = [task for part in _parts(touched, NAMED) for task in client.annotated(project.id, part)]
    comparisons = {home.opaque("pair", one.id): one for one in store.select(Comparison, study=study)}
    # Two tasks of one comparison are one: what a killed push sent may have arrived after it was sent again.
    given: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for task in tasks:
        given[task["data"].get("pair")] += task["annotations"]
    mine = {pair: one for pair, one in comparisons.items() if since is None or pair in given}
    stood = standing(store.select(Judgement, comparison=[one.id for one in mine.values()]))
    people, axes = client.people(), axes_of(project.page)
    read = [
        judgement
        for pair, one in mine.items()
        for judgement in judgements(one, given[pair], people, axes, project.overlap)
    ]
    added = store.add(changes(stood, read))
    if tasks:
        latest = max(datetime.fromisoformat(task["updated_at"]) for task in tasks)
        mark.write_text((latest - AGAIN).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    refused = sum((one.skip or "").startswith(REFUSED) for one in read)
    return Pulled(len(read), refused, added)


def waiting(store: Store, study: str, overlap: int) -> int:
    """How many comparisons of a study fewer than `overlap` people have answered; to skip one is an answer."""
    shown = [one.id for one in store.select(Comparison, study=study) if one.candidate_side]
    rows = standing(store.select(Judgement, comparison=shown)).values()
    answered = Counter(one.comparison for one in rows if not (one.skip or "").startswith((REFUSED, WITHDRAWN)))
    return sum(answered[id] < overlap for id in shown)


def pushed(client: Client, home: Home, study: str) -> Project:
    """The project of a study.

    Raises:
        StudioError: it was never pushed there, or the server cannot be reached.
    """
    project = client.project(title(home, study))
    if project is None:
        raise StudioError(f"{client.url} has no project for study {study}", "push it first")
    return project


def _pairs(store: Store, study: str) -> Iterator[Pair]:
    """The comparisons of a study that have two videos and a side, as columns, which takes half as long as records."""
    asked, ours, theirs = TABLES["comparison"], TABLES["sample"].alias(), TABLES["sample"].alias()
    statement = (
        select(asked.c.id, asked.c.case, asked.c.candidate_side, ours.c.media, theirs.c.media)
        .join_from(asked, ours, ours.c.id == asked.c.candidate)
        .join(theirs, theirs.c.id == asked.c.baseline)
        .where(asked.c.study == study, asked.c.candidate_side.is_not(None))
        .where(ours.c.media.is_not(None), theirs.c.media.is_not(None))
    )
    for id, case, side, candidate, baseline in store.read(statement):
        yield Pair(id, case, *((candidate, baseline) if side == Side.LEFT else (baseline, candidate)))


def _project(home: Home, client: Client, study: str, asked: tuple[Question, ...], overlap: int) -> Project:
    """The study's project, made or changed where it has another page or overlap."""
    page = labelling_xml(asked)
    project = client.project(title(home, study))
    if project is None:
        return client.create(title(home, study), page, guide_html(), overlap)
    if (project.page, project.overlap) != (page, overlap):
        client.redefine(project.id, page, overlap)
    return project


def _parts(things: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (things[start : start + size] for start in range(0, len(things), size))


def _folder(home: Home, study: str) -> str:
    return home.opaque("folder", study)[:32]
