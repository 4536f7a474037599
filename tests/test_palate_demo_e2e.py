"""The demo with a person at a real Label Studio: it waits, goes on after Ctrl+C, and says that people were people."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from test_annotation_e2e import free_port, left_of, member, program, until

import palate.demo
from annotation.client import Client, StudioError
from annotation.interface import questions
from annotation.studio import Home
from palate.records import Judgement
from palate.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

RECIPE = Path(palate.demo.__file__).with_name("label-studio.toml")
TINY = ("prompts=3", "seeds=2", "cases=3", "steps=4", "batch=4", "workers=1")
PERSON = "person@example.com"
ANSWERS = 3 + 3 + 3  # a knockout of one round, and both systems against the base


class Person(threading.Thread):
    """Somebody who signs up as soon as there is a server, and answers whatever they are shown until told to stop."""

    def __init__(self, folder: Path, port: int, patience: int) -> None:
        super().__init__(daemon=True)
        self.home, self.url, self.left = Home(folder / "label-studio"), f"http://127.0.0.1:{port}", patience
        self.done = threading.Event()

    def run(self) -> None:
        with Client(self.url, self.home.token) as client:
            until(client.healthy, 1200)
            with closing(self._session(client)) as session:
                while not self.done.wait(1) and self.left:
                    with suppress(httpx.TransportError, StudioError):  # the server comes and goes with the demo
                        self._answer(client, session)

    def _session(self, client: Client) -> httpx.Client:
        if PERSON not in client.people().values():
            return member(SimpleNamespace(client=client), PERSON)  # type: ignore[arg-type]
        session = httpx.Client(base_url=self.url, follow_redirects=True, timeout=60)
        session.get("/user/login/")
        form = {"email": PERSON, "password": "a-long-password-1", "csrfmiddlewaretoken": session.cookies["csrftoken"]}
        assert session.post("/user/login/", data=form).is_success
        session.headers["X-CSRFToken"] = session.cookies["csrftoken"]
        return session

    def _answer(self, client: Client, session: httpx.Client) -> None:
        for page in client._pages("/api/projects", "results"):
            for project in page:
                for task in client.annotated(project["id"]):
                    if not task["annotations"] and self.left:
                        choice = ("left", "right")[task["id"] % 2]
                        about = {"to_name": "left", "type": "choices", "value": {"choices": [choice]}}
                        result = [{"from_name": one.axis, **about} for one in questions("shapes")]
                        body = {"result": result, "was_cancelled": False, "lead_time": 9.0}
                        assert session.post(f"/api/tasks/{task['id']}/annotations", json=body).is_success
                        self.left -= 1


def test_the_demo_waits_for_a_person_goes_on_after_an_interrupt_and_says_who_judged(tmp_path):
    program()
    folder, port = tmp_path / "demo", free_port()
    command = [sys.executable, "-m", "palate", "demo", "--recipe", str(RECIPE), "--out", str(folder)]
    command += [f"port={port}", *TINY]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

    def start(log: str) -> "subprocess.Popen[bytes]":
        with (tmp_path / log).open("wb") as file:
            return subprocess.Popen(
                command,
                stdout=file,
                stderr=file,
                env=environment,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell's background job lacks
            )

    def judgements() -> list[Judgement]:
        if not (folder / "palate.db").exists():
            return []
        with Store(str(folder / "palate.db")) as store:
            return list(store.select(Judgement))

    demo = start("first")
    try:
        person = Person(folder, port, patience=1)
        person.start()
        until(lambda: demo.poll() is not None or judgements(), 1200)
        said = (tmp_path / "first").read_text()
        assert demo.poll() is None, said
        assert "sign up at" in said
        assert "waits for answers at" in said
        os.killpg(demo.pid, signal.SIGINT)  # Ctrl+C at a terminal
        assert demo.wait(120) == 130, (tmp_path / "first").read_text()
        person.join(60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(demo.pid, signal.SIGKILL)
    assert "run the same command again" in (tmp_path / "first").read_text()
    until(lambda: not left_of(folder), 60)
    assert len(judgements()) == 1

    demo = start("second")
    try:
        person = Person(folder, port, patience=ANSWERS - 1)
        person.start()
        assert demo.wait(1800) == 0, (tmp_path / "second").read_text()
    finally:
        person.done.set()
        with suppress(ProcessLookupError):
            os.killpg(demo.pid, signal.SIGKILL)
    assert not left_of(folder)
    rows = judgements()
    assert {(one.annotator, one.simulated) for one in rows} == {(PERSON, False)}
    assert len({one.comparison for one in rows}) == len(rows) == ANSWERS
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["simulated"] is False
    overall = summary["gsb"]["overall"]
    assert overall["good"] + overall["bad"] == 3
    said = (tmp_path / "second").read_text()
    assert "Blind comparisons with the base, by people" in said
    assert "SIMULATED" not in said
