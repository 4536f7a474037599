"""Every question that the dashboards ask of the store. All of them are SELECTs.

Tables that grow while people vote are asked for what was recorded since a time; their rows begin with id and time.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, Select, Table, func, select

from palate.records import RECORDS
from palate.schema import TABLES, VERDICT
from palate.store import Store

Found = Row[*tuple[Any, ...]]
Asked = Select[*tuple[Any, ...]]

GROWING = {
    "judgement": ("comparison", "annotator", "simulated", "supersedes", "skip", "seconds"),
    "comparison": ("study", "candidate", "baseline", "candidate_side", "role"),
    "sample": ("case", "system", "failure"),
}


def counts(store: Store) -> dict[str, int]:
    """How many records of each kind there are: tells cheaply whether anything is new."""
    columns = [select(func.count()).select_from(TABLES[kind]).scalar_subquery().label(kind) for kind in RECORDS]
    return next(store.read(select(*columns)))._asdict()


def grown(store: Store, kind: str, since: datetime | None) -> Iterator[Found]:
    """Rows of (id, recorded_at, and the columns of `GROWING`)."""
    table = TABLES[kind]
    wanted = (table.c[name] for name in ("id", "recorded_at", *GROWING[kind]))
    return store.read(_since(select(*wanted), table, since))


def verdicts(store: Store, since: datetime | None) -> Iterator[Found]:
    """Rows of (judgement, axis, verdict)."""
    statement = select(VERDICT.c.judgement, VERDICT.c.axis, VERDICT.c.verdict)
    if since:
        judgement = TABLES["judgement"]
        statement = _since(statement.join(judgement, judgement.c.id == VERDICT.c.judgement), judgement, since)
    return store.read(statement)


def cases(store: Store) -> Iterator[Found]:
    table = TABLES["case"]
    return store.read(select(table.c.id, table.c.suite, table.c.split, table.c.prompt, table.c.tags))


def scorers(store: Store) -> list[Found]:
    """Rows of (scorer, unit, scores, failures)."""
    score = TABLES["score"]
    failed = func.count(score.c.failure)
    statement = select(score.c.scorer, func.min(score.c.unit), func.count(), failed).group_by(score.c.scorer)
    return list(store.read(statement.order_by(score.c.scorer)))


def scores(store: Store, scorer: str) -> Iterator[Found]:
    """Rows of (sample, value or None, failure or None)."""
    table = TABLES["score"]
    return store.read(select(table.c.sample, table.c.value, table.c.failure).where(table.c.scorer == scorer))


def debuts(store: Store) -> list[Found]:
    """Rows of (system, when its first sample was recorded), in that order."""
    table = TABLES["sample"]
    first = func.min(table.c.recorded_at)
    return list(store.read(select(table.c.system, first).group_by(table.c.system).order_by(first, table.c.system)))


def latest(store: Store, kind: str) -> datetime | None:
    """When the newest record of a kind was recorded."""
    return next(store.read(select(func.max(TABLES[kind].c.recorded_at))))[0]


def runs(store: Store) -> list[Found]:
    """Rows of (id, recorded_at, task, recipe, code, seed, parents, outputs), the newest first."""
    table = TABLES["run"]
    names = ("id", "recorded_at", "task", "recipe", "code", "seed", "parents", "outputs")
    return list(store.read(select(*(table.c[name] for name in names)).order_by(table.c.recorded_at.desc())))


def curves(store: Store, runs: Sequence[str]) -> list[Found]:
    """Rows of (run, metric, steps, readings) of these runs."""
    table = TABLES["curve"]
    wanted = select(table.c.run, table.c.metric, table.c.steps, table.c.readings)
    return list(store.read(wanted.where(table.c.run.in_(runs)).order_by(table.c.metric, table.c.run)))


def looked(store: Store) -> list[Found]:
    """Rows of (run, task, recipe) of the runs that were looked at from outside, the newest first."""
    run, curve = TABLES["run"], TABLES["curve"]
    wanted = select(run.c.id.label("run"), run.c.task, run.c.recipe).join(curve, curve.c.run == run.c.id)
    return list(store.read(wanted.where(curve.c.metric == "look_gold").order_by(run.c.recorded_at.desc())))


def drawing(store: Store) -> set[str]:
    """The runs that drew something while they learned."""
    return {run for (run,) in store.read(select(TABLES["glimpse"].c.run).distinct())}


def glimpses(store: Store, run: str) -> list[Found]:
    """Rows of (place, step, prompt, media) of a run, in that order."""
    table = TABLES["glimpse"]
    wanted = select(table.c.place, table.c.step, table.c.prompt, table.c.media).where(table.c.run == run)
    return list(store.read(wanted.order_by(table.c.place, table.c.step)))


def figures(store: Store, most: int | None = None, begins: str = "") -> list[Found]:
    """Rows of (id, recorded_at, name, estimate, selection, simulated) of the newest figures, or of all of them.

    Args:
        begins: only those whose name begins so.
    """
    table = TABLES["figure"]
    names = ("id", "recorded_at", "name", "estimate", "selection", "simulated")
    named = table.c.name.startswith(begins, autoescape=True)
    statement = select(*(table.c[name] for name in names)).where(named)
    statement = statement.order_by(table.c.recorded_at.desc(), table.c.id)
    return list(store.read(statement.limit(most)))


def _since(statement: Asked, table: Table, since: datetime | None) -> Asked:
    return statement if since is None else statement.where(table.c.recorded_at >= since)


def utc(time: datetime) -> datetime:
    """SQLite keeps no time zone; the store writes UTC."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)
