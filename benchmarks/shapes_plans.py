"""The draws behind the shapes-omni suite: references, what is asked of them, and what must be seen in the answer."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.shapes_looks import FLASH, FOG, NEGATIVE, Look
from palate import shapes
from palate.errors import DataError
from palate.shapes import FRAMES, Frames, Points, Scene, Thing


@dataclass(frozen=True, eq=False)
class Wanted:
    """One shot of the answer.

    Attributes:
        scene: what must be seen.
        centres: (objects, FRAMES, 2) where a right answer may have its objects.
        fixed: (objects, FRAMES) where a right answer must have them.
        look: what must lie over it all.
    """

    scene: Scene
    centres: Points
    fixed: NDArray[np.bool_]
    look: Look | None = None

    @property
    def things(self) -> tuple[Thing, ...]:
        return self.scene.things if self.scene.relation else self.scene.things * self.scene.count

    def clip(self) -> Frames:
        kinds = [(thing.colour, thing.shape) for thing in self.things]
        plain = shapes.paint(self.scene.background, kinds, self.centres)
        return self.look.put_on(plain) if self.look else plain


@dataclass(frozen=True, eq=False)
class Plan:
    """A case as it was drawn. A reference is (frames, height, width, 3); a picture has one frame."""

    prompt: str
    wanted: tuple[Wanted, ...]
    references: dict[str, Frames] = field(default_factory=dict)

    def truth(self) -> Frames:
        """A right answer."""
        return np.concatenate([shot.clip() for shot in self.wanted])


@lru_cache(maxsize=512)
def plan(task: str, number: int) -> Plan:
    """The `number`-th case of a task, whose every answer is a held-out scene.

    Raises:
        DataError: no such task in this world.
    """
    if task not in _DRAWS:
        raise DataError(f"no task {task!r} in the shapes world", f"choose one of {', '.join(_DRAWS)}")
    rng = np.random.default_rng([number, list(_DRAWS).index(task)])
    while True:
        drawn = _DRAWS[task](rng)
        if drawn and all(shapes.split_of(shot.scene) == "heldout" for shot in drawn.wanted):
            return drawn


_GOING = tuple(motion for motion in shapes.MOTIONS if motion != "still")
_ELEMENTS = ("Rex", "Pip", "Zia", "Bo")
_MIXED = {"purple": "red and blue", "green": "yellow and blue"}
_SUMS = {2: ("1 + 1", "5 - 3", "6 / 3"), 3: ("1 + 2", "7 - 4", "9 / 3")}


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def _thing(rng: np.random.Generator, motions: tuple[str, ...] | None = None) -> Thing:
    colour, shape = _pick(rng, tuple(shapes.COLOURS)), _pick(rng, shapes.SHAPES)
    return Thing(colour, shape, motions or (_pick(rng, tuple(shapes.MOTIONS)),))


def _ground(rng: np.random.Generator) -> str:
    return _pick(rng, tuple(shapes.BACKGROUNDS))


def _does(thing: Thing) -> str:
    """Such as "moves left"."""
    return str(Scene((thing,), "grey")).removeprefix(f"a {thing.name} ").removesuffix(", on a grey background")


def _shot(scene: Scene, centres: Points, fixed: slice | list[int] | None = None, of: int | None = None) -> Wanted:
    """A shot whose objects, or the one numbered `of`, are fixed in some frames; None: nowhere."""
    where = np.zeros(centres.shape[:2], bool)
    if fixed is not None:
        where[slice(None) if of is None else of, fixed] = True
    return Wanted(scene, centres, where)


ALWAYS = slice(None)


def _still(thing: Thing, ground: str, rng: np.random.Generator) -> Frames:
    """A picture of a thing."""
    return shapes.render(Scene((Thing(thing.colour, thing.shape, ("still",)),), ground), rng)[:1]


def _two(rng: np.random.Generator) -> tuple[Scene, Points] | None:
    """Two things of different colours, and where they are."""
    things = (_thing(rng), _thing(rng))
    if things[0].colour == things[1].colour:
        return None
    scene = Scene(things, _ground(rng), 1, _pick(rng, tuple(shapes.RELATIONS)))
    return scene, shapes.place(scene, rng)


def _one(rng: np.random.Generator, moves: bool = False) -> tuple[Thing, str, Points]:
    thing, ground = _thing(rng, (_pick(rng, _GOING),) if moves else None), _ground(rng)
    return thing, ground, shapes.place(Scene((thing,), ground), rng)


def _clip(thing: Thing, ground: str, centres: Points) -> Frames:
    return shapes.paint(ground, [(thing.colour, thing.shape)], centres)


def _text(rng: np.random.Generator) -> Plan:
    scene = shapes.draw_scene(rng, "heldout")
    return Plan(str(scene), (_shot(scene, shapes.place(scene, rng)),))


def _add(rng: np.random.Generator) -> Plan | None:
    if not (drawn := _two(rng)):
        return None
    scene, centres = drawn
    new, old = scene.things
    asked = f"Add a {new.name} that {_does(new)}, {scene.relation} the {old.name}, to @Video_1. Keep all else."
    return Plan(asked, (_shot(scene, centres, ALWAYS, of=1),), {"@Video_1": _clip(old, scene.background, centres[1:])})


def _remove(rng: np.random.Generator) -> Plan | None:
    if not (drawn := _two(rng)):
        return None
    scene, centres = drawn
    gone, stays = scene.things
    asked = f"Remove the {gone.name} from @Video_1. Keep all else."
    left = Scene((stays,), scene.background)
    return Plan(asked, (_shot(left, centres[1:], ALWAYS),), {"@Video_1": _shot(scene, centres).clip()})


def _changed(rng: np.random.Generator, task: str) -> Plan | None:
    """One thing becomes another, or takes another colour, or stands on another background; it moves as it did."""
    thing, ground, centres = _one(rng)
    other, elsewhere = _thing(rng, thing.motions), ground
    if task == "attribute":
        other = Thing(other.colour, thing.shape, thing.motions)
        asked = f"Make the {thing.name} in @Video_1 {other.colour}. Keep all else."
    elif task == "background":
        other, elsewhere = thing, _ground(rng)
        asked = f"Give @Video_1 a {elsewhere} background. Keep all else."
    else:
        asked = f"Replace the {thing.name} in @Video_1 with a {other.name}. Keep all else."
    if (other, elsewhere) == (thing, ground):
        return None
    return Plan(
        asked, (_shot(Scene((other,), elsewhere), centres, ALWAYS),), {"@Video_1": _clip(thing, ground, centres)}
    )


def _image_reference(rng: np.random.Generator, handle: str = "@Image_1") -> Plan:
    thing, ground, centres = _one(rng)
    subject = "The object of @Image_1" if handle == "@Image_1" else handle
    asked = f"{subject} {_does(thing)}, on a {ground} background."
    return Plan(asked, (_shot(Scene((thing,), ground), centres),), {handle: _still(thing, _ground(rng), rng)})


def _element_reference(rng: np.random.Generator) -> Plan:
    return _image_reference(rng, f"@{_pick(rng, _ELEMENTS)}")


def _composition(rng: np.random.Generator) -> Plan | None:
    if not (drawn := _two(rng)):
        return None
    scene, centres = drawn
    first, second = scene.things
    asked = (
        f"The object of @Image_1 {_does(first)}, {scene.relation} the object of @Image_2 that {_does(second)}, "
        f"on a {scene.background} background."
    )
    references = {"@Image_1": _still(first, _ground(rng), rng), "@Image_2": _still(second, _ground(rng), rng)}
    return Plan(asked, (_shot(scene, centres),), references)


def _motion_transfer(rng: np.random.Generator) -> Plan:
    subject, ground = _thing(rng), _ground(rng)
    go, then = (_GOING[at] for at in rng.choice(len(_GOING), 2, replace=False))
    driver = _thing(rng, (go, then) if rng.integers(2) else (go,))
    scene = Scene((Thing(subject.colour, subject.shape, driver.motions),), ground)
    asked = "The object of @Image_1 moves as the object of @Video_1 does, on the background of @Image_1."
    driving = shapes.render(Scene((driver,), _ground(rng)), rng)
    references = {"@Image_1": _still(subject, ground, rng), "@Video_1": driving}
    return Plan(asked, (_shot(scene, shapes.place(scene, rng)),), references)


def _first_frame(rng: np.random.Generator) -> Plan:
    thing, ground, centres = _one(rng)
    asked = f"@Image_1 is the first frame. The {thing.name} {_does(thing)}."
    return Plan(
        asked, (_shot(Scene((thing,), ground), centres, [0]),), {"@Image_1": _clip(thing, ground, centres[:, :1])}
    )


def _first_last_frame(rng: np.random.Generator) -> Plan:
    thing, ground, centres = _one(rng, moves=True)
    asked = f"@Image_1 is the first frame and @Image_2 the last. The {thing.name} goes straight from one to the other."
    ends = {
        handle: _clip(thing, ground, centres[:, at : at + 1])
        for handle, at in (("@Image_1", 0), ("@Image_2", FRAMES - 1))
    }
    return Plan(asked, (_shot(Scene((thing,), ground), centres, [0, FRAMES - 1]),), ends)


def _neighbour(rng: np.random.Generator, after: bool) -> Plan | None:
    """The shot after a clip begins where the clip ends; the shot before it ends where the clip begins."""
    thing, ground, centres = _one(rng)
    answer = Thing(thing.colour, thing.shape, (_pick(rng, tuple(shapes.MOTIONS)),))
    path = shapes.place(Scene((answer,), ground), rng)
    path = path - path[:, :1] + centres[:, -1:] if after else path - path[:, -1:] + centres[:, :1]
    if answer == thing or path.min() < shapes.MARGIN or path.max() > shapes.SIZE - shapes.MARGIN:
        return None
    if after:
        asked = f"The shot after @Video_1: from where it is at the end, the {thing.name} {_does(answer)}."
    else:
        asked = f"The shot before @Video_1: the {thing.name} {_does(answer)} and ends where @Video_1 has it first."
    at = [0] if after else [FRAMES - 1]
    return Plan(asked, (_shot(Scene((answer,), ground), path, at),), {"@Video_1": _clip(thing, ground, centres)})


def _visual_prompt(rng: np.random.Generator) -> Plan:
    """A picture with an arrow drawn from the thing the way it is to go."""
    thing, ground, centres = _one(rng, moves=True)
    picture = _clip(thing, ground, centres[:, :1])
    way = np.array(shapes.MOTIONS[thing.motions[0]])
    tip = centres[0, 0] + 9.0 * way
    ink = np.array((240, 140, 30), np.uint8)
    for along in np.arange(4.5, 9.0, 0.25):
        _dot(picture, centres[0, 0] + along * way, ink)
    for back in np.arange(0.0, 2.5, 0.25):
        for side in (-1, 1):
            _dot(picture, tip - back * way + side * back * way[::-1], ink)
    asked = "@Image_1 is the first frame, without the arrow drawn on it. The object goes where the arrow points."
    return Plan(asked, (_shot(Scene((thing,), ground), centres, [0]),), {"@Image_1": picture})


def _dot(picture: Frames, place: Points, ink: NDArray[np.uint8]) -> None:
    x, y = np.clip(place.astype(int), 0, shapes.SIZE - 1)
    picture[0, y, x] = ink


def _reasoning(rng: np.random.Generator) -> Plan:
    """A sum, a mixture of paints, or an opposite stands for the word."""
    thing, ground = _thing(rng, (_pick(rng, _GOING),)), _ground(rng)
    kind, count = int(rng.integers(3)), 1
    if kind == 0:
        count = int(rng.integers(2, 4))
        told = str(Scene((thing,), ground, count))
        asked = told.replace(shapes.COUNTS[count - 1], f"As many as {_pick(rng, _SUMS[count])}:", 1)
    elif kind == 1:
        thing = Thing(_pick(rng, tuple(_MIXED)), thing.shape, thing.motions)
        asked = str(Scene((thing,), ground)).replace(
            f"a {thing.name}", f"A {thing.shape} of the colour that {_MIXED[thing.colour]} paint make together", 1
        )
    else:
        against = {"left": "right", "right": "left", "up": "down", "down": "up"}[thing.motions[0]]
        asked = f"A {thing.name} moves the opposite of {against}, on a {ground} background"
    scene = Scene((thing,), ground, count)
    return Plan(f"{asked}.", (_shot(scene, shapes.place(scene, rng)),))


def _multi_shot(rng: np.random.Generator) -> Plan:
    first = _thing(rng)
    count = int(rng.integers(2, 7))
    things = [Thing(first.colour, first.shape, (_pick(rng, tuple(shapes.MOTIONS)),)) for _ in range(count)]
    scenes = [Scene((thing,), _ground(rng)) for thing in things]
    told = [f"[Shot {number}, 1 s] {scene}." for number, scene in enumerate(scenes, 1)]
    asked = "\n".join([f"A {first.name} in {count} shots.", *told])
    return Plan(asked, tuple(_shot(scene, shapes.place(scene, rng)) for scene in scenes))


def _looked(rng: np.random.Generator, look: Look, asked: str) -> Plan | None:
    """Everything stays where it is, under a look."""
    thing, ground, centres = _one(rng)
    if not look.shows_on(shapes.BACKGROUNDS[ground]):
        return None
    shot = replace(_shot(Scene((thing,), ground), centres, ALWAYS), look=look)
    return Plan(f"{asked} Keep all else.", (shot,), {"@Video_1": _clip(thing, ground, centres)})


_BEHIND = {"left": "right", "right": "left"}


def _new_angle(rng: np.random.Generator) -> Plan | None:
    """The only other angle on a flat world: from behind, where left is right."""
    thing, ground, centres = _one(rng)
    seen = Thing(thing.colour, thing.shape, tuple(_BEHIND.get(motion, motion) for motion in thing.motions))
    mirrored = centres * (-1, 1) + (shapes.SIZE, 0)
    if np.abs(mirrored - centres).max() < 4:  # too near to the middle to tell
        return None
    asked = "Show @Video_1 from behind, as if its picture were glass: what was on the left is on the right."
    shot = _shot(Scene((seen,), ground), mirrored, ALWAYS)
    return Plan(asked, (shot,), {"@Video_1": _clip(thing, ground, centres)})


def _camera_transfer(rng: np.random.Generator) -> Plan | None:
    """A camera that pans moves everything alike: three things in the clip that shows how, then two others."""
    if not (drawn := _two(rng)):
        return None
    scene, _ = drawn
    pan = (_pick(rng, _GOING),)
    first, second = (Thing(thing.colour, thing.shape, pan) for thing in scene.things)
    moved = Scene((first, second), scene.background, 1, scene.relation)
    centres = shapes.place(moved, rng)
    other = Thing(_pick(rng, tuple(shapes.COLOURS)), _pick(rng, shapes.SHAPES), pan)
    references = {
        "@Image_1": _shot(moved, centres).clip()[:1],
        "@Video_1": shapes.render(Scene((other,), _ground(rng), 3), rng),
    }
    asked = "@Image_1 is the first frame, where nothing moves by itself. Film it with the camera pan of @Video_1."
    return Plan(asked, (_shot(moved, centres, [0]),), references)


_DRAWS: dict[str, Callable[[np.random.Generator], Plan | None]] = {
    "text": _text,
    "image_reference": _image_reference,
    "element_reference": _element_reference,
    "add": _add,
    "remove": _remove,
    "replace": lambda rng: _changed(rng, "replace"),
    "attribute": lambda rng: _changed(rng, "attribute"),
    "background": lambda rng: _changed(rng, "background"),
    "next_shot": lambda rng: _neighbour(rng, after=True),
    "previous_shot": lambda rng: _neighbour(rng, after=False),
    "motion_transfer": _motion_transfer,
    "first_frame": _first_frame,
    "first_last_frame": _first_last_frame,
    "composition": _composition,
    "visual_prompt": _visual_prompt,
    "reasoning": _reasoning,
    "multi_shot": _multi_shot,
    "stylise": lambda rng: _looked(rng, NEGATIVE, "Turn @Video_1 into a photographic negative."),
    "weather": lambda rng: _looked(rng, FOG, "Let a pale fog thicken over @Video_1, until more than half is hidden."),
    "effects": lambda rng: _looked(rng, FLASH, "A white flash half-way through @Video_1, which fades at once."),
    "new_angle": _new_angle,
    "camera_transfer": _camera_transfer,
}
TASKS = tuple(_DRAWS)
