"""A team's own Label Studio, on PostgreSQL: pushed to and pulled from by URL and token alone."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, text
from test_annotation_e2e import STUDY, filled, free_port, member, program, until

from annotation.cli import annotate
from annotation.client import Client
from palate.records import OVERALL, Comparison, Judgement, Verdict
from palate.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.postgres, pytest.mark.timeout(1800)]

TOKEN = "5eed" * 10


@contextmanager
def team_server(database: str, folder: Path, served: Path) -> Iterator[str]:
    """A Label Studio as a team would run it, which knows nothing of ours but the folder of videos; its URL."""
    host, port = database.removeprefix("postgresql://postgres@").split(":")
    own = free_port()
    environment = {
        "DJANGO_DB": "default",
        "POSTGRE_NAME": "postgres",
        "POSTGRE_USER": "postgres",
        "POSTGRE_HOST": host,
        "POSTGRE_PORT": port,
        "LABEL_STUDIO_USERNAME": "team@example.com",
        "LABEL_STUDIO_PASSWORD": "a-team-password",
        "LABEL_STUDIO_USER_TOKEN": TOKEN,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(served),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }
    command = [str(program()), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(own)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--data-dir", str(folder)],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            with Client(url := f"http://127.0.0.1:{own}", TOKEN) as client:
                until(lambda: server.poll() is not None or client.healthy(), 900)
            assert server.poll() is None, (folder / "log").read_text()[-2000:]
            yield url
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def test_a_study_goes_to_a_server_on_postgresql_and_its_answers_come_back(postgres_server, tmp_path):
    served = tmp_path / "label-studio" / "served"
    (team := tmp_path / "team").mkdir()
    served.mkdir(parents=True)
    with Store(url := str(tmp_path / "palate.db")) as store:
        comparisons = filled(store)
    with team_server(postgres_server, team, served) as server:
        where = ("--study", STUDY, "--url", server, "--token", TOKEN, "--store", url, "--json")

        def run(*arguments: str) -> dict:
            result = CliRunner().invoke(annotate, [*arguments, *where], catch_exceptions=False)
            assert result.exit_code == 0, result.output
            return json.loads(result.output)

        assert run("push", "--overlap", "2")["added"] == len(comparisons)
        assert run("push", "--overlap", "2")["added"] == 0
        with create_engine(postgres_server.replace("://", "+psycopg://") + "/postgres").connect() as database:
            assert database.execute(text("select count(*) from task")).scalar_one() == len(comparisons)
        with Client(server, TOKEN) as client:
            ((project,),) = [[one["id"] for one in page] for page in client._pages("/api/projects", "results")]
            tasks = client.annotated(project)
            for number, choice in enumerate(("left", "right", "up")):
                with closing(member(SimpleNamespace(client=client), f"p{number}@example.com")) as person:  # type: ignore[arg-type]
                    for task in tasks:
                        assert person.get(task["data"]["left"]).headers["content-type"] == "video/mp4"
                        value = {
                            "from_name": OVERALL,
                            "to_name": "left",
                            "type": "choices",
                            "value": {"choices": [choice]},
                        }
                        body = {"result": [value], "was_cancelled": False, "lead_time": 3.5}
                        assert person.post(f"/api/tasks/{task['id']}/annotations", json=body).is_success
            found = run("pull")
            assert (found["annotations"], found["refused"]) == (3 * len(tasks), len(tasks))
            assert found["added"] == 3 * len(tasks)
            assert run("pull")["added"] == 0
            changed = tasks[0]["id"]
            (first,) = [one for one in client.annotated(project, [changed]) for one in one["annotations"]][:1]
            client._ask("DELETE", f"/api/annotations/{first['id']}/")
            assert run("pull")["added"] == 1
    with Store(url) as store:
        rows = list(store.select(Judgement))
        asked = {one.id: one for one in store.select(Comparison)}
    superseded = {one.supersedes for one in rows}
    assert len(superseded - {None}) == 1
    for one in rows:
        if one.verdicts and one.id not in superseded:
            pressed = {"p0@example.com": "left", "p1@example.com": "right"}[one.annotator]
            good = pressed == asked[one.comparison].candidate_side
            assert one.verdicts == {OVERALL: Verdict.GOOD if good else Verdict.BAD}
