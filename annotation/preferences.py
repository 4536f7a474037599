"""The one place where judgements become preferences.

Contradiction is kept, not hidden: under `vote_share` a preference weighs the winner's lead as a share of the votes, so
that three against two trains less than five against none.

Ties. A tie is never a preference. `count`, the default, lets "same" votes stand as votes against preferring: a lead of
one vote among many ties weighs little under `vote_share`, and yields nothing under `majority`. `drop` sets them aside
and lets the decided decide. Half a win to each side, as leaderboards have it, is no third way: both halves in one
winner-loser pair are what `count` already does to the weight, (good + same/2 - bad - same/2) / votes, and written as
two opposite pairs they teach "more of this" and "less of this" about the same sample.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from palate.config import Settings
from palate.records import OVERALL, Axis, Comparison, Judgement, Preference, Verdict


class Policy(Settings):
    """How many people must agree, and what their agreement weighs."""

    axis: Axis = OVERALL
    aggregation: Literal["vote_share", "majority"] = Field(
        default="vote_share",
        description="weight |good - bad| / votes, or 1 where a majority prefers one",
    )
    ties: Literal["count", "drop"] = Field(default="count", description="whether `same` is a vote or is set aside")
    votes: int = Field(default=1, ge=1, description="fewest votes, skips not among them")
    margin: float = Field(default=0, ge=0, le=1, description="smallest lead, as a share of the votes")

    @property
    def name(self) -> str:
        """The policy as every preference quotes it, such as "majority; ties drop; votes >= 1; margin >= 0"."""
        return f"{self.aggregation}; ties {self.ties}; votes >= {self.votes}; margin >= {self.margin:g}"


def lead(good: float, same: float, bad: float, policy: Policy) -> float:
    """The weight of a preference for the one that was called good; negative for the other; 0 where there is none."""
    ties = same if policy.ties == "count" else 0
    votes, ahead = good + ties + bad, abs(good - bad)
    outvoted = policy.aggregation == "majority" and ties >= max(good, bad)
    if not ahead or outvoted or votes < policy.votes or ahead / votes < policy.margin:
        return 0.0
    weight = ahead / votes if policy.aggregation == "vote_share" else 1.0
    return weight if good > bad else -weight


def preferences(comparisons: Iterable[Comparison], judgements: Iterable[Judgement], policy: Policy) -> list[Preference]:
    """Aggregate the judgements of `comparisons` on one axis.

    All judgements of the same two samples are pooled, whichever side stood where: a repeat adds its votes to its
    original's. Set aside are skips, superseded judgements, gold comparisons (they examine people, not samples),
    judgements of other comparisons, and pairs that more than half call `both_bad`; other `both_bad` votes count as
    `same`. Simulated votes are never pooled with people's. The order of the inputs changes nothing, nor does giving a
    judgement twice.

    Returns:
        At most one preference for each pair of samples (one simulated and one real where both exist), ordered by id.
    """
    asked = {comparison.id: comparison for comparison in comparisons if comparison.role != "gold"}
    given = {judgement.id: judgement for judgement in judgements}
    superseded = {judgement.supersedes for judgement in given.values()}
    ballots: dict[tuple[str, str, str, str, bool], dict[str, Verdict]] = defaultdict(dict)
    for judgement in given.values():
        comparison = asked.get(judgement.comparison)
        verdict = judgement.verdicts.get(policy.axis)
        if comparison is None or verdict is None or judgement.id in superseded:
            continue
        first, second = sorted((comparison.candidate, comparison.baseline))
        ballot = ballots[comparison.study, comparison.case, first, second, judgement.simulated]
        ballot[judgement.id] = verdict if first == comparison.candidate else verdict.swapped
    decided = (_decide(*pair, ballot, policy) for pair, ballot in ballots.items())
    return sorted((one for one in decided if one), key=lambda one: one.id)


def standing(
    preferences: Iterable[Preference], comparisons: Iterable[Comparison], judgements: Iterable[Judgement]
) -> list[Preference]:
    """Those that rest on all that people say today of the samples they speak of, and on nothing that was taken back.

    The record keeps what was once concluded. Judgements that come, change or go later make new preferences beside the
    old ones; to learn from both would count the same people twice, or contradict them.

    Args:
        comparisons: of the preferences' studies.
        judgements: of these comparisons.
    """
    pair = {one.id: (one.study, frozenset((one.candidate, one.baseline))) for one in comparisons if one.role != "gold"}
    rows = {one.id: one for one in judgements if one.comparison in pair}
    superseded = {one.supersedes for one in rows.values()}
    said: dict[tuple[tuple[str, frozenset[str]], Axis, bool], set[str]] = defaultdict(set)
    for one in rows.values():
        for axis in one.verdicts if one.id not in superseded else ():
            said[pair[one.comparison], axis, one.simulated].add(one.id)

    def stands(one: Preference) -> bool:
        about = {pair[rows[id].comparison] for id in one.judgements if id in rows}
        return set(one.judgements) == set().union(*(said[which, one.axis, one.simulated] for which in about))

    return [one for one in preferences if stands(one)]


def _decide(
    study: str, case: str, first: str, second: str, simulated: bool, ballot: Mapping[str, Verdict], policy: Policy
) -> Preference | None:
    """The preference of one pair of samples; `ballot` holds each judgement's verdict from the side of `first`."""
    counts = Counter(ballot.values())
    same = counts[Verdict.SAME] + counts[Verdict.BOTH_BAD]
    weight = lead(counts[Verdict.GOOD], same, counts[Verdict.BAD], policy)
    if not weight or 2 * counts[Verdict.BOTH_BAD] > len(ballot):
        return None
    winner, loser = (first, second) if weight > 0 else (second, first)
    return Preference(
        study=study,
        case=case,
        axis=policy.axis,
        winner=winner,
        loser=loser,
        weight=abs(weight),
        policy=policy.name,
        judgements=tuple(sorted(ballot)),
        simulated=simulated,
    )


def contrasts(preferences: Iterable[Preference], per_case: int) -> list[Preference]:
    """A knockout's pairs to train on: its best sample against those it beat, itself or through others.

    The best of a case is the sample nobody beat that has the most below it (a tie on the way was settled by a coin,
    which is no preference, so there can be several such samples; between equals the higher weights, then the id,
    decide). A chain best > a > b weighs the product of its weights: the winner's lead, had every link to hold.
    That is cautious, since being two steps apart makes an answer easier. Kept are the `per_case` heaviest, and among
    equals the longest chains. A case whose comparisons all tied has none.

    Preferences of different studies, axes, policies, and of simulated and real people are never chained.

    Args:
        per_case: most pairs for each case.
    """
    brackets: dict[tuple[str, str, str, str, bool], dict[str, list[Preference]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for one in {preference.id: preference for preference in preferences}.values():
        brackets[one.study, one.case, one.axis, one.policy, one.simulated][one.winner].append(one)
    pairs: list[Preference] = []
    for (study, case, axis, policy, simulated), wins in brackets.items():
        beaten = {preference.loser for won in wins.values() for preference in won}
        runs = {sample: _below(sample, wins) for sample in wins if sample not in beaten}
        if not runs:
            continue  # everybody was beaten by somebody: a circle has no best
        best = max(runs, key=lambda sample: (len(runs[sample]), sum(chain.weight for chain in runs[sample]), sample))
        for chain in sorted(runs[best], key=lambda chain: (-chain.weight, -chain.links, chain.end))[:per_case]:
            pairs.append(
                Preference(
                    study=study,
                    case=case,
                    axis=axis,
                    winner=best,
                    loser=chain.end,
                    weight=chain.weight,
                    policy=f"{policy}; knockout",
                    judgements=tuple(sorted(set(chain.judgements))),
                    simulated=simulated,
                )
            )
    return sorted(pairs, key=lambda one: one.id)


@dataclass(frozen=True, order=True)
class _Chain:
    """From the best down to `end`; the heaviest sorts first."""

    negative: float
    links: int
    end: str
    judgements: tuple[str, ...]

    @property
    def weight(self) -> float:
        return -self.negative


def _below(best: str, wins: Mapping[str, list[Preference]]) -> list[_Chain]:
    """The heaviest chain from `best` to each sample below it (Dijkstra on products of weights, none above 1)."""
    chains: dict[str, _Chain] = {}
    queue = [_Chain(-1.0, 0, best, ())]
    while queue:
        chain = heapq.heappop(queue)
        if chain.end in chains:
            continue
        chains[chain.end] = chain
        for won in wins.get(chain.end, ()):
            judgements = chain.judgements + won.judgements
            heapq.heappush(queue, _Chain(chain.negative * won.weight, chain.links + 1, won.loser, judgements))
    del chains[best]
    return list(chains.values())
