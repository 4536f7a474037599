"""VidCapBench (arXiv:2502.12782): how much of a video a caption tells, by questions that are answered from it alone.

The data is not ours to pass on: give your own copy, as the authors' `eval.py` reads it. Two calls a question: a model
answers it from the caption, and a judge compares that answer with the right one. Departures from `eval.py`: the judge's
reply must be the JSON asked for (there, any reply with a 2 in it is full marks); a reply that is not, and a judge that
abstains, are left out and counted; every number has an interval over videos; and repeats tell the questions that are
judged alike each time (the paper's AE) from the others (HE).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tqdm import tqdm

from palate.config import Settings
from palate.errors import ImportRefusedError
from palate.source import Source
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
UNPARSED = "judge: not the JSON that was asked for"


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
