"""A reward behind HTTP: any server, in any language, that answers one question.

    POST url   {"prompts": [...], "fps": 16.0, "clips": [{"shape": [frames, height, width, 3], "zlib": "<base64>"}]}
    200        {"name": "my_reward", "rewards": [0.7, null], "reasons": ["", "no face in it"]}

Clips are bytes of uint8, row by row, deflated. A null with its reason is a sample that could not be scored. A server
that does not answer, or not so, is asked again after a while that doubles, and then counts as dead.
"""

import base64
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from palate.errors import PalateError
from rewards.reward import Answer, Scored, Unit


class RewardServerError(PalateError):
    """A reward server that is dead, or answers what nobody asked."""


@dataclass(frozen=True)
class RemoteReward:
    """Satisfies `Reward`: one column, whose unit only the server knows; here it counts as deviations."""

    url: str
    seconds: float = 120.0
    tries: int = 4

    def score(self, answers: Sequence[Answer]) -> tuple[Scored, ...]:
        """Raises RewardServerError."""
        asked = {
            "prompts": [one.prompt for one in answers],
            "fps": answers[0].fps if answers else 0.0,
            "clips": [
                {"shape": one.frames.shape, "zlib": base64.b64encode(zlib.compress(one.frames.tobytes(), 1)).decode()}
                for one in answers
            ],
        }
        problem = ""
        for attempt in range(self.tries):
            if attempt:
                time.sleep(2 ** (attempt - 1))
            try:
                said = httpx.post(self.url, json=asked, timeout=self.seconds).raise_for_status().json()
                found = [
                    reason if value is None else float(value)
                    for value, reason in zip(said["rewards"], said["reasons"], strict=True)
                ]
                if len(found) == len(answers):
                    return (Scored.of(said["name"], Unit.DEVIATIONS, found),)
                problem = f"{len(found)} rewards for {len(answers)} samples"
            except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
                problem = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RewardServerError(
            f"the reward server {self.url} has not answered {self.tries} times ({problem})", "start it again"
        )
