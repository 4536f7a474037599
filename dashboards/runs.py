"""The runs of a record, as the pages list them."""

from collections.abc import Mapping

from dashboards import queries
from dashboards.queries import Found, utc
from dashboards.reader import Reader


def runs(reader: Reader) -> list[Found]:
    """Those of `queries.runs`, read again only when there are more."""
    return reader.once("runs", lambda: queries.runs(reader.store), ("run",))


def row(run: Found, reads: Mapping[str, int]) -> dict[str, object]:
    """A run as a row of a table, with what the page says of its parents."""
    return {
        "when (UTC)": f"{utc(run.recorded_at):%Y-%m-%d %H:%M}",
        "task": run.task,
        "seed": run.seed,
        "code": run.code,
        **reads,
        "made": ", ".join(output[:12] for output in run.outputs),
        "id": run.id,
    }
