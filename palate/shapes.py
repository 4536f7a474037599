"""A world that a program can check: coloured shapes that move on a plain background.

    "a red circle moves left, above a blue square that stays still, on a white background"

Three readings of one `Scene`: its caption (`str(scene)`, `parse`), its pixels (`render`), and what a program sees in
pixels (`observe`, then `check`). The observer never looks at the caption, so a check compares two independent
readings. A clip is uint8 (FRAMES, SIZE, SIZE, 3) at FPS frames a second.

Every scene belongs to one split by the hash of its meaning (`split_of`): captions that mean the same, such as a pair
told from either side, fall into the same split, so held-out cases cannot leak into training.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from palate.errors import DataError

FRAMES, SIZE, FPS = 8, 30, 8.0
TURN = 4  # the frame at which the second of two events begins
SPEED = 0.75  # pixels a frame

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 40, 40),
    "green": (35, 165, 60),
    "blue": (45, 75, 230),
    "yellow": (245, 215, 40),
    "purple": (165, 50, 190),
    "cyan": (50, 205, 220),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (12, 12, 12),
    "grey": (125, 125, 125),
    "white": (243, 243, 243),
}
SHAPES = ("circle", "square", "triangle", "cross")
MOTIONS: dict[str, tuple[int, int]] = {"still": (0, 0), "left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
RELATIONS: dict[str, tuple[int, int]] = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
COUNTS = ("a", "two", "three")

MARGIN, APART = 4.6, 9.0  # centres keep MARGIN from the border, and APART (Chebyshev) from each other, in every frame
STEP = 5.0  # objects start on a grid of this many pixels

Family = Literal["single", "events", "count", "pair"]  # one thing; one with two motions; two or three equal; two things
FAMILIES: tuple[Family, ...] = ("single", "events", "count", "pair")
Split = Literal["train", "heldout"]
Frames = NDArray[np.uint8]
Points = NDArray[np.floating]


# ---------------------------------------------------------------------------------------------------- what is said


@dataclass(frozen=True)
class Thing:
    """One kind of object: a colour, a shape, and one motion or two motions in order."""

    colour: str
    shape: str
    motions: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """One thing, `count` equal things, or two things of different colour with a relation at the first frame."""

    things: tuple[Thing, ...]
    background: str
    count: int = 1
    relation: str | None = None

    def __str__(self) -> str:
        first = self.things[0]
        plural = self.count > 1
        ending = "" if not plural else "es" if first.shape == "cross" else "s"
        text = f"{COUNTS[self.count - 1]} {first.name}{ending} {_verb(first.motions, plural)}"
        if self.relation:
            other = self.things[1]
            text += f", {self.relation} a {other.name} that {_verb(other.motions, False)}"
        return f"{text}, on a {self.background} background"

    @property
    def family(self) -> Family:
        if self.relation:
            return "pair"
        if self.count > 1:
            return "count"
        return "events" if len(self.things[0].motions) > 1 else "single"

    @property
    def meaning(self) -> str:
        """One text for all captions that mean the same: a pair is told from its alphabetically first colour."""
        if self.relation and self.things[0].colour > self.things[1].colour:
            return str(Scene(self.things[::-1], self.background, 1, OPPOSITE[self.relation]))
        return str(self)


def _verb(motions: tuple[str, ...], plural: bool) -> str:
    if motions == ("still",):
        return "stay still" if plural else "stays still"
    return f"{'move' if plural else 'moves'} {' then '.join(motions)}"


_MOTION = r"(?:stays? still|moves? (\w+)(?: then (\w+))?)"
_CAPTION = re.compile(
    rf"(a|two|three) (\w+) (circle|square|triangle|cross)(?:e?s)? {_MOTION}"
    rf"(?:, (left of|right of|above|below) a (\w+) (\w+) that {_MOTION})?, on a (\w+) background"
)


def parse(caption: str) -> Scene:
    """The scene that a caption of this world describes. Raises DataError for any other text."""
    words = _CAPTION.fullmatch(caption)
    if words:
        count, colour, shape, go, then, relation, colour2, shape2, go2, then2, background = words.groups()
        things = [Thing(colour, shape, _motions(go, then))]
        if relation:
            things.append(Thing(colour2, shape2, _motions(go2, then2)))
        scene = Scene(tuple(things), background, COUNTS.index(count) + 1, relation)
        known = all(t.colour in COLOURS and t.shape in SHAPES and set(t.motions) <= set(MOTIONS) for t in things)
        if known and background in BACKGROUNDS and str(scene) == caption:
            return scene
    raise DataError(f"not a caption of the shapes world: {caption!r}", "write it as in `palate bench list shapes`")


def _motions(first: str | None, then: str | None) -> tuple[str, ...]:
    return tuple(word for word in (first or "still", then) if word)


WORDS: tuple[str, ...] = (
    *("a", "two", "three", "that", "then", "on", "background", "of", "above", "below"),
    *("stays", "stay", "still", "moves", "move", "left", "right", "up", "down"),
    *COLOURS,
    *BACKGROUNDS,
    *SHAPES,
    *("circles", "squares", "triangles", "crosses"),
)


def split_of(scene: Scene) -> Split:
    """One scene in five is held out, by the hash of its meaning."""
    return split_of_meaning(scene.meaning)


def split_of_meaning(meaning: str) -> Split:
    return "heldout" if hashlib.sha256(meaning.encode()).digest()[0] < 51 else "train"


def draw_scene(rng: np.random.Generator, split: Split, families: Sequence[Family] = FAMILIES) -> Scene:
    """A random scene of a split, of one of the given families with equal chance."""
    while True:
        family = families[int(rng.integers(len(families)))]
        background = _pick(rng, tuple(BACKGROUNDS))
        if family == "events":
            go, then = (tuple(MOTIONS)[1:][i] for i in rng.choice(4, size=2, replace=False))
            scene = Scene((_thing(rng, (go, then)),), background)
        elif family == "pair":
            things = (_thing(rng), _thing(rng))
            if things[0].colour == things[1].colour:
                continue
            scene = Scene(things, background, 1, _pick(rng, tuple(RELATIONS)))
        else:
            scene = Scene((_thing(rng),), background, 1 if family == "single" else int(rng.integers(2, 4)))
        if split_of(scene) == split:
            return scene


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def _thing(rng: np.random.Generator, motions: tuple[str, ...] | None = None) -> Thing:
    return Thing(_pick(rng, tuple(COLOURS)), _pick(rng, SHAPES), motions or (_pick(rng, tuple(MOTIONS)),))


# ---------------------------------------------------------------------------------------------------- what is shown


def _path(motions: tuple[str, ...]) -> Points:
    """Offsets from the start, (FRAMES, 2) in x, y pixels."""
    steps = np.array([MOTIONS[motions[0] if t < TURN else motions[-1]] for t in range(FRAMES - 1)], float)
    return np.vstack([np.zeros((1, 2)), np.cumsum(steps * SPEED, axis=0)])


def place(scene: Scene, rng: np.random.Generator) -> Points:
    """Centres of every object in every frame, (objects, FRAMES, 2), inside the picture, apart, and in relation."""
    things = scene.things if scene.relation else scene.things * scene.count
    paths = np.stack([_path(thing.motions) for thing in things])
    low, high = MARGIN - paths.min(axis=1), SIZE - MARGIN - paths.max(axis=1)
    first, second = np.triu_indices(len(things), 1)
    for _ in range(200):
        starts = STEP * rng.integers(np.ceil(low / STEP), np.floor(high / STEP) + 1, size=(64, *low.shape))
        gaps = np.abs(starts[:, first, None] + paths[first] - starts[:, second, None] - paths[second])
        fits = (gaps.max(axis=-1) >= APART).all(axis=(1, 2))
        if scene.relation:
            fits &= np.array([_relation(a - b) == scene.relation for a, b in starts])
        if fits.any():
            return starts[int(np.argmax(fits)), :, None] + paths
    raise DataError(f"no room for {scene}", "use fewer or slower objects")


def _relation(offset: Points, clear: float = 2.0) -> str | None:
    """Where a point at `offset` from another lies, or None where the two axes are within `clear` pixels."""
    x, y = offset
    if abs(abs(x) - abs(y)) < clear:
        return None
    axis = (int(np.sign(x)), 0) if abs(x) > abs(y) else (0, int(np.sign(y)))
    return next(name for name, direction in RELATIONS.items() if direction == axis)


def coverage(shape: str, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.floating]:
    """How much of the pixel at offset (x, y) from an object's centre of mass the shape covers, 0..1."""
    x = np.abs(x)
    if shape == "circle":
        outside = np.hypot(x, y) - 3.5
    elif shape == "square":
        outside = np.maximum(x, np.abs(y)) - 3.0
    elif shape == "triangle":  # apex at y = -2b, base at y = b, half base w: the centre of mass is the origin
        b, w = 2.1, 3.9
        outside = np.maximum(y - b, (3 * b * x - w * (y + 2 * b)) / math.hypot(3 * b, w))
    else:
        y = np.abs(y)
        outside = np.minimum(np.maximum(x - 1.2, y - 3.5), np.maximum(x - 3.5, y - 1.2))
    return np.clip(0.5 - outside, 0.0, 1.0)


_Y, _X = np.mgrid[0:SIZE, 0:SIZE] + 0.5


def render(scene: Scene, rng: np.random.Generator) -> Frames:
    """One clip of the scene; where it starts is random."""
    things = scene.things if scene.relation else scene.things * scene.count
    return paint(scene.background, [(thing.colour, thing.shape) for thing in things], place(scene, rng))


def paint(background: str, kinds: list[tuple[str, str]], centres: Points) -> Frames:
    """A clip of objects (colour, shape) whose centres are (objects, frames, 2)."""
    clip = np.empty((centres.shape[1], SIZE, SIZE, 3), np.float32)
    clip[:] = BACKGROUNDS[background]
    for (colour, shape), path in zip(kinds, centres):
        alpha = coverage(shape, _X - path[:, 0, None, None], _Y - path[:, 1, None, None])[..., None].astype(np.float32)
        clip += alpha * (np.array(COLOURS[colour], np.float32) - clip)
    return np.rint(clip).astype(np.uint8)


# ------------------------------------------------------------------------------------------------------ what is seen


@dataclass(frozen=True, eq=False)
class Seen:
    """One object followed through a clip. `colour`, `shape` and `motions` are None where they are not clear."""

    colour: str | None
    shape: str | None
    motions: tuple[str, ...] | None
    path: Points  # (frames, 2) centres of mass, x and y in pixels


@dataclass(frozen=True, eq=False)
class Observation:
    """What a program reads from pixels alone.

    `steady` is False where the number of objects changes during the clip. `motion` and `visual` are qualities in
    0..1: how even the movement is, and how well a clean drawing of what was seen explains every pixel.
    """

    background: str | None
    objects: tuple[Seen, ...]
    steady: bool
    motion: float
    visual: float


_PALETTE = np.array(list(COLOURS.values()), float)
_GROUNDS = np.array(list(BACKGROUNDS.values()), float)
_INK = 55.0  # a pixel further than this from the background, in RGB distance, belongs to an object
_WINDOW = 6  # half the side of the patch that a shape is read from, pixels


def observe(frames: Frames) -> Observation:
    """Reads one clip (frames, SIZE, SIZE, 3) uint8. Raises DataError for another shape."""
    if frames.dtype != np.uint8 or frames.shape != (FRAMES, SIZE, SIZE, 3):
        raise DataError(f"a clip of shape {frames.shape}", f"give uint8 frames of shape {(FRAMES, SIZE, SIZE, 3)}")
    clip = frames.astype(np.float64)
    ground = np.median(clip.reshape(-1, 3), axis=0)
    background = _nearest(ground, _GROUNDS, tuple(BACKGROUNDS), within=45.0)
    found = _blobs(clip, np.linalg.norm(clip - ground, axis=-1))
    steady = len({len(blobs) for blobs in found}) == 1
    objects = tuple(_describe(track, clip, ground) for track in _follow(found))
    return Observation(background, objects, steady, _smoothness(objects, steady), _cleanness(clip, ground, objects))


def _nearest(colour: Points, palette: Points, names: tuple[str, ...], within: float) -> str | None:
    distances = np.linalg.norm(palette - colour, axis=1)
    best = int(np.argmin(distances))
    return names[best] if distances[best] <= within else None


@dataclass(frozen=True, eq=False)
class _Blob:
    centre: Points  # (2,) x and y in pixels
    colour: Points  # (3,) mean of its full pixels, the blended edge left out


_WITHIN_FRAME = np.zeros((3, 3, 3), bool)  # pixels join their four neighbours in the same frame, never over time
_WITHIN_FRAME[1] = ndimage.generate_binary_structure(2, 1)


def _blobs(clip: Points, ink: Points) -> list[list[_Blob]]:
    """Connected spots of ink in each frame; those of fewer than 6 pixels are noise."""
    labels = np.empty(ink.shape, np.int32)
    count = int(ndimage.label(ink > _INK, _WITHIN_FRAME, output=labels))  # type: ignore[arg-type]
    at = np.flatnonzero(labels)
    label, ink_at = labels.ravel()[at], ink.ravel()[at]
    weight = ink_at - _INK  # fades in from nothing, so that a centre moves evenly
    darkest = ndimage.maximum(ink, labels, np.arange(count + 1))
    full = ink_at >= 0.8 * darkest[label]
    frame, y, x = np.unravel_index(at, labels.shape)

    def mean(values: Points, weights: Points) -> Points:
        totals = np.bincount(label, weights, count + 1)
        return np.bincount(label, values * weights, count + 1) / np.maximum(totals, 1e-9)

    centres = np.stack([mean(x + 0.5, weight), mean(y + 0.5, weight)], axis=1)
    colours = np.stack([mean(channel, full.astype(float)) for channel in clip.reshape(-1, 3)[at].T], axis=1)
    frames = np.zeros(count + 1, int)
    frames[label] = frame
    blobs: list[list[_Blob]] = [[] for _ in range(FRAMES)]
    for index in np.flatnonzero(np.bincount(label, minlength=count + 1) >= 6):
        blobs[frames[index]].append(_Blob(centres[index], colours[index]))
    return blobs


def _follow(found: list[list[_Blob]]) -> list[list[_Blob | None]]:
    """Joins blobs over frames, nearest first within 4 pixels and like colours, starting from the first frame's."""
    tracks: list[list[_Blob | None]] = [[blob] for blob in found[0]]
    for blobs in found[1:]:
        free = list(blobs)
        for track in tracks:
            last = next(blob for blob in reversed(track) if blob is not None)
            near = [
                b
                for b in free
                if np.abs(b.centre - last.centre).max() < 4 and np.linalg.norm(b.colour - last.colour) < 90
            ]
            best = min(near, key=lambda b: float(np.linalg.norm(b.centre - last.centre)), default=None)
            if best is not None:
                free.remove(best)
            track.append(best)
    return tracks


def _describe(track: list[_Blob | None], clip: Points, ground: Points) -> Seen:
    path = np.array([[np.nan, np.nan] if blob is None else blob.centre for blob in track])
    colour = np.median([blob.colour for blob in track if blob is not None], axis=0)
    shape = _shape(path, clip, ground, colour)
    return Seen(_nearest(colour, _PALETTE, tuple(COLOURS), within=75.0), shape, _read_motion(path), path)


def _shape(path: Points, clip: Points, ground: Points, colour: Points) -> str | None:
    """The template that explains the object's ink best over all frames, or None where none explains it well."""
    direction = (colour - ground) / max(float(np.sum((colour - ground) ** 2)), 1.0)
    frames = np.flatnonzero(~np.isnan(path[:, 0]))[:, None, None]
    centre = path[frames]
    offsets = np.arange(-_WINDOW, _WINDOW + 1)
    columns = centre[..., 0].astype(int) + offsets
    rows = centre[..., 1].astype(int) + offsets[:, None]
    inside = (rows >= 0) & (rows < SIZE) & (columns >= 0) & (columns < SIZE)
    x, y = columns + 0.5 - centre[..., 0], rows + 0.5 - centre[..., 1]
    near = inside & (np.maximum(np.abs(x), np.abs(y)) < 5.5)
    pixels = clip[frames, np.clip(rows, 0, SIZE - 1), np.clip(columns, 0, SIZE - 1)]
    alpha = np.clip((pixels - ground) @ direction, 0.0, 1.2)[near]
    errors = [float(np.sum((alpha - coverage(shape, x, y)[near]) ** 2)) for shape in SHAPES]
    best = int(np.argmin(errors))
    return SHAPES[best] if errors[best] < 0.25 * float(np.sum(alpha**2)) else None


def _read_motion(path: Points) -> tuple[str, ...] | None:
    """The direction before and after the turn, joined where they are the same; None where either is not clear."""
    if np.isnan(path[[0, TURN, -1]]).any():
        return None
    first = _direction((path[TURN] - path[0]) / TURN)
    second = _direction((path[-1] - path[TURN]) / (FRAMES - 1 - TURN))
    if first is None or second is None:
        return None
    return (first,) if first == second else (first, second)


def _direction(velocity: Points) -> str | None:
    """Still below a third of the world's speed, moving above half of it along one axis."""
    x, y = velocity / SPEED
    if max(abs(x), abs(y)) < 1 / 3:
        return "still"
    if max(abs(x), abs(y)) < 1 / 2 or min(abs(x), abs(y)) > 0.5 * max(abs(x), abs(y)):
        return None
    axis = (int(np.sign(x)), 0) if abs(x) > abs(y) else (0, int(np.sign(y)))
    return next(name for name, direction in MOTIONS.items() if direction == axis)


def _smoothness(objects: tuple[Seen, ...], steady: bool) -> float:
    """exp(-jerk): 1 for an even path (a turn at the turning frame is even), 0.37 at half a pixel of mean jerk."""
    if not objects or not steady or any(np.isnan(seen.path).any() for seen in objects):
        return 0.0
    bends = np.linalg.norm(np.diff(np.stack([seen.path for seen in objects]), n=2, axis=1), axis=-1)
    bends = np.delete(bends, TURN - 1, axis=1)
    return float(np.exp(-bends.mean() / 0.5))


def _cleanness(clip: Points, ground: Points, objects: tuple[Seen, ...]) -> float:
    """exp(-residual): how far the pixels are from a clean drawing of what was seen, per object-sized area."""
    drawing = np.broadcast_to(ground, clip.shape).copy()
    for seen in objects:
        if seen.shape is None or seen.colour is None:
            continue
        x, y = seen.path[:, 0, None, None], seen.path[:, 1, None, None]
        alpha = np.nan_to_num(coverage(seen.shape, _X - x, _Y - y))[..., None]
        drawing += alpha * (np.array(COLOURS[seen.colour], float) - drawing)
    area = 40.0 * max(len(objects), 1)
    return float(np.exp(-np.abs(clip - drawing).mean(axis=-1).sum(axis=(1, 2)).mean() / (40.0 * area)))


# --------------------------------------------------------------------------------------------------- what is checked


@dataclass(frozen=True)
class Checks:
    """The answer to each thing that the caption asks, by name."""

    answers: dict[str, bool]

    @property
    def strict(self) -> bool:
        return all(self.answers.values())

    @property
    def fraction(self) -> float:
        return sum(self.answers.values()) / len(self.answers)


def check(seen: Observation, scene: Scene) -> Checks:
    """Background, count, and each thing's colour, shape and motion; for pairs also the relation at the first frame."""
    wanted = scene.things if scene.relation else scene.things * scene.count
    answers = {
        "background": seen.background == scene.background,
        "count": seen.steady and len(seen.objects) == len(wanted),
    }
    matched = _match(wanted, seen.objects)
    things = [(scene.things[0], matched)] if not scene.relation else [(t, [m]) for t, m in zip(scene.things, matched)]
    for number, (thing, objects) in enumerate(things, start=1):
        answers[f"colour {number}"] = all(o is not None and o.colour == thing.colour for o in objects)
        answers[f"shape {number}"] = all(o is not None and o.shape == thing.shape for o in objects)
        answers[f"motion {number}"] = all(o is not None and o.motions == thing.motions for o in objects)
    if scene.relation:
        first, second = matched
        answers["relation"] = (
            first is not None
            and second is not None
            and _relation(first.path[0] - second.path[0], 0.0) == scene.relation
        )
    return Checks(answers)


def _match(wanted: tuple[Thing, ...], objects: tuple[Seen, ...]) -> list[Seen | None]:
    """The object that answers for each wanted thing: the same colour where there is one, else any that is left."""
    free = list(objects)
    chosen: list[Seen | None] = [None] * len(wanted)
    for same_colour in (True, False):
        for i, thing in enumerate(wanted):
            if chosen[i] is None:
                hit = next((o for o in free if not same_colour or o.colour == thing.colour), None)
                if hit is not None:
                    free.remove(hit)
                    chosen[i] = hit
    return chosen


@lru_cache(maxsize=4096)
def scene_of(caption: str) -> Scene:
    """`parse`, remembered: checks of many samples ask for the same few captions."""
    return parse(caption)
