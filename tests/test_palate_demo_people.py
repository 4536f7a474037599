"""The demo with people: few enough comparisons for one person, and a reason where nobody can judge."""

import socket
from pathlib import Path

import pytest

import palate.demo
from palate.config import load
from palate.demo.loop import DemoRecipe
from palate.demo.people import served
from palate.errors import PalateError


def test_the_recipe_asks_no_more_of_a_person_than_half_an_hour():
    told = load(DemoRecipe, Path(palate.demo.__file__).with_name("label-studio.toml"), ())
    assert told.judges == "label-studio"
    asked = told.overlap * (told.prompts * (told.seeds - 1) + 2 * told.cases)
    assert asked * 30 <= 1800
    assert load(DemoRecipe, None, ()).judges == "simulated"


def test_without_a_server_the_demo_says_so_and_leaves_the_store_to_go_on_with(tmp_path, capfd):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(PalateError, match=r"nobody can judge.* port=N"), served(tmp_path / "demo", port):
            pass
    assert "palate: " in capfd.readouterr().err
    assert (tmp_path / "demo" / "palate.db").exists()
