"""The walk behind a record: from a number to its votes or scores, to samples and seeds, checkpoints and runs."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from palate.digest import digest
from palate.records import (
    RECORDS,
    Case,
    Comparison,
    Curve,
    Figure,
    Glimpse,
    Judgement,
    Preference,
    Record,
    Run,
    Sample,
    Score,
)
from palate.store import Store

R = TypeVar("R", bound=Record)

SHOWN = 3  # rows of a group that are printed unless all are asked for

_JUDGED_BY = {"study", "axis", "by", "slice", "candidate", "baseline", "system", "aggregation"}
_JUDGED_BY |= {"axes", "annotators", "repeats"}  # of an audit: several axes, some annotators (JSON), repeats too
_JUDGED_BY |= {"scorer", "ties", "side", "raters", "style", "effect", "rule"}  # which name a number, and choose no rows
_JUDGED_BY |= {"reward", "audit", "probe", "unit", "expected", "found", "group"}  # the same, of an audit
_SCORED_BY = {"scorer", "suite", "split", "by", "slice", "candidate", "baseline", "system"}
_RUN_BY = {"run", "sweep", "hold_out", "drop_highest", "budgets", "near", "replicates", "seed"}
SWEEP = "scaling sweep"  # the task of a sweep's runs


@dataclass(frozen=True)
class Node:
    """One step of the walk: what is here, the records themselves, and what lies behind them."""

    title: str
    records: tuple[Record, ...] = ()
    behind: tuple["Node", ...] = ()


def walk(store: Store, id: str) -> Node:
    """Everything behind a record, to the first run whose parents the store does not know.

    Raises:
        RecordError: no such record.
    """
    record = store.get(id)
    if isinstance(record, Figure):
        ids, verdict = _recount(store, record)
        kind = {"judgements": Judgement, "scores": Score, "runs": Run}[record.evidence]
        evidence = list(store.select(kind, id=list(set(ids))))
        steps = _Walk(store)
        behind = (Node(verdict), *steps.behind(evidence, itself=True))
        if "reward" in record.selection:
            behind = (*behind, steps.checkpoint(str(record.selection["reward"]), "the reward"))
        return Node(_line(record), (record,), behind)
    return Node(_line(record), (record,), _Walk(store).behind([record]))


def as_text(node: Node, every: bool = False) -> str:
    """Indented lines; of many records the first few, or all of them."""
    return "\n".join(_lines(node, every))


def to_json(node: Node) -> str:
    """The whole walk."""
    return json.dumps(_plain(node), indent=1, ensure_ascii=False)


# ------------------------------------------------------------------------------------------------ a figure's rows


def _recount(store: Store, figure: Figure) -> tuple[list[str], str]:
    """The ids of the rows that a figure's selection finds today, and whether they are still the figure's rows."""
    told = {key: str(value) for key, value in figure.selection.items()}
    match figure.evidence:
        case "judgements":
            what, known, ids = "verdicts", _JUDGED_BY, _voted(store, told, figure.simulated)
        case "scores":
            what, known, ids = "scores", _SCORED_BY, _scored(store, told)
        case "runs":
            what, known, ids = "runs", _RUN_BY, _ran(store, told)
    unknown = sorted(told.keys() - known)
    if digest(ids) == figure.digest:
        return ids, f"the same {len(ids)} {what} as when it was computed"
    if unknown:
        return ids, f"CANNOT BE CHECKED: this version does not know how to select by {', '.join(unknown)}"
    then = f"computed from {figure.rows} {what}, and its selection now finds {len(ids)}"
    return ids, f"CHANGED: {then}; rows were added or superseded since, and what follows is what there is now"


def _voted(store: Store, told: dict[str, str], simulated: bool) -> list[str]:
    """As `palate.gsb` counts: pairs either way round, people and simulations apart, no gold and no repeats.

    An audit (rewards/audited.py) counts as rewards learn: repeats too.
    """
    votes = store.votes(study=told.get("study"), axis=None if "axes" in told else told.get("axis"))
    mask = (votes.simulated == simulated) & (votes.role != "gold" if "repeats" in told else votes.role == "normal")
    if "axes" in told:
        mask &= votes.axis.among(told["axes"].split(", "))
    if "annotators" in told:
        mask &= votes.annotator.among(json.loads(told["annotators"]))
    for system in _systems(told):
        mask &= ((votes.candidate == system) | (votes.baseline == system)) & (votes.candidate != votes.baseline)
    if "by" in told and "slice" in told:
        mask &= votes.case.among(list(_slice(store.select(Case), told)))
    return votes.select(mask).judgement.tolist()


def _slice(cases: Iterable[Case], told: dict[str, str]) -> set[str]:
    """The ids of the cases in the slice that a figure was computed for."""
    from palate.gsb import slices  # brings SciPy's statistics, which take a second that most walks need not wait

    return {case for case, names in slices(cases, told["by"]).items() if told["slice"] in names}


def _scored(store: Store, told: dict[str, str]) -> list[str]:
    """As `palate.report` counts: no failures; of a difference, only the cases that both systems have scores for."""
    chosen = list(store.select(Case, **{key: told[key] for key in ("suite", "split") if key in told}))
    cases = _slice(chosen, told) if "by" in told and "slice" in told else {case.id for case in chosen}
    systems = {"system": _systems(told)} if _systems(told) else {}
    samples = {sample.id: sample for sample in store.select(Sample, **systems) if sample.case in cases}
    scorer = {"scorer": told["scorer"]} if "scorer" in told else {}
    found = [one for one in store.select(Score, **scorer) if one.sample in samples and one.value is not None]
    if "candidate" in told and "baseline" in told:
        answered: dict[str, set[str]] = defaultdict(set)
        for one in found:
            answered[samples[one.sample].case].add(samples[one.sample].system)
        found = [one for one in found if len(answered[samples[one.sample].case]) == 2]
    return [one.id for one in found]


def _ran(store: Store, told: dict[str, str]) -> list[str]:
    """As `palate.scaling` counts: one run, or all of a sweep."""
    if "run" in told:
        return [one.id for one in store.select(Run, id=told["run"])]
    return [one.id for one in store.select(Run, task=SWEEP) if one.recipe["sweep"] == told["sweep"]]


def _systems(told: dict[str, str]) -> list[str]:
    return [told[key] for key in ("system", "candidate", "baseline") if key in told]


# --------------------------------------------------------------------------------------------------- what is behind


class _Walk:
    """One walk through a store; a run that has been reached once is not walked again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._runs: dict[str, list[Run]] = defaultdict(list)  # by what they made
        for run in store.select(Run):
            for output in run.outputs:
                self._runs[output].append(run)
        self._walked: set[str] = set()

    def behind(self, records: Sequence[Record], itself: bool = False) -> tuple[Node, ...]:
        """A node for every kind of record behind these, in the order of the loop backwards, then the checkpoints.

        Args:
            itself: whether `records` are shown too.
        """
        held: dict[type[Record], dict[str, Record]] = defaultdict(dict)
        for record in records:
            held[type(record)][record.id] = record
        given = set() if itself else {record.id for record in records}
        self._walked |= given

        def of(kind: type[R]) -> Iterator[R]:
            return (record for record in held[kind].values() if isinstance(record, kind))

        def fetch(kind: type[Record], ids: Iterable[str | None]) -> None:
            missing = {id for id in ids if id} - held[kind].keys()
            if missing:
                held[kind].update((record.id, record) for record in self._store.select(kind, id=missing))

        preferences = list(of(Preference))
        fetch(Judgement, (id for one in preferences for id in one.judgements))
        earlier: set[str | None] = {None}
        while newer := {one.supersedes for one in of(Judgement)} - earlier:
            fetch(Judgement, newer)
            earlier |= newer
        fetch(Comparison, (one.comparison for one in of(Judgement)))
        fetch(Sample, (id for one in of(Comparison) for id in (one.candidate, one.baseline)))
        fetch(Sample, (id for one in preferences for id in (one.winner, one.loser)))
        fetch(Sample, (one.sample for one in of(Score)))
        fetch(Case, (one.case for one in of(Sample)))
        order = (Figure, Preference, Score, Judgement, Comparison, Sample, Case)
        groups = [[held[kind][id] for id in sorted(held[kind].keys() - given)] for kind in order]
        made = Counter(one.checkpoint for one in of(Sample) if one.checkpoint)
        return (
            *(Node(_summary(group), tuple(group)) for group in groups if group),
            *(self.checkpoint(name, f"{count} samples") for name, count in sorted(made.items())),
            *(self._run_node(run) for run in of(Run) if run.id not in given),
            *(node for run in of(Run) if run.id in given for node in self._parents(run)),
        )

    def checkpoint(self, name: str, of: str) -> Node:
        runs = self._runs[name]
        if not runs:
            return Node(f"checkpoint {name[:12]} of {of}; no run in this store made it")
        return Node(f"checkpoint {name[:12]} of {of}", (), tuple(self._run_node(run) for run in runs))

    def _run_node(self, run: Run) -> Node:
        if run.id in self._walked:
            return Node(f"{_line(run)} (above)", (run,))
        self._walked.add(run.id)
        return Node(_line(run), (run,), self._parents(run))

    def _parents(self, run: Run) -> tuple[Node, ...]:
        by_kind: dict[str, list[str]] = defaultdict(list)
        for parent in run.parents:
            by_kind[parent.rpartition("-")[0]].append(parent)
        checkpoints = [self.checkpoint(name, "its start") for name in by_kind.pop("", [])]
        read: list[Record] = []
        unknown: list[Node] = []
        for kind, ids in by_kind.items():
            known = list(self._store.select(RECORDS[kind], id=ids)) if kind in RECORDS else []
            read += known
            if len(known) < len(set(ids)):
                unknown.append(Node(f"{len(set(ids)) - len(known)} parents of kind {kind} are not in this store"))
        return (*checkpoints, *unknown, *self.behind(read, itself=True))


# ------------------------------------------------------------------------------------------------------ how it reads


_GROUPED_BY = {"judgement": "annotator", "comparison": "study", "sample": "system", "case": "suite", "score": "scorer"}


def _summary(group: Sequence[Record]) -> str:
    """What is worth knowing of many records of one kind."""
    kind = group[0].kind
    said = f"{len(group)} {kind}{'s' if len(group) > 1 else ''}"
    if kind in _GROUPED_BY:
        said += f", {_GROUPED_BY[kind]} {_names(getattr(one, _GROUPED_BY[kind]) for one in group)}"
    people = [one for one in group if isinstance(one, Judgement | Preference)]
    if people:
        said += f", {sum(one.simulated for one in people) or 'none'} simulated"
    return said


def _names(names: Iterable[str]) -> str:
    found = sorted(set(names))
    return ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


def _line(record: Record) -> str:
    """One record in one line."""
    match record:
        case Figure(estimate=e):
            interval = f"[{e.low:.4g}, {e.high:.4g}]" if e.low is not None and e.high is not None else f"({e.note})"
            value = "no value" if e.value is None else f"{e.value:.4g}"
            simulated = " SIMULATED" if record.simulated else ""
            chosen = ", ".join(f"{key} {value}" for key, value in record.selection.items())
            said = f"{record.name} = {value} {interval}, n {e.n}{simulated}; {chosen}"
        case Judgement():
            answers = ", ".join(f"{axis} {verdict}" for axis, verdict in record.verdicts.items())
            simulated = " (simulated)" if record.simulated else ""
            superseding = f", supersedes {record.supersedes}" if record.supersedes else ""
            said = f"{record.annotator}{simulated}: {answers or f'skipped, {record.skip}'}{superseding}"
        case Preference():
            said = f"{record.winner} over {record.loser} on {record.axis}, weight {record.weight:.3g}"
        case Comparison():
            side = record.candidate_side or "a side unknown"
            said = f"{record.candidate} against {record.baseline}, candidate on {side}, {record.role}"
        case Sample():
            video = record.media or (f"no video, {record.failure}" if record.failure else "no video known")
            said = f"{record.system}, seed {'unknown' if record.seed is None else record.seed}, {video}"
        case Score():
            said = f"{record.scorer} = " + (
                f"failed, {record.failure}" if record.value is None else f"{record.value:.4g}"
            )
        case Case():
            said = repr(record.prompt if len(record.prompt) <= 80 else record.prompt[:79] + "…")
        case Run():
            recipe = json.dumps(record.recipe, ensure_ascii=False)
            said = f"{record.task}, seed {record.seed}, code {record.code}, recipe {recipe}"
        case Curve():
            said = f"{record.metric} of {record.run}, {len(record.steps)} steps to {record.steps[-1]}"
        case Glimpse():
            said = f"{record.prompt!r} at step {record.step} of {record.run}, {record.media}"
        case _:
            said = ""
    return f"{record.id} {said}"


def _lines(node: Node, every: bool, depth: int = 0) -> Iterator[str]:
    yield "  " * depth + node.title
    alone = len(node.records) == 1 and node.title.startswith(node.records[0].id)
    rows = () if alone else node.records if every else node.records[:SHOWN]
    for record in rows:
        yield "  " * (depth + 1) + _line(record)
    if not alone and len(rows) < len(node.records):
        yield "  " * (depth + 1) + f"… and {len(node.records) - len(rows)} more (--all)"
    for inner in node.behind:
        yield from _lines(inner, every, depth + 1)


def _plain(node: Node) -> dict[str, object]:
    records = [{"id": one.id, **one.model_dump(mode="json")} for one in node.records]
    return {"title": node.title, "records": records, "behind": [_plain(inner) for inner in node.behind]}
