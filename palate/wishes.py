"""What people ask for in the shapes world, and how: requests whose meaning is known, with a thought and a rewrite.

    2 blue boxes, white bg, up        Asked: two, blue, square, up, on white.        two blue squares move up, on a ...

A wish says all five facts, or, underspecified, some of them: then any value of the others grants it. Wishes of the two
splits share no meaning: the scene is of the split, and, of a wish that leaves facts open, so is what it does ask.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from palate import shapes, wording
from palate.facts import FACTS, Fact, Facts, answers, facts_of, scene_of_facts
from palate.shapes import Frames, Scene, Split

Kind = Literal["good", "terse", "reordered", "misspelt", "chinese", "underspecified", "injected", "handles"]
KINDS: tuple[Kind, ...] = (
    "good",
    "terse",
    "reordered",
    "misspelt",
    "chinese",
    "underspecified",
    "injected",
    "handles",
)
FAMILIES: tuple[shapes.Family, ...] = ("single", "events", "count")  # what five facts can say
_LEFT_OPEN: tuple[Fact, ...] = ("background", "colour", "shape", "motion")  # by an underspecified wish, some of these
_TAIL = re.compile(r", with @\w+(?: and @\w+)*$")


@dataclass(frozen=True)
class Wish:
    """What is meant, the facts that are asked, and the words. `handles` are as written, each once, in order."""

    kind: Kind
    text: str
    meant: Scene
    asked: tuple[Fact, ...] = FACTS
    handles: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[Fact, str]:
        """What is asked."""
        facts = facts_of(self.meant)
        return {fact: facts[fact] for fact in self.asked}

    @property
    def thought(self) -> str:
        facts = facts_of(self.meant)
        said = ", ".join("on " * (fact == "background") + facts[fact] for fact in self.asked)
        chosen = "; ".join(f"{fact}, so {facts[fact]}" for fact in FACTS if fact not in self.asked)
        kept = " and ".join(self.handles)
        return f"Asked: {said}." + f" Unsaid: {chosen}." * bool(chosen) + f" Keep {kept}." * bool(kept)

    @property
    def rewrite(self) -> str:
        return str(self.meant) + f", with {' and '.join(self.handles)}" * bool(self.handles)

    def granted(self, clip: Frames) -> dict[Fact, bool]:
        """Which of the asked facts a clip shows."""
        seen = answers(shapes.check(shapes.observe(clip), self.meant))
        return {fact: seen[fact] for fact in self.asked}


def without_handles(rewrite: str) -> str:
    """The caption in a rewrite: what the shapes generator, which takes no references, is told."""
    return _TAIL.sub("", rewrite)


def draw_wish(rng: np.random.Generator, split: Split, kinds: Sequence[Kind] = KINDS) -> Wish:
    """A random wish of a split, of one of the given kinds with equal chance."""
    kind = kinds[int(rng.integers(len(kinds)))]
    while True:
        scene = shapes.draw_scene(rng, split, FAMILIES)
        facts = facts_of(scene)
        match kind:
            case "good":
                return Wish(kind, str(scene), scene)
            case "terse":
                return Wish(kind, wording.terse(facts, rng), scene)
            case "reordered":
                return Wish(kind, wording.reordered(facts, rng), scene)
            case "misspelt":
                return Wish(kind, wording.misspelt(_said(facts, rng), rng), scene)
            case "chinese":
                return Wish(kind, wording.chinese(facts, rng), scene)
            case "injected":
                return Wish(kind, wording.injected(_said(facts, rng), split, rng), scene)
            case "handles":
                text, handles = wording.with_handles(_said(facts, rng), rng)
                return Wish(kind, text, scene, handles=handles)
            case "underspecified":
                left = rng.choice(_LEFT_OPEN, int(rng.integers(1, 4)), replace=False)
                some: dict[Fact, str] = {fact: value for fact, value in facts.items() if fact not in left}
                if shapes.split_of_meaning(repr(some)) == split:
                    return Wish(kind, wording.reordered(some, rng), scene, tuple(some))


def _said(facts: Facts, rng: np.random.Generator) -> str:
    """Half of the time as a caption says it."""
    return str(scene_of_facts(facts)) if rng.random() < 0.5 else wording.reordered(facts, rng)
