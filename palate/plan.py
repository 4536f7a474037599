"""What a study would need, from the votes of earlier ones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from palate.errors import DataError
from palate.gsb import Contests
from palate.report_text import table
from palate.stats.plan import Components, components, prompts_needed
from palate.votes import Votes


@dataclass(frozen=True)
class Design:
    """`prompts` judged by `overlap` of `annotators` each; None where no number of prompts is enough."""

    annotators: int
    overlap: int
    prompts: int | None

    @property
    def votes(self) -> int | None:
        return None if self.prompts is None else self.prompts * self.overlap


def measured(votes: Iterable[Votes]) -> tuple[Components, str]:
    """Variance components, averaged over contests by their votes; and what they were measured on.

    Args:
        votes: in parts, every part with all votes of its cases.

    Raises:
        DataError: no contest tells prompts, annotators and the rest apart.
    """
    found: list[Components] = []
    sizes: list[int] = []
    reason = "there are no votes"
    contests = Contests()
    for part in votes:
        contests.add(part)
    for counts in contests.counts():
        try:
            found.append(components(counts))
        except DataError as error:
            reason = error.problem
            continue
        sizes.append(counts.n)
    if not found:
        raise DataError(f"nothing to measure on: {reason}", "give the variances, such as --assume 0.15,0.02,0.5")
    means = np.average([[one.prompt, one.annotator, one.rest] for one in found], axis=0, weights=sizes)
    return Components(*means.tolist()), f"measured on {sum(sizes)} votes of {len(found)} contests"


def design(
    parts: Components, detect: float, power: float, annotators: Sequence[int], overlap: Sequence[int]
) -> list[Design]:
    """Every combination that can be: no prompt has more votes than there are annotators.

    Raises DataError for an effect or power that makes no sense.
    """
    return [
        Design(people, votes, prompts_needed(parts, detect, people, votes, power))
        for people in annotators
        for votes in overlap
        if votes <= people
    ]


def plan_text(parts: Components, source: str, detect: float, power: float, designs: Sequence[Design]) -> str:
    """A table of designs, and what they rest on."""
    rows = [
        [
            str(one.annotators),
            str(one.overlap),
            *(["none is enough", "–"] if one.prompts is None else [str(one.prompts), str(one.votes)]),
        ]
        for one in designs
    ]
    foot = [
        f"To tell a net (G-B)/N of {detect:g} from zero with probability {power:g}, by a two-sided test at 5%.",
        f"A verdict's variance, {source}: {parts.prompt:.3f} between prompts, "
        f"{parts.annotator:.3f} between annotators, {parts.rest:.3f} the rest.",
        "Prompts and annotators are both samples: where none is enough, more annotators are needed, not more prompts.",
        "Annotators share the work evenly, and one look is taken, at the end.",
    ]
    return f"{table(['annotators', 'votes a prompt', 'prompts', 'votes'], rows)}\n\n" + "\n".join(foot)
