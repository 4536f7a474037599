"""How well a reward, or a judge that answers in words, agrees with people on pairs of videos.

The protocols of VideoGen-RewardBench (Liu et al., arXiv:2501.13918: accuracy without ties, and with them) and of
GenAI-Bench (Jiang et al., arXiv:2406.04485: four answers, an unreadable reply is wrong), with these departures. A label
that is no verdict is left out; the published code counts it as an error of the reward. The threshold under which a
margin is called a tie comes from other prompts; the published code chooses it on the pairs it reports, and between
equal margins, where no threshold can be. Every figure has its interval over prompts. And what needs no reward stands
beside it: random scores, and calling everything a tie, which on a set of many ties looks like skill.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import BaseModel

from annotation.votes.genai_bench import VERDICTS
from palate.errors import DataError
from palate.records import Axis, Estimate, Verdict
from palate.source import Source
from palate.stats.metric import accuracy, share, tied_accuracy
from rewards.pairs import PairSet

FOLDS = 5
LABELS = {
    "[[A>B]]": Verdict.GOOD,
    "[[B>A]]": Verdict.BAD,
    "[[A=B=Good]]": Verdict.SAME,
    "[[A=B=Bad]]": Verdict.BOTH_BAD,
}


@dataclass(frozen=True)
class Row:
    """One scorer on one axis. An accuracy is None where people's labels leave nothing to count."""

    scorer: str
    axis: Axis
    without_ties: Estimate | None
    with_ties: Estimate | None
    invalid: int  # labels left out because they are no verdict


def bench(
    scorer: str, axis: Axis, label: NDArray[np.float64], margin: NDArray[np.float64], prompt: Sequence[str]
) -> Row:
    """`label` is 1, 0 or -1 as people say, nan where they say nothing that counts; `margin` nan where unscored."""
    valid = ~np.isnan(label)
    said, at = label[valid].astype(int), np.array(prompt, object)[valid]
    untied = tied = None
    if valid.any():
        untied = accuracy(said, margin[valid], at) if (said != 0).any() else None
        if len(set(at)) >= FOLDS:
            tied = tied_accuracy(said, margin[valid], at, FOLDS).accuracy
    return Row(scorer, axis, untied, tied, int((~valid).sum()))


def bench_pairs(scorer: str, pairs: PairSet, values: Float[NDArray[np.float64], "videos axes"]) -> list[Row]:
    """A row an axis for the scorer, and for the two baselines. `values` are nan where there is no score."""
    random = np.random.default_rng(0)
    margin = values[pairs.first] - values[pairs.second]
    rows: list[Row] = []
    for place, axis in enumerate(pairs.axes):
        label = pairs.label(axis)
        baselines = {"random": random.standard_normal(len(pairs)), "all ties": np.zeros(len(pairs))}
        for name, scores in {scorer: margin[:, place], **baselines}.items():
            rows.append(bench(name, axis, label, scores, list(pairs.prompts)))
    return rows


def unseen(pairs: PairSet, systems: Sequence[str]) -> PairSet:
    """The pairs that show a video of one of these systems. Raises DataError where there is none."""
    of = np.array([video.system for video in pairs.videos])
    chosen = np.isin(of[pairs.first], systems) | np.isin(of[pairs.second], systems)
    if not chosen.any():
        raise DataError(f"no pair shows {', '.join(systems)}", f"choose among {', '.join(sorted(set(of)))}")
    return pairs.select(chosen)


@dataclass(frozen=True)
class JudgeRow:
    """A judge that answers in words.

    Attributes:
        parsed: share of its replies that are one of the four labels and nothing else.
        four_way: share right among four labels, a reply that does not parse being wrong (GenAI-Bench's accuracy).
        three_way: the same, good ties and bad ties being one label.
        without_ties: share right of the pairs that people order; not parsed, or a tie, is wrong.
        without_ties_parsed: the same of its parsed replies; None where none is.
        first: share of "the first is better" among its orderings: 0.5 has no favourite place; None without any.
    """

    judge: str
    parsed: Estimate
    four_way: Estimate
    three_way: Estimate
    without_ties: Estimate
    without_ties_parsed: Estimate | None
    first: Estimate | None


class _Line(BaseModel):
    prompt: str
    human_vote: str
    judge_votes: dict[str, str | None]


def parse_label(reply: str | None) -> Verdict | None:
    """The verdict of a reply that is one of the labels, spaces around it aside; None for any other reply."""
    return LABELS.get(reply.strip()) if reply else None


def bench_judges(file: Path) -> list[JudgeRow]:
    """The judges of a file of GenAI-Bench's votes, best first, among constant answers that need no judge.

    Raises ImportRefusedError for a broken line or an unknown vote of a person.
    """
    source = Source(file)
    people: list[Verdict] = []
    prompts: list[str] = []
    replies: dict[str, list[str | None]] = {}
    for line, row in source.objects(_Line):
        if row.human_vote not in VERDICTS:
            raise source.refuse(line, f"{row.human_vote!r} is no vote", f"use {', '.join(VERDICTS)}")
        people.append(VERDICTS[row.human_vote])
        prompts.append(row.prompt)
        for judge, reply in row.judge_votes.items():
            replies.setdefault(judge, []).append(reply)
    for label in LABELS:
        replies[f"always {label}"] = [label] * len(people)
    said, at = np.array(people, object), np.array(prompts, object)
    rows = [_judge(judge, [parse_label(one) for one in given], said, at) for judge, given in replies.items()]
    return sorted(rows, key=lambda row: (-(row.four_way.value or 0), row.judge))


def _judge(
    judge: str, replies: list[Verdict | None], said: NDArray[np.object_], prompt: NDArray[np.object_]
) -> JudgeRow:
    given = np.array(replies, object)
    if len(given) != len(said):
        raise DataError(f"{judge} answered {len(given)} of {len(said)} pairs", "give null for a pair without a reply")
    parsed = given != None  # noqa: E711 (elementwise)
    ordered = np.isin(said, [Verdict.GOOD, Verdict.BAD])
    orders = np.isin(given, [Verdict.GOOD, Verdict.BAD])
    three = np.array([one.counted if one else None for one in replies], object) == [one.counted for one in said]
    right = given == said
    both = ordered & parsed
    return JudgeRow(
        judge,
        share(parsed, prompt, "share of replies that parse"),
        share(right, prompt, "four labels, an unreadable reply wrong"),
        share(three, prompt, "three labels, an unreadable reply wrong"),
        share(right[ordered], prompt[ordered], "pairs that people order, an unreadable reply wrong"),
        share(right[both], prompt[both], "pairs that people order, parsed replies") if both.any() else None,
        share(given[orders] == Verdict.GOOD, prompt[orders], "first among orderings") if orders.any() else None,
    )
