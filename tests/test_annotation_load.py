"""Ten thousand comparisons, three annotators: push and pull take less than twice the bare import and export."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from test_annotation_e2e import ASKED, free_port, member, program

from annotation.interface import guide_html, labelling_xml
from annotation.studio import Home, running
from annotation.sync import CHUNK, pull, push, title
from palate.records import Case, Comparison, Judgement, Record, Sample, Side
from palate.store import Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif("PALATE_LOAD" not in os.environ, reason="minutes on an idle machine: make test-load"),
]

COMPARISONS, PEOPLE = 10_000, 3


def test_push_and_pull_take_less_than_twice_the_bare_import_and_export(tmp_path: Path):
    with Store(str(tmp_path / "palate.db")) as store:
        videos = [store.media.add_video(np.full((8, 96, 96, 3), shade, np.uint8), 8, scale=4) for shade in range(20)]
        records: list[Record] = [case := Case(suite="suite", prompt="a prompt of an ordinary length, such as this")]
        for number in range(COMPARISONS):
            one, other = (
                Sample(case=case.id, system=name, seed=number, media=videos[(number + shift) % len(videos)])
                for name, shift in (("new", 0), ("old", 1))
            )
            shown = {"case": case.id, "candidate": one.id, "baseline": other.id}
            records += [one, other, Comparison(study="s", candidate_side=list(Side)[number % 2], **shown)]
        store.add(records)
        home = Home(tmp_path / "label-studio")
        with running(home, free_port(), program()) as client:

            class World:
                pass

            World.client = client  # type: ignore[attr-defined]
            for number in range(PEOPLE):
                member(World, f"person{number}@example.com").close()  # type: ignore[arg-type]
            people = [id for id, name in client.people().items() if name.startswith("person")]

            start = time.perf_counter()
            assert push(store, "s", home, client, ASKED, PEOPLE) == COMPARISONS
            pushed = time.perf_counter() - start
            start = time.perf_counter()
            assert push(store, "s", home, client, ASKED, PEOPLE) == 0
            again = time.perf_counter() - start

            project = client.project(title(home, "s"))
            assert project
            tasks = [task["data"] for task in client._tasks(project.id, "data")]
            assert len(tasks) == COMPARISONS
            bare = client.create("bare", labelling_xml(ASKED), guide_html(), PEOPLE)
            start = time.perf_counter()
            for first in range(0, COMPARISONS, CHUNK):
                client.add(bare.id, tasks[first : first + CHUNK])
            imported = time.perf_counter() - start

            # Annotations come in by import, which is how 30,000 of them can be there within a minute.
            assert client._http.delete(f"/api/projects/{project.id}/tasks").is_success
            result = [
                {"from_name": one.axis, "to_name": "left", "type": "choices", "value": {"choices": ["left"]}}
                for one in ASKED
            ]
            for first in range(0, COMPARISONS, CHUNK):
                about = [{"result": result, "completed_by": id, "lead_time": 9.0} for id in people]
                load = [{"data": task, "annotations": about} for task in tasks[first : first + CHUNK]]
                client._ask("POST", f"/api/projects/{project.id}/import", json=load)
            start = time.perf_counter()
            assert len(client.annotated(project.id)) == COMPARISONS
            exported = time.perf_counter() - start
            start = time.perf_counter()
            found = pull(store, "s", home, client)
            pulled = time.perf_counter() - start
            start = time.perf_counter()
            assert pull(store, "s", home, client).added == 0
            nothing = time.perf_counter() - start
        assert (found.added, found.refused) == (COMPARISONS * PEOPLE, 0)
        assert store.count(Judgement) == COMPARISONS * PEOPLE
    print(f"push {pushed:.1f} s, bare import {imported:.1f} s; a second push {again:.1f} s")
    print(f"pull {pulled:.1f} s, bare export {exported:.1f} s; a second pull {nothing:.1f} s")
    assert pushed < 2 * imported
    assert pulled < 2 * exported
