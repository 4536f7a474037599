"""What people said of pairs of videos, as columns: from the votes or preferences of the record, or from a table.

Every video is there once, however many pairs it is in. An axis that nobody judged of a pair has weight 0 there, and so
has a label that is no verdict: neither is a tie.
"""

import csv
import hashlib
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from palate.errors import ConfigError, DataError, ImportRefusedError
from palate.media import decode_video
from palate.records import Axis, Case, Comparison, Preference, Sample, Verdict, content_hash
from palate.store import Store
from rewards.reward import Answer

KIND = {Verdict.GOOD: 0, Verdict.SAME: 1, Verdict.BAD: 2}
VIDEOALIGN_AXES = {"VQ": "visual_quality", "MQ": "motion_quality", "TA": "prompt_following", "Overall": "overall"}
VIDEOALIGN_VERDICTS = {"A": Verdict.GOOD, "same": Verdict.SAME, "B": Verdict.BAD}


@dataclass(frozen=True)
class Shown:
    """A video, the prompt it answers, and the system that made it ("" where that is not known)."""

    prompt: str
    file: Path
    system: str = ""

    def answer(self) -> Answer:
        """Decodes the file. Raises MediaError."""
        video = decode_video(self.file)
        return Answer(self.prompt, video.frames, video.fps)


@dataclass(frozen=True)
class PairSet:
    """Pairs of `videos` and what people said of them.

    Attributes:
        axes: what was judged.
        first, second: (pairs,) rows of `videos`; both answer one prompt.
        votes: (pairs, axes, 3) for good (the first is better), same and bad. They may be fractions.
        invalid: labels that were no verdict, and are left out.
        stars: (videos, axes) people's mean rating of each, 1 to 5, nan where there is none; None if nobody rated any.
        digest: hash of everything that is learned from.
    """

    axes: tuple[Axis, ...]
    videos: tuple[Shown, ...]
    first: Int[NDArray[np.integer], " pairs"]
    second: Int[NDArray[np.integer], " pairs"]
    votes: Float[NDArray[np.float64], "pairs axes 3"]
    invalid: int
    digest: str
    stars: Float[NDArray[np.float64], "videos axes"] | None = None

    def __len__(self) -> int:
        return len(self.first)

    @cached_property
    def prompts(self) -> NDArray[np.object_]:
        """(pairs,) the prompt of each."""
        return np.array([self.videos[row].prompt for row in self.first], object)

    @property
    def weight(self) -> Float[NDArray[np.float64], "pairs axes"]:
        return self.votes.sum(axis=-1)

    @property
    def shares(self) -> Float[NDArray[np.float64], "pairs axes 3"]:
        """Of the votes; thirds where there are none, which their weight of 0 keeps out of everything."""
        weight = self.weight[..., None]
        return np.where(weight > 0, self.votes / np.where(weight > 0, weight, 1), 1 / 3)

    def label(self, axis: Axis) -> NDArray[np.float64]:
        """(pairs,) 1 where more said good than bad, -1 where fewer, 0 where as many; nan where nobody judged."""
        place = self.axes.index(axis)
        lead = np.sign(self.votes[:, place, 0] - self.votes[:, place, 2])
        return np.where(self.weight[:, place] > 0, lead, np.nan)

    def on(self, axes: Sequence[Axis]) -> "PairSet":
        """With these axes, in this order; one that was not judged has no votes."""
        empty = np.zeros((len(self), 3))
        columns = [self.votes[:, self.axes.index(axis)] if axis in self.axes else empty for axis in axes]
        stars = self.stars
        if stars is not None:
            unrated = np.full(len(self.videos), np.nan)
            known = [stars[:, self.axes.index(axis)] if axis in self.axes else unrated for axis in axes]
            stars = np.stack(known, axis=1)
        return replace(self, axes=tuple(axes), votes=np.stack(columns, axis=1), stars=stars)

    def without_ties(self) -> "PairSet":
        """The same pairs with only the votes for one side."""
        return replace(self, votes=self.votes * [1, 0, 1])

    def select(self, chosen: NDArray[np.bool_]) -> "PairSet":
        """The pairs where `chosen`, (pairs,), is true; the videos stay."""
        return replace(
            self,
            first=self.first[chosen],
            second=self.second[chosen],
            votes=self.votes[chosen],
            digest=content_hash([self.digest, np.flatnonzero(chosen).tolist()]),
        )


def one_source(
    store: Store, study: str | None, preferences: str | None, table: Path | None, axes: Sequence[Axis]
) -> PairSet:
    """The pairs of a study's votes, of its preferences, or of a table. Raises ConfigError unless one is given."""
    if sum(source is not None for source in (study, preferences, table)) != 1:
        raise ConfigError("one source of pairs is needed", "give --study, --preferences or --table")
    if study:
        return from_votes(store, study, axes)
    return from_videoalign(table) if table else from_preferences(store, store.select(Preference, study=preferences))


def from_votes(
    store: Store,
    study: str,
    axes: Sequence[Axis],
    annotators: Collection[str] | None = None,
    simulated: bool | None = None,
) -> PairSet:
    """The verdicts of a study that stand, by pair and axis: several people's make a soft label, ties included.

    `annotators` keeps only theirs, `simulated` only a program's votes or only people's.

    Gold comparisons examine people and are left out; a repeat adds its votes to its original's.
    Raises DataError where the study has none on these axes.
    """
    found = store.votes(study=study)
    found = found.select((found.role != "gold") & found.axis.among(axes))
    if annotators is not None:
        found = found.select(found.annotator.among(annotators))
    if simulated is not None:
        found = found.select(found.simulated == simulated)
    if not len(found):
        raise DataError(f"study {study} has no votes on {', '.join(axes)}", "collect some, or name another study")
    wanted = sorted(set(found.comparison.tolist()))
    pair = {one.id: (one.candidate, one.baseline) for one in store.select(Comparison, id=wanted)}
    counts: dict[tuple[str, str], NDArray[np.float64]] = defaultdict(lambda: np.zeros((len(axes), 3)))
    for comparison, axis, verdict in zip(found.comparison.tolist(), found.axis.tolist(), found.verdict.tolist()):
        ours, theirs = pair[comparison]
        said = Verdict(verdict).counted
        swap = theirs < ours  # a pair is one pair, whichever was the candidate
        counts[min(ours, theirs), max(ours, theirs)][axes.index(axis), KIND[said.swapped if swap else said]] += 1
    return _from_record(store, tuple(axes), counts)


def from_preferences(store: Store, preferences: Iterable[Preference]) -> PairSet:
    """Preferences of the record, each as its weight in votes for its winner. Raises DataError where there is none."""
    chosen = list(preferences)
    if not chosen:
        raise DataError("no preferences to learn from", "collect verdicts, then run `palate annotate prefer`")
    axes = tuple(sorted({one.axis for one in chosen}))
    counts: dict[tuple[str, str], NDArray[np.float64]] = defaultdict(lambda: np.zeros((len(axes), 3)))
    for one in chosen:
        swap = one.loser < one.winner
        pair = min(one.winner, one.loser), max(one.winner, one.loser)
        counts[pair][axes.index(one.axis), 2 if swap else 0] += one.weight
    return _from_record(store, axes, counts)


def _from_record(
    store: Store, axes: tuple[Axis, ...], counts: Mapping[tuple[str, str], NDArray[np.float64]]
) -> PairSet:
    wanted = sorted({sample for pair in counts for sample in pair})
    samples = {sample.id: sample for sample in store.select(Sample, id=wanted)}
    prompts = {case.id: case.prompt for case in store.select(Case, id=sorted({s.case for s in samples.values()}))}
    seen = {
        id: Shown(prompts[sample.case], store.media.path(sample.media), sample.system)
        for id, sample in samples.items()
        if sample.media
    }
    if missing := [id for id in wanted if id not in seen]:
        raise DataError(f"{missing[0]} has no video", "votes that were imported without videos cannot train a reward")
    return _pair_set(axes, seen, counts, 0, {id: samples[id].media for id in wanted})


def from_videoalign(table: Path) -> PairSet:
    """A table in the layout of VideoAlign's training set; its videos lie beside it, at `path_A` and `path_B`.

    Labels are A, B or same; any other, such as "invalid", is left out and counted. A row that comes twice counts
    twice. Columns such as VQ_stars_A and VQ_stars_B, which are ours, hold people's mean rating of each video, 1 to 5;
    an empty cell is no rating, and ratings of a video in several rows are averaged.
    Raises ImportRefusedError for a missing column or video, a rating that is none, or a video against itself.
    """
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ImportRefusedError(f"{table} cannot be read ({error})", "give a CSV in VideoAlign's format") from error
    given = {column: axis for column, axis in VIDEOALIGN_AXES.items() if rows and column in rows[0]}
    needed = {"path_A", "path_B", "prompt"}
    if not rows or not given or not needed <= rows[0].keys():
        raise ImportRefusedError(
            f"{table} lacks a column or has no rows",
            f"it needs {', '.join(sorted(needed))} and one of {', '.join(VIDEOALIGN_AXES)}",
        )
    axes = tuple(given.values())
    seen: dict[str, Shown] = {}
    counts: dict[tuple[str, str], NDArray[np.float64]] = defaultdict(lambda: np.zeros((len(axes), 3)))
    ratings: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    invalid = 0
    for line, row in enumerate(rows, start=2):
        names = []
        for path in (row["path_A"], row["path_B"]):
            file = table.parent / path
            if not file.is_file():
                raise ImportRefusedError(f"{table} line {line}: there is no video {path}", "put it beside the table")
            names.append(f"{row['prompt']}\n{Path(path).as_posix()}")  # Path drops the "./" that some rows have
            seen[names[-1]] = Shown(row["prompt"], file)
        if names[0] == names[1]:
            raise ImportRefusedError(f"{table} line {line} compares a video with itself", "take that row out")
        swap = names[1] < names[0]
        for place, column in enumerate(given):
            for name, side in zip(names, "AB"):
                if stars := row.get(f"{column}_stars_{side}"):
                    ratings[name][place].append(_rating(stars, f"{table} line {line}"))
            said = VIDEOALIGN_VERDICTS.get(row[column])
            invalid += said is None
            if said:
                counts[min(names), max(names)][place, KIND[said.swapped if swap else said]] += 1
    content = {name: hashlib.sha256(shown.file.read_bytes()).hexdigest() for name, shown in seen.items()}
    return _pair_set(axes, seen, counts, invalid, content, ratings)


def _rating(text: str, where: str) -> float:
    try:
        stars = float(text)
    except ValueError:
        stars = math.nan
    if not 1 <= stars <= 5:
        raise ImportRefusedError(f"{where}: {text!r} is no rating", "write 1 to 5, or leave the cell empty")
    return stars


def _pair_set(
    axes: tuple[Axis, ...],
    seen: Mapping[str, Shown],
    counts: Mapping[tuple[str, str], NDArray[np.float64]],
    invalid: int,
    content: Mapping[str, str | None],
    ratings: Mapping[str, Mapping[int, Sequence[float]]] | None = None,
) -> PairSet:
    pairs, names = sorted(counts), sorted(seen)
    stars = np.full((len(names), len(axes)), np.nan) if ratings else None
    if stars is not None and ratings:
        for index, name in enumerate(names):
            for place, given in ratings.get(name, {}).items():
                stars[index, place] = np.mean(given)
    row = {name: index for index, name in enumerate(names)}
    votes = np.stack([counts[pair] for pair in pairs])
    learned: list[object] = [axes, [[content[a], content[b], seen[a].prompt] for a, b in pairs], votes.tolist()]
    if stars is not None:
        learned.append([str(row) for row in stars.tolist()])  # nan is no JSON
    return PairSet(
        axes,
        tuple(seen[name] for name in names),
        np.array([row[a] for a, _ in pairs]),
        np.array([row[b] for _, b in pairs]),
        votes,
        invalid,
        content_hash(learned),
        stars,
    )
