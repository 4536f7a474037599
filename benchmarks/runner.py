"""Cases x seeds -> samples and their scores, by one generator.

The work is cut into chunks that depend on nothing but the list of cases and seeds, so the answers are the same bit for
bit however many workers there are and however often the run was stopped: a chunk is stored whole, and a chunk that is
stored is not made again.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from palate.config import Settings
from palate.media import MediaFolder, Video
from palate.records import Case, Record, Sample, Score, content_hash
from palate.store import Store

CHUNK = 32
SCALE = 4  # each pixel of a small world is shown this large, so that people can see it and no codec blurs it


S = TypeVar("S", bound=Settings, contravariant=True)


class Generator(Protocol[S]):
    """What the runner asks of a generator, whose sampler is told `S`."""

    checkpoint: str

    def clips(self, prompts: Sequence[str], seeds: Sequence[int], sampler: S) -> NDArray[np.uint8]:
        """uint8 (prompts, frames, height, width, 3)."""
        ...


T = TypeVar("T", bound=Settings)
Scorer = Callable[[Case, Sample, Video], list[Score]]


@dataclass(frozen=True)
class Answering(Generic[T]):
    """Everything a worker needs to answer a chunk. `load` must pickle: a function of a module, or a partial of one."""

    load: Callable[[], Generator[T]]
    system: str
    checkpoint: str
    sampler: T
    scorer: Scorer
    media: Path
    fps: float


def seed_of(case: Case, index: int) -> int:
    """The noise seed of a case's index-th sample: its own for every case, the same for every system."""
    return int(content_hash([case.id, index])[:12], 16)


def answer(
    store: Store, cases: Sequence[Case], seeds: int, work: Answering[Any], workers: int, label: str
) -> list[Sample]:
    """`seeds` samples of each case, stored with their scores; returned in the order of cases, then seeds."""
    store.add(cases)
    wanted = [(case, seed_of(case, index)) for case in cases for index in range(seeds)]
    sampler = work.sampler.model_dump(mode="json")
    stored = {
        (sample.case, sample.seed): sample
        for sample in store.select(Sample, system=work.system, checkpoint=work.checkpoint)
        if sample.sampler == sampler
    }
    chunks = [wanted[i : i + CHUNK] for i in range(0, len(wanted), CHUNK)]
    due = [chunk for chunk in chunks if any((case.id, seed) not in stored for case, seed in chunk)]
    with tqdm(total=len(wanted), desc=label, unit="clip", mininterval=1.0) as progress:
        progress.update(len(wanted) - sum(map(len, due)))
        for records in _spread(work, due, workers):
            store.add(records)
            made = [record for record in records if isinstance(record, Sample)]
            stored.update({(sample.case, sample.seed): sample for sample in made})
            progress.update(len(made))
    return [stored[case.id, seed] for case, seed in wanted]


def _spread(work: Answering[Any], chunks: list[list[tuple[Case, int]]], workers: int) -> Iterator[list[Record]]:
    if not chunks:
        return
    # spawn: a forked child of a process that has used torch may hang in its thread pools
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start, initargs=(work,)) as pool:
        yield from pool.map(_answer_chunk, chunks)


_work: Answering[Any] | None = None  # one a process, set by the pool


def _start(work: Answering[Any]) -> None:
    global _work
    _work = work


@cache
def _generator() -> Generator[Any]:
    """Loaded with the first chunk and not as the process starts, where an error would only break the pool."""
    assert _work is not None
    return _work.load()


def _answer_chunk(chunk: list[tuple[Case, int]]) -> list[Record]:
    assert _work is not None
    work, media = _work, MediaFolder(_work.media)
    clips = _generator().clips([case.prompt for case, _ in chunk], [seed for _, seed in chunk], work.sampler)
    records: list[Record] = []
    for (case, seed), frames in zip(chunk, clips):
        name = media.add_video(frames, work.fps, SCALE)
        sample = Sample(
            case=case.id,
            system=work.system,
            seed=seed,
            media=name,
            checkpoint=work.checkpoint,
            sampler=work.sampler.model_dump(mode="json"),
        )
        records += [sample, *work.scorer(case, sample, media.video(name))]
    return records
