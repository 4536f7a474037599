"""VidCapBench (arXiv:2502.12782): how much of a video a caption tells, by questions that are answered from it alone.

The data is not ours to pass on: give your own copy, as the authors' `eval.py` reads it. Two calls a question: a model
answers it from the caption, and a judge compares that answer with the right one. Departures from `eval.py`: the judge's
reply must be the JSON asked for (there, any reply with a 2 in it is full marks); a reply that is not, and a judge that
abstains, are left out and counted; every number has an interval over videos; and repeats tell the questions that are
judged alike each time (the paper's AE) from the others (HE).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tqdm import tqdm

from palate.config import Settings
from palate.errors import ImportRefusedError
from palate.records import Estimate
from palate.source import Source
from palate.stats.estimate import two_way
from rewards.chat import Chat, ChatSettings, Question, Reply, object_in

DIMENSIONS: dict[str, tuple[str, ...]] = {
    "aesthetics": ("cinematography", "composition", "lighting", "color", "style"),
    "content": ("background", "subjects", "events"),
    "motion": (
        "attribute changes",
        "object motion",
        "body movements",
        "environmental motion",
        "spatiotemporal transformations",
    ),
    "physical laws": ("spatial relationships", "counter intuitive", "common sense"),
}
_DIMENSION_OF = {part: name for name, parts in DIMENSIONS.items() for part in parts}
Mark = Literal[2, 1, 0, -1]  # right in full; right but loose; not said; contradicted
LEVEL = 0.95
UNPARSED = "judge: not the JSON that was asked for"
Floats = NDArray[np.float64]


class QA(BaseModel):
    """One question about a video, and its right answer."""

    model_config = ConfigDict(frozen=True)

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    sub_category: str

    @property
    def dimension(self) -> str:
        return _DIMENSION_OF[_plain(self.sub_category)]


class _Video(BaseModel):
    video_dir: str = Field(min_length=1)
    QA_pairs: list[QA]


class _Caption(BaseModel):
    video_dir: str = Field(min_length=1)
    model_generation: str = Field(min_length=1)


class CaptionSettings(Settings):
    """Who answers from the captions, and who judges the answers."""

    answerer: ChatSettings = ChatSettings()
    judge: ChatSettings = ChatSettings()


@dataclass(frozen=True)
class Asked:
    """One question, the caption that is to answer it, and whose video they are about."""

    video: str
    caption: str
    qa: QA


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")


def load(questions: Path, captions: Path) -> list[Asked]:
    """Every question with its video's caption.

    Raises:
        ImportRefusedError: a line that does not fit, a sub-category that is none, a video twice, or a video without a
            caption or a caption without a video.
    """
    told, asked = Source(captions), Source(questions)
    caption_of: dict[str, str] = {}
    for line, row in told.objects(_Caption):
        if row.video_dir in caption_of:
            raise told.refuse(line, f"{row.video_dir} has two captions", "keep one")
        caption_of[row.video_dir] = row.model_generation
    found: list[Asked] = []
    videos: set[str] = set()
    for line, row in asked.objects(_Video):
        if row.video_dir in videos:
            raise asked.refuse(line, f"{row.video_dir} is there twice", "keep one")
        if row.video_dir not in caption_of:
            raise asked.refuse(line, f"{row.video_dir} has no caption", f"add it to {captions}")
        videos.add(row.video_dir)
        for qa in row.QA_pairs:
            if _plain(qa.sub_category) not in _DIMENSION_OF:
                known = ", ".join(_DIMENSION_OF)
                raise asked.refuse(line, f"no sub-category {qa.sub_category!r}", f"they are {known}")
            found.append(Asked(row.video_dir, caption_of[row.video_dir], qa))
    if strangers := caption_of.keys() - videos:
        raise ImportRefusedError(
            f"{captions}: {min(strangers)} has no questions", f"take it out, or add to {questions}"
        )
    return found


# ------------------------------------------------------------------------------------------------- the two calls

_ANSWER = (
    "You are given a description of a video and a question about the video. The description is all that you know. "
    "Answer in a short phrase. If the description does not say, answer: not mentioned."
)
_JUDGE = (
    "You compare an answer to a question about a video with the right answer. Reply with one JSON object and nothing "
    'else: {"analysis": "<one sentence>", "score": <number>}. The score is 2 if the answer is right in full, 1 if it '
    "is right but loose or incomplete and contradicts nothing (a similar colour is 1), 0 if it does not say, and -1 if "
    "it contradicts the right answer or names something else. If you cannot tell, the score is null."
)


class _Judged(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    analysis: str
    score: Mark | None


@dataclass(frozen=True)
class Marked:
    """One question answered and judged once. `mark` is None where the judge abstains, or where something failed.

    `failure` says which call failed and how; "" where none did.
    """

    asked: Asked
    repeat: int
    answer: str
    mark: Mark | None
    failure: str = ""

    def row(self) -> dict[str, str | int | None]:
        """For a file."""
        return {
            "video_dir": self.asked.video,
            "question": self.asked.qa.question,
            "right": self.asked.qa.answer,
            "sub_category": self.asked.qa.sub_category,
            "repeat": self.repeat,
            "answer": self.answer,
            "score": self.mark,
            "failure": self.failure,
        }


def answer_question(one: Asked, repeat: int) -> Question:
    return Question(_ANSWER, f"Description: {one.caption}\n\nQuestion: {one.qa.question}", repeat)


def judge_question(one: Asked, answer: str, repeat: int) -> Question:
    told = f"Question: {one.qa.question}\nRight answer: {one.qa.answer}\nAnswer: {answer}"
    return Question(_JUDGE, told, repeat)


@dataclass(frozen=True)
class Bill:
    """What asking will take, before anything is asked: calls that are not answered yet, and tokens by rule of thumb."""

    calls: int
    answered: int
    tokens_in: int
    tokens_out: int

    def cost(self, price_in: float, price_out: float) -> float:
        """In the currency of the prices, which are for a million tokens."""
        return (self.tokens_in * price_in + self.tokens_out * price_out) / 1e6


def bill(asked: Sequence[Asked], repeats: int, answerer: Chat, judge: Chat) -> Bill:
    """An upper bound: answers are taken to be as long as they may be, and no two judge calls to be alike."""
    calls = answered = tokens_in = tokens_out = 0
    for one in asked:
        for repeat in range(repeats):
            first = answer_question(one, repeat)
            known = answerer.known(first)
            said = known.text if known and known.text else "not mentioned"
            second = judge_question(one, said, repeat)
            for chat, question, done in (
                (answerer, first, known is not None),
                (judge, second, known is not None and judge.known(second) is not None),
            ):
                answered += done
                calls += not done
                tokens_in += 0 if done else question.tokens
                tokens_out += 0 if done else chat.settings.max_tokens
    return Bill(calls, answered, tokens_in, tokens_out)


def run(asked: Sequence[Asked], repeats: int, answerer: Chat, judge: Chat) -> list[Marked]:
    """Both calls for every question and repeat, in order. Stopped, it goes on from the chats' folders."""
    todo = [(one, repeat) for one in asked for repeat in range(repeats)]
    answers = list(_told(answerer.ask([answer_question(*one) for one in todo]), len(todo), "answers"))
    spoken = [at for at, reply in enumerate(answers) if reply.text is not None]
    questions = [judge_question(todo[at][0], answers[at].text or "", todo[at][1]) for at in spoken]
    verdicts = dict(zip(spoken, _told(judge.ask(questions), len(questions), "judgements")))
    marked: list[Marked] = []
    for at, ((one, repeat), reply) in enumerate(zip(todo, answers)):
        if at not in verdicts:
            marked.append(Marked(one, repeat, "", None, f"answer: {reply.failure}"))
            continue
        verdict, said = verdicts[at], reply.text or ""
        if verdict.text is None:
            marked.append(Marked(one, repeat, said, None, f"judge: {verdict.failure}"))
            continue
        try:
            mark = _Judged.model_validate_json(object_in(verdict.text)).score
        except ValidationError:
            marked.append(Marked(one, repeat, said, None, UNPARSED))
            continue
        marked.append(Marked(one, repeat, said, mark))
    return marked


def _told(replies: Iterable[Reply], total: int, what: str) -> Iterable[Reply]:
    return tqdm(replies, desc=what, total=total, unit="call", mininterval=1.0)


# ------------------------------------------------------------------------------------------------------ the numbers

# Each number is a product of powers of sums over videos.
METRICS: dict[str, dict[str, int]] = {
    "accuracy": {"right": 1, "marked": -1},
    "precision": {"right or loose": 1, "said": -1},
    "coverage": {"said": 1, "marked": -1},
    "conciseness": {"right": 1, "marked": -1, "words": -1, "videos": 1},  # accuracy for each word of a caption
}
RATES: dict[str, dict[str, int]] = {
    "replied": {"replied": 1, "asked": -1},
    "parsed": {"parsed": 1, "replied": -1},
    "abstained": {"abstained": 1, "parsed": -1},
}


def _words(caption: str) -> int:
    return len(caption.split())


def measures(marked: Sequence[Marked], count: Callable[[str], int] = _words) -> dict[str, Estimate]:
    """The four metrics of all marks there are, in percent; their intervals take videos as the sample.

    Args:
        count: the length of a caption. The paper counts tokens of flan-t5; words are the default.
    """
    known = [one for one in marked if one.mark is not None]
    at, table = _table(known, ("right", "right or loose", "said", "marked", "videos", "words"))
    for row, one in zip(at, known):
        table["right"][row] += one.mark == 2
        table["right or loose"][row] += one.mark in (2, 1)
        table["said"][row] += one.mark != 0
        table["marked"][row] += 1
        table["videos"][row] = 1
        table["words"][row] = count(one.asked.caption)
    lost = len(marked) - len(known)
    note = f"{lost} of {len(marked)} judgements give no mark" if lost else ""
    return {name: _product(table, powers, len(known), name, note) for name, powers in METRICS.items()}


def rates(marked: Sequence[Marked]) -> dict[str, Estimate]:
    """How often, in percent, both models replied; the judge's reply was the JSON asked for; and it then abstained."""
    at, table = _table(marked, ("asked", "replied", "parsed", "abstained"))
    for row, one in zip(at, marked):
        unparsed = one.failure == UNPARSED
        table["asked"][row] += 1
        table["replied"][row] += unparsed or not one.failure
        table["parsed"][row] += not one.failure
        table["abstained"][row] += one.mark is None and not one.failure
    return {name: _product(table, powers, len(marked), name, "") for name, powers in RATES.items()}


def agreement(marked: Sequence[Marked]) -> Estimate:
    """How many questions, in percent, every repeat marks alike."""
    alike, _ = consistent(marked)
    at, table = _table(marked, ("alike", "marked"))
    same = {id(one) for one in alike}
    for row, one in zip(at, marked):
        table["alike"][row] += id(one) in same
        table["marked"][row] += 1
    return _product(table, {"alike": 1, "marked": -1}, len(marked), "judged alike", "")


def _table(marked: Sequence[Marked], names: Sequence[str]) -> tuple[list[int], dict[str, Floats]]:
    """The row of each mark's video, and a column of zeros for each name."""
    rows: dict[str, int] = {}
    at = [rows.setdefault(one.asked.video, len(rows)) for one in marked]
    return at, {name: np.zeros(len(rows)) for name in names}


def _product(table: Mapping[str, Floats], powers: Mapping[str, int], n: int, name: str, note: str) -> Estimate:
    """100 times the product of powers of the columns' sums, with the interval of its linearisation."""
    sums = {one: float(table[one].sum()) for one in powers}
    videos = len(next(iter(table.values())))
    value = half = None
    if any(sums[one] == 0 for one, power in powers.items() if power < 0):
        why = "there is nothing to count"
    elif not all(sums.values()):
        value, why = 0.0, "no interval: there is none of it"
    else:
        value = 100 * float(np.prod([sums[one] ** float(power) for one, power in powers.items()]))
        scores = np.sum([value * power * table[one] / sums[one] for one, power in powers.items()], axis=0)
        spread = two_way(scores[:, None], np.arange(videos), None)
        deviation = spread.deviation(np.ones(1))
        half = None if deviation is None else spread.quantile(LEVEL) * deviation
        why = "no interval: nothing varies between videos" if half is None else ""
    most = np.inf if name == "conciseness" else 100.0
    return Estimate(
        value=value,
        low=None if value is None or half is None else max(value - half, 0.0),
        high=None if value is None or half is None else min(value + half, most),
        n=n,
        method=f"{name} in percent, linearised, t over videos",
        clusters={"videos": videos},
        note="; ".join(filter(None, (note, why))),
    )


def by_dimension(marked: Sequence[Marked]) -> dict[str, list[Marked]]:
    """The marks of all, then of each dimension that has some."""
    return {
        "all": list(marked),
        **{name: part for name in DIMENSIONS if (part := [one for one in marked if one.asked.qa.dimension == name])},
    }


def consistent(marked: Sequence[Marked]) -> tuple[list[Marked], list[Marked]]:
    """The marks of questions that every repeat marks alike (AE), and of the others (HE)."""
    groups: dict[Asked, list[Marked]] = defaultdict(list)
    for one in marked:
        groups[one.asked].append(one)
    alike: tuple[list[Marked], list[Marked]] = ([], [])
    for group in groups.values():
        same = group[0].mark is not None and len({one.mark for one in group}) == 1
        alike[not same].extend(group)
    return alike


def summary(marked: Sequence[Marked]) -> dict[str, dict[str, Estimate]]:
    """Metrics of all, of each dimension, and of both kinds of repeats where there are any; and how the judging went."""
    found = {name: measures(part) for name, part in by_dimension(marked).items()}
    found["all"] |= rates(marked)
    if any(one.repeat for one in marked):
        alike, others = consistent(marked)
        found["all"] |= {"judged alike": agreement(marked)}
        found |= {name: measures(part) for name, part in (("alike (AE)", alike), ("not alike (HE)", others)) if part}
    return found
