"""The tasks of a study and the files that they show, under names that say nothing."""

import html
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from shutil import copyfile

from annotation.design import blind_name
from annotation.export import export_video, seconds
from annotation.studio import Home
from palate.media import MediaFolder
from palate.records import Case, Side

_FILE = re.compile(r"[0-9a-f]{64}\.(mp4|wav|png)")


@dataclass(frozen=True)
class Pair:
    """A comparison as it is shown: its id, its case's, and the videos on both sides."""

    id: str
    case: str
    left: str
    right: str


@dataclass
class Shelf:
    """The exported files of one study. What was looked up once is remembered: ten thousand tasks share few files."""

    media: MediaFolder
    home: Home
    folder: Path
    lengths: dict[str, Fraction] = field(default_factory=dict)
    clean: dict[tuple[str, Fraction], str] = field(default_factory=dict)

    def task(self, pair: Pair, case: Case) -> dict[str, str]:
        """What Label Studio is told of a pair.

        Raises:
            MediaError: a video is missing, cannot be read, or not be exported.
        """
        period = max(self._length(pair.left), self._length(pair.right))
        return {
            "pair": self.home.opaque("pair", pair.id),
            "prompt": case.prompt,
            "left": self._video(pair.left, blind_name(pair.id, Side.LEFT, self.home.salt), period),
            "right": self._video(pair.right, blind_name(pair.id, Side.RIGHT, self.home.salt), period),
            "references": "".join(
                self._reference(handle, value, self.home.opaque("reference", pair.id, handle))
                for handle, value in case.conditions.items()
            ),
        }

    def _length(self, name: str) -> Fraction:
        """Seconds that a video plays."""
        if name not in self.lengths:
            self.lengths[name] = seconds(self.media.path(name))
        return self.lengths[name]

    def _video(self, name: str, opaque: str, period: Fraction) -> str:
        """The address of a video under its opaque name, exported once for each length and linked after that."""
        if (name, period) not in self.clean:
            stem = name.removesuffix(".mp4")
            clean = self.home.folder / "clean" / f"{stem}-{period.numerator}-{period.denominator}.mp4"
            if not clean.exists():
                clean.parent.mkdir(exist_ok=True)
                export_video(self.media.path(name), clean, period)
            self.clean[name, period] = str(clean)
        with suppress(FileExistsError):
            os.link(self.clean[name, period], f"{self.folder}/{opaque}.mp4")
        return self._address(f"{opaque}.mp4")

    def _reference(self, handle: str, value: str, opaque: str) -> str:
        """A condition as HTML: a picture, a video, a sound or words."""
        label = f"<b>{html.escape(handle)}</b> "
        if not _FILE.fullmatch(value):
            return f"<p>{label}{html.escape(value)}</p>"
        suffix = Path(value).suffix
        place = self.folder / f"{opaque}{suffix}"
        if not place.exists():
            copyfile(self.media.path(value), place)
        source = self._address(place.name)
        shown = {
            ".png": f'<img src="{source}" height="140">',
            ".mp4": f'<video src="{source}" height="140" controls loop muted></video>',
            ".wav": f'<audio src="{source}" controls></audio>',
        }
        return f"<p>{label}{shown[suffix]}</p>"

    def _address(self, name: str) -> str:
        return f"/data/local-files/?d={self.folder.name}/{name}"
