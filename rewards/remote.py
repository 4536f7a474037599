"""A reward that is asked over HTTP (`palate reward serve`), with the face of one in this process."""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httpx
import numpy as np

from palate.errors import ConfigError, DataError, PalateError
from rewards.reward import Answer, Scored, Unit
from rewards.wire import MEDIA_TYPE, packed, read_reply


class RewardServerError(PalateError):
    """A reward server that does not answer."""


@dataclass
class RemoteReward:
    """Satisfies `Reward`. A batch that the server does not answer after all tries is a reason at every item.

    Attributes:
        columns: name -> unit of what the server measures, so that a dead one still gives columns, and one that
            measures something else is noticed.
        timeout: seconds for one try. tries: in all. wait: seconds before the second, doubled for each further one,
            unless the server says how long (Retry-After), but never more than `longest`.
        batch: answers a request.
        fatal: whether a server that does not answer raises RewardServerError instead, as whoever learns from it needs.
    """

    url: str
    columns: Mapping[str, Unit]
    timeout: float = 150.0
    tries: int = 5
    wait: float = 1.0
    longest: float = 60.0
    batch: int = 32
    fatal: bool = False
    _client: httpx.Client = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._client = httpx.Client(base_url=self.url.rstrip("/"), timeout=self.timeout)

    def close(self) -> None:
        self._client.close()

    def score(self, answers: Sequence[Answer]) -> tuple[Scored, ...]:
        """Raises ConfigError where the server refuses the request as such, or measures other columns; see `fatal`."""
        parts = [self._asked(answers[start : start + self.batch]) for start in range(0, len(answers), self.batch)]
        return tuple(
            Scored(
                name,
                unit,
                np.concatenate([np.empty(0), *(part[place].value for part in parts)]),
                tuple(reason for part in parts for reason in part[place].reasons),
            )
            for place, (name, unit) in enumerate(self.columns.items())
        )

    def _asked(self, answers: Sequence[Answer]) -> tuple[Scored, ...]:
        body, failure, pause = packed(answers), "", 0.0
        for attempt in range(self.tries):
            time.sleep(pause)
            pause = min(self.wait * 2**attempt * random.uniform(0.8, 1.2), self.longest)
            try:
                reply = self._client.post("/score", content=body, headers={"Content-Type": MEDIA_TYPE})
            except httpx.TransportError as error:
                failure = f"{type(error).__name__}: {error}"
                continue
            if reply.status_code == 429 or reply.status_code >= 500:
                failure = f"HTTP {reply.status_code} ({' '.join(reply.text.split())[:200]})"
                if (told := reply.headers.get("Retry-After", "")).isdigit():
                    pause = min(float(told), self.longest)
                continue
            if reply.is_error:
                said = " ".join(reply.text.split())[:200]
                raise ConfigError(f"{self.url} answers HTTP {reply.status_code} ({said})", "check url and batch")
            try:
                return self._in_order(read_reply(reply.content, len(answers)))
            except DataError as error:
                failure = error.problem
        if self.fatal:
            problem = f"the reward server {self.url} has not answered {self.tries} times ({failure})"
            raise RewardServerError(problem, "start it again")
        reason = f"{self.url}: {failure}, {self.tries} times"
        return tuple(Scored.of(name, unit, [reason] * len(answers)) for name, unit in self.columns.items())

    def _in_order(self, found: tuple[Scored, ...]) -> tuple[Scored, ...]:
        if {one.name: one.unit for one in found} != dict(self.columns):
            told = ", ".join(f"{one.name} in {one.unit}" for one in found)
            raise ConfigError(f"{self.url} measures {told}", "correct the columns of this reward")
        by_name = {one.name: one for one in found}
        return tuple(by_name[name] for name in self.columns)
