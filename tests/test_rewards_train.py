"""Learning a reward from pairs: what it may see, what a step encodes, and that it can be stopped anywhere."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from models.codec import PatchCodec, grid_of
from models.conditions import LONGEST, VOCABULARY
from models.dit import DitShape
from models.fit import FitSettings
from palate import shapes
from palate.errors import CheckpointError, DataError, ImportRefusedError
from palate.media import encode_video
from palate.records import Case, Comparison, Judgement, Preference, Sample, Side, Verdict
from palate.store import Store
from rewards import train as training
from rewards.encoder import BLIND
from rewards.pairs import PairSet, Shown, from_preferences, from_videoalign, from_votes
from rewards.reward import Answer, Unit
from rewards.shapes_encoder import ShapesEncoder
from rewards.train import Comparing, Learner, RewardRecipe, part_of, split, train_encoder
from rewards.video_reward import VideoReward, raw_scores

AXES = ("overall", "visual_quality")
PATCH = (4, 5, 5)
VIDEOALIGN = Path(__file__).resolve().parents[2] / "shared" / "data" / "votes" / "videoalign" / "datasets" / "train"


def encoder(seed: int = 0) -> ShapesEncoder:
    """Its latents are the pixels."""
    values = PATCH[0] * PATCH[1] * PATCH[2] * 3
    codec = PatchCodec(PATCH, torch.zeros(values), torch.eye(values), torch.ones(values))
    torch.manual_seed(seed)
    return ShapesEncoder(DitShape(16, 1, 2, values, grid_of(PATCH), VOCABULARY, LONGEST), codec, AXES, BLIND)


def scene(index: int) -> shapes.Scene:
    return shapes.draw_scene(np.random.default_rng(index), "train", ("single",))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> PairSet:
    """24 prompts, three videos each under more and more noise: people see it, and call the last two the same."""
    folder = tmp_path_factory.mktemp("videos")
    videos, first, second, votes = [], [], [], []
    for prompt in range(24):
        rng = np.random.default_rng(prompt)
        clip = shapes.render(scene(prompt), rng)
        for number, noise in enumerate((0, 60, 60)):
            frames = np.clip(clip + noise * rng.standard_normal(clip.shape), 0, 255).astype(np.uint8)
            file = folder / f"{prompt}-{number}.mp4"
            encode_video(file, frames, shapes.FPS, 2)
            videos.append(Shown(str(scene(prompt)), file, "test"))
        rows = 3 * prompt
        for one, other, said in ((0, 1, 0), (2, 0, 2), (1, 2, 1)):
            first.append(rows + one)
            second.append(rows + other)
            votes.append([[0, 0, 0] if said == 1 else np.eye(3)[said], 3 * np.eye(3)[said]])
    return PairSet(AXES, tuple(videos), np.array(first), np.array(second), np.array(votes, float), 0, "test")


def recipe(steps: int = 6, **changes: object) -> RewardRecipe:
    fit = FitSettings(steps=steps, lr=3e-3, warmup=2, ema=0.5)
    return RewardRecipe(fit=fit, prompts=4, every=3, device="cpu").model_copy(update=changes)


def weights(module: torch.nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in module.state_dict().values()]


def test_axes_about_the_picture_cannot_see_the_prompt() -> None:
    network = encoder()
    clip = shapes.render(scene(0), np.random.default_rng(0))
    one, other = (network.prepare(Answer(str(scene(i)), clip, shapes.FPS)) for i in (0, 1))
    scores = network([one, other])
    overall, visual = scores.unbind(1)
    torch.testing.assert_close(visual[0], visual[1], rtol=0, atol=1e-6)
    assert not torch.equal(overall[0], overall[1])
    words = network.body.words.weight
    (gradient,) = torch.autograd.grad(visual.sum(), words, retain_graph=True)
    assert gradient[1:].abs().max() == 0  # 0 is the padding, all that it is shown
    (gradient,) = torch.autograd.grad(overall.sum(), words)
    assert gradient[1:].abs().max() > 0


def test_the_rate_of_frames_is_part_of_the_question() -> None:
    network = encoder()
    clip = shapes.render(scene(0), np.random.default_rng(0))
    plain = Answer(str(scene(0)), clip, shapes.FPS)
    twice = Answer(plain.prompt, clip.repeat(2, axis=0), 2 * shapes.FPS)
    slow = Answer(plain.prompt, clip, shapes.FPS / 2)
    odd = Answer(plain.prompt, clip[:, :20], shapes.FPS)
    values, reasons = raw_scores(network, [plain, slow, twice, odd, Answer("a poem", clip, shapes.FPS)])
    np.testing.assert_allclose(values[0], values[2], rtol=1e-5)
    assert np.isnan(values[[1, 3, 4]]).all()
    assert reasons[0] == reasons[2] == ""
    assert "15 frames at 8 a second" in reasons[1]
    assert "30 x 20" in reasons[3]
    assert "'poem'" in reasons[4]


def test_a_step_encodes_each_video_once_at_the_gradient_of_pair_by_pair(pairs: PairSet) -> None:
    learner = Learner(encoder(), recipe())
    objective = Comparing(learner, pairs, AXES, recipe())
    loss, _ = objective(0)
    loss.backward()
    rows = objective.rows_of(objective.due(0))
    assert objective.encoded == len(rows)  # three videos in three pairs; pair by pair it would be six encodings
    ours = [p.grad.clone() for p in learner.parameters() if p.grad is not None]
    learner.zero_grad()
    total = 0.0
    for row in rows:
        lead = torch.cat([learner([objective.prepared(int(side[row]))]) for side in (pairs.first, pairs.second)])
        total = total + objective._likelihood((lead[0] - lead[1])[None], np.array([row])).sum()
    (total / pairs.weight[rows].sum()).backward()  # type: ignore[union-attr]
    for a, b in zip(ours, [p.grad for p in learner.parameters() if p.grad is not None], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_prompts_are_split_once_and_for_all(pairs: PairSet) -> None:
    cut = split(pairs, recipe())
    prompts = [set(part.prompts) for part in cut.values()]
    assert sum(map(len, prompts)) == len(set(pairs.prompts)) == len(set.union(*prompts))
    assert part_of("a", recipe()) == part_of("a", recipe(steps=99))
    shares = [part_of(str(number), recipe()) for number in range(4000)]
    assert 0.08 < shares.count("test") / 4000 < 0.12
    with pytest.raises(DataError, match="leave none"):
        split(pairs.select(pairs.prompts == pairs.prompts[0]), recipe())


def test_it_learns_what_people_saw_says_so_on_its_card_and_comes_back_from_disk(pairs: PairSet, tmp_path: Path) -> None:
    told = recipe(30, every=30)
    made = train_encoder(encoder(), pairs, told, tmp_path)
    found = made.card["accuracy"]["visual_quality"]
    tested = split(pairs, told)["test"]
    assert found["value"] > 0.9
    assert found["n"] == (np.abs(tested.label("visual_quality")) == 1).sum()  # ties are not among the ordered
    assert made.card["test_loss"] < np.log(3)
    again = VideoReward.load(tmp_path / "reward.safetensors")
    answers = [video.answer() for video in pairs.videos[:3]]
    for ours, theirs in zip(made.score(answers), again.score(answers)):
        assert ours.unit is Unit.DEVIATIONS
        np.testing.assert_array_equal(ours.value, theirs.value)
    raw = VideoReward.load(tmp_path / "reward.safetensors", standardise=False).score(answers)[1]
    assert raw.unit is Unit.LOGITS
    assert raw.name == "video_reward.visual_quality"
    assert raw.value[0] > raw.value[1:].max()
    scale = again.calibration["visual_quality"]
    np.testing.assert_allclose((raw.value - scale.mean) / scale.deviation, again.score(answers)[1].value)
    (tmp_path / "other.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        VideoReward.load(tmp_path / "other.safetensors")


def test_a_run_that_was_stopped_ends_where_an_unbroken_run_ends(
    pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_encoder(encoder(), pairs, recipe(5), tmp_path / "whole")
    plain = Comparing.__call__

    def stopped(self: Comparing, step: int) -> object:
        if step == 4:
            raise KeyboardInterrupt
        return plain(self, step)

    monkeypatch.setattr(training.Comparing, "__call__", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_encoder(encoder(), pairs, recipe(5), tmp_path / "broken")
    monkeypatch.setattr(training.Comparing, "__call__", plain)
    broken = train_encoder(encoder(seed=9), pairs, recipe(5), tmp_path / "broken")
    assert whole.checkpoint == broken.checkpoint
    with pytest.raises(CheckpointError, match="another run"):
        train_encoder(encoder(), pairs, recipe(5, seed=1), tmp_path / "broken")


def test_it_stops_when_the_held_out_likelihood_no_longer_rises_and_keeps_the_best(
    pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([1.0, 0.8, 0.9, 0.85, 0.1])
    kept = []

    def held_out(self: Comparing) -> float:
        kept.append(weights(self.learner))
        return next(values)

    monkeypatch.setattr(training.Comparing, "held_out", held_out)
    made = train_encoder(encoder(), pairs, recipe(15, patience=2), tmp_path)
    assert made.card["validations"] == [1.0, 0.8, 0.9, 0.85]
    assert made.card["step"] == 6
    assert torch.equal(next(iter(made.encoder.state_dict().values())), kept[1][1])


def test_k_is_fixed_or_learned_and_ties_can_be_left_out(pairs: PairSet) -> None:
    fixed = Learner(encoder(), recipe(k=5.0))
    assert fixed.t.exp().tolist() == pytest.approx([5, 5], rel=1e-4)
    assert not fixed.tie.requires_grad
    learned = Learner(encoder(), recipe())
    Comparing(learned, pairs, AXES, recipe())(0)[0].backward()
    assert learned.tie.grad is not None
    assert learned.tie.grad[1] != 0
    untied = Comparing(Learner(encoder(), recipe()), pairs, AXES, recipe(ties="none"))
    assert untied.held_out() == pytest.approx(np.log(2), abs=0.01)  # per vote that is no tie, before any learning


def test_davidsons_ties_have_a_parameter_of_any_sign_and_a_margin_asks_for_a_lead(pairs: PairSet) -> None:
    fixed = Learner(encoder(), recipe(ties="davidson", k=0.5))
    assert fixed.t.tolist() == pytest.approx([np.log(0.5)] * 2)
    told = recipe(ties="davidson")
    learned = Learner(encoder(), told)
    Comparing(learned, pairs, AXES, told)(0)[0].backward()
    assert learned.tie.grad is not None
    assert learned.tie.grad[1] != 0
    rows = np.arange(len(pairs))
    lead = torch.zeros(len(pairs), 2)
    cost = Comparing(fixed, pairs, AXES, recipe(ties="davidson", k=0.5))._likelihood(lead, rows).sum()
    good, same, bad = pairs.votes.sum(axis=(0, 1))  # equals: same with probability nu / (2 + nu)
    assert float(cost) == pytest.approx(same * np.log(5) + (good + bad) * np.log(2.5), rel=1e-5)
    pressed = Comparing(Learner(encoder(), recipe()), pairs, AXES, recipe(ties="none", margin=0.57))
    won = float(pressed._likelihood(lead, rows).sum())
    assert won == pytest.approx((good + bad) * np.log1p(np.exp(0.57)), rel=1e-5)
    for idle in ({"ties": "rao_kupper", "margin": 0.5}, {"ties": "rao_kupper", "k": 0.9}):
        with pytest.raises(ValidationError):
            RewardRecipe.model_validate(idle)


def test_ratings_are_learned_by_regression_where_there_are_any(pairs: PairSet, tmp_path: Path) -> None:
    stars = np.tile([4.5, 2.0, 2.0], 24)[:, None].repeat(2, axis=1)
    stars[::7] = np.nan
    rated = dataclasses.replace(pairs, stars=stars)
    told = recipe(40, every=40, learn="ratings")
    learning = Comparing(Learner(encoder(), told), rated, AXES, told)
    values = torch.from_numpy(learning.values())
    known = np.isfinite(stars)
    assert learning.held_out() == pytest.approx(float(((values.numpy() - (stars - 3))[known] ** 2).mean()), rel=1e-5)
    made = train_encoder(encoder(), rated, told, tmp_path)
    assert made.card["test_loss"] < 0.85 * np.nanvar(stars)  # of the best constant: 1
    assert made.card["accuracy"]["visual_quality"]["value"] > 0.9
    reordered = rated.on(("visual_quality", "prompt_following"))
    assert reordered.stars is not None
    assert np.isnan(reordered.stars[:, 1]).all()
    assert np.array_equal(reordered.stars[:, 0], stars[:, 1], equal_nan=True)
    with pytest.raises(DataError, match="nobody rated"):
        Comparing(Learner(encoder(), told), pairs, AXES, told)


def test_a_reward_for_guidance_sees_all_videos_of_a_prompt_under_one_noise(pairs: PairSet) -> None:
    told = recipe(noised=0.5)
    learning = Comparing(Learner(encoder(), told), pairs, AXES, told)
    times = []
    for step in range(40):
        rows = learning.rows_of(learning.due(step)[:1])
        seen = [learning._seen(int(row), step) for row in np.unique([pairs.first[rows], pairs.second[rows]])]
        assert len({float(t) for *_, t in seen}) == 1
        times.append(float(seen[0][2]))
        plain = [learning.prepared(int(row)) for row in np.unique([pairs.first[rows], pairs.second[rows]])]
        noise = [(x - (1 - t) * x0) for (x, _, t), (x0, *_) in zip(seen, plain)]
        torch.testing.assert_close(noise[0], noise[1], atol=1e-4, rtol=1e-3)
    assert 10 <= times.count(0.0) <= 30
    assert max(times) > 0.8
    assert learning(0)[0] == learning(0)[0]


def test_the_record_becomes_pairs_with_every_vote(tmp_path: Path) -> None:
    with Store(str(tmp_path / "p.db")) as store:
        case = Case(suite="s", prompt="p")
        name = store.media.add_video(np.zeros((2, 16, 16, 3), np.uint8), 8)
        a, b = (Sample(case=case.id, system=system, media=name) for system in "ab")
        shown = Comparison(study="x", case=case.id, candidate=a.id, baseline=b.id, candidate_side=Side.LEFT)
        turned = Comparison(study="x", case=case.id, candidate=b.id, baseline=a.id, candidate_side=Side.LEFT)
        said = [(shown, Verdict.GOOD), (shown, Verdict.BOTH_BAD), (turned, Verdict.BAD), (turned, Verdict.GOOD)]
        judged = [
            Judgement(comparison=one.id, annotator=str(i), simulated=True, source="t", verdicts={"overall": verdict})
            for i, (one, verdict) in enumerate(said)
        ]
        chosen = Preference(
            study="x",
            case=case.id,
            axis="overall",
            winner=a.id,
            loser=b.id,
            weight=0.25,
            policy="t",
            judgements=tuple(one.id for one in judged),
            simulated=True,
        )
        store.add([case, a, b, shown, turned, *judged, chosen])
        found = from_votes(store, "x", ("motion_quality", "overall"))
        assert len(found) == 1
        swapped = found.videos[found.first[0]].system == "b"
        expected = [1, 1, 2] if swapped else [2, 1, 1]  # for a: won twice, once the same, lost once
        assert found.votes[0].tolist() == [[0, 0, 0], expected]
        assert np.isnan(found.label("motion_quality")).all()
        assert found.label("overall").tolist() == [-1 if swapped else 1]
        learned = from_preferences(store, [chosen])
        assert learned.votes[0, 0].tolist() == ([0, 0, 0.25] if swapped else [0.25, 0, 0])
        assert learned.digest != found.digest
        with pytest.raises(DataError, match="no votes"):
            from_votes(store, "y", ("overall",))


def test_videoaligns_table_is_read_as_it_is(tmp_path: Path) -> None:
    if not VIDEOALIGN.is_dir():
        pytest.skip(f"VideoAlign's example is not at {VIDEOALIGN}")
    found = from_videoalign(VIDEOALIGN / "example.csv")
    assert (len(found), len(found.videos), found.invalid) == (3, 6, 0)
    rows = (VIDEOALIGN / "example.csv").read_text().splitlines()
    assert found.votes.sum() == 3 * (len(rows) - 1)  # repeated rows count, and are one pair
    row = int(np.flatnonzero([p.startswith("The camera remains") for p in found.prompts])[0])
    a_first = found.videos[found.first[row]].file.name == "example_1_A.mp4"
    better = {axis: int(found.label(axis)[row]) for axis in found.axes}
    sign = 1 if a_first else -1
    assert better == {"visual_quality": -sign, "motion_quality": -sign, "prompt_following": sign}

    (tmp_path / "videos").symlink_to(VIDEOALIGN / "videos")
    spoiled = "\n".join([rows[0], rows[1].replace(",B,B,A,", ",invalid,B,A,")])
    (tmp_path / "t.csv").write_text(spoiled)
    one = from_videoalign(tmp_path / "t.csv")
    assert one.invalid == 1
    assert np.isnan(one.label("visual_quality")).all()
    (tmp_path / "t.csv").write_text(rows[0] + "\n" + rows[1].replace("example_1_A", "example_9_A"))
    with pytest.raises(ImportRefusedError, match="line 2: there is no video"):
        from_videoalign(tmp_path / "t.csv")
    head, row = f"{rows[0]},VQ_stars_A,VQ_stars_B", rows[1]
    (tmp_path / "t.csv").write_text(f"{head}\n{row},4,\n{row},5,2.5\n")
    read = from_videoalign(tmp_path / "t.csv")
    stars = {video.file.name: line.tolist() for video, line in zip(read.videos, read.stars)}  # type: ignore[arg-type]
    assert stars["example_1_A.mp4"] == pytest.approx([4.5, np.nan, np.nan], nan_ok=True)
    assert stars["example_1_B.mp4"][0] == 2.5
    assert read.digest != from_videoalign(VIDEOALIGN / "example.csv").digest
    (tmp_path / "t.csv").write_text(f"{head}\n{row},six,\n")
    with pytest.raises(ImportRefusedError, match="line 2: 'six' is no rating"):
        from_videoalign(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ImportRefusedError, match="lacks a column"):
        from_videoalign(tmp_path / "t.csv")


CHILD = """
import pickle, sys
from pathlib import Path
sys.path.insert(0, "tests")
from models.launch import joined
from test_rewards_train import encoder, recipe, train_encoder
pairs = pickle.loads(Path(sys.argv[1]).read_bytes())
with joined():
    train_encoder(encoder(), pairs, recipe(6), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(pairs: PairSet, tmp_path: Path) -> None:
    import pickle

    (tmp_path / "pairs").write_bytes(pickle.dumps(pairs))
    (tmp_path / "child.py").write_text(CHILD)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": ".", "OMP_NUM_THREADS": "1"}
    both = [*command, str(tmp_path / "child.py"), str(tmp_path / "pairs"), str(tmp_path / "two")]
    subprocess.run(both, env=environment, check=True, capture_output=True)
    one = train_encoder(encoder(), pairs, recipe(6), tmp_path / "one")
    two = VideoReward.load(tmp_path / "two" / "reward.safetensors")
    for a, b in zip(weights(one.encoder), weights(two.encoder), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    alone = json.loads((tmp_path / "one" / "validations.json").read_text())["values"]
    together = json.loads((tmp_path / "two" / "validations.json").read_text())["values"]
    assert together == pytest.approx(alone, rel=1e-4)
