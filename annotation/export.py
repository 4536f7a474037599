"""Videos as annotators get them: under names that say nothing, without metadata, and looping in step.

A file is copied packet by packet, so what people judge is what the model made, to the pixel;
only small videos are encoded anew, larger. Left behind is all that
could tell one system from another without watching: the container's tags, the encoder's signature in the stream
(x264 and others write their name and settings into SEI units), sound tracks' names, and times of writing.
What a video itself shows, its size and length or a maker's mark in the picture, stays.

Label Studio starts two videos together but does not loop them. So both clips of a pair are given the same length, the
shorter one holding its last frame, and are written again and again one after the other until `SHOWN` seconds are full.
"""

import math
import os
from fractions import Fraction
from pathlib import Path
from uuid import uuid4

import av
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream

from palate.errors import MediaError
from palate.media import UNIT_SEI, decode_video, encode_video

SHOWN = 20.0  # seconds that a pair plays, pauses aside, before it has to be started again
LARGE = 384  # pixels in height below which a video is enlarged
_SEI = {"h264": f"filter_units=remove_types={UNIT_SEI}", "hevc": "filter_units=remove_types=39-40"}


def seconds(path: Path) -> Fraction:
    """How long a video plays.

    Raises:
        MediaError: it is missing, or no video.
    """
    try:
        with av.open(str(path)) as container:
            return max(_length(stream) for stream in container.streams.video)
    except (FFmpegError, ValueError) as error:
        raise MediaError(f"{path} is no video that plays", "get the file again") from error


def enlarged(source: Path, target: Path) -> bool:
    """Write a small video's pixels as larger squares, since a player would show it as small as it is.

    Returns:
        Whether it was small; if not, nothing is written.

    Raises:
        MediaError: the source cannot be read, or the target not written.
    """
    with av.open(str(source)) as container:
        height = container.streams.video[0].height
    factor = math.ceil(LARGE / height)
    if factor > 1:
        video = decode_video(source)
        encode_video(target, video.frames, video.fps, factor)
    return factor > 1


def export_video(source: Path, target: Path, period: Fraction) -> None:
    """Write `source` to `target`, repeated with this period in seconds, without a word about where it came from.

    The same file and period give the same bytes. The target appears whole or not at all.

    Args:
        period: at least the clip's own length.

    Raises:
        MediaError: the source cannot be read, or the target not written.
    """
    part, large = (target.with_name(f".{uuid4().hex}.mp4") for _ in range(2))
    try:
        with av.open(str(large if enlarged(source, large) else source)) as inside:
            _copy(inside, part, period)
        os.utime(part, (0, 0))
        part.replace(target)
    except (FFmpegError, OSError) as error:
        raise MediaError(
            f"{source} cannot be exported ({error})", "check the file and the disk's free space"
        ) from error
    finally:
        for scratch in (part, large):
            scratch.unlink(missing_ok=True)


def _copy(inside: InputContainer, part: Path, period: Fraction) -> None:
    streams = [*inside.streams.video[:1], *inside.streams.audio[:1]]
    packets = [(one, one.pts, one.dts) for one in inside.demux(streams) if one.pts is not None and one.dts is not None]
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(part), "w", format="mp4", options=options) as outside:
        copies = {stream: outside.add_stream_from_template(stream, opaque=True) for stream in streams}
        for copy in copies.values():
            copy.metadata.clear()
        clean = {
            stream: BitStreamFilterContext(_SEI[stream.codec_context.name], stream, copies[stream])
            for stream in streams
            if stream.codec_context.name in _SEI
        }
        turns = math.ceil(SHOWN / period)
        video = [dts for packet, _, dts in packets if packet.stream is streams[0]]
        for turn in range(turns):
            for packet, pts, dts in packets:
                again = av.Packet(bytes(packet))
                again.time_base = packet.time_base
                shift = round(turn * period / packet.time_base)
                again.pts, again.dts = pts + shift, dts + shift
                again.duration, again.is_keyframe = packet.duration, packet.is_keyframe
                if turn == turns - 1 and packet.stream is streams[0] and dts == max(video):
                    # Held to the end, so that both clips of a pair end together.
                    again.duration = round(turns * period / packet.time_base) + min(video) - again.dts
                for one in clean[packet.stream].filter(again) if packet.stream in clean else [again]:
                    one.stream = copies[packet.stream]
                    outside.mux(one)


def _length(stream: Stream) -> Fraction:
    if stream.duration is None or stream.time_base is None:
        raise ValueError("a stream without a length")
    return stream.duration * stream.time_base
