"""What pages read from: one open store, never written, with everything that was computed from it and still holds."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dashboards import queries
from dashboards.ledger import Ledger, Snapshot
from dashboards.queries import utc
from palate.records import Estimate, Scalar
from palate.store import Store

T = TypeVar("T")
VOTES = ("judgement", "comparison", "sample")
KEPT = 300  # results held at once
FRESH_SECONDS = 1.0  # how long the store is taken to be as it was


@dataclass(frozen=True)
class Asked:
    """A case, as pages need it."""

    id: str
    suite: str
    split: str
    prompt: str
    tags: dict[str, str]


@dataclass(frozen=True)
class Told:
    """A figure of the record: a number as it was when somebody was shown it."""

    id: str
    when: datetime
    name: str
    estimate: Estimate
    selection: dict[str, Scalar]
    simulated: bool

    def of(self, key: str) -> str:
        """What it was chosen by; "" where by nothing of that name."""
        return str(self.selection.get(key, ""))


@dataclass(frozen=True)
class Scores:
    """One scorer's numbers as columns (n,): row of the sample in the snapshot, value (nan where it failed)."""

    scorer: str
    sample: NDArray[np.int64]
    value: NDArray[np.float64]


class Reader:
    """A record that is open for reading.

    Args:
        url: as for `palate.store.Store`.

    Raises:
        StoreError: there is no store there.
    """

    def __init__(self, url: str) -> None:
        self.store = Store(url, read_only=True)
        self._lock = threading.RLock()
        self._ledger = Ledger(self.store)
        self._checked = -np.inf
        self._counts: dict[str, int] = {}
        self._held: OrderedDict[Hashable, tuple[tuple[int, ...], Any]] = OrderedDict()

    @property
    def counts(self) -> dict[str, int]:
        """Records of each kind, at most a second old."""
        with self._lock:
            if time.monotonic() - self._checked > FRESH_SECONDS:
                self._counts, self._checked = queries.counts(self.store), time.monotonic()
            return self._counts

    def snapshot(self) -> Snapshot:
        counts = self.counts
        return self.once("snapshot", lambda: self._ledger.refresh(counts), VOTES)

    def once(self, key: Hashable, compute: Callable[[], T], kinds: tuple[str, ...] = VOTES) -> T:
        """What `compute` gave for `key`, computed again once there are more records of `kinds`."""
        stamp = tuple(self.counts[kind] for kind in kinds)
        with self._lock:
            held = self._held.get(key)
            if held is None or held[0] != stamp:
                held = (stamp, compute())
            self._held[key] = held
            self._held.move_to_end(key)
            while len(self._held) > KEPT:
                self._held.popitem(last=False)
            return held[1]

    def cases(self) -> dict[str, Asked]:
        return self.once("cases", lambda: {row.id: Asked(*row) for row in queries.cases(self.store)}, ("case",))

    def scorers(self) -> dict[str, str]:
        """Scorer -> unit."""
        return self.once("scorers", lambda: {row[0]: row[1] for row in queries.scorers(self.store)}, ("score",))

    def scores(self, scorer: str) -> Scores:
        def read() -> Scores:
            rows = {id: at for at, id in enumerate(self.snapshot().sample_ids.tolist())}
            found = [one for one in queries.scores(self.store, scorer) if one.sample in rows]
            return Scores(
                scorer,
                np.array([rows[one.sample] for one in found], np.int64),
                np.array([np.nan if one.value is None else one.value for one in found], float),
            )

        return self.once(("scores", scorer), read, ("score", "sample"))

    def told(self, begins: str) -> list[Told]:
        """The figures whose name begins so, the newest first."""

        def read() -> list[Told]:
            found = queries.figures(self.store, begins=begins)
            return [
                Told(
                    one.id,
                    utc(one.recorded_at),
                    one.name,
                    Estimate.model_validate(one.estimate),
                    one.selection,
                    one.simulated,
                )
                for one in found
            ]

        return self.once(("told", begins), read, ("figure",))

    def debuts(self) -> dict[str, datetime]:
        """System -> when its first sample was recorded, in that order."""
        return self.once("debuts", lambda: {name: utc(at) for name, at in queries.debuts(self.store)}, ("sample",))


@cache
def opened(url: str) -> Reader:
    """One reader a store, for all who look at it from this process. Raises as `Reader` does."""
    return Reader(url)
