"""What a user gives beside words, in the shapes world, and the six-part caption that it tells.

A shot is a scene of one kind of thing, how far off it is, how the camera moves, and the picture's style. It is rendered
as each of Any2Caption's conditions; each tells some of the facts, and the true caption says those and no other. All
but the rays is seen by the camera of the first frame.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from palate import facts, shapes
from palate.camera import Floats, Rays, pluecker
from palate.caption import PARTS, Caption, Part
from palate.shapes import FRAMES, SIZE, Frames, Points, Scene, Split
from palate.wishes import FAMILIES

Condition = Literal["image", "depth", "pose", "camera", "identity", "segmentation"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
Told = facts.Fact | Literal["distance", "camera", "style"]

COUNTS = ("one", "two", "three")
DISTANCES: dict[str, float] = {"nearby": 0.9, "distant": 0.4}  # and the nearness that a depth map has of it
STYLES = ("clean", "grainy", "soft")
# How far the camera turns (yaw, pitch; radians) or goes (z) in a clip, at speed 1.
CAMERAS: dict[str, tuple[float, float, float]] = {
    "stays still": (0.0, 0.0, 0.0),
    "pans left": (-0.5, 0.0, 0.0),
    "pans right": (0.5, 0.0, 0.0),
    "tilts up": (0.0, 0.5, 0.0),
    "tilts down": (0.0, -0.5, 0.0),
    "moves in": (0.0, 0.0, 1.0),
    "moves out": (0.0, 0.0, -1.0),
}
UNKNOWN = "unknown"  # what a part says of which nothing is told
RAYS = 6  # rays a side
CROP = 12  # pixels a side of a picture of one object

TELLS: dict[Condition, frozenset[Told]] = {
    "image": frozenset(("count", "colour", "shape", "background", "style")),
    "depth": frozenset(("count", "shape", "motion", "distance")),
    "pose": frozenset(("count", "motion")),
    "camera": frozenset(("camera",)),
    "identity": frozenset(("colour", "shape")),
    "segmentation": frozenset(("count", "shape")),
}
SAYS: dict[Part, tuple[Told, ...]] = {
    "dense": ("count", "distance", "colour", "shape", "motion", "background", "style", "camera"),
    "main_object": ("count", "distance", "colour", "shape"),
    "background": ("background",),
    "camera": ("camera",),
    "style": ("style",),
    "action": ("motion",),
}
_CAMERA = re.compile(rf"\bcamera ({'|'.join(CAMERAS)})\b")


@dataclass(frozen=True)
class Shot:
    scene: Scene
    distance: str
    camera: str
    style: str

    @property
    def facts(self) -> dict[Told, str]:
        return {**facts.facts_of(self.scene), "distance": self.distance, "camera": self.camera, "style": self.style}


@dataclass(frozen=True, eq=False)
class Givens:
    """The conditions of one shot; None is not given."""

    image: Frames | None = None  # (SIZE, SIZE, 3), of the first frame
    depth: NDArray[np.float32] | None = None  # (FRAMES, SIZE, SIZE), nearness in 0..1
    pose: Points | None = None  # (objects, FRAMES, 2), centres in pixels
    camera: Rays | None = None  # (FRAMES, 6, RAYS, RAYS)
    identity: Frames | None = None  # (CROP, CROP, 3), one of the objects on grey
    segmentation: NDArray[np.uint8] | None = None  # (SIZE, SIZE), of the first frame: 0, or the object's number from 1

    @cached_property
    def kinds(self) -> tuple[Condition, ...]:
        return tuple(kind for kind in CONDITIONS if getattr(self, kind) is not None)

    def only(self, kinds: Collection[Condition]) -> "Givens":
        return Givens(**{one.name: getattr(self, one.name) for one in fields(self) if one.name in kinds})


def draw_shot(rng: np.random.Generator, split: Split) -> Shot:
    scene = shapes.draw_scene(rng, split, FAMILIES)
    return Shot(scene, *(str(rng.choice(tuple(words))) for words in (DISTANCES, CAMERAS, STYLES)))


def render(shot: Shot, rng: np.random.Generator, kinds: Collection[Condition] = CONDITIONS) -> Givens:
    """The shot as these conditions; where its objects start, the grain and the camera's speed and lens are random."""
    thing, count = shot.scene.things[0], shot.scene.count
    centres = shapes.place(shot.scene, rng)
    alpha = np.stack([_alpha(thing.shape, path) for path in centres])
    made: dict[str, NDArray[np.generic]] = {}
    if "image" in kinds:
        picture = shapes.paint(shot.scene.background, [(thing.colour, thing.shape)] * count, centres[:, :1])[0]
        made["image"] = _styled(picture, shot.style, rng)
    if "depth" in kinds:
        made["depth"] = (DISTANCES[shot.distance] * alpha.max(axis=0)).astype(np.float32)
    if "pose" in kinds:
        made["pose"] = centres
    if "camera" in kinds:
        made["camera"] = _path(shot.camera, rng)
    if "identity" in kinds:
        kept = np.array([[[CROP / 2, CROP / 2]]]) + rng.uniform(-0.5, 0.5, (1, 1, 2))
        made["identity"] = shapes.paint("grey", [(thing.colour, thing.shape)], kept)[0, :CROP, :CROP]
    if "segmentation" in kinds:
        first = alpha[:, 0]
        made["segmentation"] = np.where(first.max(axis=0) > 0.5, 1 + first.argmax(axis=0), 0).astype(np.uint8)
    return Givens(**made)  # type: ignore[arg-type]


def _alpha(shape: str, path: Points) -> Points:
    y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    return shapes.coverage(shape, x - path[:, 0, None, None], y - path[:, 1, None, None])


def _styled(picture: Frames, style: str, rng: np.random.Generator) -> Frames:
    if style == "soft":
        return np.asarray(ndimage.gaussian_filter(picture, (1.0, 1.0, 0.0)), np.uint8)
    noise = rng.normal(0, 18, picture.shape) if style == "grainy" else 0.0
    return np.rint(np.clip(picture + noise, 0, 255)).astype(np.uint8)


def _path(camera: str, rng: np.random.Generator) -> Rays:
    along = np.linspace(0, rng.uniform(0.5, 1.5), FRAMES)
    yaw, pitch, forward = (along * much for much in CAMERAS[camera])
    focal = RAYS * rng.uniform(0.8, 1.6)
    intrinsics = np.array([[focal, 0, RAYS / 2], [0, focal, RAYS / 2], [0, 0, 1]])
    start = rng.normal(size=3)  # the world's origin is anywhere
    return pluecker(intrinsics, _turned(yaw, pitch), start + forward[:, None] * np.array([0, 0, 1.0]), RAYS)


def _turned(yaw: Floats, pitch: Floats) -> Floats:
    """(frames, 3, 3): to the right by `yaw`, up by `pitch`; y points down."""
    one, none = np.ones_like(yaw), np.zeros_like(yaw)
    sideways = [[np.cos(yaw), none, np.sin(yaw)], [none, one, none], [-np.sin(yaw), none, np.cos(yaw)]]
    upwards = [[one, none, none], [none, np.cos(pitch), -np.sin(pitch)], [none, np.sin(pitch), np.cos(pitch)]]
    return np.moveaxis(np.array(sideways), -1, 0) @ np.moveaxis(np.array(upwards), -1, 0)


def told(kinds: Collection[Condition]) -> frozenset[Told]:
    """The facts that these conditions tell together."""
    return frozenset().union(*(TELLS[kind] for kind in kinds))


def caption(shot: Shot, kinds: Collection[Condition]) -> Caption:
    """What these conditions of the shot tell, and no more; a part of which they tell nothing is UNKNOWN."""
    return caption_of({name: value for name, value in shot.facts.items() if name in told(kinds)})


def caption_of(known: dict[Told, str]) -> Caption:
    count = shapes.COUNTS.index(known["count"]) if "count" in known else 0
    noun = known.get("shape", "object")
    noun += "" if not count else "es" if noun == "cross" else "s"
    adjectives = [COUNTS[count] if "count" in known else "", known.get("distance", ""), known.get("colour", "")]
    subject = " ".join(filter(None, [*adjectives, noun])) if known.keys() & SAYS["main_object"] else ""
    motion = known.get("motion", "")
    verb = ("stay" if motion == "still" else "move") + "s" * (not count)
    action = f"{verb} {motion}" if motion else ""
    places = {
        "background": "a {} background",
        "style": "a {} style",
        "camera": "the camera {}",
    }
    said = {name: form.format(known[name]) for name, form in places.items() if name in known}
    joined = {"background": "on", "style": "in", "camera": "while"}
    dense = [subject or "a scene", action, *(f"{word} {said[name]}" for name, word in joined.items() if name in said)]
    parts = {"dense": " ".join(filter(None, dense)), "main_object": subject, "action": action, **said}
    return Caption(**{part: parts.get(part) or UNKNOWN for part in PARTS})


def stated(text: str) -> dict[Told, tuple[str, ...]]:
    """Every value that `text` gives each fact, in the words of true captions; a fact it is silent about is left out."""
    cameras = _CAMERA.findall(text)
    rest = _CAMERA.sub("", text)
    words = re.findall(r"[a-z]+", rest.lower())
    found: dict[Told, tuple[str, ...]] = {**facts.stated(rest)}
    if COUNTS[0] in words:
        found["count"] = tuple(dict.fromkeys((shapes.COUNTS[0], *found.get("count", ()))))
    more: dict[Told, list[str]] = {
        "distance": [word for word in words if word in DISTANCES],
        "style": [word for word in words if word in STYLES],
        "camera": cameras,
    }
    found.update({name: tuple(dict.fromkeys(values)) for name, values in more.items() if values})
    return found
