"""Cases x seeds -> samples and their scores, by one generator.

The work is cut into chunks that depend on nothing but the list of cases and seeds, so the answers are the same bit for
bit however many workers there are and however often the run was stopped: a chunk is stored whole, and a chunk that is
stored is not made again. A case that the generator fails on is a sample without a video, with the reason.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from palate.config import Settings
from palate.errors import DataError, FileError
from palate.media import MediaFolder, Video
from palate.records import Case, Record, Sample, Score, content_hash
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
    """Everything a worker needs to answer a chunk. `load` must pickle: a function of a module, or a partial of one."""

    load: Callable[[], Generator[T] | OmniGenerator[T]]
    system: str
    checkpoint: str
    sampler: T
    scorer: Scorer
    media: Path
    fps: float

    def sample(self, case: Case, seed: int, media: str | None = None, failure: str | None = None) -> Sample:
        return Sample(
            case=case.id,
            system=self.system,
            seed=seed,
            media=media,
            checkpoint=self.checkpoint,
            sampler=self.sampler.model_dump(mode="json"),
            failure=failure,
        )


Chunk = list[tuple[Case, int]]


def seed_of(case: Case, index: int) -> int:
    """The noise seed of a case's index-th sample: its own for every case, the same for every system."""
    return int(content_hash([case.id, index])[:12], 16)


def answer(
    store: Store,
    cases: Sequence[Case],
    seeds: int,
    work: Answering[Any],
    workers: int,
    label: str,
    retry: bool = False,
) -> list[Sample]:
    """`seeds` samples of each case, stored with their scores; returned in the order of cases, then seeds.

    Args:
        workers: 1 works in this process, more in as many of their own.
        retry: ask again for what failed before; else a failure is an answer like any other.
    """
    store.add(cases)
    wanted = [(case, seed_of(case, index)) for case in cases for index in range(seeds)]
    sampler = work.sampler.model_dump(mode="json")
    stored: dict[tuple[str, int | None], Sample] = {}
    for sample in store.select(Sample, system=work.system, checkpoint=work.checkpoint):
        if sample.sampler == sampler and (sample.media or (sample.case, sample.seed) not in stored):
            stored[sample.case, sample.seed] = sample
    chunks = [wanted[i : i + CHUNK] for i in range(0, len(wanted), CHUNK)]
    due = [chunk for chunk in chunks if any((case.id, seed) not in stored for case, seed in chunk)]
    if retry:  # one by one, as they were asked when they failed
        fresh = {(case.id, seed) for chunk in due for case, seed in chunk}
        failed = {key for key, sample in stored.items() if sample.failure is not None} - fresh
        due += [[(case, seed)] for case, seed in wanted if (case.id, seed) in failed]
    with tqdm(total=len(wanted), desc=label, unit="clip", mininterval=1.0) as progress:
        progress.update(len(wanted) - sum(map(len, due)))
        for records in _spread(work, due, workers):
            store.add(records)
            made = [record for record in records if isinstance(record, Sample)]
            stored.update({(sample.case, sample.seed): sample for sample in made})
            progress.update(len(made))
    return [stored[case.id, seed] for case, seed in wanted]


def _spread(work: Answering[Any], chunks: list[Chunk], workers: int) -> Iterator[list[Record]]:
    if not chunks:
        return
    if workers == 1:
        generator = work.load()
        yield from (_answered(work, generator, chunk) for chunk in chunks)
        return
    # spawn: a forked child of a process that has used torch may hang in its thread pools
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start, initargs=(work,)) as pool:
        yield from pool.map(_answer_chunk, chunks)


_work: Answering[Any] | None = None  # one a process, set by the pool


def _start(work: Answering[Any]) -> None:
    global _work
    _work = work


@cache
def _generator() -> Generator[Any] | OmniGenerator[Any]:
    """Loaded with the first chunk and not as the process starts, where an error would only break the pool."""
    assert _work is not None
    return _work.load()


def _answer_chunk(chunk: Chunk) -> list[Record]:
    assert _work is not None
    return _answered(_work, _generator(), chunk)


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
        names = [media.add_video(frames, work.fps, SCALE) for frames in _clips(work, generator, media, part)]
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
