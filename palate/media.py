"""Video files: encoding, decoding, and a folder where every file is named by the hash of its content.

Videos are H.264 in mp4, 4:2:0, BT.709 in limited range and tagged so, which every browser plays. The bytes depend on
the frames alone (one thread, no times, no encoder's name), so the same frames always get the same name.

4:2:0 keeps one colour for every 2 x 2 pixels. A small world is therefore stored with every pixel repeated
`scale` x `scale` (an even number), and read back with `shrink`. Colour is then picked rather than blended in both
directions, so that edges stay edges; the remaining error is the rounding of the colour matrix and of the codec.
"""

import hashlib
import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.codec.context import Flags
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import ArrayLike, NDArray

from palate.errors import DataError, MediaError
from palate.files import whole_file
from palate.records import MediaName

Frames = NDArray[np.uint8]

BT709 = 1  # the number of the BT.709 matrix in H.264 and in FFmpeg
# Measured on 30 x 30 clips at scale 8, 3.8 kB each: B-frames save 7% of that and double the time.
ENCODER = {"preset": "superfast", "crf": "12", "bf": "0"}
UNIT_SEI = 6  # the kind of H.264 unit in which x264 writes its version and settings

_NAME = re.compile(r"[0-9a-f]{64}\.(mp4|wav|png)")
_DEMUXER = {".mp4": "mp4", ".wav": "wav", ".png": "png_pipe"}


@dataclass(frozen=True)
class Video:
    """Frames at even distances in time.

    Attributes:
        frames: uint8 (T, H, W, 3), RGB.
        fps: frames a second.
        seconds: how long it plays.
    """

    frames: Frames
    fps: float
    seconds: float


def encode_video(path: Path, frames: Frames, fps: float, scale: int = 1) -> None:
    """Write uint8 (T, H, W, 3) as an mp4 of (H * scale, W * scale). The file appears whole or not at all.

    Raises:
        MediaError: frames of another type or shape, none at all, or an odd size.
        FileError: a place that cannot be written.
    """
    data = _encoded(frames, fps, scale)
    with whole_file(path) as file:
        file.write(data)


def decode_video(path: Path) -> Video:
    """Read a video file. Frames at uneven times are picked to the file's average rate.

    Raises:
        MediaError: the file is missing, cut short, damaged, or no video.
    """
    with _opened(path, str(path)) as container:
        if not container.streams.video:
            raise MediaError(f"{path} has no video", "give an mp4 file with a video track")
        stream = container.streams.video[0]
        decoded = [(frame.time, _rgb(frame)) for frame in _decoded(container, stream, str(path))]
        rate = stream.average_rate
    if rate is None or any(time is None for time, _ in decoded):
        raise MediaError(f"{path} does not say when its frames are shown", "encode it again as mp4")
    times = np.array([time for time, _ in decoded], dtype=float)
    frames, fps = np.stack([pixels for _, pixels in decoded]), float(rate)
    if np.abs(times - times[0] - np.arange(len(times)) / fps).max() > 0.5 / fps:
        frames = frames[pick_frames(times, fps)]
    return Video(frames, fps, len(frames) / fps)


def pick_frames(times: ArrayLike, fps: float) -> NDArray[np.intp]:
    """Which frames to show at an even rate: for each instant the index of the frame nearest in time.

    Args:
        times: (T,) seconds, rising, at which the frames stand.
        fps: instants a second, from the first frame to the last.
    """
    times = np.asarray(times, dtype=float)
    count = math.floor((times[-1] - times[0]) * fps + 1e-6) + 1
    instants = times[0] + np.arange(count) / fps
    return np.searchsorted((times[1:] + times[:-1]) / 2, instants)


def shrink(frames: Frames, factor: int) -> Frames:
    """Undo `scale`: the mean of each `factor` x `factor` block, rounded. (T, H, W, 3) -> (T, H/factor, W/factor, 3).

    Raises:
        DataError: a factor that does not divide the size.
    """
    length, height, width, colours = frames.shape
    if factor < 1 or height % factor or width % factor:
        raise DataError(f"frames of {width} x {height} do not shrink by {factor}", "give a factor that divides both")
    rows = frames.reshape(length, height // factor, factor, width * colours).sum(2, dtype=np.uint32)
    blocks = rows.reshape(length, height // factor, width // factor, factor, colours).sum(3)
    return ((blocks + factor * factor // 2) // (factor * factor)).astype(np.uint8)


class MediaFolder:
    """Files named by the SHA-256 of their bytes, such as `ab/abcdef….mp4`. Nothing is ever changed or removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def add_video(self, frames: Frames, fps: float, scale: int = 1) -> MediaName:
        """Encode as `encode_video` does and keep; the name of what is already there costs no writing."""
        return self.keep(_encoded(frames, fps, scale), ".mp4")

    def add_picture(self, frame: Frames, scale: int = 1) -> MediaName:
        """Keep uint8 (H, W, 3) as a png, each pixel `scale` x `scale`.

        Raises:
            MediaError: a frame of another type or shape.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size or scale < 1:
            raise MediaError(f"a picture is {frame.dtype} {frame.shape}", "give uint8 (height, width, 3)")
        picture = av.VideoFrame.from_ndarray(frame.repeat(scale, 1).repeat(scale, 0), format="rgb24")
        codec = av.CodecContext.create("png", "w")
        assert isinstance(codec, av.VideoCodecContext)
        codec.width, codec.height, codec.pix_fmt, codec.time_base = picture.width, picture.height, "rgb24", Fraction(1)
        return self.keep(b"".join(bytes(packet) for packet in [*codec.encode(picture), *codec.encode(None)]), ".png")

    def add_file(self, path: Path) -> MediaName:
        """Keep a copy of an mp4, wav or png, once it has been decoded from end to end.

        Raises:
            MediaError: the file is missing, of another kind, cut short or damaged.
        """
        suffix = path.suffix.lower()
        if suffix not in _DEMUXER:
            raise MediaError(f"{path} is not an mp4, wav or png file", "convert it to one of these")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise MediaError(
                f"{path} cannot be read ({error.strerror})", "check the name and its permissions"
            ) from error
        with _opened(io.BytesIO(data), str(path), _DEMUXER[suffix]) as container:
            streams = container.streams.audio if suffix == ".wav" else container.streams.video
            if not streams:
                raise MediaError(f"{path} has no picture and no sound", "give a file that plays")
            for _ in _decoded(container, streams[0], str(path)):
                pass
        return self.keep(data, suffix)

    def keep(self, data: bytes, suffix: str) -> MediaName:
        """Keep the bytes of a file that decodes, as they are."""
        name = hashlib.sha256(data).hexdigest() + suffix
        place = self._place(name)
        if not place.exists():
            with whole_file(place) as file:
                file.write(data)
        return name

    def has(self, name: str) -> bool:
        """Whether `name` is that of a file which is kept here."""
        return bool(_NAME.fullmatch(name)) and self._place(name).is_file()

    def path(self, name: MediaName) -> Path:
        """Where a file is.

        Raises:
            MediaError: there is no such file.
        """
        path = self._place(name)
        if not path.is_file():
            raise MediaError(f"{name} is not in {self.folder}", "copy it there from where the store was made")
        return path

    def video(self, name: MediaName) -> Video:
        return decode_video(self.path(name))

    def _place(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise MediaError(f"{name!r} is no name of a media file", "give 64 hex digits and .mp4, .wav or .png")
        return self.folder / name[:2] / name


def _encoded(frames: Frames, fps: float, scale: int) -> bytes:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise MediaError(f"frames are {frames.dtype} {frames.shape}", "give uint8 (frames, height, width, 3)")
    if not frames.size:
        raise MediaError(f"frames of shape {frames.shape} hold no picture", "give at least one frame")
    if scale < 1 or not 0 < fps < math.inf:
        raise MediaError(f"scale {scale} at {fps} frames a second", "give a scale of 1 or more and a rate above 0")
    height, width = frames.shape[1] * scale, frames.shape[2] * scale
    if height % 2 or width % 2:
        raise MediaError(f"a video of {width} x {height} has an odd side", "crop it, or give an even scale")
    rate = Fraction(fps).limit_denominator(1001)
    memory = io.BytesIO()

    def reopen(*_: object) -> BinaryIO:
        """What has been written so far: `faststart` reads it back to move the index to the front."""
        return io.BytesIO(memory.getvalue())

    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(memory, "w", format="mp4", options=options, io_open=reopen) as container:
        stream = container.add_stream("libx264", rate=rate, options=ENCODER)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        codec = stream.codec_context
        codec.thread_count = 1
        codec.flags |= Flags.bitexact
        codec.colorspace, codec.color_range = BT709, ColorRange.MPEG
        codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        container.start_encoding()
        nameless = BitStreamFilterContext(f"filter_units=remove_types={UNIT_SEI}", stream, stream)
        for frame in [*frames, None]:
            for packet in stream.encode(None if frame is None else _yuv(frame, scale)):
                container.mux(nameless.filter(packet))
        container.mux(nameless.filter(None))
    return memory.getvalue()


def _yuv(frame: Frames, scale: int) -> av.VideoFrame:
    picture = av.VideoFrame.from_ndarray(frame.repeat(scale, 1).repeat(scale, 0), format="rgb24")
    return picture.reformat(
        format="yuv420p",
        interpolation="AREA" if scale == 1 else "POINT",
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        threads=1,
    )


def _rgb(frame: av.VideoFrame) -> Frames:
    """The matrix and range are those the file is tagged with."""
    picture = frame.reformat(format="rgb24", interpolation="POINT", dst_color_range=ColorRange.JPEG, threads=1)
    return np.asarray(picture.to_ndarray(), dtype=np.uint8)


@contextmanager
def _opened(source: Path | BinaryIO, name: str, demuxer: str | None = None) -> Iterator[InputContainer]:
    try:
        with av.open(source, "r", format=demuxer) as container:
            yield container
    except FileNotFoundError as error:
        raise MediaError(f"{name} does not exist", "check the name") from error
    except FFmpegError as error:
        raise MediaError(
            f"{name} does not decode ({error.strerror})", "get the file again, or encode it again"
        ) from error


def _decoded(container: InputContainer, stream: Stream, name: str) -> Iterator[Any]:
    """All frames of a stream; a file that promises more than it holds is refused."""
    if stream.codec_context is None:
        raise MediaError(f"{name} is damaged or in an unknown format", "get the file again, or encode it as H.264")
    stream.codec_context.thread_count = 1
    packets = frames = 0
    damaged = False
    for packet in container.demux(stream):
        packets += packet.size > 0
        damaged |= packet.is_corrupt
        for frame in packet.decode():
            frames += 1
            yield frame
    if damaged or packets < stream.frames or not frames:
        raise MediaError(f"{name} is cut short or damaged", "get the file again, or encode it again")
