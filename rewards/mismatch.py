"""Rendered clips of the shapes world, each with its own caption and with one that is wrong in one fact.

Nobody has to judge these: they teach what a caption means, as matched image and text teach a vision-language model
before it becomes a reward.
"""

from dataclasses import replace

import numpy as np

from palate import shapes
from rewards.reward import Answer

FAMILIES: tuple[shapes.Family, ...] = ("single", "events", "count")


def mismatched(count: int, seed: int) -> list[tuple[Answer, Answer]]:
    """`count` pairs (right, wrong): one clip of the train split under two captions. A function of the seed."""
    rng = np.random.default_rng([seed, 5])
    pairs: list[tuple[Answer, Answer]] = []
    for _ in range(count):
        scene = shapes.draw_scene(rng, "train", FAMILIES)
        clip = shapes.render(scene, rng)
        wrong = wrong_in_one(scene, rng)
        pairs.append((Answer(str(scene), clip, shapes.FPS), Answer(str(wrong), clip, shapes.FPS)))
    return pairs


def wrong_in_one(scene: shapes.Scene, rng: np.random.Generator) -> shapes.Scene:
    """The scene with its background, count, or its first thing's colour, shape or last motion changed."""
    thing = scene.things[0]
    motions = [one for one in shapes.MOTIONS if one not in thing.motions]
    changes = [
        replace(scene, background=_other(shapes.BACKGROUNDS, scene.background, rng)),
        replace(scene, things=(replace(thing, colour=_other(shapes.COLOURS, thing.colour, rng)), *scene.things[1:])),
        replace(scene, things=(replace(thing, shape=_other(shapes.SHAPES, thing.shape, rng)), *scene.things[1:])),
        replace(
            scene,
            things=(
                replace(thing, motions=(*thing.motions[:-1], motions[int(rng.integers(len(motions)))])),
                *scene.things[1:],
            ),
        ),
    ]
    if scene.family in ("single", "count"):
        changes.append(replace(scene, count=1 + (scene.count - 1 + int(rng.integers(1, 3))) % 3))
    return changes[int(rng.integers(len(changes)))]


def _other(words: object, word: str, rng: np.random.Generator) -> str:
    choices = [one for one in words if one != word]  # type: ignore[attr-defined]
    return choices[int(rng.integers(len(choices)))]
