"""Preferences of the record as tensors: what was asked, the winner, the loser, and how clearly it won."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from models.codec import PatchCodec
from models.conditions import tokens
from models.dit import Words
from models.flow import Latents
from palate.errors import DataError
from palate.media import shrink
from palate.records import Case, Preference, Sample
from palate.shapes import SIZE
from palate.store import Store


@dataclass(frozen=True)
class Pairs:
    """One row a preference. `winner` and `loser` are latents of the very files that people compared."""

    words: Words
    winner: Latents
    loser: Latents
    weight: Float[Tensor, " pairs"]


def read_pairs(store: Store, preferences: Sequence[Preference], codec: PatchCodec) -> Pairs:
    """Each video is decoded and encoded once however many pairs it is in. Raises DataError without preferences."""
    if not preferences:
        raise DataError("no preferences to learn from", "collect verdicts, then run `palate annotate prefer`")
    device = codec.mean.device
    samples = sorted({sample for one in preferences for sample in (one.winner, one.loser)})
    row = {sample: index for index, sample in enumerate(samples)}
    prompts = {case.id: case.prompt for case in store.select(Case, id=sorted({one.case for one in preferences}))}
    media = {sample.id: sample.media for sample in store.select(Sample, id=samples)}
    latents = torch.cat([_latents(store, media[sample], codec) for sample in samples])
    winners, losers = ([row[one] for one in ids] for ids in zip(*((one.winner, one.loser) for one in preferences)))
    return Pairs(
        words=tokens([prompts[one.case] for one in preferences]).to(device),
        winner=latents[winners],
        loser=latents[losers],
        weight=torch.tensor([one.weight for one in preferences], device=device),
    )


def _latents(store: Store, name: str | None, codec: PatchCodec) -> Latents:
    if name is None:
        raise DataError("a preferred sample has no video", "preferences from imported votes cannot train a generator")
    frames = store.media.video(name).frames
    clip = torch.from_numpy(shrink(frames, frames.shape[1] // SIZE))
    return codec.encode(clip[None].to(codec.mean.device))
