"""Cases x generators x seeds -> samples and their scores.

The work is cut into chunks that depend on nothing but the list of cases and seeds, so the answers are the same bit for
bit however many workers there are, wherever they are, and however often the run was stopped: a chunk is stored whole,
and a chunk that is stored is not made again. A case that the generator fails on is a sample without a video, with the
reason. Chunks are answered in this process, in several (`processes`), or by a cluster (benchmarks/cluster.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from palate.config import Settings
from palate.errors import CheckpointError, DataError, FileError
from palate.media import MediaFolder, Video
from palate.records import Case, Record, Sample, Scalar, Score, content_hash
from palate.store import Store

CHUNK = 64
SCALE = 4  # each pixel of a small world is shown this large, so that people can see it and no codec blurs it
REASON = 500  # characters of a failure's reason that are kept

Clip = NDArray[np.uint8]  # (frames, height, width, 3)
S = TypeVar("S", bound=Settings, contravariant=True)


class Generator(Protocol[S]):
    """What the runner asks of a generator, whose sampler is told `S`."""

    checkpoint: str

    def clips(self, prompts: Sequence[str], seeds: Sequence[int], sampler: S) -> NDArray[np.uint8]:
        """uint8 (prompts, frames, height, width, 3)."""
        ...


@dataclass(frozen=True, eq=False)
class Ask:
    """A case as a generator gets it. A reference that is a picture has one frame."""

    prompt: str
    seed: int
    references: Mapping[str, Clip]


@runtime_checkable
class OmniGenerator(Protocol[S]):
    """A generator that takes references too. Its clips may differ in length."""

    checkpoint: str

    def answers(self, asks: Sequence[Ask], sampler: S) -> Sequence[Clip]: ...


T = TypeVar("T", bound=Settings)
Scorer = Callable[[Case, Sample, Video], list[Score]]


@dataclass(frozen=True)
class Answering(Generic[T]):
    """Everything a worker needs to answer for one system. `load` must pickle: a function of a module, or a partial.

    Attributes:
        chunk: cases that are answered together, and lost together where the work is stopped.
        scale: how large each pixel is stored.
    """

    load: Callable[[], Generator[T] | OmniGenerator[T]]
    system: str
    checkpoint: str
    sampler: T
    scorer: Scorer
    media: Path
    fps: float
    scale: int = SCALE
    chunk: int = CHUNK

    def sample(self, case: Case, seed: int, media: str | None = None, failure: str | None = None) -> Sample:
        return Sample(
            case=case.id,
            system=self.system,
            seed=seed,
            media=media,
            checkpoint=self.checkpoint,
            sampler=self.asked,
            failure=failure,
        )

    @property
    def asked(self) -> dict[str, Scalar]:
        """The sampler's settings, as samples tell them."""
        return self.sampler.model_dump(mode="json", exclude_none=True)


Chunk = list[tuple[Case, int]]
Task = tuple[int, Chunk]  # the place of its system in the list of them, and what it is to answer
Spread = Callable[[Sequence[Answering[Any]], Sequence[Task]], Iterator[list[Record]]]  # in any order


def seed_of(case: Case, index: int) -> int:
    """The noise seed of a case's index-th sample: its own for every case, the same for every system."""
    return int(content_hash([case.id, index])[:12], 16)


class Worker:
    """Answers tasks one after another, with one generator in memory at a time."""

    def __init__(self, works: Sequence[Answering[Any]]) -> None:
        self._works = works
        self._at = -1
        self._generator: Any = None

    def answer(self, task: Task) -> list[Record]:
        """The samples and scores of a chunk.

        Raises:
            CheckpointError: the weights cannot be loaded, or are not those that the others answer with.
        """
        at, chunk = task
        work = self._works[at]
        if at != self._at:
            self._generator = None  # the one before goes first
            self._generator = work.load()
            if self._generator.checkpoint != work.checkpoint:
                raise CheckpointError(f"the weights of {work.system} are others here", "copy them to every machine")
            self._at = at
        return _answered(work, self._generator, chunk)


def in_process(works: Sequence[Answering[Any]], tasks: Sequence[Task]) -> Iterator[list[Record]]:
    """One task after another, here."""
    return map(Worker(works).answer, tasks)


def processes(count: int) -> Spread:
    """So many processes of this machine."""

    def spread(works: Sequence[Answering[Any]], tasks: Sequence[Task]) -> Iterator[list[Record]]:
        # spawn: a forked child of a process that has used torch may hang in its thread pools
        with ProcessPoolExecutor(count, get_context("spawn"), initializer=_start, initargs=(works,)) as pool:
            yield from pool.map(_answer_task, tasks)

    return spread


_worker: Worker | None = None  # one a process, set by the pool; it loads with its first task, where an error is told


def _start(works: Sequence[Answering[Any]]) -> None:
    global _worker
    _worker = Worker(works)


def _answer_task(task: Task) -> list[Record]:
    assert _worker is not None
    return _worker.answer(task)


def answer(
    store: Store,
    cases: Sequence[Case],
    seeds: int,
    works: Sequence[Answering[Any]],
    spread: Spread = in_process,
    label: str = "answers",
    retry: bool = False,
) -> list[list[Sample]]:
    """`seeds` samples of each case by each system, stored with their scores; a system's in the order of cases, then
    seeds.

    Args:
        spread: who answers the chunks; the answers do not depend on it.
        retry: ask again for what failed before; else a failure is an answer like any other.
    """
    store.add(cases)
    wanted = [(case, seed_of(case, index)) for case in cases for index in range(seeds)]
    stored = [_stored(store, work) for work in works]
    tasks = [
        (at, chunk) for at, work in enumerate(works) for chunk in _due(wanted, stored[at], work.chunk, retry=retry)
    ]
    with tqdm(total=len(works) * len(wanted), desc=label, unit="clip", mininterval=1.0) as progress:
        progress.update(progress.total - sum(len(chunk) for _, chunk in tasks))
        for records in spread(works, tasks) if tasks else ():
            store.add(records)
            progress.update(sum(isinstance(record, Sample) for record in records))
    found = [_stored(store, work) for work in works] if tasks else stored
    return [[of[case.id, seed] for case, seed in wanted] for of in found]


Stored = dict[tuple[str, int | None], Sample]  # by case and seed


def _stored(store: Store, work: Answering[Any]) -> Stored:
    """What there is of a system; where a case failed and was then answered, its answer."""
    found: Stored = {}
    for sample in store.select(Sample, system=work.system, checkpoint=work.checkpoint):
        if sample.sampler == work.asked and (sample.media or (sample.case, sample.seed) not in found):
            found[sample.case, sample.seed] = sample
    return found


def _due(wanted: Chunk, stored: Stored, size: int, *, retry: bool) -> list[Chunk]:
    chunks = [wanted[i : i + size] for i in range(0, len(wanted), size)]
    due = [chunk for chunk in chunks if any((case.id, seed) not in stored for case, seed in chunk)]
    if retry:  # one by one, as they were asked when they failed
        fresh = {(case.id, seed) for chunk in due for case, seed in chunk}
        failed = {key for key, sample in stored.items() if sample.failure is not None} - fresh
        due += [[(case, seed)] for case, seed in wanted if (case.id, seed) in failed]
    return due


def _answered(work: Answering[Any], generator: Generator[Any] | OmniGenerator[Any], chunk: Chunk) -> list[Record]:
    """The samples and scores of a chunk. Cases with references are asked apart from those of text alone."""
    plain = [one for one in chunk if not one[0].conditions]
    return [
        record
        for part in (plain, [one for one in chunk if one[0].conditions])
        if part
        for record in _records(work, generator, part)
    ]


def _records(work: Answering[Any], generator: Generator[Any] | OmniGenerator[Any], part: Chunk) -> list[Record]:
    media = MediaFolder(work.media)
    try:
        names = [media.add_video(frames, work.fps, work.scale) for frames in _clips(work, generator, media, part)]
    except FileError:  # a full disk is no answer of the generator's
        raise
    except Exception as error:  # noqa: BLE001 - whatever a generator raises is the reason in its row
        if len(part) > 1:
            return [record for one in part for record in _records(work, generator, [one])]
        (case, seed), reason = part[0], f"{type(error).__name__}: {error}"
        return [work.sample(case, seed, failure=reason[:REASON])]
    records: list[Record] = []
    for (case, seed), name in zip(part, names, strict=True):
        sample = work.sample(case, seed, media=name)
        records += [sample, *work.scorer(case, sample, media.video(name))]
    return records


def _clips(
    work: Answering[Any], generator: Generator[Any] | OmniGenerator[Any], media: MediaFolder, part: Chunk
) -> Sequence[Clip]:
    if isinstance(generator, OmniGenerator):
        asks = [Ask(case.prompt, seed, _references(case, media)) for case, seed in part]
        clips = list(generator.answers(asks, work.sampler))
    elif part[0][0].conditions:
        raise DataError("this generator takes text alone", "answer with one that takes references")
    else:
        clips = list(generator.clips([case.prompt for case, _ in part], [seed for _, seed in part], work.sampler))
    if len(clips) != len(part):
        raise DataError(f"{len(clips)} clips for {len(part)} prompts", "mend the generator")
    return clips


def _references(case: Case, media: MediaFolder) -> dict[str, Clip]:
    return {handle: media.video(name).frames for handle, name in case.conditions.items()}
