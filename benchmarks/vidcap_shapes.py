"""A set of our own in VidCapBench's form, from the shapes world, where the truth about a video and a caption is known.

It stands in for the data that may not be passed on: videos are drawn from scenes, questions ask what a scene says, and
captions tell it right, wrong in some of its facts, or in part.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.shapes import FAMILIES
from benchmarks.vidcapbench import QA
from palate import shapes
from palate.shapes import Scene, Thing

FACTS = ("background", "colour", "shape", "motion", "count")
_NUMBERS = ("one", "two", "three")


def scenes(count: int, seed: int) -> list[Scene]:
    """Held-out scenes of the kinds that the shipped generator was taught."""
    rng = np.random.default_rng(seed)
    return [shapes.draw_scene(rng, "heldout", FAMILIES) for _ in range(count)]


def questions(scene: Scene) -> list[QA]:
    """One for each fact, in the order of `FACTS`."""
    thing = scene.things[0]
    motion = "stays still" if thing.motions == ("still",) else f"moves {' then '.join(thing.motions)}"
    return [
        QA(question="What colour is the background?", answer=scene.background, sub_category="background"),
        QA(question="What colour are the objects?", answer=thing.colour, sub_category="color"),
        QA(question="What shape are the objects?", answer=thing.shape, sub_category="subjects"),
        QA(question="How do the objects move?", answer=motion, sub_category="object motion"),
        QA(question="How many objects are there?", answer=_NUMBERS[scene.count - 1], sub_category="subjects"),
    ]


def mistold(scene: Scene, wrong: Sequence[str], rng: np.random.Generator) -> Scene:
    """The scene with these facts changed to others: what a careless captioner saw."""
    thing = scene.things[0]
    for fact in wrong:
        match fact:
            case "background":
                scene = replace(scene, background=_other(rng, tuple(shapes.BACKGROUNDS), scene.background))
            case "colour":
                thing = replace(thing, colour=_other(rng, tuple(shapes.COLOURS), thing.colour))
            case "shape":
                thing = replace(thing, shape=_other(rng, shapes.SHAPES, thing.shape))
            case "motion":
                thing = replace(thing, motions=(_other(rng, tuple(shapes.MOTIONS), thing.motions[0]),))
            case _:
                scene = replace(scene, count=int(_other(rng, ("1", "2", "3"), str(scene.count))))
                thing = Thing(thing.colour, thing.shape, thing.motions[:1])  # only one object has two motions
    return replace(scene, things=(thing,))


def _other(rng: np.random.Generator, words: tuple[str, ...], word: str) -> str:
    others = [one for one in words if one != word]
    return others[int(rng.integers(len(others)))]


def write(folder: Path, found: Sequence[Scene], captions: Sequence[str]) -> tuple[Path, Path]:
    """The questions and the captions as two files in VidCapBench's form."""
    asked, told = folder / "questions.jsonl", folder / "captions.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    asked.write_text(
        "".join(
            json.dumps({"video_dir": f"{at}.mp4", "QA_pairs": [qa.model_dump() for qa in questions(scene)]}) + "\n"
            for at, scene in enumerate(found)
        )
    )
    told.write_text(
        "".join(
            json.dumps({"video_dir": f"{at}.mp4", "model_generation": caption}) + "\n"
            for at, caption in enumerate(captions)
        )
    )
    return asked, told
