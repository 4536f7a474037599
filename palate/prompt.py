"""The multimodal prompt language: text in which handles stand for pictures, clips and library elements.

    @Mara walks to the window of @Image_1 as the camera of @Video_1 does.

    Two friends meet in the rain.
    [Shot 1, 4 s] @Mara waits under the awning.
    [Shot 2, 3 s] @Ben runs up and shakes his umbrella.

`@Image_1` is a picture, `@Video_1` a clip, and any other name an element: several pictures of one subject. The sign
itself is written `@@`. `parse` and `str` are inverse to each other. `refusals` knows the limits that the public
interface of Kling 3 Omni publishes, whose own spelling of a handle (`<<<image_1>>>`) `spelled` can print.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from palate.errors import PromptError

CHARACTERS = 2_500
IMAGES, IMAGES_BESIDE_A_VIDEO = 7, 4  # elements count as images
SECONDS = (3, 15)
VIDEO_SECONDS = (3.0, 10.0)
SHOTS, SHOT_SECONDS = 6, 1

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_PIECE = re.compile(rf"@@|@({_NAME.pattern})|@|[^@]+")
_NUMBERED = re.compile(r"(Image|Video)_[1-9][0-9]*")
_SHOT = re.compile(r"^\[Shot ([0-9]+), ([0-9]+) s\](?: |$)", re.MULTILINE)


@dataclass(frozen=True)
class Handle:
    """The name of an asset, `@` left out: `Image_1`, `Video_1`, or an element's own name in ASCII letters and digits.

    Raises:
        PromptError: any other name.
    """

    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise PromptError(f"@{self.name} is no handle", "begin with a letter; then letters, digits and _")
        if self.name.startswith(("Image_", "Video_")) and not _NUMBERED.fullmatch(self.name):
            raise PromptError(f"@{self.name} has no number", "number images and videos from 1, as in @Image_1")

    @property
    def kind(self) -> Literal["image", "video", "element"]:
        if not _NUMBERED.fullmatch(self.name):
            return "element"
        return "image" if self.name.startswith("Image_") else "video"

    def __str__(self) -> str:
        return f"@{self.name}"


@dataclass(frozen=True)
class Text:
    """Words and handles in order. Words are not empty and never stand beside words.

    Raises:
        PromptError: pieces that would be read back as others.
    """

    pieces: tuple[str | Handle, ...]

    def __post_init__(self) -> None:
        for piece, after in zip(self.pieces, (*self.pieces[1:], Handle("end"))):
            if piece == "" or (isinstance(piece, str) and isinstance(after, str)):
                raise PromptError("words that are empty or cut in two", "join them into one piece")
            if isinstance(piece, Handle) and isinstance(after, str) and re.match(r"[A-Za-z0-9_]", after):
                raise PromptError(f"{piece} runs into {after[:10]!r}", "put a space between")
            if isinstance(piece, str) and "\r" in piece:
                raise PromptError("a carriage return in a prompt", "end lines with a line feed alone")
        if _SHOT.search(str(self)):
            raise PromptError("words that read as the head of a shot", "take [Shot ...] from the line's beginning")

    @property
    def handles(self) -> tuple[Handle, ...]:
        """Each once, in the order of their first mention."""
        return tuple(dict.fromkeys(piece for piece in self.pieces if isinstance(piece, Handle)))

    def spelled(self, spell: Callable[[Handle], str]) -> str:
        """The text for a system that writes handles its own way; the sign `@` is then itself."""
        return "".join(piece if isinstance(piece, str) else spell(piece) for piece in self.pieces)

    def __str__(self) -> str:
        return "".join(str(one) if isinstance(one, Handle) else one.replace("@", "@@") for one in self.pieces)


@dataclass(frozen=True)
class Shot:
    """One shot of several: how long it lasts, and what is in it."""

    seconds: int
    text: Text


@dataclass(frozen=True)
class Prompt:
    """What is asked for, and, of a film in several shots, each shot."""

    text: Text
    shots: tuple[Shot, ...] = ()

    def __post_init__(self) -> None:
        for text in (self.text, *(shot.text for shot in self.shots)):
            if (said := str(text)) != said.strip() or not said:
                raise PromptError("a text that is empty, or begins or ends in space", "strip it, and say something")

    @property
    def handles(self) -> tuple[Handle, ...]:
        """Each once, in the order of their first mention."""
        texts = (self.text, *(shot.text for shot in self.shots))
        return tuple(dict.fromkeys(handle for text in texts for handle in text.handles))

    def spelled(self, spell: Callable[[Handle], str]) -> str:
        """As `Text.spelled`, shots included."""
        return self._joined([text.spelled(spell) for text in (self.text, *(shot.text for shot in self.shots))])

    def __str__(self) -> str:
        return self._joined([str(text) for text in (self.text, *(shot.text for shot in self.shots))])

    def _joined(self, texts: Sequence[str]) -> str:
        heads = (f"[Shot {number}, {shot.seconds} s] " for number, shot in enumerate(self.shots, 1))
        return "\n".join([texts[0], *(head + text for head, text in zip(heads, texts[1:]))])


def parse(text: str) -> Prompt:
    """The prompt that `text` writes.

    Raises:
        PromptError: an `@` that begins no handle, shots out of order, or a text that is empty or ends in space.
    """
    said, *shots = _SHOT.split(text)
    if shots:
        said = _without_break(said)
    found: list[Shot] = []
    for at in range(0, len(shots), 3):
        number, seconds, words = shots[at : at + 3]
        if number != str(len(found) + 1) or seconds != str(int(seconds)):
            raise PromptError(f"shot {number} of {seconds} s", f"shot {len(found) + 1} comes here, in plain numbers")
        found.append(Shot(int(seconds), _text(_without_break(words) if at + 3 < len(shots) else words)))
    return Prompt(_text(said), tuple(found))


def _without_break(text: str) -> str:
    """The line feed before the next shot's head belongs to neither."""
    return text.removesuffix("\n")


def _text(text: str) -> Text:
    pieces: list[str | Handle] = []
    for piece in _PIECE.finditer(text):
        if piece[0] == "@":
            after = text[piece.end() : piece.end() + 10]
            raise PromptError(f"the @ before {after!r} begins no handle", "write @@ for the sign itself")
        words: str | Handle = Handle(piece[1]) if piece[1] else "@" if piece[0] == "@@" else piece[0]
        if isinstance(words, str) and pieces and isinstance(pieces[-1], str):
            pieces[-1] += words
        else:
            pieces.append(words)
    return Text(tuple(pieces))


@dataclass(frozen=True)
class Request:
    """A prompt with everything that a system is given beside it.

    Attributes:
        seconds: how long the answer is to be.
        assets: what each handle stands for: seconds of a video where known, None of anything else.
        first, last: the handles of the frames that the answer begins and ends with.
        audio: whether sound is asked for.
    """

    prompt: Prompt
    seconds: int
    assets: Mapping[Handle, float | None]
    first: Handle | None = None
    last: Handle | None = None
    audio: bool = False


def refusals(request: Request) -> list[str]:
    """Why the published interface would refuse a request, one line a reason; none where it would not."""
    prompt, assets = request.prompt, request.assets
    videos = [handle for handle in assets if handle.kind == "video"]
    images = len(assets) - len(videos)
    most = IMAGES_BESIDE_A_VIDEO if videos else IMAGES
    low, high = VIDEO_SECONDS
    mentioned = {*prompt.handles, *filter(None, (request.first, request.last))}
    length, total = len(str(prompt)), sum(shot.seconds for shot in prompt.shots)
    found = {
        f"the prompt has {length} characters, {CHARACTERS} are allowed": length > CHARACTERS,
        f"it lasts {request.seconds} s, not {SECONDS[0]} to {SECONDS[1]}": not (
            SECONDS[0] <= request.seconds <= SECONDS[1]
        ),
        f"{images} reference images and elements, {most} are allowed" + " beside a video" * bool(videos): images > most,
        f"{len(prompt.shots)} shots, {SHOTS} are allowed": len(prompt.shots) > SHOTS,
        f"a shot is shorter than {SHOT_SECONDS} s": any(shot.seconds < SHOT_SECONDS for shot in prompt.shots),
        f"the shots last {total} s together, the whole {request.seconds} s": bool(prompt.shots)
        and total != request.seconds,
        "a last frame is given without a first": request.last is not None and request.first is None,
        "sound is asked for beside a reference video": request.audio and bool(videos),
        **{f"{one} stands for no asset": True for one in sorted(map(str, mentioned - assets.keys()))},
        **{f"{one} is given and never mentioned": True for one in sorted(map(str, assets.keys() - mentioned))},
        **{
            f"{one} lasts {seconds:g} s, not {low:g} to {high:g}": True
            for one, seconds in assets.items()
            if seconds is not None and not low <= seconds <= high
        },
        **{
            f"{one} is to be a frame and is no image": True
            for one in (request.first, request.last)
            if one is not None and one.kind != "image"
        },
    }
    return [reason for reason, holds in found.items() if holds]
