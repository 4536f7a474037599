"""The shapes suite: captions whose answers a program can check, in two splits that share no meaning."""

from typing import cast, get_args

import numpy as np

from palate import shapes
from palate.errors import DataError
from palate.records import Case

SUITE = "shapes"
FAMILIES: tuple[shapes.Family, ...] = ("single", "events", "count")  # what the shipped generator was taught
AXES = ("prompt_following", "motion_quality", "visual_quality", "overall")
DEFAULT = 256


def cases(split: str, count: int | None, seed: int = 0) -> list[Case]:
    """`count` cases of different meaning from one split ("train" or "heldout"), the same for the same seed."""
    count = DEFAULT if count is None else count
    if split not in get_args(shapes.Split):
        raise DataError(f"no split {split!r} in the shapes suite", "use train or heldout")
    part = cast("shapes.Split", split)
    rng = np.random.default_rng([seed, split == "heldout"])
    scenes: dict[str, shapes.Scene] = {}
    repeats = 0  # in a row; each scene of these families comes up once in 600 draws or oftener
    while len(scenes) < count and repeats < 10_000:
        scene = shapes.draw_scene(rng, part, FAMILIES)
        repeats = repeats + 1 if scene.meaning in scenes else 0
        scenes.setdefault(scene.meaning, scene)
    if len(scenes) < count:
        raise DataError(f"the {split} split has fewer than {count} cases", f"ask for {len(scenes)} or fewer")
    return [_case(scene, part) for scene in scenes.values()]


def _case(scene: shapes.Scene, split: shapes.Split) -> Case:
    tags = {"family": scene.family, "background": scene.background, "objects": str(scene.count + len(scene.things) - 1)}
    return Case(suite=SUITE, prompt=str(scene), split=split, tags=tags, axes=AXES)
