"""What people preferred, as rows to learn from: prompts, latents of the very files that they compared, and weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from alignment.policy import Conditions, Policy
from annotation.preferences import Policy as Agreement
from annotation.preferences import lead
from models.launch import first_process, rank, wait, world
from models.sde import State
from models.weights import file_hash, load_checkpoint, save_checkpoint
from palate.digest import digest
from palate.errors import DataError
from palate.media import Video, decode_video
from palate.records import Case, Preference, Sample, content_hash
from palate.store import Store
from rewards.pairs import from_videoalign

Rows = Int[Tensor, " pairs"]


@dataclass(frozen=True)
class Pair:
    """The files of two answers to one prompt, and how clearly the first was preferred: more than 0, at most 1."""

    prompt: str
    winner: Path
    loser: Path
    weight: float


@dataclass(frozen=True)
class Preferred:
    """Pairs, and what they come from: ids of the record, or the hash of a table. `digest` names all of it."""

    pairs: tuple[Pair, ...]
    sources: tuple[str, ...]
    digest: str


def of_record(store: Store, preferences: Sequence[Preference]) -> Preferred:
    """Raises DataError where there is none, and for one whose videos are not known."""
    if not preferences:
        raise DataError(
            "no preferences to learn from", "collect verdicts, run `palate annotate prefer`, and name its axis"
        )
    samples = sorted({sample for one in preferences for sample in (one.winner, one.loser)})
    prompts = {case.id: case.prompt for case in store.select(Case, id=sorted({one.case for one in preferences}))}
    media = {sample.id: sample.media for sample in store.select(Sample, id=samples)}

    def file(sample: str) -> Path:
        if not (name := media[sample]):
            raise DataError("a preferred sample has no video", "preferences from imported votes cannot train")
        return store.media.path(name)

    pairs = [Pair(prompts[one.case], file(one.winner), file(one.loser), one.weight) for one in preferences]
    ids = sorted(one.id for one in preferences)
    return Preferred(tuple(pairs), tuple(ids), digest(ids))


def of_table(table: Path, agreement: Agreement) -> Preferred:
    """A CSV in VideoAlign's format, by whose labels a pair is a preference where the policy sees one.

    Raises ImportRefusedError for another format, and DataError where no pair is left.
    """
    told = from_videoalign(table)
    if agreement.axis not in told.axes:
        raise DataError(
            f"{table} has no labels on {agreement.axis}", f"set table.axis to one of {', '.join(told.axes)}"
        )
    pairs: list[Pair] = []
    labels = told.votes[:, told.axes.index(agreement.axis)].tolist()
    for first, second, (good, same, bad) in zip(told.first, told.second, labels):
        if weight := lead(good, same, bad, agreement):
            sides = (told.videos[first], told.videos[second])
            winner, loser = sides if weight > 0 else sides[::-1]
            pairs.append(Pair(winner.prompt, winner.file, loser.file, abs(weight)))
    if not pairs:
        raise DataError(f"{table} holds no preference on {agreement.axis}", "set another table.axis or table.margin")
    return Preferred(tuple(pairs), (told.digest,), content_hash([told.digest, agreement.name, agreement.axis]))


Encode = Callable[[Video], State]  # a video to latents (1, ...); raises DataError for one that does not fit


class Latents(Protocol):
    """A row for each of some files, of one shape, on the CPU."""

    shape: torch.Size

    def __getitem__(self, rows: Tensor, /) -> State: ...


class Held:
    """Latents that cost so little that they are made anew for each run, and held in memory."""

    def __init__(self, files: Sequence[Path], encode: Encode) -> None:
        self._rows = torch.cat([_latents(file, encode) for file in files])
        self.shape = self._rows.shape[1:]

    def __getitem__(self, rows: Tensor) -> State:
        return self._rows[rows]


class Encoded:
    """Latents that are kept in a folder: each file is encoded once, by whichever process.

    The name of what is kept is the hash of the file and of all that encodes it, so that a run that goes on, and another
    that learns from the same videos, encode nothing again.
    """

    def __init__(self, files: Sequence[Path], folder: Path, encoder: str, encode: Encode) -> None:
        names = [content_hash([encoder, file_hash(file)]) for file in files]
        self.places = [folder / name[:2] / f"{name}.safetensors" for name in names]
        missing = self._missing(files)
        shown = {"desc": "encode videos", "disable": not first_process() or not missing, "mininterval": 1.0}
        for place, file in tqdm(missing[rank() :: world()], **shown):
            save_checkpoint(place, {"x0": _latents(file, encode)}, {"video": file.name})
        wait()
        for place, file in self._missing(files):  # on a machine whose folder others do not write to
            save_checkpoint(place, {"x0": _latents(file, encode)}, {"video": file.name})
        self.shape = self[torch.zeros(1, dtype=torch.long)].shape[1:]

    def __getitem__(self, rows: Tensor) -> State:
        return torch.cat([load_checkpoint(self.places[row])[0]["x0"] for row in rows.tolist()])

    def _missing(self, files: Sequence[Path]) -> list[tuple[Path, Path]]:
        return [(place, file) for place, file in dict(zip(self.places, files)).items() if not place.exists()]


def _latents(file: Path, encode: Encode) -> State:
    try:
        return encode(decode_video(file)).cpu()
    except DataError as error:
        raise type(error)(f"{file}: {error.problem}", error.remedy) from error


@dataclass(frozen=True)
class Pairs:
    """One row a preference.

    Attributes:
        conditions: a row for each different prompt, kept on the CPU.
        prompt: which of these each pair answers.
        winner, loser: rows of `latents`.
        weight: how much each counts.
    """

    conditions: Conditions
    latents: Latents
    prompt: Rows
    winner: Rows
    loser: Rows
    weight: Float[Tensor, " pairs"]

    @classmethod
    def of(cls, pairs: Sequence[Pair], policy: Policy, encoded: Callable[[Sequence[Path]], Latents]) -> "Pairs":
        """Each prompt and each file once, however many pairs it is in."""
        prompts = sorted({one.prompt for one in pairs})
        files = sorted({file for one in pairs for file in (one.winner, one.loser)})
        place, row = ({one: index for index, one in enumerate(ones)} for ones in (prompts, files))
        conditions = policy.conditions(prompts).to("cpu")
        return cls(
            conditions,
            encoded(files),
            torch.tensor([place[one.prompt] for one in pairs]),
            torch.tensor([row[one.winner] for one in pairs]),
            torch.tensor([row[one.loser] for one in pairs]),
            torch.tensor([one.weight for one in pairs]),
        )
