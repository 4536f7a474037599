"""Pairs whose answer is known, to examine people with: a video beside a ruined copy of itself.

The copy's frames come in a random order, in squares an eighth of the picture wide. Whatever the video and
whatever is asked, it is the worse of the two, so nobody has to agree on an answer before people can be examined.
"""

from collections.abc import Iterable
from random import Random

from palate.errors import DataError
from palate.media import Frames, MediaFolder
from palate.records import Sample, content_hash

RUINED = "ruined copies"  # the system that gold's worse videos are of; it takes part in no comparison but those
_SQUARES = 8  # to the picture's shorter side


def gold_pairs(samples: Iterable[Sample], count: int, media: MediaFolder, seed: int) -> list[tuple[Sample, Sample]]:
    """(better, worse) of `count` of these samples, the same ones for the same seed whatever their order.

    Raises:
        DataError: fewer samples have a video.
        MediaError: a video is missing or cannot be read.
    """
    shown = sorted((one for one in samples if one.media), key=lambda one: one.id)
    if count > len(shown):
        raise DataError(f"{count} gold pairs of {len(shown)} videos", "ask for as many at most")
    rng = Random(content_hash(["gold", seed]))
    return [(one, _ruined(one, media)) for one in rng.sample(shown, count)]


def _ruined(sample: Sample, media: MediaFolder) -> Sample:
    assert sample.media
    video = media.video(sample.media)
    copy = media.add_video(_ruin(video.frames, sample.id), video.fps)
    return Sample(case=sample.case, system=RUINED, media=copy, sampler={"of": sample.id})


def _ruin(frames: Frames, seed: str) -> Frames:
    """(n, height, width, 3) -> the same shape."""
    n, height, width, _ = frames.shape
    edge = max(2, min(height, width) // _SQUARES)
    squares = frames[Random(seed).sample(range(n), n), ::edge, ::edge]
    return squares.repeat(edge, 1).repeat(edge, 2)[:, :height, :width]
