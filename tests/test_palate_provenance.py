import json
import subprocess
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import palate.version
from palate.accords import accords
from palate.digest import digest
from palate.errors import RecordError
from palate.gsb import contests, slices
from palate.provenance import Node, as_text, to_json, walk
from palate.records import Case, Comparison, Figure, Judgement, Preference, Run, Sample, Score, Verdict
from palate.report import figures, score_difference, score_figure
from palate.standings import standings
from palate.store import Store
from palate.version import code_version

BASE, NEW, START = "b" * 64, "a" * 64, "0" * 64


@pytest.fixture
def store(tmp_path):
    with Store(str(tmp_path / "palate.db")) as opened:
        yield opened


@pytest.fixture
def world(store):
    """The loop, once: pretraining, base samples, votes, preferences, DPO, new samples, and blind votes on them."""
    pretrained = Run(
        task="model pretrain", recipe={"steps": 9}, code="0.1.0+abc", seed=5, parents=(START,), outputs=(BASE,)
    )
    cases = [Case(suite="s", prompt=f"prompt {i}", tags={"subject": "cat; dog" if i % 2 else "dog"}) for i in range(6)]
    base = {c.id: [Sample(case=c.id, system="base", seed=seed, checkpoint=BASE) for seed in (1, 2)] for c in cases}
    store.add([pretrained, *cases, *(one for pair in base.values() for one in pair)])
    liked = []
    for one, other in base.values():
        shown, vote = ask(store, "train", one, other, "ann", True)
        liked.append(
            Preference(
                study="study",
                case=shown.case,
                axis="overall",
                winner=one.id,
                loser=other.id,
                weight=1,
                policy="p",
                judgements=(vote.id,),
                simulated=True,
            )
        )
    aligned = Run(
        task="align dpo",
        recipe={"beta": 2},
        code="0.1.0+def",
        seed=6,
        parents=(BASE, *(one.id for one in liked)),
        outputs=(NEW,),
    )
    store.add([*liked, aligned])
    for one, _ in base.values():
        new = Sample(case=one.case, system="new", seed=1, checkpoint=NEW)
        scores = [Score(sample=sample.id, scorer="judge", value=float(i)) for i, sample in enumerate((new, one))]
        store.add([new, *scores, Score(sample=new.id, scorer="judge", failure="no reply")])
        for person in ("bob", "eve"):
            ask(store, "final", new, one, person, False)
            ask(store, "final", new, one, person, True)
        ask(store, "final", new, one, "bob", False, role="gold")
    return store


def ask(
    store: Store,
    study: str,
    candidate: Sample,
    baseline: Sample,
    person: str,
    simulated: bool,
    role: Literal["normal", "gold"] = "normal",
) -> tuple[Comparison, Judgement]:
    ids = {"candidate": candidate.id, "baseline": baseline.id}
    shown = Comparison(study=study, case=candidate.case, candidate_side=None, role=role, **ids)
    vote = Judgement(
        comparison=shown.id, annotator=person, simulated=simulated, source="t", verdicts={"overall": Verdict.GOOD}
    )
    store.add([candidate, baseline, shown, vote])
    return shown, vote


def reported(store, tag=None, axis="overall"):
    """The figures that `palate report gsb` stores of the final study."""
    votes = store.votes(study="final", axis=axis)
    sliced = slices(store.select(Case), tag) if tag else None
    found = figures(
        contests(votes, slices=sliced),
        standings(votes)[0],
        accords(votes),
        {"study": "final", **({"by": tag} if tag else {})},
    )
    store.add(found)
    return found


def nodes(node: Node):
    yield node
    for inner in node.behind:
        yield from nodes(inner)


def records(node: Node, kind):
    return {one.id: one for each in nodes(node) for one in each.records if isinstance(one, kind)}


@given(st.lists(st.text()), st.randoms())
def test_digest_forgets_order_alone(ids, random):
    mixed = random.sample(ids, len(ids))
    assert digest(mixed) == digest(iter(ids))
    assert digest([*ids, "x"]) != digest(ids)
    assert digest([*ids, "x"]) != digest([*ids, "x", "x"])


def test_every_figure_finds_its_rows_again(world):
    found = [*reported(world), *reported(world, tag="subject")]
    found += [score_figure(world, "judge", system, "s", "heldout") for system in ("new", "base")]
    found.append(score_difference(world, "judge", "new", "base", "s", "heldout"))
    world.add(found)
    assert {one.simulated for one in found} == {True, False}
    assert {one.selection.get("slice") for one in found} == {None, "cat", "dog"}
    for figure in found:
        walked = walk(world, figure.id)
        rows = records(walked, Judgement if figure.evidence == "judgements" else Score)
        what = {"judgements": "verdicts", "scores": "scores"}[figure.evidence]
        assert walked.behind[0].title == f"the same {figure.rows} {what} as when it was computed"
        assert figure.rows <= len(rows)


def test_the_walk_reaches_the_first_run(world):
    figure = next(one for one in reported(world) if one.name == "gsb.overall.ratio" and not one.simulated)
    walked = walk(world, figure.id)
    assert {one.task for one in records(walked, Run).values()} == {"align dpo", "model pretrain"}
    first = {type(each.records[0]): each for each in walked.behind if each.records}
    assert first[Judgement].title == "12 judgements, annotator bob, eve, none simulated"
    assert len(first[Comparison].records) == 6
    assert len(first[Sample].records) == 12
    assert len(first[Case].records) == 6
    # behind the new checkpoint: the run, its preferences, their votes, the base's samples, the base's run, its start
    assert len(records(walked, Preference)) == 6
    assert {one.annotator for one in records(walked, Judgement).values()} == {"bob", "eve", "ann"}
    text = as_text(walked)
    for words in (
        "gsb.overall.ratio = ",
        "candidate new, baseline base",
        "… and 9 more (--all)",
        f"checkpoint {NEW[:12]} of 6 samples",
        'align dpo, seed 6, code 0.1.0+def, recipe {"beta": 2}',
        "6 preferences, 6 simulated",
        'model pretrain, seed 5, code 0.1.0+abc, recipe {"steps": 9}',
        f"checkpoint {START[:12]} of its start; no run in this store made it",
        "base, seed 1",
    ):
        assert words in text
    every = as_text(walked, every=True)
    assert "more (--all)" not in every
    assert all(id in every for id in records(walked, Judgement))
    told = json.loads(to_json(walked))
    assert told["records"][0] == {"id": figure.id, **figure.model_dump(mode="json")}


def test_rows_added_since_are_told(world):
    figure = next(one for one in reported(world) if one.name == "gsb.overall.net" and not one.simulated)
    shown = next(world.select(Comparison, study="final", role="normal"))
    late = Judgement(
        comparison=shown.id, annotator="late", simulated=False, source="t", verdicts={"overall": Verdict.BAD}
    )
    world.add([late])
    walked = walk(world, figure.id)
    assert "CHANGED: computed from 12 verdicts, and its selection now finds 13" in walked.behind[0].title
    assert late.id in records(walked, Judgement)
    world.add([Judgement(**{**late.model_dump(), "verdicts": {}, "skip": "slipped", "supersedes": late.id})])
    assert "the same 12 verdicts" in walk(world, figure.id).behind[0].title


def test_a_selection_that_is_not_understood_is_told(world):
    figure = next(one for one in reported(world) if not one.simulated)
    other = Figure(**{**figure.model_dump(), "selection": {**figure.selection, "moon": "full"}, "digest": "0" * 64})
    world.add([other])
    assert "CANNOT BE CHECKED: this version does not know how to select by moon" in as_text(walk(world, other.id))


def test_walks_from_other_records(world):
    liked = next(world.select(Preference))
    assert records(walk(world, liked.id), Judgement).keys() == set(liked.judgements)
    assert [one.task for one in records(walk(world, liked.id), Run).values()] == ["model pretrain"]
    sample = next(world.select(Sample, system="new"))
    assert {one.task for one in records(walk(world, sample.id[:-4]), Run).values()} == {"align dpo", "model pretrain"}
    case = world.get(sample.case)
    assert walk(world, case.id).behind == ()
    run = next(one for one in world.select(Run) if one.task == "align dpo")
    assert len(records(walk(world, run.id), Preference)) == 6
    with pytest.raises(RecordError, match="is not in"):
        walk(world, "run-" + "0" * 24)


def test_superseded_judgements_are_behind_their_successors(store):
    case = Case(suite="s", prompt="p")
    store.add([case])
    one, other = (Sample(case=case.id, system=system) for system in "ab")
    _, first = ask(store, "s", one, other, "ann", False)
    chain = [first]
    for verdict in ("bad", "same"):
        content = {**chain[-1].model_dump(), "verdicts": {"overall": verdict}, "supersedes": chain[-1].id}
        chain.append(Judgement(**content))
        store.add([chain[-1]])
    assert records(walk(store, chain[-1].id), Judgement).keys() == {one.id for one in chain}


def test_runs_that_go_in_a_circle_end(store):
    """A run of no steps makes the checkpoint it began with."""
    still = Run(task="align dpo", recipe={}, code="c", seed=0, parents=(BASE, "judgement-" + "0" * 24), outputs=(BASE,))
    case = Case(suite="s", prompt="p")
    sample = Sample(case=case.id, system="base", checkpoint=BASE)
    store.add([still, case, sample])
    for id in (sample.id, still.id):
        text = as_text(walk(store, id))
        assert text.count("(above)") == 1
        assert "1 parents of kind judgement are not in this store" in text


def test_a_long_walk_is_quick(world):
    """A thousand votes more, and no query for each of them."""
    shown = next(world.select(Comparison, study="final", role="normal"))
    world.add(
        Judgement(
            comparison=shown.id, annotator=f"{i}", simulated=False, source="t", verdicts={"overall": Verdict.SAME}
        )
        for i in range(1000)
    )
    figure = next(one for one in reported(world) if one.name == "gsb.overall.net" and not one.simulated)
    assert len(records(walk(world, figure.id), Judgement)) >= 1012
    assert len(as_text(walk(world, figure.id)).splitlines()) < 80


# -------------------------------------------------------------------------------------------------------- version


def git(folder, *arguments):
    told = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b.example", *arguments]
    return subprocess.run(told, check=True, capture_output=True, text=True).stdout.strip()


def version_in(folder, monkeypatch):
    monkeypatch.setattr(palate.version, "__file__", str(folder / "palate" / "version.py"))
    code_version.cache_clear()
    try:
        return code_version()
    finally:
        code_version.cache_clear()


def test_the_version_names_the_commit(tmp_path, monkeypatch):
    checkout, outside = tmp_path / "checkout", tmp_path / "outside"
    (checkout / "palate").mkdir(parents=True)
    (outside / "palate").mkdir(parents=True)
    plain = version_in(outside, monkeypatch)
    assert "+" not in plain
    git(checkout, "init")
    (checkout / "palate" / "version.py").write_text("")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "one")
    commit = git(checkout, "rev-parse", "HEAD")[:12]
    assert version_in(checkout, monkeypatch) == f"{plain}+{commit}"
    (checkout / "palate" / "version.py").write_text("changed")
    assert version_in(checkout, monkeypatch) == f"{plain}+{commit}+dirty"
    # installed inside somebody else's checkout
    assert version_in(checkout / "venv", monkeypatch) == plain
