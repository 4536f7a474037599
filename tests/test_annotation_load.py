"""Ten thousand comparisons, three annotators: push and pull take less than twice the bare import and export.

PALATE_LOAD says how many comparisons. There are three rounds on one server, each of them a study of its own, in which
ours and the bare requests take turns; what is asserted is the median ratio of the rounds.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_annotation_e2e import ASKED, free_port, member, program

from annotation.client import Client
from annotation.interface import guide_html, labelling_xml
from annotation.studio import Home, running
from annotation.sync import CHUNK, Pulled, pull, push, title
from palate.records import Case, Comparison, Judgement, Record, Sample, Side
from palate.store import Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif("PALATE_LOAD" not in os.environ, reason="minutes on an idle machine: make test-load"),
]

COMPARISONS, PEOPLE, ROUNDS = int(os.environ.get("PALATE_LOAD", "0")), 3, 3


class Clock:
    """Wall and processor seconds by name, one entry a round; processor time is ours and the server's together."""

    def __init__(self, server: int) -> None:
        self._server = Path(f"/proc/{server}/stat")
        self.wall: dict[str, list[float]] = {}
        self.busy: dict[str, list[float]] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        wall, busy = time.perf_counter(), self._busy()
        result = work()
        self.wall.setdefault(name, []).append(time.perf_counter() - wall)
        self.busy.setdefault(name, []).append(self._busy() - busy)
        return result

    def ratio(self, ours: str, bare: str) -> float:
        return median(one / other for one, other in zip(self.wall[ours], self.wall[bare], strict=True))

    def lines(self) -> list[str]:
        return [
            f"{name:<16} {median(wall):6.1f} s ({', '.join(f'{one:.1f}' for one in wall)}), "
            f"processor time {median(self.busy[name]):.1f} s"
            for name, wall in self.wall.items()
        ]

    def _busy(self) -> float:
        ticks = self._server.read_text().rpartition(")")[2].split()[11:13]
        return time.process_time() + sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def samples(store: Store) -> tuple[Case, list[tuple[str, str]]]:
    """A case, and pairs of samples of it, which share twenty videos."""
    videos = [store.media.add_video(np.full((8, 96, 96, 3), shade, np.uint8), 8, scale=4) for shade in range(20)]
    records: list[Record] = [case := Case(suite="suite", prompt="a prompt of an ordinary length, such as this")]
    pairs = []
    for number in range(COMPARISONS):
        both = [
            Sample(case=case.id, system=name, seed=number, media=videos[(number + shift) % len(videos)])
            for shift, name in enumerate(("new", "old"))
        ]
        records += both
        pairs.append((both[0].id, both[1].id))
    store.add(records)
    return case, pairs


def test_push_and_pull_take_less_than_twice_the_bare_import_and_export(tmp_path: Path):
    with Store(str(tmp_path / "palate.db")) as store:
        case, pairs = samples(store)
        home = Home(tmp_path / "label-studio")
        with running(home, free_port(), program()) as client:
            clock = Clock(int(home.process.read_text().split()[0]))
            for number in range(PEOPLE):
                member(SimpleNamespace(client=client), f"person{number}@example.com").close()  # type: ignore[arg-type]
            for turn in range(ROUNDS):
                study = f"study {turn}"
                shown = {"study": study, "case": case.id}
                store.add(
                    Comparison(**shown, candidate=one, baseline=other, candidate_side=list(Side)[number % 2])
                    for number, (one, other) in enumerate(pairs)
                )
                one_round(store, home, client, study, clock, first_bare=bool(turn % 2))
        assert store.count(Judgement) == COMPARISONS * PEOPLE * ROUNDS
    pushed, pulled = clock.ratio("push", "bare import"), clock.ratio("pull", "bare export")
    print(f"\n{COMPARISONS} comparisons, {PEOPLE} answers each; medians of {ROUNDS} rounds", *clock.lines(), sep="\n")
    print(f"push takes {pushed:.2f} times the bare import, pull {pulled:.2f} times the bare export")
    assert pushed < 2
    assert pulled < 2


def one_round(store: Store, home: Home, client: Client, study: str, clock: Clock, first_bare: bool) -> None:
    def pushes() -> int:
        return push(store, study, home, client, ASKED, PEOPLE)

    def pulls() -> Pulled:
        return pull(store, study, home, client)

    def tasks_of(project: int) -> list[dict[str, str]]:
        return [task["data"] for task in client._tasks(project, "data")]

    def send(project: int, tasks: list[dict[str, str]], about: dict[str, object]) -> None:
        for first in range(0, COMPARISONS, CHUNK):
            load = [{"data": task, **about} for task in tasks[first : first + CHUNK]]
            client._ask("POST", f"/api/projects/{project}/import", json=load)

    def bare_import() -> None:
        """A project of as many tasks of the same size, and no more than the requests for it."""
        alike = {"pair": "0" * 64, "prompt": case.prompt, "left": address, "right": address, "references": ""}
        bare = client.create(f"bare {study}", labelling_xml(ASKED), guide_html(), PEOPLE)
        send(bare.id, [alike] * COMPARISONS, {})

    case = next(iter(store.select(Case)))
    address = f"/data/local-files/?d={'0' * 32}/{'0' * 64}.mp4"
    if first_bare:
        clock("bare import", bare_import)
    assert clock("push", pushes) == COMPARISONS
    if not first_bare:
        clock("bare import", bare_import)
    assert clock("second push", pushes) == 0

    # Annotations come in by import, which is how 30,000 of them can be there within a minute.
    project = client.project(title(home, study))
    assert project
    tasks = tasks_of(project.id)
    assert len(tasks) == COMPARISONS
    assert client._http.delete(f"/api/projects/{project.id}/tasks").is_success
    result = [
        {"from_name": one.axis, "to_name": "left", "type": "choices", "value": {"choices": ["left"]}} for one in ASKED
    ]
    people = [id for id, name in client.people().items() if name.startswith("person")]
    send(
        project.id, tasks, {"annotations": [{"result": result, "completed_by": id, "lead_time": 9.0} for id in people]}
    )

    def bare_export() -> int:
        return len(client.annotated(project.id))

    if first_bare:
        assert clock("bare export", bare_export) == COMPARISONS
    found = clock("pull", pulls)
    assert (found.added, found.refused) == (COMPARISONS * PEOPLE, 0)
    if not first_bare:
        assert clock("bare export", bare_export) == COMPARISONS
    assert clock("second pull", pulls).added == 0
