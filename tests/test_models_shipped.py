"""The shipped checkpoint: its size, its recipe, and that it draws what it is asked."""

import json

from models.generator import Generator, SamplerSettings
from models.pretrain import PretrainRecipe
from models.weights import SHIPPED
from palate import shapes
from palate.config import load


def test_the_shipped_checkpoint_is_small_and_says_which_recipe_made_it() -> None:
    assert SHIPPED.stat().st_size <= 8_000_000
    generator = Generator.load(SHIPPED)
    recipe = load(PretrainRecipe, SHIPPED.with_suffix(".toml"))
    assert PretrainRecipe.model_validate_json(json.dumps(generator.card["recipe"])) == recipe


def test_the_shipped_generator_draws_what_it_is_asked() -> None:
    caption = "a red circle moves left, on a white background"
    seeds = list(range(12))
    clips = Generator.load(SHIPPED).clips([caption] * 12, seeds, SamplerSettings())
    checks = [shapes.check(shapes.observe(clip), shapes.parse(caption)) for clip in clips]
    assert sum(one.strict for one in checks) >= 5
