"""What the dashboards read is what the store says, kept up to date, and never written."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from dashboard_records import judged, partial

from dashboards.ledger import Ledger, Snapshot
from dashboards.reader import Reader
from palate.errors import StoreError
from palate.gsb import contests
from palate.records import Case, Comparison, Judgement, Sample, Verdict
from palate.standings import standings
from palate.store import Store
from palate.votes import Votes


def everything(snapshot: Snapshot) -> Votes:
    return snapshot.votes(snapshot.standing)


def same(ours: Votes, theirs: Votes) -> bool:
    """The same verdicts, in whatever order."""

    def rows(votes: Votes) -> list[tuple[object, ...]]:
        return sorted(zip(*(getattr(votes, field.name).tolist() for field in fields(Votes))))

    return rows(ours) == rows(theirs)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "palate.db")


def test_the_ledger_holds_the_votes_that_the_store_says_stand(url: str) -> None:
    judged(url, simulated=False)
    with Store(url) as store:
        reader = Reader(url)
        votes = everything(reader.snapshot())
        assert len(votes) > 900
        assert same(votes, store.votes())


def test_what_the_ledger_knows_beforehand_changes_no_number(url: str) -> None:
    """Hashes of ids are kept: a contest's digest has to be the one of hashes computed when they are needed."""
    judged(url, simulated=False, prompts=12)
    ours = everything(Reader(url).snapshot())
    with Store(url) as store:
        theirs = store.votes()
    assert ours.judgement.hashes is not None
    assert theirs.judgement.hashes is None
    assert contests(ours) == contests(theirs)
    assert [one.basis for one in standings(ours)[0]] == [one.basis for one in standings(theirs)[0]]


def test_new_votes_and_changed_minds_are_read_without_reading_the_old_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(url, simulated=False, prompts=12)
    with Store(url) as store:
        reader, ledger = Reader(url), Ledger(Store(url, read_only=True))
        before = ledger.refresh(reader.counts)
        one = next(iter(store.select(Judgement)))
        changed = one.model_copy(update={"verdicts": {"overall": Verdict.BOTH_BAD}, "supersedes": one.id})
        case = Case(suite="late", prompt="late")
        pair = [Sample(case=case.id, system=system) for system in ("late", "old")]
        asked = Comparison(study="late", case=case.id, candidate=pair[0].id, baseline=pair[1].id, candidate_side=None)
        fresh = Judgement(
            comparison=asked.id, annotator="late", simulated=False, source="s", verdicts={"overall": Verdict.GOOD}
        )
        store.add([changed, case, *pair, asked, fresh])
        cleared: list[bool] = []
        monkeypatch.setattr(ledger, "_clear", lambda: cleared.append(True))
        after = ledger.refresh(Reader(url).counts)
        assert not cleared
        assert same(everything(after), store.votes())
        assert len(everything(after)) == len(everything(before)) - len(one.verdicts) + 2
        assert len(after.judgement_ids) == len(before.judgement_ids) + 2


def test_a_page_is_computed_again_when_votes_come_and_not_before(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboards.reader.FRESH_SECONDS", 0.0)
    judged(url, simulated=False, prompts=12)
    reader, computed = Reader(url), []
    for _ in range(3):
        reader.once("a", lambda: computed.append(1))
    assert len(computed) == 1
    first = reader.snapshot()
    assert reader.snapshot() is first
    with Store(url) as store:
        one = next(iter(store.select(Judgement)))
        store.add([one.model_copy(update={"source": "again"})])
    reader.once("a", lambda: computed.append(1))
    assert len(computed) == 2
    assert len(reader.snapshot().judgement_ids) == len(first.judgement_ids) + 1


def test_people_and_simulations_never_meet(url: str) -> None:
    judged(url, simulated=False, prompts=10)
    judged(url, simulated=True, prompts=10)
    snapshot = Reader(url).snapshot()
    assert snapshot.kinds() == [False, True]
    for simulated in (False, True):
        votes = snapshot.votes(snapshot.chosen(simulated))
        assert len(votes) > 0
        assert set(votes.simulated.tolist()) == {simulated}
        assert all(name.startswith("simulated") == simulated for name in votes.annotator.present())


def test_a_selection_is_what_the_same_mask_of_the_stores_votes_is(url: str) -> None:
    judged(url, simulated=False)
    snapshot = Reader(url).snapshot()
    with Store(url) as store:
        votes = store.votes(axis="overall")
    wanted = votes.select(
        (votes.role == "normal") & np.isin(votes.candidate, ["new", "old"]) & np.isin(votes.baseline, ["new", "old"])
    )
    assert same(snapshot.votes(snapshot.chosen(False, None, "overall", ("new", "old"))), wanted)
    both = snapshot.pairs(snapshot.chosen(False, None, "overall"))
    assert both == {("new", "old"): 240, ("third", "old"): 240}


def test_the_dashboards_store_refuses_to_be_written(url: str) -> None:
    partial(url)
    before = Path(url).read_bytes()
    reader = Reader(url)
    with pytest.raises(StoreError, match="readonly"):
        reader.store.add([Case(suite="toy", prompt="another")])
    with Store(url) as store:
        assert store.count(Case) == reader.counts["case"] == 4
    assert Path(url).read_bytes() == before


@pytest.mark.postgres
def test_a_server_refuses_to_be_written_by_the_dashboards(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALATE_MEDIA", str(tmp_path))
    judged(postgres_url, simulated=False, prompts=4)
    reader = Reader(postgres_url)
    with Store(postgres_url) as store:
        assert same(everything(reader.snapshot()), store.votes())
    with pytest.raises(StoreError, match="read-only transaction"):
        reader.store.add([Case(suite="toy", prompt="another")])


def test_a_store_that_is_not_there_is_one_line_and_is_not_made(url: str) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        Reader(url)
    assert not Path(url).exists()
