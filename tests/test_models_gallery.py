"""What runs draw while they learn: the same prompts from the same noise, without any effect on what is learned."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pydantic import ValidationError
from sqlalchemy import create_engine, text
from tiny_generator import save

from alignment.recipe import ALGORITHMS
from alignment.reinforce import Setup, reinforce
from models.cli import model
from models.fit import Progress
from models.gallery import SHOWN, gallery_of, glimpses
from models.generator import Generator
from palate.config import load
from palate.media import MediaFolder
from palate.provenance import as_text, walk
from palate.records import Glimpse, Run
from palate.store import Store

RUN = Run(task="test", recipe={}, code="0", seed=0)
PROMPTS = ["a red square moves left", "a blue circle moves up"]


def test_a_prompt_is_drawn_from_the_same_noise_at_every_look_and_stored_once(tmp_path: Path) -> None:
    generator = Generator.load(save(tmp_path / "tiny.safetensors"))
    gallery = gallery_of(generator, PROMPTS, tmp_path, every=2, last=5)
    for step in range(6):
        gallery(Progress(step, 0.0, {}))
    with Store(str(tmp_path / "r.db")) as store:
        store.add([RUN, *glimpses(tmp_path, RUN, store.media)])
        kept = list(store.select(Glimpse, run=RUN.id))
        assert {(one.step, one.place, one.prompt) for one in kept} == {
            (step, place, prompt) for step in (0, 2, 4, 5) for place, prompt in enumerate(PROMPTS)
        }
        assert len({one.media for one in kept}) == 2  # nothing was learned, so nothing else is drawn
        assert store.media.video(kept[0].media).frames.shape[1] >= 200
        assert f"step {kept[0].step} of {RUN.id}" in as_text(walk(store, kept[0].id))


def test_other_weights_draw_something_else_and_without_steps_nothing_is_drawn(tmp_path: Path) -> None:
    generator = Generator.load(save(tmp_path / "tiny.safetensors"))
    gallery = gallery_of(generator, PROMPTS, tmp_path, every=1, last=1)
    gallery(Progress(0, 0.0, {}))
    generator.network.head.weight.data *= -1
    gallery(Progress(1, 0.0, {}))
    made = glimpses(tmp_path, RUN, MediaFolder(tmp_path / "media"))
    assert len({one.media for one in made}) == len(made) == 4
    gallery_of(generator, PROMPTS, tmp_path / "none", every=0, last=1)(Progress(0, 0.0, {}))
    assert glimpses(tmp_path / "none", RUN, MediaFolder(tmp_path / "media")) == []
    with pytest.raises(ValidationError):
        Glimpse(run=RUN.id, step=-1, place=0, prompt="x", media=made[0].media)


def test_looking_changes_nothing_that_a_run_on_a_reward_learns(tmp_path: Path) -> None:
    base = save(tmp_path / "tiny.safetensors")
    small = ("rollout.prompts=2", "rollout.group=2", "rollout.steps=2", "fit.steps=3", "trackers=[]")
    made = []
    with Store(str(tmp_path / "r.db")) as store:
        for every in (0, 2):
            recipe = load(ALGORITHMS["rwr"].recipe, None, (*small, f"show_every={every}"))
            made.append(reinforce(store, Setup.of("rwr", recipe, base), tmp_path / str(every)))
        weights = [Generator.load(one.path).network.state_dict() for one in made]
        assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
        kept = list(store.select(Glimpse))
    assert {one.step for one in kept} == {0, 2}
    assert len(kept) == 2 * SHOWN
    assert all(len({one.prompt for one in kept if one.place == place}) == 1 for place in range(SHOWN))


def test_pretraining_keeps_what_it_drew_and_looking_changes_nothing_there(tmp_path: Path) -> None:
    store, base, made = str(tmp_path / "r.db"), save(tmp_path / "tiny.safetensors"), []
    for every in (0, 2):
        told = [f"start={base}", "clips=8", "batch=2", "fit.steps=3", "fit.watch_every=1", f"show_every={every}"]
        out = tmp_path / str(every)
        CliRunner().invoke(model, ["pretrain", "--store", store, "--out", str(out), *told], catch_exceptions=False)
        made.append(Generator.load(out / "generator.safetensors").network.state_dict())
    assert all(np.array_equal(made[0][name], made[1][name]) for name in made[0])
    with Store(store) as record:
        assert {one.step for one in record.select(Glimpse)} == {0, 2}
        assert record.count(Glimpse) == 2 * SHOWN


def test_an_older_store_is_given_the_table(tmp_path: Path) -> None:
    url = str(tmp_path / "r.db")
    Store(url).close()
    engine = create_engine(f"sqlite:///{url}")
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE glimpse"))
        connection.execute(text("DELETE FROM migration WHERE number >= 3"))
    engine.dispose()
    with Store(url) as store:
        assert store.count(Glimpse) == 0
