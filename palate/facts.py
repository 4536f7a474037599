"""The five facts that a caption of the shapes world states, of a scene and of a text.

For one thing, or several equal ones: two different things in a relation are told by the caption alone.
"""

import re
from collections.abc import Mapping
from typing import Literal

from palate.errors import DataError
from palate.shapes import BACKGROUNDS, COLOURS, COUNTS, MOTIONS, SHAPES, Checks, Scene, Thing

Fact = Literal["count", "colour", "shape", "motion", "background"]
Facts = Mapping[Fact, str]
FACTS: tuple[Fact, ...] = ("count", "colour", "shape", "motion", "background")

_SHAPE = "|".join(SHAPES)
_ONE = re.compile(rf"\ba(?: \w+){{0,2}}? (?:{_SHAPE})\b")


def facts_of(scene: Scene) -> dict[Fact, str]:
    """Raises DataError for two different things."""
    if scene.relation:
        raise DataError(f"two things in {str(scene)!r}", "tell them by their caption")
    thing = scene.things[0]
    values = (COUNTS[scene.count - 1], thing.colour, thing.shape, " then ".join(thing.motions), scene.background)
    return dict(zip(FACTS, values))


def stated(text: str) -> dict[Fact, tuple[str, ...]]:
    """Every value that `text` gives each fact, in the words of captions; a fact it is silent about is left out.

    Directions are one value in their order: "left then up". More than one value is a contradiction.
    """
    words = re.findall(r"[a-z]+", text.lower())
    singular = [re.sub(rf"^({_SHAPE})e?s$", r"\1", word) for word in words]
    motions = [word for word in words if word in MOTIONS]
    counts = [word for word in words if word in COUNTS[1:]]
    found: dict[Fact, list[str]] = {
        "count": counts + [COUNTS[0]] * bool(_ONE.search(" ".join(words))),
        "colour": [word for word in words if word in COLOURS],
        "shape": [word for word in singular if word in SHAPES],
        "motion": [" then ".join(motions)] if motions else [],
        "background": [word for word in words if word in BACKGROUNDS],
    }
    return {fact: tuple(dict.fromkeys(values)) for fact, values in found.items() if values}


def possible(facts: Facts) -> bool:
    """Whether such a scene can exist: things turn from one direction to another, and only alone."""
    motions = facts.get("motion", "still").split(" then ")
    turns = len(motions) > 1
    return not turns or (
        len(motions) == 2 and len({*motions, "still"}) == 3 and facts.get("count", COUNTS[0]) == COUNTS[0]
    )


def scene_of_facts(facts: Facts) -> Scene:
    """The scene of five facts. Raises KeyError where one is missing."""
    thing = Thing(facts["colour"], facts["shape"], tuple(facts["motion"].split(" then ")))
    return Scene((thing,), facts["background"], COUNTS.index(facts["count"]) + 1)


def answers(checks: Checks) -> dict[Fact, bool]:
    """The verifier's answers about one kind of thing, by fact."""
    return {fact: checks.answers[fact if fact in checks.answers else f"{fact} 1"] for fact in FACTS}
