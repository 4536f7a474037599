"""Questions that several pages ask, so that a filter means the same and keeps its value from page to page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dashboards.exhibit import Ask, Item, Missing, Remark
from dashboards.ledger import Mask, Snapshot
from dashboards.reader import Reader

ALL = "all"
NO_VOTES = Missing("There are no votes", "palate votes import FILE --format fetv|genai-bench|pairwise-csv")
MADE_UP = Remark("SIMULATED votes: made up by a program. No person gave any of what follows.", warning=True)


@dataclass(frozen=True)
class Choice:
    """Votes of one kind, in one study or in all."""

    reader: Reader
    snapshot: Snapshot
    simulated: bool
    study: str | None

    @property
    def key(self) -> tuple[bool, str | None]:
        return self.simulated, self.study

    def verdicts(
        self, axis: str | None = None, systems: Sequence[str] = (), among: bool = False, ordinary: bool = True
    ) -> Mask:
        return self.snapshot.chosen(self.simulated, self.study, axis, systems, among, ordinary)

    def pairs(self, axis: str | None = None) -> dict[tuple[str, str], int]:
        """Those of `Snapshot.pairs` for all its systems."""
        return self.reader.once(("pairs", self.key, axis), lambda: self.snapshot.pairs(self.verdicts(axis)))

    def axes(self, systems: Sequence[str] = (), ordinary: bool = True) -> list[str]:
        """Those of `Snapshot.axes`."""
        key = ("axes", self.key, tuple(systems), ordinary)
        return self.reader.once(key, lambda: self.snapshot.axes(self.verdicts(systems=systems, ordinary=ordinary)))


def votes(reader: Reader, ask: Ask) -> Choice | None:
    """Whose votes and of which study; None where there are none. People's are never shown with a program's."""
    snapshot = reader.snapshot()
    found = reader.once("kinds", snapshot.kinds)
    kinds = ["SIMULATED" if simulated else "people" for simulated in found]
    if not kinds:
        return None
    simulated = (
        ask.one("votes", "Votes", kinds, "People's votes and a program's are never counted together.") != "people"
    )
    studies = reader.once(("studies", simulated), lambda: snapshot.studies(simulated))
    study = ask.one("study", "Study", [ALL, *studies])
    return Choice(reader, snapshot, simulated, None if study == ALL else study)


def opening(choice: Choice | None) -> Iterator[Item]:
    """What a page of votes says before all else."""
    if choice is None:
        yield NO_VOTES
    elif choice.simulated:
        yield MADE_UP


def pair(choice: Choice, ask: Ask) -> tuple[str, str] | None:
    """Two systems that met; None where none met.

    Candidates first, in the order of their names and not of their votes: what is shown unasked is left out of the URL,
    and must not become another pair when votes arrive.
    """
    met = choice.pairs()
    if not met:
        return None
    candidates, baselines = ({names[side] for names in met} for side in (0, 1))
    candidate = ask.one("candidate", "Candidate", [*sorted(candidates), *sorted(baselines - candidates)])
    against = {one if other == candidate else other for one, other in met if candidate in (one, other)}
    return candidate, ask.one("baseline", "Baseline", sorted(against))
