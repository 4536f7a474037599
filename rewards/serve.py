"""A reward behind HTTP, so that a large model scores on another machine: `palate reward serve`.

    POST /score     answers as `rewards.wire` packs them -> their columns as JSON
    GET /health     what it measures, how much waits, how much was scored and how fast

Requests that wait are scored together, up to `batch` answers at a time, by one thread. When more than `waiting` answers
would wait, a request is turned away at once with 503 and Retry-After, rather than left to time out in the queue; one
that has waited for `timeout` seconds gets 504, and is not scored when its turn comes.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from palate.errors import DataError
from rewards.configured import ServeSettings
from rewards.reward import Answer, Reward, Scored, columns_of
from rewards.wire import Column, Reply, unpacked


@dataclass(eq=False)
class _Job:
    answers: list[Answer]
    done: asyncio.Future[tuple[Scored, ...]]


@dataclass(eq=False)
class Service:
    """The queue in front of some rewards."""

    rewards: tuple[Reward, ...]
    settings: ServeSettings
    waiting: int = field(default=0, init=False)  # answers that are queued or being scored
    scored: int = field(default=0, init=False)
    refused: int = field(default=0, init=False)
    busy: float = field(default=0.0, init=False)  # seconds spent scoring
    last: str = field(default="", init=False)  # what last went wrong with a whole batch

    def app(self) -> Starlette:
        routes = [Route("/score", self._score, methods=["POST"]), Route("/health", self._health)]
        return Starlette(routes=routes, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._queue: asyncio.Queue[_Job] = asyncio.Queue()
        worker = asyncio.create_task(self._work())
        yield
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker

    async def _score(self, request: Request) -> Response:
        body = await self._body(request)
        if body is None:
            return JSONResponse({"error": f"more than {self.settings.megabytes} MB"}, 413)
        try:
            answers = unpacked(body)
        except DataError as error:
            return JSONResponse({"error": str(error)}, 400)
        if self.waiting and self.waiting + len(answers) > self.settings.waiting:
            self.refused += 1
            return JSONResponse({"error": f"{self.waiting} wait"}, 503, {"Retry-After": str(self._seconds_to_wait())})
        self.waiting += len(answers)
        job = _Job(answers, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(job)
        try:
            async with asyncio.timeout(self.settings.timeout):
                columns = await job.done
        except TimeoutError:
            return JSONResponse({"error": f"not scored in {self.settings.timeout:g} s"}, 504)
        except RuntimeError as error:
            return JSONResponse({"error": str(error)}, 500)
        return Response(Reply(columns=tuple(map(Column.of, columns))).model_dump_json(), media_type="application/json")

    async def _body(self, request: Request) -> bytes | None:
        """None where it is too large, whether or not its length was told."""
        limit, body = self.settings.megabytes * 1_000_000, bytearray()
        if int(request.headers.get("content-length", 0)) > limit:
            return None
        async for part in request.stream():
            body += part
            if len(body) > limit:
                return None
        return bytes(body)

    def _seconds_to_wait(self) -> int:
        """Until what waits is scored, at the speed so far."""
        each = self.busy / self.scored if self.scored else 0.0
        return max(1, math.ceil(self.waiting * each))

    async def _health(self, _: Request) -> Response:
        each = self.busy / self.scored if self.scored else None
        told = {"waiting": self.waiting, "scored": self.scored, "refused": self.refused, "seconds_an_answer": each}
        return JSONResponse({"status": "failing" if self.last else "ok", "last_error": self.last, **told})

    async def _work(self) -> None:
        while True:
            jobs = [await self._queue.get()]
            # Not wait_for: while a job arrives, that of Python 3.11 takes no notice of being cancelled.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.fill):
                    while sum(len(job.answers) for job in jobs) < self.settings.batch:
                        jobs.append(await self._queue.get())
            await self._score_all(jobs)

    async def _score_all(self, jobs: list[_Job]) -> None:
        answers = [one for job in jobs if not job.done.done() for one in job.answers]
        began = time.monotonic()
        try:
            columns = await asyncio.to_thread(columns_of, self.rewards, answers) if answers else ()
            self.last = ""
        except Exception as error:  # noqa: BLE001 (told to every client, and the server lives on)
            columns, self.last = (), f"{type(error).__name__}: {error}"
        self.busy += time.monotonic() - began
        start = 0
        for job in jobs:
            self.waiting -= len(job.answers)
            if job.done.done():  # its client has gone, or has waited too long
                continue
            if self.last:
                job.done.set_exception(RuntimeError(self.last))
                continue
            part = slice(start, start + len(job.answers))
            start += len(job.answers)
            self.scored += len(job.answers)
            job.done.set_result(
                tuple(Scored(one.name, one.unit, one.value[part], one.reasons[part]) for one in columns)
            )
