from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from palate.config import Settings, dump, load
from palate.errors import ConfigError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Fit(Settings):
    steps: int = Field(default=100, ge=1)
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)


class Adam(Settings):
    name: Literal["adam"] = "adam"
    decay: float = 0.0


class Muon(Settings):
    name: Literal["muon"] = "muon"
    momentum: float = 0.95


class Watch(Settings):
    every: int = 3
    optimiser: Adam | Muon = Field(default=Adam(), discriminator="name")


class Recipe(Settings):
    name: str
    watch: Watch = Watch(every=4)
    fit: Fit = Fit(steps=50, lr=0.5)
    colour: Colour = Colour.RED
    data: Path | None = None
    resume: bool = False
    axes: tuple[str, ...] = ()
    taste: dict[str, float] = Field(default={})
    optimiser: Adam | Muon = Field(default=Adam(), discriminator="name")
    rounds: list[Fit] = Field(default=[])
    since: date | None = None


RECIPE = """
name = "first"
axes = ["overall", "motion"]
colour = "blue"
data = "/tmp/data"
since = 2026-01-02
rounds = [{steps = 1}, {lr = 1}]

[fit]
steps = 7
betas = [0.8, 0.9]

[taste]
tie = 2.0

[optimiser]
name = "muon"
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def test_defaults_then_recipe_then_overrides(recipe):
    told = load(Recipe, recipe, ["fit.lr=1", "colour=red", "taste.side = 0.5", "resume=true", "name=a b=c"])
    assert told == Recipe(
        name="a b=c",
        fit=Fit(steps=7, lr=1.0, betas=(0.8, 0.9)),
        data=Path("/tmp/data"),
        resume=True,
        axes=("overall", "motion"),
        taste={"tie": 2.0, "side": 0.5},
        optimiser=Muon(),
        rounds=[Fit(steps=1), Fit(lr=1.0)],
        since=date(2026, 1, 2),
    )
    assert isinstance(told.fit.lr, float)
    assert load(Recipe, None, ["name=x", 'axes=["a"]', "optimiser.name=muon"]).axes == ("a",)
    assert load(Recipe, recipe, ["fit.steps=1", "fit.steps=2"]).fit.steps == 2
    assert load(Recipe, None, ["name=x", "fit.steps=2"]).fit == Fit(steps=2, lr=0.5)  # the rest of the default stays
    with pytest.raises(ValidationError, match="frozen"):
        told.name = "other"


def test_another_kind_in_a_table_of_a_table_keeps_what_lies_beside_it():
    told = load(Recipe, None, ["name=x", "watch.optimiser.name=muon", "watch.optimiser.momentum=0.5"])
    assert told.watch == Watch(every=4, optimiser=Muon(momentum=0.5))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["fit.stesp=3"], "override: fit.stesp is no setting, did you mean steps?"),
        (["fti.steps=3"], "override: fti is no setting, did you mean fit?"),
        (["optimiser.momentun=3"], "momentun is no setting, did you mean momentum?"),
        (["zzz=3"], "override: zzz is no setting: "),
        (["fit.steps=many"], "override: fit.steps: Input should be a valid integer, not 'many'"),
        (["fit.steps=1.5"], "fit.steps"),
        (["fit.steps=true"], "fit.steps"),
        (["fit.steps=0"], "greater than or equal to 1, not 0"),
        (["fit.lr=nan"], "override: fit.lr: Input should be a finite number"),
        (["fit.betas=[1.0]"], "fit.betas.1: Field required"),
        (["resume=1"], "resume: Input should be a valid boolean"),
        (["name=1"], "name: Input should be a valid string"),
        (["colour=green"], "override: colour: Input should be 'red' or 'blue', not 'green'"),
        (["rounds=[{steps = 0}]"], "override: rounds.0.steps"),
        (["name.x=1"], "name is no table"),
        (["steps"], "is not key=value"),
        (["=1"], "is not key=value"),
        (["fit.=1"], "is not key=value"),
        (["fit.steps=0", "resume=1"], "fit.steps"),
    ],
)
def test_a_wrong_override(recipe, overrides, words):
    with pytest.raises(ConfigError) as caught:
        load(Recipe, recipe, overrides)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_problem_is_told_with_its_place(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('colour = "blue"\nresume = "yes"\n[fit]\nstepz = 3\n')
    with pytest.raises(ConfigError) as caught:
        load(Recipe, path, ["fit.lr=fast"])
    message = str(caught.value)
    for words in (
        f"{path}: name: Field required",
        f"{path}: resume: Input should be a valid boolean, not 'yes'",
        f"{path}: fit.stepz is no setting, did you mean steps?",
        "override: fit.lr: Input should be a valid number, not 'fast'",
    ):
        assert words in message
    assert "\n" not in message
    with pytest.raises(ConfigError, match="settings: name: Field required"):
        load(Recipe, None, [])


def test_a_file_that_is_no_recipe(tmp_path):
    with pytest.raises(ConfigError, match=r"absent.toml cannot be read \(No such file"):
        load(Recipe, tmp_path / "absent.toml", [])
    (tmp_path / "bad.toml").write_text("name = first")
    with pytest.raises(ConfigError, match=r"bad.toml is not TOML .*line 1"):
        load(Recipe, tmp_path / "bad.toml", [])
    (tmp_path / "bad.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(ConfigError, match=r"bad.toml is not TOML"):
        load(Recipe, tmp_path / "bad.toml", [])


def test_a_line_break_adds_no_second_setting():
    assert load(Recipe, None, ["name=1\nresume = true"]) == Recipe(name="1\nresume = true")


text = st.text(st.characters(codec="utf-8"), max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
recipes = st.builds(
    Recipe,
    name=text,
    fit=st.builds(Fit, steps=st.integers(1, 2**62), lr=finite, betas=st.tuples(finite, finite)),
    colour=st.sampled_from(Colour),
    data=st.none() | text.filter(lambda name: "\0" not in name).map(Path),
    resume=st.booleans(),
    axes=st.lists(text, max_size=3).map(tuple),
    taste=st.dictionaries(text, finite, max_size=3),
    optimiser=st.builds(Adam, decay=finite) | st.builds(Muon, momentum=finite),
    rounds=st.lists(st.builds(Fit, lr=finite), max_size=2),
    since=st.none() | st.dates(),
)


@given(told=recipes)
def test_dump_round_trips(tmp_path_factory, told):
    path = tmp_path_factory.mktemp("dump", numbered=True) / "recipe.toml"
    path.write_text(dump(told), encoding="utf-8", newline="")
    assert load(Recipe, path, []) == told


def test_a_none_that_toml_cannot_say():
    class Limit(Settings):
        most: int | None = 5

    assert dump(Limit(most=3)) == "most = 3\n"
    with pytest.raises(ConfigError, match="Limit holds a None"):
        dump(Limit(most=None))
