"""The tables of the store, one a kind of record, the same in SQLite and PostgreSQL; and the migrations that make them.

A column is a field of the record; nested fields are JSON. A judgement's verdicts have a table of their own, so that
counting is SQL. `recorded_at` is when the store was given the record, in UTC, and is no part of any id.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Double,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    func,
    insert,
    inspect,
    select,
)
from sqlalchemy.types import TypeEngine, UserDefinedType

from palate.errors import StoreError

METADATA = MetaData()


class _Exact(UserDefinedType):
    """A float as it is: a REAL column of SQLite drops the sign of -0.0, and with it the id."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "BLOB"  # SQLite converts nothing that it finds in a column declared so


NUMBER: TypeEngine[float] = Double().with_variant(_Exact(), "sqlite")


def _refers(name: str, kind: str, *, nullable: bool = False, deferred: bool = False) -> Column[str]:
    timing = {"deferrable": True, "initially": "DEFERRED"} if deferred else {}
    return Column(name, String, ForeignKey(f"{kind}.id", **timing), nullable=nullable)


def _record(kind: str, *columns: Column | Index) -> Table:
    recorded_at = Column("recorded_at", DateTime(timezone=True), nullable=False)
    return Table(kind, METADATA, Column("id", String, primary_key=True), *columns, recorded_at)


def _text(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, String, nullable=nullable)


def _nested(name: str) -> Column:
    return Column(name, JSON, nullable=False)


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        _record(
            "case",
            _text("suite"),
            _text("prompt"),
            _text("split"),
            _nested("conditions"),
            _nested("tags"),
            _nested("axes"),
            Index("case_suite", "suite", "split"),
        ),
        _record(
            "sample",
            _refers("case", "case"),
            _text("system"),
            Column("seed", BigInteger),
            _text("media", nullable=True),
            _text("checkpoint", nullable=True),
            _nested("sampler"),
            _text("failure", nullable=True),
            Index("sample_case", "case"),
            Index("sample_system", "system", "checkpoint"),
            Index("sample_checkpoint", "checkpoint"),
        ),
        _record(
            "comparison",
            _text("study"),
            _refers("case", "case"),
            _refers("candidate", "sample"),
            _refers("baseline", "sample"),
            _text("candidate_side", nullable=True),
            _text("role"),
            Index("comparison_study", "study"),
            Index("comparison_case", "case"),
            Index("comparison_candidate", "candidate"),
            Index("comparison_baseline", "baseline"),
        ),
        _record(
            "judgement",
            _refers("comparison", "comparison"),
            _text("annotator"),
            Column("simulated", Boolean, nullable=False),
            _text("source"),
            _text("skip", nullable=True),
            _text("reasons"),
            Column("seconds", NUMBER),
            _refers("supersedes", "judgement", nullable=True, deferred=True),  # either may be written first
            Index("judgement_comparison", "comparison"),
            Index("judgement_annotator", "annotator"),
            Index("judgement_supersedes", "supersedes"),
        ),
        _record(
            "preference",
            _text("study"),
            _refers("case", "case"),
            _text("axis"),
            _refers("winner", "sample"),
            _refers("loser", "sample"),
            Column("weight", NUMBER, nullable=False),
            _text("policy"),
            _nested("judgements"),
            Column("simulated", Boolean, nullable=False),
            Index("preference_case", "case"),
            Index("preference_study", "study"),
        ),
        _record(
            "score",
            _refers("sample", "sample"),
            _text("scorer"),
            Column("value", NUMBER),
            _text("unit"),
            _text("failure", nullable=True),
            _nested("detail"),
            Index("score_sample", "sample", "scorer"),
            Index("score_scorer", "scorer"),
        ),
        _record(
            "run",
            _text("task"),
            _nested("recipe"),
            _text("code"),
            Column("seed", BigInteger, nullable=False),
            _nested("parents"),
            _nested("outputs"),
        ),
        _record(
            "curve",
            _refers("run", "run"),
            _text("metric"),
            _nested("steps"),
            _nested("readings"),
            Index("curve_run", "run"),
        ),
        _record(
            "glimpse",
            _refers("run", "run"),
            Column("step", BigInteger, nullable=False),
            Column("place", BigInteger, nullable=False),
            _text("prompt"),
            _text("media"),
            Index("glimpse_run", "run"),
        ),
        _record(
            "figure",
            _text("name"),
            _nested("estimate"),
            _nested("selection"),
            _text("evidence"),
            Column("rows", Integer, nullable=False),
            _text("digest"),
            Column("simulated", Boolean, nullable=False),
            Index("figure_name", "name"),
        ),
    )
}

VERDICT = Table(
    "verdict",
    METADATA,
    Column("judgement", String, ForeignKey("judgement.id"), primary_key=True),
    Column("axis", String, primary_key=True),
    Column("verdict", String, nullable=False),
    sqlite_with_rowid=False,
)

MIGRATION = Table(
    "migration",
    MetaData(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("description", String, nullable=False),
    Column("applied_at", DateTime(timezone=True), nullable=False),
)


@dataclass(frozen=True)
class Migration:
    number: int
    description: str
    apply: Callable[[Connection], None]


def _curves(connection: Connection) -> None:
    TABLES["curve"].create(connection, checkfirst=True)  # a new store has it from the first migration


def _glimpses(connection: Connection) -> None:
    TABLES["glimpse"].create(connection, checkfirst=True)


# In order. A migration that has been released is never changed: a new one is added.
MIGRATIONS = (
    Migration(1, "a table for every kind of record", METADATA.create_all),
    Migration(2, "what runs report while they learn", _curves),
    Migration(3, "what runs draw while they learn", _glimpses),
)

_ADVISORY_LOCK = 0x50414C415445  # "PALATE"


def check(engine: Engine) -> None:
    """For those who only read.

    Raises:
        StoreError: the database is not at the newest of `MIGRATIONS`.
    """
    present, newest = _known(engine), MIGRATIONS[-1].number
    if present < newest:
        said = f"the store is at schema {present} and this version reads {newest}"
        raise StoreError(said, "run a command on it that may write, such as palate report gsb")


def migrate(engine: Engine) -> None:
    """Bring the database up to `MIGRATIONS`, each in one transaction. Two processes may do so at once.

    Raises:
        StoreError: the database is newer than this code, or its tables are somebody else's.
    """
    present = _known(engine)
    for migration in MIGRATIONS:
        if migration.number > present:
            with engine.execution_options(write=True).begin() as connection:
                _apply(connection, migration)


def _known(engine: Engine) -> int:
    """The number of the newest migration applied, where this code knows it."""
    with engine.connect() as connection:
        present = _present(connection)
    newest = MIGRATIONS[-1].number
    if present > newest:
        raise StoreError(f"the store is at schema {present} and this version knows {newest}", "install a newer Palate")
    return present


def _apply(connection: Connection, migration: Migration) -> None:
    if connection.dialect.name == "postgresql":  # SQLite's transactions already wait for each other
        connection.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    present = _present(connection)
    if present >= migration.number:
        return
    if present == 0:
        taken = {*TABLES, VERDICT.name} & set(inspect(connection).get_table_names())
        if taken:
            raise StoreError(f"the database has another program's table {min(taken)!r}", "choose another database")
        MIGRATION.create(connection)
    migration.apply(connection)
    row = {"number": migration.number, "description": migration.description, "applied_at": datetime.now(UTC)}
    connection.execute(insert(MIGRATION), row)


def _present(connection: Connection) -> int:
    """The number of the newest migration applied; 0 for an empty database."""
    if not inspect(connection).has_table(MIGRATION.name):
        return 0
    return connection.execute(select(func.max(MIGRATION.c.number))).scalar() or 0
