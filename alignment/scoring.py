"""Rewards asked for in the background: while one block of samples is scored, the next is drawn."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from palate.errors import PalateError

Rewards = Float[NDArray[np.float64], " batch"]
# (prompts, clips) -> rewards, with nan where there is none: a reward that failed is never a number
Reward = Callable[[Sequence[str], UInt8[NDArray[np.uint8], "batch frames height width 3"]], Rewards]


class NoRewardError(PalateError):
    """A round of which nothing could be scored."""


class Scoring(AbstractContextManager["Scoring"]):
    """One round's rewards. A reward is asked from one thread, one block after the other; what it raises is raised."""

    def __init__(self, reward: Reward) -> None:
        self._reward = reward
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._asked: list[Future[Rewards]] = []

    def ask(self, prompts: Sequence[str], clips: Tensor) -> None:
        self._asked.append(self._thread.submit(self._reward, prompts, clips.cpu().numpy()))
        if self._asked[0].done():
            self._asked[0].result()  # a reward that is dead is known before more is drawn

    def rewards(self) -> Float[Tensor, " samples"]:
        """Of all that was asked, in order."""
        return torch.from_numpy(np.concatenate([np.asarray(one.result(), np.float32) for one in self._asked]))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown(cancel_futures=True)
