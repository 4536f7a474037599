import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import fields
from typing import Literal

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from psycopg import sql
from record_strategies import worlds
from sqlalchemy import create_engine, inspect, update

import palate.schema
import palate.store
from palate.errors import MediaError, PalateError, RecordError, StoreError
from palate.records import RECORDS, Case, Comparison, Judgement, Preference, Run, Sample, Score, Side, Verdict
from palate.schema import MIGRATIONS, TABLES, Migration
from palate.store import Store

BOTH = [pytest.param("sqlite"), pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=BOTH)
def url(request, tmp_path):
    return f"sqlite:///{tmp_path}/palate.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def store(url, tmp_path):
    with Store(url, media=tmp_path / "media") as opened:
        yield opened


def a_study(
    people: int = 3,
    cases: int = 4,
    study: str = "s",
    role: Literal["normal", "gold"] = "normal",
    systems: tuple[str, str] = ("new", "old"),
):
    """Everybody says good on `overall` and bad on `motion`. The records, and by kind."""
    asked = [Case(suite="s", prompt=f"prompt {i}") for i in range(cases)]
    samples = [Sample(case=case.id, system=system, seed=7) for case in asked for system in systems]
    shown = [
        Comparison(
            study=study,
            case=one.case,
            candidate=one.id,
            baseline=other.id,
            candidate_side=[Side.LEFT, None][i % 2],
            role=role,
        )
        for i, (one, other) in enumerate(zip(samples[::2], samples[1::2]))
    ]
    judged = [
        Judgement(
            comparison=one.id,
            annotator=f"person {who}",
            simulated=who == 0,
            source="test",
            verdicts={"overall": Verdict.GOOD, "motion": Verdict.BAD},
        )
        for one in shown
        for who in range(people)
    ]
    return asked, samples, shown, judged


def everything(*parts):
    return [record for part in parts for record in part]


def test_a_table_has_the_fields_of_its_record():
    assert list(TABLES) == list(RECORDS)
    for kind, table in TABLES.items():
        own = set(RECORDS[kind].model_fields) - {"verdicts"}
        assert set(table.columns.keys()) == own | {"id", "recorded_at"}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=worlds())
def test_what_goes_in_comes_out(store, records):
    store.add(records)
    for record in records:
        found = store.get(record.id)
        assert found == record
        assert found.id == record.id
    for kind in RECORDS.values():
        mine = sorted((one for one in records if isinstance(one, kind)), key=lambda one: one.id)
        assert list(store.select(kind, id=[one.id for one in mine])) == mine
    assert store.add(records) == 0


def test_adding_twice_changes_nothing(store):
    records = everything(*a_study())
    assert store.add(reversed(records)) == len(records)
    assert store.add(records) == 0
    assert store.add([*records, records[0], Case(suite="s", prompt="another")]) == 1
    assert store.count(Case) == 5
    assert len(store.votes()) == 4 * 3 * 2


@pytest.mark.parametrize("kind", ["sample", "comparison", "judgement", "supersedes", "score", "preference"])
def test_an_unknown_reference_is_named_and_nothing_is_written(store, kind):
    asked, samples, shown, judged = a_study()
    absent = f"{kind}-" + "0" * 24
    bad, name = {
        "sample": (Sample(case="case-" + "0" * 24, system="x"), "case-" + "0" * 24),
        "comparison": (
            Comparison(study="s", case=asked[0].id, candidate=absent, baseline=samples[0].id, candidate_side=None),
            absent,
        ),
        "judgement": (
            Judgement(comparison=asked[0].id, annotator="a", simulated=False, source="t", skip="x"),
            asked[0].id,
        ),
        "supersedes": (
            Judgement(
                comparison=shown[0].id,
                annotator="a",
                simulated=False,
                source="t",
                skip="x",
                supersedes="judgement-" + "0" * 24,
            ),
            "judgement-" + "0" * 24,
        ),
        "score": (Score(sample="sample-" + "0" * 24, scorer="x", value=1), "sample-" + "0" * 24),
        "preference": (
            Preference(
                study="study",
                case=asked[0].id,
                axis="overall",
                winner=samples[0].id,
                loser=samples[1].id,
                weight=1,
                policy="p",
                judgements=("judgement-" + "0" * 24,),
                simulated=False,
            ),
            "judgement-" + "0" * 24,
        ),
    }[kind]
    with pytest.raises(RecordError, match=f"refers to {name}"):
        store.add([*everything(asked, samples, shown, judged), bad])
    assert all(store.count(kind) == 0 for kind in RECORDS.values())


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_what_no_database_holds_is_refused(store, seed):
    with pytest.raises(RecordError, match="64 bits"):
        store.add([Run(task="t", recipe={}, code="c", seed=seed)])
    with pytest.raises(RecordError, match="zero byte"):
        store.add([Case(suite="s\0", prompt="p")])


def test_select_and_count(store):
    asked, samples, shown, judged = a_study()
    store.add(everything(asked, samples, shown, judged))
    assert {one.id for one in store.select(Sample, system="new")} == {one.id for one in samples[::2]}
    assert store.count(Comparison, candidate_side=None) == 2
    assert store.count(Comparison, candidate_side=["left", None]) == 4
    assert store.count(Judgement, simulated=True, annotator=("person 0", "person 1")) == 4
    assert store.count(Sample, seed={7, 8}) == 8
    assert store.count(Sample, seed=[]) == 0
    assert list(store.select(Judgement, id=[])) == []
    for column in ("colour", "sampler"):
        with pytest.raises(RecordError, match=f"cannot be selected by '{column}': use one of id, case"):
            store.select(Sample, **{column: "red"})


def test_select_streams_in_order_beyond_one_chunk(store, monkeypatch):
    monkeypatch.setattr(palate.store, "CHUNK", 7)
    asked, samples, shown, judged = a_study(people=13)
    store.add(everything(asked, samples, shown, judged))
    assert list(store.select(Judgement)) == sorted(judged, key=lambda one: one.id)
    first = next(store.select(Judgement))  # a stream that is dropped keeps nothing locked
    store.add([Case(suite="s", prompt="meanwhile")])
    assert first == min(judged, key=lambda one: one.id)
    assert list(store.select(Judgement, id=[one.id for one in judged] + ["x"] * 40_000)) == list(
        store.select(Judgement)
    )
    assert len(store.votes()) == 4 * 13 * 2


def test_get_by_prefix(store):
    asked = a_study(cases=40)[0]
    store.add(asked)
    assert store.get(asked[0].id[:-6]) == asked[0]
    with pytest.raises(RecordError, match="more than one record"):
        store.get("case-")
    for unknown in ("case-" + "0" * 24, "case-0000000000", "run-"):
        with pytest.raises(RecordError, match="is not in"):
            store.get(unknown)
    for nonsense in ("dog-00", "case", "case-xyz", "case-%", asked[0].id + "0", ""):
        with pytest.raises(RecordError, match="is no record id"):
            store.get(nonsense)


def test_votes_are_those_that_stand(store):
    """Against a count by hand, in Python, of the same records."""
    asked, samples, shown, judged = a_study(people=4)
    old, *kept = judged
    changed = Judgement(**{**old.model_dump(), "verdicts": {"overall": "both_bad"}, "supersedes": old.id})
    again = Judgement(**{**old.model_dump(), "verdicts": {"overall": "same"}, "supersedes": changed.id})
    withdrawn = Judgement(**{**kept[5].model_dump(), "verdicts": {}, "skip": "slipped", "supersedes": kept[5].id})
    skipped = Judgement(comparison=shown[0].id, annotator="z", simulated=False, source="t", skip="does not play")
    other = a_study(people=1, study="gold", role="gold", systems=("x", "old"))
    store.add(everything(asked, samples, shown, judged, [changed, again, withdrawn, skipped], *other))

    standing = [one for one in [*kept, again] if one is not kept[5]]
    of = {one.id: one for one in everything(shown, samples, other[1], other[2])}
    expected = set()
    for one in [*standing, *other[3]]:
        pair = of[one.comparison]
        for axis, verdict in one.verdicts.items():
            sides = (of[pair.candidate].system, of[pair.baseline].system)
            more = (verdict.value, pair.candidate_side or "", pair.role, one.simulated, pair.study)
            expected.add((one.id, pair.id, pair.case, one.annotator, axis, *sides, *more))
    votes = store.votes()
    columns = [getattr(votes, field.name) for field in fields(votes)]
    assert {len(column) for column in columns} == {len(votes)} == {len(expected)}
    assert set(zip(*(column.tolist() for column in columns))) == expected
    assert votes.simulated.dtype == bool
    rows = list(zip(votes.judgement.tolist(), votes.axis.tolist()))
    assert rows == sorted(rows)
    assert len(store.votes(study="s", axis="overall", candidate="new", baseline="old")) == len(standing)
    assert len(store.votes(study="gold")) == 8
    assert len(store.votes(candidate="old")) == 0
    only = votes.select(votes.axis == "motion")
    assert only.axis.present() == ["motion"]
    assert len(only) == sum(row[4] == "motion" for row in expected)
    assert (only.candidate != only.baseline).all()
    assert votes.study.among(["gold", "s"]).all()
    assert not votes.study.among(["t"]).any()


def test_a_sample_needs_its_video(store):
    case = Case(suite="s", prompt="p")
    name = store.media.add_video(np.zeros((1, 2, 2, 3), np.uint8), 8.0)
    store.add([case, Sample(case=case.id, system="a", media=name)])
    with pytest.raises(MediaError, match="is not in"):
        store.add([Case(suite="s", prompt="q"), Sample(case=case.id, system="a", media="0" * 64 + ".mp4")])
    assert (store.count(Case), store.count(Sample)) == (1, 1)


def test_where_media_are(tmp_path, monkeypatch):
    monkeypatch.delenv("PALATE_MEDIA", raising=False)
    with Store(str(tmp_path / "palate.db")) as beside:
        assert beside.media.folder == tmp_path / "media"


@pytest.mark.postgres
def test_where_media_are_for_a_server(postgres_url, tmp_path, monkeypatch):
    monkeypatch.delenv("PALATE_MEDIA", raising=False)
    with Store(postgres_url) as shared:
        with pytest.raises(StoreError, match="set PALATE_MEDIA"):
            _ = shared.media
        monkeypatch.setenv("PALATE_MEDIA", str(tmp_path))
        assert shared.media.folder == tmp_path


def test_a_changed_row_is_noticed(store, url):
    asked = a_study()[0]
    store.add(asked)
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(update(TABLES["case"]).where(TABLES["case"].c.id == asked[0].id).values(prompt="forged"))
    engine.dispose()
    with pytest.raises(StoreError, match=f"{asked[0].id} no longer says"):
        store.get(asked[0].id)
    with pytest.raises(StoreError, match="no longer says"):
        list(store.select(Case))


# ------------------------------------------------------------------------------------------------------ processes

ADD = """
import os, signal, sys
from sqlalchemy import Engine, event
from palate.records import Case, Comparison, Judgement, Sample
from palate.store import Store

url, tags, wait, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
case = Case(suite="s", prompt="p")
one, other = (Sample(case=case.id, system=system) for system in "ab")
shown = Comparison(study="s", case=case.id, candidate=one.id, baseline=other.id, candidate_side=None)
judged = [
    Judgement(comparison=shown.id, annotator=f"{tag}{i}", simulated=True, source="t", verdicts={"overall": "good"})
    for tag in tags
    for i in range(count)
]
if wait == "die":
    @event.listens_for(Engine, "after_cursor_execute")
    def die(connection, cursor, statement, *_):
        if statement.startswith("INSERT INTO judgement"):
            os.kill(os.getpid(), signal.SIGKILL)
elif wait == "start":
    print("ready", flush=True)
    sys.stdin.readline()
with Store(url) as store:
    print(store.add([case, one, other, shown, *judged]))
"""


def adding(url, tags, wait, count):
    return subprocess.Popen(
        [sys.executable, "-c", ADD, url, tags, wait, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )


def test_killed_while_adding(url):
    with adding(url, "a", "die", 1000) as killed:
        assert killed.wait() == -signal.SIGKILL
    with Store(url) as store:
        assert {kind: store.count(kind) for kind in RECORDS.values()} == dict.fromkeys(RECORDS.values(), 0)
    with adding(url, "a", "no", 1000) as again:
        assert again.communicate()[0] == "1004\n"
    with Store(url) as store:
        assert len(store.votes()) == 1000


def test_two_processes_add_at_once(url):
    """They make the store, and write the same rows and their own."""
    with adding(url, "ab", "start", 400) as one, adding(url, "bc", "start", 400) as other:
        for process in (one, other):
            assert process.stdout is not None
            process.stdout.readline()
        for process in (one, other):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        added = [int(process.communicate()[0]) for process in (one, other)]
    assert sum(added) == 1204
    with Store(url) as store:
        assert len(store.votes()) == store.count(Judgement) == 1200


# ----------------------------------------------------------------------------------------------------- migrations


def test_migrations_are_applied_once_each_and_in_order(store, url, monkeypatch):
    assert [migration.number for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
    added = everything(*a_study())
    store.add(added)

    def add_column(connection):
        connection.exec_driver_sql('ALTER TABLE "case" ADD COLUMN note VARCHAR')

    def fail(connection):
        add_column(connection)
        connection.exec_driver_sql("DROP TABLE verdict")
        raise InterruptedError

    newer = Migration(len(MIGRATIONS) + 1, "a note", fail)
    monkeypatch.setattr(palate.schema, "MIGRATIONS", (*MIGRATIONS, newer))
    with pytest.raises(InterruptedError):
        Store(url)
    assert len(store.votes()) == 24  # all of a migration or nothing
    monkeypatch.setattr(palate.schema, "MIGRATIONS", (*MIGRATIONS, Migration(newer.number, "a note", add_column)))
    for _ in range(2):
        with Store(url):
            pass
    monkeypatch.setattr(palate.schema, "MIGRATIONS", MIGRATIONS)
    with pytest.raises(
        StoreError,
        match=f"the store is at schema {newer.number} and this version knows {len(MIGRATIONS)}: install a newer",
    ):
        Store(url)


def test_another_programs_tables_are_left_alone(url):
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE run (id INTEGER)")
    with pytest.raises(StoreError, match="another program's table 'run'"):
        Store(url)
    assert inspect(engine).get_table_names() == ["run"]
    engine.dispose()


def test_the_queries_behind_votes_use_indexes(tmp_path):
    """A table scan for each verdict would make a million votes take hours."""
    with Store(str(tmp_path / "p.db")) as store:
        store.add(everything(*a_study()))
    with closing(sqlite3.connect(tmp_path / "p.db")) as connection:
        wanted = {"comparison": "study", "judgement": "comparison", "sample": "case", "score": "sample"}
        for table, column in wanted.items():
            plan = connection.execute(f"""EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE "{column}" = 'x'""").fetchall()
            assert "USING INDEX" in plan[0][-1]


# --------------------------------------------------------------------------------------------------------- errors


@contextmanager
def refused(kind: type[PalateError], *words: str):
    with pytest.raises(kind) as caught:
        yield caught
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.remedy in message
    for word in words:
        assert word in message


def test_wrong_places(tmp_path):
    with refused(StoreError, "does not exist", "create it"):
        Store(str(tmp_path / "absent" / "palate.db"))
    with refused(StoreError, "is a folder"):
        Store(str(tmp_path))
    with refused(StoreError, "there is no store"):
        Store(str(tmp_path / "palate.db"), create=False)
    assert list(tmp_path.iterdir()) == []
    for url in ("mysql://u:secret@host/db", "sqlite://", "sqlite:///:memory:", "postgresql://u:se@cret@host/db", "://"):
        with refused(StoreError, "not one that can be opened") as caught:
            Store(url)
        assert "cret" not in str(caught.value)


def test_not_a_database(tmp_path):
    (tmp_path / "palate.db").write_bytes(b"this is a text file, and not a short one\n" * 100)
    with refused(StoreError, "palate.db", "not a database", "a new name"):
        Store(str(tmp_path / "palate.db"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
def test_no_permission(tmp_path):
    with Store(str(tmp_path / "palate.db")) as store:
        store.add([Case(suite="s", prompt="p")])
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        with refused(StoreError, "check that you may write the file and its folder"):
            Store(str(tmp_path / "palate.db"))
        with refused(StoreError, "check that you may write the file and its folder"):
            Store(str(tmp_path / "another.db"))
    finally:
        os.seteuid(0)


def test_a_locked_database(tmp_path, monkeypatch):
    monkeypatch.setattr(palate.store, "BUSY_SECONDS", 0.2)
    with Store(str(tmp_path / "palate.db")) as store, closing(sqlite3.connect(tmp_path / "palate.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with refused(StoreError, "database is locked", "run the same command again"):
            store.add([Case(suite="s", prompt="p")])
        assert 0.15 < time.monotonic() - started < 5
        assert store.count(Case) == 0  # readers are not kept waiting
        other.rollback()
        assert store.add([Case(suite="s", prompt="p")]) == 1


def test_a_full_disk(small_disk):
    with Store(str(small_disk / "palate.db")) as store:
        asked = a_study()[0]
        store.add(asked)
        with refused(StoreError, "disk is full", "free some space"):
            store.add(Case(suite="s", prompt=f"{i} " + "p" * 10_000) for i in range(200))
        assert list(store.select(Case)) == sorted(asked, key=lambda one: one.id)


def test_an_unreachable_server():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://somebody:pa%20ss@127.0.0.1:{taken.getsockname()[1]}/db?password=hidden"
        with refused(StoreError, "postgresql://127.0.0.1:", "refused", "that the server runs") as caught:
            Store(url)
    for secret in ("pa ss", "pa%20ss", "hidden", "somebody"):
        assert secret not in str(caught.value)


@pytest.mark.postgres
def test_a_server_that_refuses(postgres_server, postgres_url):
    with refused(StoreError, "does not exist", "check the URL"):
        Store(f"{postgres_server}/absent")
    with Store(postgres_url) as store, psycopg.connect(postgres_url, autocommit=True) as admin:
        store.add([Case(suite="s", prompt="p")])
        admin.execute("CREATE ROLE reader LOGIN PASSWORD 'pass word'")
        theirs = postgres_url.replace("postgres@", "reader:pass%20word@")
        try:
            with refused(StoreError, "no schema", "ask the owner"):
                Store(theirs)
            admin.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO reader").format(sql.Identifier(store_schema(admin))))
            with refused(StoreError, "permission denied", "ask the owner"):
                Store(theirs)
        finally:
            admin.execute("DROP OWNED BY reader")
            admin.execute("DROP ROLE reader")


def store_schema(connection: psycopg.Connection) -> str:
    found = connection.execute("SELECT current_schema()").fetchone()
    assert found
    return found[0]


def test_speed(tmp_path):
    """10,000 judgements in about half a second here; the bound leaves room for a slow disk."""
    judged = a_study(people=2500)
    with Store(str(tmp_path / "palate.db")) as store:
        started = time.monotonic()
        store.add(everything(*judged))
        assert time.monotonic() - started < 5
        started = time.monotonic()
        assert len(store.votes()) == 20_000
        assert time.monotonic() - started < 3


def test_times_are_recorded_in_utc(tmp_path):
    with Store(str(tmp_path / "palate.db")) as store:
        store.add(a_study()[0])
    with closing(sqlite3.connect(tmp_path / "palate.db")) as connection:
        (stamp,), *_ = connection.execute('SELECT DISTINCT recorded_at FROM "case"').fetchall()
    now = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    assert stamp[:16] in (now, time.strftime("%Y-%m-%d %H:%M", time.gmtime(time.time() - 60)))
