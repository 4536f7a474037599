"""What a user gives in the shapes world: rays have closed forms, conditions tell what captions say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate import givens, shapes
from palate.camera import pluecker, stance
from palate.caption import PARTS, Caption, integrity, read
from palate.errors import DataError
from palate.givens import CAMERAS, CONDITIONS, TELLS, Givens, Shot, caption, draw_shot, render, stated, told
from palate.shapes import Scene, Thing

SEEDS = st.integers(0, 2**32 - 1)
LENS = np.array([[4.0, 0, 3], [0, 4.0, 3], [0, 0, 1]])


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])


def test_rays_of_a_camera_at_the_origin_have_no_moment_and_point_through_their_pixels() -> None:
    rays = pluecker(LENS, np.eye(3)[None], np.zeros((1, 3)), 6)[0]
    assert (rays[:3] == 0).all()
    assert rays[3:, 0, 5] == pytest.approx(np.array([2.5, -2.5, 4]) / np.sqrt(2 * 2.5**2 + 16))  # row 0, column 5


def test_a_ray_of_a_known_camera_has_its_moment() -> None:
    """Standing at (0, 1, 0), looking along x: the middle ray has the moment (0, 1, 0) x (1, 0, 0) = (0, 0, -1)."""
    rays = pluecker(np.array([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]]), _turn(np.pi / 2)[None], np.eye(3)[1:2], 1)
    assert rays.reshape(-1) == pytest.approx([0, 0, -1, 1, 0, 0])


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_rays_are_lines_through_where_the_camera_stands(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stands, turned = rng.normal(size=(4, 3)), np.stack([_turn(angle) for angle in rng.uniform(-3, 3, 4)])
    rays = pluecker(LENS, turned, stands, 6)
    moment, direction = rays[:, :3], rays[:, 3:]
    assert np.linalg.norm(direction, axis=1) == pytest.approx(np.ones((4, 6, 6)))
    assert np.abs((moment * direction).sum(axis=1)).max() < 1e-12
    further = stands[:, :, None, None] + rng.normal(size=(4, 1, 6, 6)) * direction  # any point of a ray
    assert np.cross(further, direction, axis=1) == pytest.approx(moment)
    found, looks = stance(rays)
    assert found == pytest.approx(stands)
    assert looks == pytest.approx(turned @ np.array([0, 0, 1.0]))


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_camera_goes_where_its_name_says(camera: str) -> None:
    rng = np.random.default_rng(0)
    shot = Shot(Scene((Thing("red", "circle", ("still",)),), "white"), "nearby", camera, "clean")
    rays = render(shot, rng, ["camera"]).camera
    assert rays is not None
    stands, looks = stance(rays)
    gone, turned = stands[-1] - stands[0], looks[-1] - looks[0]
    way = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1), "in": (2, 1), "out": (2, -1)}
    if camera == "stays still":
        assert np.abs([gone, turned]).max() < 1e-9
    else:
        axis, sign = way[camera.split()[1]]
        moved = gone if camera.startswith("moves") else turned
        assert sign * moved[axis] > 0.2


@given(SEEDS, st.sets(st.sampled_from(CONDITIONS), min_size=1))
@settings(max_examples=150, deadline=None)
def test_a_true_caption_says_what_its_conditions_tell_and_no_more(seed: int, kinds: set[givens.Condition]) -> None:
    shot = draw_shot(np.random.default_rng(seed), "heldout")
    known = {fact: (value,) for fact, value in shot.facts.items() if fact in told(kinds)}
    for part, text in caption(shot, kinds).parts.items():
        assert stated(text) == {fact: known[fact] for fact in givens.SAYS[part] if fact in known}


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_conditions_show_the_facts_that_they_are_said_to_tell(seed: int) -> None:
    """Each fact, of the conditions by themselves, against the verifier of the world or by hand."""
    rng = np.random.default_rng(seed)
    shot = draw_shot(rng, "train")
    made = render(shot, rng)
    assert made.kinds == CONDITIONS
    count, thing = shot.scene.count, shot.scene.things[0]
    assert made.pose is not None
    assert made.depth is not None
    assert made.segmentation is not None
    assert made.identity is not None
    assert made.pose.shape == (count, shapes.FRAMES, 2)
    clip = np.rint(255 * (made.depth[..., None] / givens.DISTANCES[shot.distance] * [1, 1, 1])).astype(np.uint8)
    seen = shapes.observe(clip)  # the depth maps as a clip of white objects on black
    assert len(seen.objects) == count
    assert {(one.shape, one.motions) for one in seen.objects} == {(thing.shape, thing.motions)}
    assert set(np.unique(made.segmentation)) == set(range(count + 1))
    for number, path in enumerate(made.pose, 1):
        y, x = np.nonzero(made.segmentation == number)
        assert np.hypot(x.mean() + 0.5 - path[0, 0], y.mean() + 0.5 - path[0, 1]) < 0.7
    middle = made.identity[5:7, 5:7].reshape(-1, 3).mean(axis=0)
    assert np.abs(middle - shapes.COLOURS[thing.colour]).max() < 10
    if shot.style == "clean":
        assert made.image is not None
        picture = shapes.observe(np.repeat(made.image[None], shapes.FRAMES, axis=0))
        assert picture.background == shot.scene.background
        assert {(one.colour, one.shape) for one in picture.objects} == {(thing.colour, thing.shape)}


def test_only_keeps_what_is_named() -> None:
    made = render(draw_shot(np.random.default_rng(0), "train"), np.random.default_rng(0))
    assert made.only(["pose", "camera"]).kinds == ("pose", "camera")
    assert Givens().kinds == ()
    assert set().union(*TELLS.values()) == set(draw_shot(np.random.default_rng(0), "train").facts)


WHOLE = Caption(**dict.fromkeys(PARTS, "so"))


@pytest.mark.parametrize("around", ["{}", "```json\n{}\n```", "Here it is: {} I hope it helps."])
def test_a_caption_is_read_back(around: str) -> None:
    reply = around.replace("{}", WHOLE.model_dump_json())
    assert read(reply) == WHOLE
    assert integrity(reply) == 6


@pytest.mark.parametrize(
    ("reply", "parts"),
    [
        ("", 0),
        ("a red circle", 0),
        ("[1, 2]", 0),
        ('{"dense": "a", "style": "b"}', 2),
        (WHOLE.model_dump_json().replace('"so"', '" "', 1), 5),
        (WHOLE.model_dump_json().replace('"so"', "7", 1), 5),
        (WHOLE.model_dump_json().replace("}", ', "mood": "gay"}'), 6),
        (WHOLE.model_dump_json()[:-1], 0),
    ],
)
def test_what_is_no_caption_is_refused_and_its_parts_are_counted(reply: str, parts: int) -> None:
    with pytest.raises(DataError, match="no caption of six parts"):
        read(reply)
    assert integrity(reply) == parts
