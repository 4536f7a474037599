import hashlib
import os
import wave
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.container import InputContainer
from hypothesis import given, settings
from hypothesis import strategies as st

from palate import shapes
from palate.errors import DataError, FileError, MediaError
from palate.media import MediaFolder, decode_video, encode_video, pick_frames, shrink

SCALE = 8


def moving_edges(length=8, size=30):
    """A white bar that moves half a pixel a frame on red, over stripes of blue and yellow."""
    frames = np.full((length, size, size, 3), (225, 40, 40), np.uint8)
    frames[:, ::2, size // 2 :] = (45, 75, 230)
    frames[:, 1::2, size // 2 :] = (245, 215, 40)
    for t in range(length):
        frames[t, :, t // 2 + 3 : t // 2 + 6] = 255
    return frames


def flat_shapes(seed, length=8, size=30):
    rng = np.random.default_rng(seed)
    frames = np.broadcast_to(rng.integers(0, 256, 3, np.uint8), (length, size, size, 3)).copy()
    for _ in range(6):
        top, left, height, width = rng.integers(0, size - 4, 2).tolist() + rng.integers(2, 12, 2).tolist()
        frames[:, top : top + height, left : left + width] = rng.integers(0, 256, 3, np.uint8)
    return frames


def worlds():
    rng = np.random.default_rng(0)
    yield from (shapes.render(shapes.draw_scene(rng, "train"), rng) for _ in range(6))
    yield from (flat_shapes(seed) for seed in range(6))
    yield moving_edges()


def test_small_worlds_survive(tmp_path):
    largest, means = 0, []
    for frames in worlds():
        encode_video(tmp_path / "a.mp4", frames, 8.0, SCALE)
        video = decode_video(tmp_path / "a.mp4")
        assert video.frames.shape == (8, 240, 240, 3)
        assert (video.fps, video.seconds) == (8.0, 1.0)
        error = np.abs(shrink(video.frames, SCALE).astype(int) - frames)
        largest, means = max(largest, error.max()), [*means, error.mean()]
    # The matrix of BT.601 in place of BT.709, or the wrong range, errs by 10 to 40 levels.
    assert largest <= 7
    assert max(means) < 2


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (90, 140, 60)])
def test_what_is_in_the_file_is_bt709_in_limited_range(tmp_path, colour):
    """Against the matrix as BT.709 writes it, on the planes of the file."""
    encode_video(tmp_path / "a.mp4", np.full((2, 16, 16, 3), colour, np.uint8), 8.0)
    with av.open(tmp_path / "a.mp4", "r") as container:
        assert isinstance(container, InputContainer)
        codec = container.streams.video[0].codec_context
        assert (codec.colorspace, codec.color_range, codec.color_primaries, codec.color_trc) == (1, 1, 1, 1)
        frame = next(container.decode(video=0))
        planes = [np.frombuffer(bytes(plane), np.uint8)[0] for plane in frame.planes]
    red, green, blue = np.array(colour) / 255
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    expected = [16 + 219 * y, 128 + 224 * (blue - y) / 1.8556, 128 + 224 * (red - y) / 1.5748]
    assert np.abs(np.array(planes, float) - expected).max() <= 2


def test_the_same_frames_have_the_same_name_and_the_file_names_nobody(tmp_path):
    folder = MediaFolder(tmp_path)
    names = {folder.add_video(moving_edges(), 8.0, SCALE) for _ in range(2)}
    assert len(names) == 1
    (name,) = names
    data = folder.path(name).read_bytes()
    assert folder.path(name) == tmp_path / name[:2] / name
    assert hashlib.sha256(data).hexdigest() + ".mp4" == name
    assert data.index(b"moov") < data.index(b"mdat")  # it plays before it has arrived
    for leak in (b"x264", b"Lavf", b"Lavc", b"libx264"):
        assert leak not in data
    other = moving_edges()
    other[-1, 0, 0] ^= 128
    assert folder.add_video(other, 8.0, SCALE) != name
    assert (folder.video(name).frames == decode_video(folder.path(name)).frames).all()


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("fps", [0.5, 8, 23.976, 30000 / 1001, 60])
def test_rate_and_length(tmp_path, length, fps):
    encode_video(tmp_path / "a.mp4", moving_edges(length), fps, 2)
    video = decode_video(tmp_path / "a.mp4")
    assert len(video.frames) == length
    assert video.fps == pytest.approx(fps, rel=1e-4)
    assert video.seconds == pytest.approx(length / fps, rel=1e-4)


def test_large_pictures_without_scale(tmp_path):
    y, x = np.mgrid[:96, :128]
    frames = np.stack([np.stack([x + t, y + 2 * t, (x + y) // 2], -1) for t in range(4)]).astype(np.uint8)
    encode_video(tmp_path / "a.mp4", frames, 24.0)
    assert np.abs(decode_video(tmp_path / "a.mp4").frames.astype(int) - frames).mean() < 2.5


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 9), st.integers(0, 99))
def test_shrink_undoes_repeat_and_is_the_mean(length, size, factor, seed):
    small = np.random.default_rng(seed).integers(0, 256, (length, size, size + 1, 3), np.uint8)
    assert (shrink(small.repeat(factor, 1).repeat(factor, 2), factor) == small).all()
    large = np.random.default_rng(seed).integers(0, 256, (length, size * factor, factor, 3), np.uint8)
    means = large.reshape(length, size, factor, 1, factor, 3).mean((2, 4))
    assert np.abs(shrink(large, factor) - means).max() <= 0.5


def test_shrink_refuses_what_does_not_divide():
    for factor in (0, 4, 7):
        with pytest.raises(DataError, match="do not shrink"):
            shrink(np.zeros((1, 6, 6, 3), np.uint8), factor)


@given(st.lists(st.floats(0.001, 0.5), min_size=1, max_size=30), st.floats(0.5, 60))
@settings(max_examples=60)
def test_picked_frames_are_the_nearest(gaps, fps):
    times = 5.0 + np.cumsum([0, *gaps])
    picked = pick_frames(times, fps)
    instants = times[0] + np.arange(len(picked)) / fps
    nearest = np.abs(times - instants[:, None]).min(1)
    assert np.abs(times[picked] - instants) == pytest.approx(nearest, abs=1e-12)
    assert instants[-1] <= times[-1] + 1e-6 < instants[-1] + 1 / fps + 2e-6
    assert all(one <= other for one, other in pairwise(picked))


def test_picked_frames_by_hand():
    assert pick_frames([0, 0.125, 0.25, 0.375], 4).tolist() == [0, 2]
    assert pick_frames([0, 0.5, 1.0], 4).tolist() == [0, 0, 1, 1, 2]  # a tie goes to the earlier frame
    assert pick_frames([3.0], 8).tolist() == [0]


def test_uneven_times_are_picked_to_an_even_rate(tmp_path):
    """Grey levels 0, 60, 120, 180 at 0, 1, 2 and 9 tenths of a second."""
    with av.open(tmp_path / "a.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "0"})
        stream.width = stream.height = 16
        for level, tenth in ((0, 0), (60, 1), (120, 2), (180, 9)):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), level, np.uint8), format="rgb24")
            frame.pts, frame.time_base = tenth, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    video = decode_video(tmp_path / "a.mp4")
    times = np.array([0, 0.1, 0.2, 0.9])
    expected = np.array([0, 60, 120, 180])[pick_frames(times, video.fps)]
    assert np.abs(video.frames.mean((1, 2, 3)) - expected).max() < 4
    assert video.seconds == pytest.approx(len(expected) / video.fps)


# --------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("frames", "fps", "scale", "words"),
    [
        (np.zeros((2, 15, 16, 3), np.uint8), 8, 1, "odd side"),
        (np.zeros((2, 15, 16, 3), np.uint8), 8, 3, "odd side"),
        (np.zeros((0, 16, 16, 3), np.uint8), 8, 1, "at least one frame"),
        (np.zeros((2, 16, 16, 4), np.uint8), 8, 1, "give uint8"),
        (np.zeros((16, 16, 3), np.uint8), 8, 1, "give uint8"),
        (np.zeros((2, 16, 16, 3), np.float32), 8, 1, "give uint8"),
        (np.zeros((2, 16, 16, 3), np.uint8), 0, 1, "a rate above 0"),
        (np.zeros((2, 16, 16, 3), np.uint8), float("nan"), 1, "a rate above 0"),
        (np.zeros((2, 16, 16, 3), np.uint8), 8, 0, "a scale of 1"),
    ],
)
def test_frames_that_are_no_video(tmp_path, frames, fps, scale, words):
    with pytest.raises(MediaError, match=words):
        encode_video(tmp_path / "a.mp4", frames, fps, scale)
    with pytest.raises(MediaError, match=words):
        MediaFolder(tmp_path).add_video(frames, fps, scale)
    assert list(tmp_path.iterdir()) == []


def test_a_file_cut_anywhere_is_refused(tmp_path):
    encode_video(tmp_path / "a.mp4", moving_edges(), 8.0, SCALE)
    data = (tmp_path / "a.mp4").read_bytes()
    cut = tmp_path / "cut.mp4"
    for length in [*range(0, len(data), 61), len(data) - 1]:
        cut.write_bytes(data[:length])
        with pytest.raises(MediaError) as caught:
            decode_video(cut)
        assert "\n" not in str(caught.value)
        with pytest.raises(MediaError):
            MediaFolder(tmp_path / "media").add_file(cut)
    assert not (tmp_path / "media").exists()


def test_files_that_are_no_video(tmp_path):
    (tmp_path / "text.mp4").write_text("this is not a video" * 100)
    with wave.open(str(tmp_path / "tone.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(1600))
    (tmp_path / "tone.mp4").write_bytes((tmp_path / "tone.wav").read_bytes())
    (tmp_path / "a.avi").write_bytes(b"")
    folder = MediaFolder(tmp_path / "media")
    for name, words in {
        "text.mp4": "does not decode",
        "absent.mp4": "does not exist",
        "tone.mp4": "has no video",
    }.items():
        with pytest.raises(MediaError, match=words):
            decode_video(tmp_path / name)
    for name in ("text.mp4", "absent.mp4", "tone.mp4", "a.avi"):
        with pytest.raises(MediaError):
            folder.add_file(tmp_path / name)
    kept = folder.add_file(tmp_path / "tone.wav")
    assert folder.path(kept).read_bytes() == (tmp_path / "tone.wav").read_bytes()
    with pytest.raises(MediaError, match="has no video"):
        folder.video(kept)


def test_add_file_keeps_the_bytes(tmp_path):
    encode_video(tmp_path / "a.MP4", moving_edges(), 8.0, SCALE)
    folder = MediaFolder(tmp_path / "media")
    name = folder.add_file(tmp_path / "a.MP4")
    assert name == folder.add_file(tmp_path / "a.MP4") == folder.add_video(moving_edges(), 8.0, SCALE)
    av.VideoFrame.from_ndarray(moving_edges(1)[0], format="rgb24").save(tmp_path / "a.png")
    assert folder.add_file(tmp_path / "a.png").endswith(".png")
    assert len([path for path in (tmp_path / "media").rglob("*") if path.is_file()]) == 2


@pytest.mark.parametrize("name", ["0" * 64 + ".mp4", "../../etc/passwd", "0" * 64 + ".exe", "", "0" * 63 + "/.mp4"])
def test_names_that_are_not_there(tmp_path, name):
    with pytest.raises(MediaError, match=r"is not in|is no name"):
        MediaFolder(tmp_path).path(name)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_full_disk_leaves_nothing_half_written(small_disk):
    folder = MediaFolder(small_disk)
    noise = np.random.default_rng(0)
    kept = []

    def fill():
        for _ in range(100):
            kept.append(folder.add_video(noise.integers(0, 256, (2, 128, 128, 3), np.uint8), 8.0))

    with pytest.raises(FileError, match=r"No space left on device.*free some space"):
        fill()
    assert kept
    assert sorted(path.name for path in files(small_disk)) == sorted(kept)
    for name in kept:
        folder.video(name)
    with pytest.raises(FileError, match="No space left"):
        encode_video(small_disk / "a.mp4", noise.integers(0, 256, (9, 256, 256, 3), np.uint8), 8.0)
    assert sorted(path.name for path in files(small_disk)) == sorted(kept)


def test_a_stop_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        MediaFolder(tmp_path).add_video(moving_edges(), 8.0, SCALE)
    assert files(tmp_path) == []


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        MediaFolder(tmp_path / "file").add_video(moving_edges(), 8.0, SCALE)
