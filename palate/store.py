"""The store of record: records are added and read, never changed. SQLite by default, PostgreSQL for a team."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from sqlalchemy import (
    ARRAY,
    URL,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Row,
    RowMapping,
    Select,
    Table,
    bindparam,
    create_engine,
    event,
    exists,
    func,
    make_url,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.types import JSON

from palate.errors import RecordError, StoreError
from palate.media import MediaFolder
from palate.records import RECORDS, Record, Sample
from palate.schema import TABLES, VERDICT, check, migrate
from palate.votes import Coding, Votes

R = TypeVar("R", bound=Record)

CHUNK = 2_000  # rows held at once while streaming
PART = 20_000  # judgements held at once while counting
BUSY_SECONDS = 30.0  # how long a writer waits for another one
CONNECT_SECONDS = 10

# What databases say, and what to do about it.
_REMEDIES = {
    "disk is full": "free some space and run the same command again; nothing was half-written",
    "no space left": "free some space on the server and run the same command again; nothing was half-written",
    "disk i/o error": "check the disk and its free space, and run the same command again",
    "database is locked": "another process is writing; run the same command again when it is done",
    "not a database": "give a file that Palate made, or a new name",
    "malformed": "restore the file from a backup",
    "unable to open": "check that you may write the file and its folder",
    "read-only transaction": "this connection is for reading alone: use a command that may write",
    "readonly database": "check that you may write the file and its folder",
    "permission denied": "ask the owner of the database for the right to do this",
    "no schema has been selected": "ask the owner of the database for the right to use and create tables in it",
}
_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
_SERVER_REMEDY = "check the URL, and that the server runs and lets this user in"


class Store:
    """An open store. Use it in a `with`, or close it.

    Args:
        url: a file (`palate.db`, `sqlite:///palate.db`) or `postgresql://user@host/database`.
        create: whether a file that does not exist is made.
        media: the folder of media files. By default the folder `media` beside the file; for PostgreSQL PALATE_MEDIA.
        read_only: the database itself refuses every change; the file must exist, and nothing of it is migrated.

    Raises:
        StoreError: the store cannot be opened, read or written; a password in the URL is never told.
    """

    def __init__(self, url: str, *, create: bool = True, media: Path | None = None, read_only: bool = False) -> None:
        parsed = _parsed(url)
        self.name = _public_name(parsed)
        self._secrets = [str(secret) for secret in (parsed.password, parsed.query.get("password")) if secret]
        self._media = media
        self._file = Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None
        if self._file:
            _check_place(self._file, create and not read_only)
        self._engine = _engine(parsed, read_only)
        try:
            with self._explained():
                (check if read_only else migrate)(self._engine)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._engine.dispose()

    @cached_property
    def media(self) -> MediaFolder:
        """Where the videos that samples name are.

        Raises:
            StoreError: a server's store that was not told where.
        """
        if self._media:
            return MediaFolder(self._media)
        if self._file:
            return MediaFolder(self._file.parent / "media")
        folder = os.environ.get("PALATE_MEDIA")
        if not folder:
            raise StoreError(f"{self.name} has no media folder", "set PALATE_MEDIA to the folder that all share")
        return MediaFolder(Path(folder))

    def add(self, records: Iterable[Record]) -> int:
        """Add records in one transaction, in any order; those already present change nothing.

        Returns:
            How many were new.

        Raises:
            RecordError: a reference to an unknown record, or content that a database cannot hold.
            MediaError: a sample's file is not in the media folder.
            StoreError: nothing was written.
        """
        rows: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in RECORDS}
        now = datetime.now(UTC)
        for record in records:
            row = record.model_dump(mode="json")
            _check_storable(record, row)
            rows[record.kind][record.id] = {**row, "id": record.id, "recorded_at": now}
            if isinstance(record, Sample) and record.media:
                self.media.path(record.media)
        verdicts = [
            {"judgement": id, "axis": axis, "verdict": verdict}
            for id, row in sorted(rows["judgement"].items())
            for axis, verdict in row.pop("verdicts").items()
        ]
        with self._explained(), self._engine.execution_options(write=True).begin() as connection:
            _check_references(connection, rows)
            # Sorted, so that two writers of the same rows wait for each other and never in a ring.
            added = [
                _insert(connection, TABLES[kind], [row for _, row in sorted(rows[kind].items())]) for kind in RECORDS
            ]
            _insert(connection, VERDICT, verdicts)
        return sum(added)

    def get(self, id: str) -> Record:
        """The record with this id, or with an id that begins so where there is only one.

        Raises:
            RecordError: there is none, or more than one.
        """
        shape = re.fullmatch(r"([a-z]+)-[0-9a-f]{0,24}", id)
        if not shape or shape[1] not in RECORDS:
            raise RecordError(f"{id!r} is no record id", f"give a kind and hex digits; kinds are {', '.join(RECORDS)}")
        kind, table = RECORDS[shape[1]], TABLES[shape[1]]
        whole = len(id) == len(shape[1]) + 1 + 24
        named = table.c.id == id if whole else table.c.id.startswith(id)
        with self._explained(), self._engine.connect() as connection:
            found = connection.execute(select(table).where(named).limit(2)).mappings().all()
            if len(found) == 1:
                return next(_records(connection, kind, found))
        if found:
            raise RecordError(f"more than one record of {self.name} begins with {id}", "give more digits")
        raise RecordError(f"{id} is not in {self.name}", "check the id, and that --store names the right store")

    def select(self, kind: type[R], **equals: object) -> Iterator[R]:
        """The records of a kind whose columns equal these values, ordered by id, a chunk at a time.

        A list, tuple or set of values means any of them.

        Raises:
            RecordError: an unknown column.
        """
        table = TABLES[kind.kind]
        return self._stream(kind, select(table).where(*self._where(table, equals)).order_by(table.c.id))

    def count(self, kind: type[Record], **equals: object) -> int:
        """How many records `select` would give."""
        table = TABLES[kind.kind]
        statement = select(func.count()).select_from(table).where(*self._where(table, equals))
        with self._explained(), self._engine.connect() as connection:
            return connection.execute(statement).scalar_one()

    def read(self, statement: Select[*tuple[Any, ...]]) -> Iterator[Row[*tuple[Any, ...]]]:
        """The rows of a SELECT over the tables of `palate.schema`, a chunk at a time."""
        with self._explained(), self._engine.connect() as connection:
            for rows in connection.execution_options(yield_per=CHUNK).execute(statement).partitions():
                yield from rows

    def votes(
        self,
        study: str | None = None,
        axis: str | None = None,
        candidate: str | None = None,
        baseline: str | None = None,
    ) -> Votes:
        """The verdicts that stand, ordered by judgement and axis: no skips, and none that a later judgement supersedes.

        Args:
            study: only this study.
            axis: only this axis.
            candidate: only comparisons with this system as the candidate.
            baseline: only comparisons with this system as the baseline.
        """
        with self._explained(), self._engine.connect() as connection:
            return self._votes(connection, study, axis, candidate, baseline)

    def vote_parts(self, study: str | None = None, axis: str | None = None, judgements: int = PART) -> Iterator[Votes]:
        """`votes` a part at a time, each with all votes of its cases: of as many cases as it takes for `judgements`."""
        comparison, judgement = TABLES["comparison"], TABLES["judgement"]
        sizes = (
            select(comparison.c.case, func.count())
            .join_from(comparison, judgement, judgement.c.comparison == comparison.c.id)
            .where(*([comparison.c.study == study] if study is not None else []))
            .group_by(comparison.c.case)
            .order_by(comparison.c.case)
        )
        with self._explained(), self._engine.connect() as connection:
            cases: list[str] = []
            held = 0
            for case, size in connection.execute(sizes).all():
                cases.append(case)
                held += size
                if held >= judgements:
                    yield self._votes(connection, study, axis, cases=cases)
                    cases, held = [], 0
            if cases:
                yield self._votes(connection, study, axis, cases=cases)

    def _votes(
        self,
        connection: Connection,
        study: str | None,
        axis: str | None,
        candidate: str | None = None,
        baseline: str | None = None,
        cases: Sequence[str] | None = None,
    ) -> Votes:
        judgement, comparison = TABLES["judgement"], TABLES["comparison"]
        shown, against = TABLES["sample"].alias("shown"), TABLES["sample"].alias("against")
        later = judgement.alias("later")
        wanted = [(comparison.c.study, study), (shown.c.system, candidate), (against.c.system, baseline)]
        chosen = [column == value for column, value in wanted if value is not None]
        if cases is not None:
            chosen.append(_among(comparison.c.case, cases, connection.dialect.name))
        side = func.coalesce(comparison.c.candidate_side, "")
        asked = (
            select(comparison.c.id, comparison.c.case, shown.c.system, against.c.system, side, comparison.c.role)
            .add_columns(comparison.c.study)
            .join_from(comparison, shown, shown.c.id == comparison.c.candidate)
            .join(against, against.c.id == comparison.c.baseline)
            .where(*chosen)
        )
        given = (
            select(VERDICT.c.judgement, judgement.c.comparison, judgement.c.annotator, VERDICT.c.axis)
            .add_columns(VERDICT.c.verdict, judgement.c.simulated)
            .join_from(VERDICT, judgement, judgement.c.id == VERDICT.c.judgement)
            .where(~exists().where(later.c.supersedes == judgement.c.id))
            .where(*([VERDICT.c.axis == axis] if axis is not None else []))
            .where(*([judgement.c.comparison.in_(asked.with_only_columns(comparison.c.id))] if chosen else []))
            .order_by(VERDICT.c.judgement, VERDICT.c.axis)
        )
        # The verdicts first: a comparison is stored before or with its judgements, so none can be missing then.
        told = [Coding() for _ in range(5)]
        *votes, simulated = _coded(connection, given, [*told, None])
        (judgements, comparisons, people, axes, verdicts), compared = told, told[1]
        system = Coding()
        shared = [Coding(), system, system, Coding(), Coding(), Coding()]
        number, *details = _coded(connection, asked, [compared, *shared])
        place = np.zeros(len(compared), np.intp)
        place[number] = np.arange(len(number))  # comparisons without a verdict have numbers beyond the votes'
        at = place[votes[1]]
        case, ours, theirs, sides, role, studies = (column[at] for column in details)
        named = {
            "judgement": judgements.labels(votes[0]),
            "comparison": comparisons.labels(votes[1]),
            "annotator": people.labels(votes[2]),
            "axis": axes.labels(votes[3]),
            "verdict": verdicts.labels(votes[4]),
            "case": shared[0].labels(case),
            "candidate_side": shared[3].labels(sides),
            "role": shared[4].labels(role),
            "study": shared[5].labels(studies),
        }
        one, other = system.labels(ours, theirs)
        columns = {name: labels for name, (labels,) in named.items()}
        return Votes(**columns, candidate=one, baseline=other, simulated=simulated.astype(bool))

    def _stream(self, kind: type[R], statement: Any) -> Iterator[R]:
        with self._explained(), self._engine.connect() as connection:
            for rows in connection.execution_options(yield_per=CHUNK).execute(statement).mappings().partitions():
                yield from _records(connection, kind, rows)

    def _where(self, table: Table, equals: dict[str, object]) -> list[ColumnElement[bool]]:
        plain = {column.name: column for column in table.columns if not isinstance(column.type, JSON)}
        unknown = sorted(equals.keys() - plain.keys())
        if unknown:
            raise RecordError(f"{table.name} cannot be selected by {unknown[0]!r}", f"use one of {', '.join(plain)}")
        return [
            _among(plain[name], value, self._engine.dialect.name)
            if isinstance(value, list | tuple | set | frozenset)
            else plain[name] == value
            for name, value in equals.items()
        ]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what a database says into one line with a remedy; a fault of ours passes as it is."""
        try:
            yield
        except DBAPIError as error:
            said = " ".join(str(error.orig).split())
            remedy = next((remedy for part, remedy in _REMEDIES.items() if part in said.lower()), None)
            if remedy is None and not self._file and isinstance(error, OperationalError | InterfaceError):
                remedy = _SERVER_REMEDY
            if remedy is None:
                raise
            for secret in self._secrets:
                said = said.replace(secret, "***")
            raise StoreError(f"{self.name}: {said}", remedy) from None


def _coded(connection: Connection, statement: Any, codings: Sequence[Coding | None]) -> list[NDArray[np.int32]]:
    """The columns of a query as numbers: of names, or as they are where there is no coding."""
    parts: list[list[NDArray[np.int32]]] = [[np.empty(0, np.int32)] for _ in codings]
    for rows in connection.execution_options(yield_per=CHUNK).execute(statement).partitions():
        for part, coding, column in zip(parts, codings, zip(*rows)):
            part.append(np.array(column, np.int32) if coding is None else coding.codes(column))
    return [np.concatenate(part) for part in parts]


def _parsed(url: str) -> URL:
    scheme, told, _ = url.partition("://")
    try:
        parsed = make_url(url) if told else URL.create("sqlite", database=str(Path(url).expanduser()))
    except (ArgumentError, ValueError):
        parsed = None
    # An "@" left in the host is the rest of a password that holds one.
    if (
        not parsed
        or parsed.drivername not in _DRIVERS
        or parsed.database in (None, "", ":memory:")
        or "@" in (parsed.host or "")
    ):
        remedy = "give a file or postgresql://user@host/name, with signs such as @ in a password written as %40"
        shown = f"{scheme}://…" if told else url
        raise StoreError(f"the store's URL ({shown}) is not one that can be opened", remedy) from None
    return parsed.set(drivername=_DRIVERS[parsed.drivername])


def _public_name(url: URL) -> str:
    """The URL without user, password and options."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{url.host or ''}{port}/{url.database}"


def _check_place(file: Path, create: bool) -> None:
    if file.is_dir():
        raise StoreError(f"{file} is a folder", f"name a file in it, such as {file / 'palate.db'}")
    if not file.parent.is_dir():
        raise StoreError(f"the folder {file.parent} does not exist", "create it, or give another path")
    if not create and not file.exists():
        raise StoreError(f"there is no store {file}", "check --store, or make one with a command that adds records")


def _engine(url: URL, read_only: bool) -> Engine:
    if url.get_backend_name() == "postgresql":
        engine = create_engine(url, connect_args={"connect_timeout": CONNECT_SECONDS})
        return engine.execution_options(postgresql_readonly=read_only)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA query_only = ON" if read_only else "PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A reader that turned writer would be refused at once, without waiting, had somebody else written meanwhile.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("write") else "BEGIN")

    return engine


def _check_storable(record: Record, row: dict[str, Any]) -> None:
    """What one of the databases would refuse, the store refuses for both."""
    for name, value in row.items():
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise RecordError(f"{name} of {record.id} is {value}", "give a whole number of at most 64 bits")
        if isinstance(value, str) and "\0" in value:
            raise RecordError(f"{name} of {record.id} has a zero byte", "take it out")


def _references(table: Table, row: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(field, kind, id) for every record that a row refers to."""
    for column in table.columns:
        for key in column.foreign_keys:
            if row[column.name] is not None:
                yield column.name, key.column.table.name, row[column.name]
    if table.name == "preference":
        yield from (("judgements", "judgement", id) for id in row["judgements"])


def _check_references(connection: Connection, rows: dict[str, dict[str, dict[str, Any]]]) -> None:
    wanted: dict[str, dict[str, str]] = defaultdict(dict)  # by kind: id -> who refers to it
    for kind, mine in rows.items():
        for row in mine.values():
            for field, target, id in _references(TABLES[kind], row):
                if id not in rows[target]:
                    wanted[target][id] = f"{kind}.{field}"
    for kind, ids in wanted.items():
        table = TABLES[kind]
        known = connection.execute(select(table.c.id).where(_among(table.c.id, ids.keys(), connection.dialect.name)))
        unknown = ids.keys() - set(known.scalars())
        if unknown:
            first = min(unknown)
            raise RecordError(
                f"{ids[first]} refers to {first}, which is not stored", "add it before or with the others"
            )


def _insert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> int:
    if not rows:
        return 0
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).on_conflict_do_nothing()
    return connection.execution_options(preserve_rowcount=True).execute(statement, rows).rowcount


def _records(connection: Connection, kind: type[R], rows: Sequence[RowMapping]) -> Iterator[R]:
    verdicts: dict[str, dict[str, str]] = defaultdict(dict)
    if kind.kind == "judgement":
        ids = _among(VERDICT.c.judgement, [row["id"] for row in rows], connection.dialect.name)
        for verdict in connection.execute(select(VERDICT).where(ids)):
            verdicts[verdict.judgement][verdict.axis] = verdict.verdict
    for row in rows:
        content = {name: value for name, value in row.items() if name not in ("id", "recorded_at")}
        if kind.kind == "judgement":
            content["verdicts"] = verdicts[row["id"]]
        try:
            record = kind.model_validate(content)
        except ValidationError:
            record = None
        if record is None or record.id != row["id"]:
            raise StoreError(f"{row['id']} no longer says what it said when it was stored", "restore a backup")
        yield record


def _among(column: Column[Any], values: Collection[Any], dialect: str) -> ColumnElement[bool]:
    """column IN values, as one parameter however many there are."""
    plain = [value for value in values if value is not None]
    if dialect == "postgresql":
        among = column == func.any(bindparam(None, plain, type_=ARRAY(column.type)))
    else:
        among = column.in_(select(func.json_each(json.dumps(plain)).table_valued("value").c.value))
    return among if len(plain) == len(values) else or_(among, column.is_(None))
