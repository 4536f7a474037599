"""A reward behind a real HTTP server: batches, a full queue, a slow, a dead and a lying one."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from click.testing import CliRunner

from palate.errors import ConfigError
from palate.records import Case, Sample, Score
from palate.store import Store
from rewards.cli import reward as command
from rewards.configured import Remote, ServeSettings
from rewards.pixels import PixelReward
from rewards.remote import RemoteReward
from rewards.reward import Answer, Scored, Unit
from rewards.serve import Service, _Job
from rewards.wire import packed

COLUMNS = {"brightness": Unit.GREY}


class Brightness:
    """Keeps the sizes of its batches; a black video has no score."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay, self.batches = delay, []
        self.broken = False
        self.gate = threading.Event()
        self.gate.set()

    def score(self, answers: Sequence[Answer]) -> tuple[Scored, ...]:
        if self.broken:
            raise ZeroDivisionError("out of memory")
        self.gate.wait()
        time.sleep(self.delay)
        self.batches.append(len(answers))
        found = [float(one.frames.mean()) or f"{one.prompt} is black" for one in answers]
        return (Scored.of("brightness", Unit.GREY, found),)


@contextmanager
def serving(service: Service) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(service.app(), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def answers(*levels: int) -> list[Answer]:
    return [Answer(f"grün {level}", np.full((2, 4, 6, 3), level, np.uint8), 8.0) for level in levels]


def remote(url: str, **changes: object) -> RemoteReward:
    settings: dict = {"timeout": 5.0, "tries": 2, "wait": 0.01, **changes}
    return RemoteReward(url, COLUMNS, **settings)


def test_a_remote_reward_scores_as_it_does_here_and_many_clients_share_a_batch() -> None:
    here = Brightness(delay=0.1)
    with serving(Service((here,), ServeSettings(batch=8, fill=0.05))) as url:
        (found,) = remote(url).score(answers(1, 0, 3))
        (expected,) = Brightness().score(answers(1, 0, 3))
        np.testing.assert_array_equal(found.value, expected.value)
        assert found.reasons == expected.reasons == ("", "grün 0 is black", "")
        assert found.unit is Unit.GREY
        here.batches.clear()
        with ThreadPoolExecutor(8) as pool:
            columns = list(pool.map(lambda level: remote(url).score(answers(level))[0], range(1, 9)))
        assert [one.value[0] for one in columns] == list(range(1, 9))  # everyone gets his own
        assert sum(here.batches) == 8
        assert len(here.batches) <= 4
        health = httpx.get(f"{url}/health").json()
    assert (health["status"], health["scored"], health["waiting"]) == ("ok", 11, 0)
    assert health["seconds_an_answer"] > 0


def test_a_full_queue_turns_requests_away_and_they_come_back_when_it_says() -> None:
    here = Brightness()
    here.gate.clear()
    with serving(Service((here,), ServeSettings(batch=1, waiting=2, fill=0))) as url:
        with ThreadPoolExecutor(4) as pool:
            sent = [pool.submit(httpx.post, f"{url}/score", content=packed(answers(9)), timeout=10) for _ in range(4)]
            while sum(one.done() for one in sent) < 2:
                time.sleep(0.02)
            here.gate.set()
            replies = [one.result() for one in sent]
        turned = [one for one in replies if one.status_code == 503]
        assert len(turned) == 2
        assert all(int(one.headers["Retry-After"]) >= 1 for one in turned)
        assert httpx.get(f"{url}/health").json()["refused"] == 2
        with ThreadPoolExecutor(4) as pool:
            patient = list(pool.map(lambda _: remote(url, tries=6).score(answers(9))[0], range(4)))
        assert [one.value.tolist() for one in patient] == [[9.0]] * 4
        assert remote(url).score(answers(*range(1, 6)))[0].known.all()  # larger than the queue, which was empty


@pytest.mark.parametrize("turns", range(8))
def test_a_server_that_is_stopped_while_requests_arrive_ends(turns: int) -> None:
    """Whatever the turn of the event loop at which it is stopped."""

    async def serve() -> None:
        service = Service((Brightness(),), ServeSettings(batch=8, fill=0.05))
        app = service.app()
        async with app.router.lifespan_context(app):
            await asyncio.sleep(0)
            for _ in range(3):
                service._queue.put_nowait(_Job(answers(9), asyncio.get_running_loop().create_future()))
            for _ in range(turns):
                await asyncio.sleep(0)

    async def stopped() -> bool:
        serving = asyncio.create_task(serve())
        ended, _ = await asyncio.wait([serving], timeout=2.0)
        serving.cancel()
        return bool(ended)

    assert asyncio.run(stopped())


def test_a_slow_and_a_dead_server_give_reasons_and_not_numbers() -> None:
    here = Brightness(delay=0.5)
    with serving(Service((here,), ServeSettings(timeout=0.1))) as url:
        (found,) = remote(url).score(answers(5, 6))
        assert np.isnan(found.value).all()
        assert "HTTP 504" in found.reasons[0]
        assert "2 times" in found.reasons[0]
        impatient = remote(url, timeout=0.05, tries=1)
        assert "Timeout" in impatient.score(answers(5))[0].reasons[0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (dead,) = remote(f"http://127.0.0.1:{port}").score(answers(1, 2, 3))
    assert np.isnan(dead.value).all()
    assert all("ConnectError" in reason for reason in dead.reasons)


def test_a_broken_reward_is_told_to_its_clients_and_the_server_lives_on() -> None:
    here = Brightness()
    with serving(Service((here,), ServeSettings())) as url:
        here.broken = True
        assert "ZeroDivisionError: out of memory" in remote(url).score(answers(1))[0].reasons[0]
        assert httpx.get(f"{url}/health").json()["status"] == "failing"
        here.broken = False
        assert remote(url).score(answers(1))[0].value[0] == 1
        assert httpx.get(f"{url}/health").json()["status"] == "ok"


def test_what_cannot_be_meant_is_refused() -> None:
    with serving(Service((Brightness(),), ServeSettings(megabytes=1))) as url:
        assert httpx.post(f"{url}/score", content=b"pickled?").status_code == 400
        bad = [Answer("p", np.zeros((2, 4, 6), np.uint8), 8.0)]
        assert httpx.post(f"{url}/score", content=packed(bad)).status_code == 400
        large = [Answer("p", np.zeros((40, 100, 100, 3), np.uint8), 8.0)]
        with pytest.raises(ConfigError, match="HTTP 413"):
            remote(url).score(large)
        untold = httpx.post(f"{url}/score", content=iter([b"x" * 600_000] * 2))  # in chunks, its length not told
        assert untold.status_code == 413
        wrong = RemoteReward(url, {"brightness": Unit.SHARE})
        with pytest.raises(ConfigError, match="measures brightness in grey levels"):
            wrong.score(answers(1))
    with serving(Service((PixelReward(("motion",)),), ServeSettings())) as url:
        built = Remote(kind="remote", url=url, columns={"pixels.motion": Unit.GREY}).build()
        one = [Answer("p", np.zeros((1, 4, 6, 3), np.uint8), 8.0)]
        assert built.score(one)[0].reasons == ("it needs 2 frames",)


def test_the_command_serves_and_a_recipe_line_asks_it(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = tmp_path / "served.toml"
    served.write_text(f'[[rewards]]\nkind = "pixels"\nnames = ["motion"]\n[serve]\nport = {port}\n')
    start = [sys.executable, "-c", "from rewards.cli import reward; reward()", "serve", "--recipe", str(served)]
    process = subprocess.Popen(start)
    try:
        for _ in range(400):
            try:
                httpx.get(f"http://127.0.0.1:{port}/health")
                break
            except httpx.ConnectError:
                time.sleep(0.1)
        url = str(tmp_path / "p.db")
        with Store(url) as store:
            case = Case(suite="s", prompt="p")
            media = store.media.add_video(np.zeros((8, 16, 16, 3), np.uint8), 8)
            store.add(
                [case, Sample(case=case.id, system="a", media=media), Sample(case=case.id, system="a", failure="x")]
            )
        asked = tmp_path / "asked.toml"
        line = f'[[rewards]]\nkind = "remote"\nurl = "http://127.0.0.1:{port}"\ntries = 1\n'
        asked.write_text(line + 'columns = { "pixels.motion" = "grey levels" }\n')
        told = ["score", "--store", url, "--system", "a", "--recipe", str(asked), "--json"]
        facts = json.loads(CliRunner().invoke(command, told, catch_exceptions=False).stdout)
        assert (facts["scores"], facts["failed"]) == (2, 1)
    finally:
        process.terminate()
        process.wait()
    facts = json.loads(CliRunner().invoke(command, told, catch_exceptions=False).stdout)  # now it is dead
    assert (facts["scores"], facts["failed"]) == (2, 2)
    with Store(url) as store:
        rows = [(one.value, one.failure or "") for one in store.select(Score)]
    assert (0.0, "") in rows
    assert any("ConnectError" in failure for _, failure in rows)
