"""Cases answered by a cluster of machines, by Ray (the extra `ray`).

Ray places the workers, shares out the GPUs, and starts a worker again, with the chunk it held, when it or its machine
dies. Videos and references travel with the chunks, so the machines share no disk; Palate and the weights, at the same
path, lie on each.
"""

import logging
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.runner import Answering, Spread, Task, Worker
from palate.errors import ConfigError, DataError
from palate.media import MediaFolder
from palate.records import Record, Sample

LOCAL = "local"  # the address of a cluster of this machine alone, which is started for the run
Files = list[tuple[bytes, str]]  # content and suffix
TRIES = 3  # of a chunk whose worker dies


class Seat:
    """A worker somewhere in the cluster, with a folder of its own that is gone with it."""

    def __init__(self, works: Sequence[Answering[Any]]) -> None:
        self._folder = TemporaryDirectory(prefix="palate-")
        self._media = MediaFolder(Path(self._folder.name))
        self._worker = Worker([replace(work, media=self._media.folder) for work in works])

    def answer(self, task: Task, references: Files) -> tuple[list[Record], Files]:
        """The samples and scores of a chunk, and their videos."""
        kept = {self._media.keep(*one) for one in references}
        records = self._worker.answer(task)
        videos = [record.media for record in records if isinstance(record, Sample) and record.media]
        made = _files(self._media, videos)
        for name in kept.union(videos):
            self._media.path(name).unlink()
        return records, made


def _files(media: MediaFolder, names: Iterable[str]) -> Files:
    paths = [media.path(name) for name in dict.fromkeys(names)]
    return [(path.read_bytes(), path.suffix) for path in paths]


def _reach(address: str) -> None:
    """Raises OSError at once where no machine listens at host:port, which Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if host and "//" not in host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def cluster(address: str, workers: int) -> Spread:
    """So many workers of the Ray cluster at `address`: "local", "auto" for the one this machine is in, or host:port.

    Raises:
        ConfigError: Ray is not installed, no cluster answers, or it has fewer cores than workers are asked for.
        DataError: workers died again and again; what was answered is stored.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about a run is told to anybody
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"Ray cannot be loaded ({error})", "pip install 'palate[ray]'") from error
    from ray.exceptions import RayActorError, RayTaskError
    from ray.util import ActorPool

    def spread(works: Sequence[Answering[Any]], tasks: Sequence[Task]) -> Iterator[list[Record]]:
        cores = workers if address == LOCAL else None
        try:
            _reach(address)
            ray.init(address, num_cpus=cores, logging_level=logging.ERROR, log_to_driver=False)
        except (OSError, ValueError) as error:
            raise ConfigError(f"no Ray cluster at {address} ({error})", "start one with `ray start --head`") from error
        try:
            yield from _answered(works, tasks)
        except RayTaskError as error:  # what a worker raised, with its own words
            raise error.cause from None
        except RayActorError as error:
            raise DataError(
                f"a worker died {TRIES} times over one chunk ({str(error).splitlines()[0]})",
                "see Ray's logs there, such as for want of memory, and run the same command again to go on",
            ) from error
        finally:
            ray.shutdown()

    def _answered(works: Sequence[Answering[Any]], tasks: Sequence[Task]) -> Iterator[list[Record]]:
        there = ray.cluster_resources()
        if workers > there.get("CPU", 0):
            raise ConfigError(f"the cluster has {there.get('CPU', 0):.0f} cores", "ask for as many --workers or fewer")
        gpus = int(there.get("GPU", 0))
        share = 1 / ceil(workers / gpus) if gpus else 0  # workers for whom there is no GPU left share one
        seats = ray.remote(Seat).options(
            num_cpus=1, num_gpus=share, scheduling_strategy="SPREAD", max_restarts=-1, max_task_retries=TRIES - 1
        )
        media = MediaFolder(works[0].media)
        pool = ActorPool([seats.remote(works) for _ in range(min(workers, len(tasks)))])

        def ask(seat: Any, task: Task) -> Any:
            names = [name for case, _ in task[1] for name in case.conditions.values() if media.has(name)]
            return seat.answer.remote(task, _files(media, names))

        for records, made in pool.map_unordered(ask, list(tasks)):
            for data, suffix in made:
                media.keep(data, suffix)
            yield records

    return spread
