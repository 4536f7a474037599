"""`palate reward` on a small record, as a person would call it."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from palate import shapes
from palate.cli import palate
from palate.errors import ConfigError
from palate.provenance import as_text, walk
from palate.records import Case, Comparison, Estimate, Figure, Judgement, Run, Sample, Score, Side, Verdict
from palate.store import Store
from rewards.audit import Finding, Reliability
from rewards.audited import Audited, audit_figures, counted
from rewards.cli import reward


def record_of(folder: Path, prompts: int) -> str:
    """Two systems, of which people prefer the clean one."""
    url = str(folder / "p.db")
    with Store(url) as store:
        for index in range(prompts):
            rng = np.random.default_rng(index)
            scene = shapes.draw_scene(rng, "train", ("single",))
            clip = shapes.render(scene, rng)
            noisy = np.clip(clip + 60 * rng.standard_normal(clip.shape), 0, 255).astype(np.uint8)
            case = Case(suite="shapes", prompt=str(scene), split="train", tags={"n": str(index)})
            media = [store.media.add_video(frames, shapes.FPS, 2) for frames in (clip, noisy)]
            clean, spoiled = (
                Sample(case=case.id, system=system, media=name) for system, name in zip(("clean", "noisy"), media)
            )
            failed = Sample(case=case.id, system="clean", seed=1, failure="out of memory")
            asked = Comparison(
                study="s", case=case.id, candidate=clean.id, baseline=spoiled.id, candidate_side=Side.LEFT
            )
            said = Judgement(
                comparison=asked.id, annotator="a", simulated=True, source="t", verdicts={"overall": Verdict.GOOD}
            )
            store.add([case, clean, spoiled, failed, asked, said])
    return url


def test_a_reward_is_trained_scores_is_audited_and_examined(tmp_path: Path) -> None:
    store, out = record_of(tmp_path, 12), str(tmp_path / "run")
    sizes = ["fit.steps=2", "every=2", "prompts=2", "layers=1", "validation=0.3", "test=0.3"]
    asked = ["train", "--store", store, "--study", "s", "--axes", "overall", "--out", out, "device=cpu", *sizes]
    told = CliRunner().invoke(reward, [*asked, "--json"], catch_exceptions=False)
    facts = json.loads(told.stdout)
    assert facts["pairs"] == 12 == sum(facts["split"].values())
    assert facts["accuracy"]["overall"]["n"] == facts["split"]["test"] > 0
    again = CliRunner().invoke(reward, asked, catch_exceptions=False)
    assert "accuracy on prompts it never saw" in again.stdout
    shown = CliRunner().invoke(
        reward,
        ["score", "--store", store, "--reward", f"{out}/reward.safetensors", "--system", "clean"],
        catch_exceptions=False,
    )
    assert "24 scores of 24 samples, 12 failed; 24 added" in shown.stdout
    with Store(store) as record:
        rows = list(record.select(Score))
        assert {one.failure for one in rows if one.value is None} == {"out of memory"}
        assert {one.unit for one in rows if one.value is not None} == {"standard deviations"}
        assert all(one.scorer.endswith(f"{facts['checkpoint'][:12]}.overall") for one in rows)
        (run,) = record.select(Run)
        assert run.outputs == (facts["checkpoint"],)

    checked = CliRunner().invoke(
        reward,
        [
            "audit",
            "--store",
            store,
            "--reward",
            f"{out}/reward.safetensors",
            "--study",
            "s",
            "--answers",
            "6",
            "--json",
        ],
        catch_exceptions=False,
    )
    found = json.loads(checked.stdout)
    refused = {one["probe"]: one["refused"] for one in found["findings"]}
    assert refused["half rate"] == refused["length"] == 6
    assert refused["codec"] == 0
    assert found["calibration"]["overall"]["ece"]["n"] == found["groups"]["a"]["n"] == 12
    assert found["simulated"]
    with Store(store) as record:
        kept = {one.name: one for one in record.select(Figure, id=found["figures"])}
    assert len(kept) == len(found["figures"]) == len(found["findings"]) + 2 + 1
    codec, shuffled = (kept[f"audit.overall.{probe}"] for probe in ("codec", "prompt_shuffle"))
    assert codec.estimate.value == next(one["change"]["value"] for one in found["findings"] if one["probe"] == "codec")
    assert (codec.rows, codec.simulated, codec.selection["reward"]) == (12, True, facts["checkpoint"])
    assert shuffled.selection["expected"] == "falls"
    assert "6 answers were refused" in kept["audit.overall.length"].estimate.note
    for one in kept.values():
        told = CliRunner().invoke(palate, ["trace", one.id, "--store", store], catch_exceptions=False).stdout
        assert "the same 12 verdicts as when it was computed" in told
        assert f"checkpoint {facts['checkpoint'][:12]} of the reward\n    {run.id}" in told
    examined = CliRunner().invoke(
        reward,
        ["bench", "--store", store, "--reward", f"{out}/reward.safetensors", "--study", "s", "--systems", "noisy"],
        catch_exceptions=False,
    )
    assert [line.split("  ")[0] for line in examined.stdout.splitlines()[2:]] == [
        "reward.safetensors",
        "random",
        "all ties",
    ]


def test_an_audit_keeps_people_and_programs_apart_and_notices_votes_that_came_since(tmp_path: Path) -> None:
    """One person orders the pairs the other way; a second and a gold pair must not be counted with the program's."""
    store = record_of(tmp_path, 12)
    with Store(store) as record:
        asked = list(record.select(Comparison))
        gold = asked[0].model_copy(update={"role": "gold"})
        repeat = asked[1].model_copy(update={"role": "repeat"})
        said = [
            Judgement(comparison=one.id, annotator=name, simulated=False, source="t", verdicts=verdicts)
            for name, verdicts in (("ada", {"overall": Verdict.BAD}), ("bob", {"overall": Verdict.GOOD, "x": "good"}))
            for one in (asked[:8] if name == "ada" else [*asked[4:6], gold, repeat])
        ]
        record.add([gold, repeat, *said])
        votes = counted(record, "s", ("overall",))
        assert (len(votes), votes.simulated.any()) == (11, False)
        finding = Finding("codec", "video_reward.overall", estimate(0.1), 0, "free", None)
        curve = Reliability("overall", (), (), (), estimate(0.2), estimate(0.1))
        groups = {"first": ("overall", ["ada"], estimate(0.5)), "second": ("overall", ["bob"], estimate(0.6))}
        shown = audit_figures(Audited("a" * 64, "s", ("overall",), votes), [finding], {"overall": curve}, groups)
        record.add(shown)
        assert [one.rows for one in shown] == [11, 11, 11, 8, 3]
        assert all(f"the same {one.rows} verdicts" in as_text(walk(record, one.id)) for one in shown)
        later = Judgement(
            comparison=asked[9].id, annotator="bob", simulated=False, source="t", verdicts={"overall": Verdict.SAME}
        )
        record.add([later])
        changed = ["CHANGED" in as_text(walk(record, one.id)) for one in shown]
        assert changed == [True, True, True, False, True]  # of those, only the first group's are as they were


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.1, high=value + 0.1, n=8, method="known")


def test_one_source_of_pairs_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one source"):
        CliRunner().invoke(
            reward, ["train", "--store", str(tmp_path / "p.db"), "--out", str(tmp_path)], catch_exceptions=False
        )
