"""Any2Caption's question in the shapes world: what does a captioner tell of a video, from which conditions?

Shots are rendered as conditions, so the truth of every part is known. Each set of conditions is asked of the same
shots; a program asks each part of the caption for the facts that it is about (intent QA): those that the conditions
tell must be right, and of the others nothing may be said.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks import text_metrics
from palate import givens
from palate.caption import PARTS, Caption, Part, integrity, read
from palate.errors import ConfigError, DataError
from palate.givens import CONDITIONS, SAYS, Condition, Givens, Shot
from palate.records import Estimate
from palate.report import mean_over_cases
from palate.shapes import Split
from palate.stats.metric import share

Kinds = tuple[Condition, ...]
TEXT: dict[str, Callable[[str, str], float]] = {
    "BLEU": text_metrics.bleu,
    "ROUGE-L": text_metrics.rouge_l,
    "METEOR": text_metrics.meteor,
}


class Captioner(Protocol):
    def replies(self, given: Sequence[Givens]) -> list[str]:
        """One of each; all have the same conditions."""
        ...


@dataclass(frozen=True)
class Answer:
    """What was replied to shot number `number`, shown as these conditions, and the caption in it or why there is none.

    `right` and `invented`: of each part, for each fact that it is about and the conditions tell, whether it says that
    and nothing else; for each that they do not tell, whether it says something all the same.
    """

    number: int
    kinds: Kinds
    shot: Shot
    reply: str
    caption: Caption | None = None
    failure: str = ""

    @property
    def row(self) -> dict[str, object]:
        """As JSON."""
        told = {"shot": self.number, "conditions": self.kinds, "facts": self.shot.facts}
        return {**told, "reply": self.reply, "failure": self.failure}

    @property
    def true(self) -> Caption:
        return givens.caption(self.shot, self.kinds)

    def right(self, part: Part) -> list[bool]:
        told = givens.told(self.kinds)
        return [self.says(part, fact) for fact in SAYS[part] if fact in told]

    def says(self, part: Part, fact: givens.Told) -> bool:
        """Whether it says the truth about this fact, and nothing else."""
        return self._stated(part).get(fact) == (self.shot.facts[fact],)

    def invented(self, part: Part) -> list[bool]:
        said, told = self._stated(part), givens.told(self.kinds)
        return [fact in said for fact in SAYS[part] if fact not in told]

    def _stated(self, part: Part) -> Mapping[givens.Told, tuple[str, ...]]:
        return givens.stated(self.caption.parts[part]) if self.caption else {}


def sets() -> list[Kinds]:
    """Each condition alone, all of them, and all but each."""
    return [*((kind,) for kind in CONDITIONS), CONDITIONS, *(_without(kind) for kind in CONDITIONS)]


def _without(kind: Condition) -> Kinds:
    return tuple(other for other in CONDITIONS if other != kind)


def set_named(text: str) -> Kinds:
    """Such as "image+pose". Raises ConfigError for another condition."""
    names = text.split("+")
    if odd := next((name for name in names if name not in CONDITIONS), None):
        raise ConfigError(f"no condition {odd!r}", f"join some of {', '.join(CONDITIONS)} by +")
    return tuple(kind for kind in CONDITIONS if kind in names)


def name_of(kinds: Kinds) -> str:
    if len(kinds) == len(CONDITIONS):
        return "all"
    missing = [kind for kind in CONDITIONS if kind not in kinds]
    return f"all but {missing[0]}" if len(missing) == 1 else " + ".join(kinds)


def shots(count: int, split: Split, seed: int) -> list[tuple[Shot, Givens]]:
    rng = np.random.default_rng(seed)
    drawn = [givens.draw_shot(rng, split) for _ in range(count)]
    return [(shot, givens.render(shot, rng)) for shot in drawn]


def ask(captioner: Captioner, shown: Sequence[tuple[Shot, Givens]], kinds: Kinds) -> list[Answer]:
    replies = captioner.replies([given.only(kinds) for _, given in shown])
    return [_read(Answer(at, kinds, shot, reply)) for at, ((shot, _), reply) in enumerate(zip(shown, replies))]


def _read(answer: Answer) -> Answer:
    try:
        return replace(answer, caption=read(answer.reply))
    except DataError as error:
        return replace(answer, failure=error.problem)


def measures(answers: Sequence[Answer], encoder: Path | None = None) -> dict[str, Estimate]:
    """Integrity and how many are captions, of all replies; the rest of those that are captions. Each in 0..1.

    `encoder` is the model of BERTScore, which is left out without one. Intervals are over shots.
    """
    known = [one for one in answers if one.caption]
    numbers = [one.number for one in answers]
    lost = len(answers) - len(known)
    note = f"{lost} of {len(answers)} replies are no caption" if lost else ""
    found = {
        "integrity": mean_over_cases([integrity(one.reply) / len(PARTS) for one in answers], numbers),
        "captions": share(np.array([one.caption is not None for one in answers]), np.array(numbers), "captions"),
        **{f"right: {part}": _share(known, lambda one, p=part: one.right(p), f"right: {part}", note) for part in PARTS},
        "invented": _share(known, _all_invented, "invented", note),
    }
    for fact in SAYS["dense"]:
        tells = [one for one in known if fact in givens.told(one.kinds)]
        name = f"dense: {fact}"
        found[name] = _share(tells, lambda one, fact=fact: [one.says("dense", fact)], name, note)
    found |= {name: _mean(known, [score(*_texts(one)) for one in known], note) for name, score in TEXT.items()}
    if encoder:
        pairs = [_texts(one) for one in known]
        said, wanted = [one for one, _ in pairs], [one for _, one in pairs]
        scores = text_metrics.bertscore(said, wanted, encoder) if pairs else []
        found["BERTScore"] = _mean(known, scores, note)
    return found


def _all_invented(answer: Answer) -> list[bool]:
    return [one for part in PARTS for one in answer.invented(part)]


def _texts(answer: Answer) -> tuple[str, str]:
    assert answer.caption
    return answer.caption.text, answer.true.text


def _mean(known: Sequence[Answer], values: Sequence[float], note: str) -> Estimate:
    return mean_over_cases(values, [one.number for one in known], note) if values else _none("mean, t over cases", note)


def _share(answers: Sequence[Answer], of: Callable[[Answer], Collection[bool]], name: str, note: str) -> Estimate:
    rows = [(value, one.number) for one in answers for value in of(one)]
    if not rows:
        return _none(name, note)
    values, numbers = map(np.array, zip(*rows))
    return share(values, numbers, name, note)


def _none(method: str, note: str) -> Estimate:
    return Estimate(value=None, low=None, high=None, n=0, method=method, note=note or "there is nothing to count")


def gains(answers: Mapping[Kinds, Sequence[Answer]]) -> Iterator[tuple[Condition, Estimate]]:
    """What each condition adds: facts right in the dense part of a shot with all, less those without it, paired."""
    whole = answers[CONDITIONS]
    for kind in CONDITIONS:
        pairs = [
            (one.number, sum(one.right("dense")) - sum(less.right("dense")))
            for one, less in zip(whole, answers[_without(kind)])
            if one.caption and less.caption
        ]
        if pairs:
            yield kind, mean_over_cases([float(gain) for _, gain in pairs], [number for number, _ in pairs])
