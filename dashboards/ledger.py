"""The votes of a record, held in memory as whole numbers: read once, and then only what is new.

Any selection of them is a mask, and only what is selected becomes text again.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dashboards import queries
from dashboards.queries import utc
from palate.digest import hashes
from palate.records import Verdict
from palate.stats.estimate import distinct
from palate.store import Store
from palate.votes import Codes, Labels, Votes, alphabetical

# A writer that waited for others was given its time before them. What is asked for again is known by its id.
LATE = timedelta(minutes=10)

_OUTCOME = {Verdict.GOOD: 1, Verdict.SAME: 0, Verdict.BOTH_BAD: 0, Verdict.BAD: -1}
Ints = NDArray[np.integer]
Mask = NDArray[np.bool_]


@dataclass
class Words:
    """Text that repeats: a code for each distinct one, in the order they came."""

    names: list[str] = field(default_factory=list)
    _codes: dict[str, int] = field(default_factory=dict)

    def code(self, name: str) -> int:
        found = self._codes.setdefault(name, len(self.names))
        if found == len(self.names):
            self.names.append(name)
        return found

    def find(self, name: str) -> int:
        """-1 where it never came."""
        return self._codes.get(name, -1)

    @property
    def array(self) -> NDArray[np.object_]:
        return np.array(self.names, object)


@dataclass
class _Table:
    """A growing table: the ids it has, the time of the newest, and a column of codes for each thing kept."""

    ids: dict[str, int] = field(default_factory=dict)
    newest: datetime | None = None
    columns: dict[str, "array[Any]"] = field(default_factory=dict)

    def add(self, id: str, recorded_at: datetime, **row: float) -> None:
        self.ids[id] = len(self.ids)
        self.newest = recorded_at if self.newest is None else max(self.newest, recorded_at)
        for name, value in {**row, "time": recorded_at.timestamp()}.items():
            if name not in self.columns:
                self.columns[name] = array("d" if name in ("time", "seconds") else "i")
            self.columns[name].append(value)

    def column(self, name: str) -> NDArray[Any]:
        return np.array(self.columns.get(name, ()), float if name in ("time", "seconds") else np.int32)

    @property
    def since(self) -> datetime | None:
        return self.newest and self.newest - LATE


class Ledger:
    """All that votes hang on. `refresh` brings it up to the store; `snapshot` is what pages compute from."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._clear()

    def _clear(self) -> None:
        self.words = {name: Words() for name in ("annotator", "study", "case", "system", "axis", "verdict")}
        self._samples, self._comparisons, self._judgements = _Table(), _Table(), _Table()
        self._verdicts = {name: array("i") for name in ("judgement", "axis", "verdict")}
        self._superseded: set[str] = set()
        self._hashes = bytearray()  # of judgements' ids, 32 bytes each

    def refresh(self, counts: dict[str, int]) -> "Snapshot":
        """Reads what is new; all of it again where afterwards something is missing, as after a restored backup."""
        self._read()
        tables = {"sample": self._samples, "comparison": self._comparisons, "judgement": self._judgements}
        if any(len(table.ids) < counts[kind] for kind, table in tables.items()):
            self._clear()
            self._read()
        return self._snapshot()

    def _read(self) -> None:
        # Judgements first: what they refer to is in the store when the others are read.
        held = self._judgements
        new = [row for row in queries.grown(self._store, "judgement", held.since) if row.id not in held.ids]
        found = list(queries.verdicts(self._store, held.since)) if new else []
        comparisons = list(queries.grown(self._store, "comparison", self._comparisons.since))
        for row in queries.grown(self._store, "sample", self._samples.since):
            if row.id not in self._samples.ids:
                case, system = self.words["case"].code(row.case), self.words["system"].code(row.system)
                self._samples.add(
                    row.id, utc(row.recorded_at), case=case, system=system, failed=row.failure is not None
                )
        samples = self._samples.ids
        for row in comparisons:
            if row.id not in self._comparisons.ids:
                self._comparisons.add(
                    row.id,
                    utc(row.recorded_at),
                    study=self.words["study"].code(row.study),
                    candidate=samples[row.candidate],
                    baseline=samples[row.baseline],
                    side={"left": 1, "right": -1}.get(row.candidate_side, 0),
                    role=("normal", "gold", "repeat").index(row.role),
                )
        before = len(held.ids)
        for row in new:
            if row.supersedes:
                self._superseded.add(row.supersedes)
            held.add(
                row.id,
                utc(row.recorded_at),
                comparison=self._comparisons.ids[row.comparison],
                annotator=self.words["annotator"].code(row.annotator),
                simulated=row.simulated,
                skipped=row.skip is not None,
                seconds=np.nan if row.seconds is None else row.seconds,
            )
        self._hashes += hashes(row.id for row in new).tobytes()
        for row in found:
            at = held.ids.get(row.judgement, -1)
            if at >= before:
                self._verdicts["judgement"].append(at)
                self._verdicts["axis"].append(self.words["axis"].code(row.axis))
                self._verdicts["verdict"].append(self.words["verdict"].code(row.verdict))

    def _snapshot(self) -> "Snapshot":
        judgements = {name: self._judgements.column(name) for name in _JUDGEMENT}
        stands = np.ones(len(self._judgements.ids), bool)
        stands[[self._judgements.ids[id] for id in self._superseded if id in self._judgements.ids]] = False
        return Snapshot(
            words={name: words.array for name, words in self.words.items()},
            judgement_ids=np.array(list(self._judgements.ids), object),
            judgement_hashes=np.frombuffer(bytes(self._hashes), np.uint8).reshape(-1, 32),
            comparison_ids=np.array(list(self._comparisons.ids), object),
            sample_ids=np.array(list(self._samples.ids), object),
            judgement={**judgements, "stands": stands},
            comparison={name: self._comparisons.column(name) for name in _COMPARISON},
            sample={name: self._samples.column(name) for name in _SAMPLE},
            verdict={name: np.array(column, np.int32) for name, column in self._verdicts.items()},
        )


_JUDGEMENT = ("comparison", "annotator", "simulated", "skipped", "seconds", "time")
_COMPARISON = ("study", "candidate", "baseline", "side", "role", "time")
_SAMPLE = ("case", "system", "failed", "time")
_ROLES, _SIDES = np.array(["normal", "gold", "repeat"], object), np.array(["", "left", "right"], object)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The record's votes at one moment: columns by table, codes into `words`, row numbers into the other tables."""

    words: dict[str, NDArray[np.object_]]
    judgement_ids: NDArray[np.object_]
    judgement_hashes: NDArray[np.uint8]
    comparison_ids: NDArray[np.object_]
    sample_ids: NDArray[np.object_]
    judgement: dict[str, NDArray[Any]]
    comparison: dict[str, NDArray[Any]]
    sample: dict[str, NDArray[Any]]
    verdict: dict[str, NDArray[np.int32]]

    def code(self, kind: str, name: str) -> int:
        found = np.flatnonzero(self.words[kind] == name)
        return int(found[0]) if len(found) else -1

    @cached_property
    def systems(self) -> tuple[Ints, Ints]:
        """Of each comparison: the candidate's system, the baseline's."""
        system = self.sample["system"]
        return system[self.comparison["candidate"]], system[self.comparison["baseline"]]

    @cached_property
    def comparison_of(self) -> Ints:
        """The comparison of each verdict."""
        return self.judgement["comparison"][self.verdict["judgement"]]

    @cached_property
    def standing(self) -> Mask:
        """The verdicts that no later judgement supersedes."""
        return self.judgement["stands"][self.verdict["judgement"]]

    @cached_property
    def outcome(self) -> Ints:
        """Of each verdict: 1 good, 0 same, -1 bad, from the candidate's side."""
        kinds = np.array([_OUTCOME[Verdict(kind)] for kind in self.words["verdict"]], np.int8)
        return kinds[self.verdict["verdict"]]

    def kinds(self) -> list[bool]:
        """Whether simulated, for each kind of vote there is: people's first."""
        return sorted({bool(one) for one in np.unique(self.judgement["simulated"])})

    def studies(self, simulated: bool) -> list[str]:
        """Those with votes of this kind, the latest first."""
        chosen = self.judgement["simulated"] == simulated
        study = self.comparison["study"][self.judgement["comparison"][chosen]]
        last = np.full(len(self.words["study"]), -np.inf)
        newest_last = np.argsort(self.judgement["time"][chosen], kind="stable")
        last[study[newest_last]] = self.judgement["time"][chosen][newest_last]  # of several the last one stays
        return [str(self.words["study"][at]) for at in np.argsort(-last, kind="stable") if last[at] > -np.inf]

    def chosen(
        self,
        simulated: bool,
        study: str | None = None,
        axis: str | None = None,
        systems: Sequence[str] = (),
        among: bool = False,
        ordinary: bool = True,
    ) -> Mask:
        """The verdicts that stand and fit.

        Args:
            systems: those whose comparisons are taken: with both of two, or with `among` any two of them.
            ordinary: neither gold nor repeats, nor two samples of one system.
        """
        candidate, baseline = self.systems
        asked = np.ones(len(self.comparison["study"]), bool)
        if study is not None:
            asked &= self.comparison["study"] == self.code("study", study)
        if ordinary:
            asked &= (self.comparison["role"] == 0) & (candidate != baseline)
        if systems:
            codes = [self.code("system", one) for one in systems]
            inside = np.isin(candidate, codes), np.isin(baseline, codes)
            asked &= (inside[0] & inside[1]) if among or len(systems) == 2 else (inside[0] | inside[1])
        kept = self.standing & asked[self.comparison_of]
        kept &= (self.judgement["simulated"] == simulated)[self.verdict["judgement"]]
        if axis is not None:
            kept &= self.verdict["axis"] == self.code("axis", axis)
        return kept

    def axes(self, kept: Mask) -> list[str]:
        """The axes of these verdicts, `overall` first."""
        found = self.words["axis"][np.unique(self.verdict["axis"][kept])]
        return sorted(map(str, found), key=lambda axis: (axis != "overall", axis))

    def pairs(self, kept: Mask) -> dict[tuple[str, str], int]:
        """Systems that met -> verdicts, the most first; each pair from the side that stood as candidate more often."""
        size = len(self.words["system"])
        votes = np.bincount(self.comparison_of[kept], minlength=len(self.comparison["study"]))
        candidate, baseline = (column.astype(np.int64) for column in self.systems)
        both, pair = distinct((candidate * size + baseline)[votes > 0])
        counts = np.bincount(pair, votes[votes > 0], len(both)).astype(int)
        names, met = self.words["system"], dict(zip(both.tolist(), counts.tolist()))
        found: dict[tuple[str, str], int] = {}
        for key, count in met.items():
            one, other = divmod(key, size)
            back = met.get(other * size + one, 0)
            if one != other and (count, -one) > (back, -other):
                found[str(names[one]), str(names[other])] = count + back
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def votes(self, kept: Mask) -> Votes:
        """These verdicts as the statistics take them."""
        judgement, at = self.verdict["judgement"][kept], self.comparison_of[kept]
        candidate, baseline = self.systems
        return Votes(
            judgement=self._labels("judgement", judgement),
            comparison=self._labels("comparison", at),
            case=self._labels("case", self.sample["case"][self.comparison["candidate"][at]]),
            annotator=self._labels("annotator", self.judgement["annotator"][judgement]),
            axis=self._labels("axis", self.verdict["axis"][kept]),
            candidate=self._labels("system", candidate[at]),
            baseline=self._labels("system", baseline[at]),
            verdict=self._labels("verdict", self.verdict["verdict"][kept]),
            candidate_side=self._labels("side", self.comparison["side"][at]),
            role=self._labels("role", self.comparison["role"][at]),
            simulated=self.judgement["simulated"][judgement].astype(bool),
            study=self._labels("study", self.comparison["study"][at]),
        )

    @cached_property
    def _alphabets(self) -> dict[str, tuple[NDArray[np.object_], Codes]]:
        ids = {"judgement": self.judgement_ids, "comparison": self.comparison_ids}
        return {
            kind: alphabetical(names) for kind, names in {**self.words, **ids, "side": _SIDES, "role": _ROLES}.items()
        }

    def _labels(self, kind: str, codes: Ints) -> Labels:
        names, rank = self._alphabets[kind]
        return Labels(names, rank[codes], self._sorted_hashes if kind == "judgement" else None)

    @cached_property
    def _sorted_hashes(self) -> NDArray[np.uint8]:
        rank = self._alphabets["judgement"][1]
        found = np.empty_like(self.judgement_hashes)
        found[rank] = self.judgement_hashes
        return found
