"""Questions to a language model, behind an OpenAI-compatible server or here: many at a time, each paid for once.

A reply is kept in a folder under the hash of everything that was asked, so what was stopped goes on where it was, and
the same question is never sent twice. What the server does not answer after all tries is a reply with a reason.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate.config import Settings
from palate.errors import ConfigError
from palate.files import whole_file
from palate.records import content_hash

LOCAL = "local:"  # begins the url of a model in a folder here
CHARACTERS_A_TOKEN = 4  # a rule of thumb for English, for estimates before anything is asked


class ChatSettings(Settings):
    """Which model is asked, and how hard. `per_minute` is the most requests a minute; 0 is no limit.

    A url such as local:/models/qwen names a folder with a language model of transformers, which then runs here.
    """

    url: str = "http://127.0.0.1:8000/v1"
    model: str = "default"
    temperature: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=256, ge=1)
    concurrency: int = Field(default=8, ge=1)
    per_minute: int = Field(default=0, ge=0)
    tries: int = Field(default=5, ge=1)
    timeout: float = Field(default=60.0, gt=0)
    wait: float = Field(default=1.0, ge=0)  # seconds before the second try, doubled for each further one
    key_variable: str = "OPENAI_API_KEY"  # the environment variable that holds the key, if the server wants one


@dataclass(frozen=True)
class Question:
    """What is asked. Questions that differ in `repeat` alone are asked apart, with other seeds."""

    system: str
    user: str
    repeat: int = 0

    @property
    def tokens(self) -> int:
        """About how many it has."""
        return -(-len(self.system + self.user) // CHARACTERS_A_TOKEN)


class Reply(BaseModel):
    """What came back: a text, or why there is none. Tokens are as the server counted them, 0 where it does not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str | None
    failure: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(BaseModel):
    """What we read of a server's answer."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage = _Usage()


class Chat:
    """A model, and the folder of what it has answered."""

    def __init__(self, settings: ChatSettings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self._send: Callable[[Question], Reply] = self._posted
        if settings.url.startswith(LOCAL):
            self._send = _local(settings)
        key = os.environ.get(settings.key_variable)
        self._client = httpx.Client(
            base_url=settings.url.rstrip("/"),
            timeout=settings.timeout,
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )
        self._lock = Lock()
        self._next = 0.0  # when the next request may leave

    def close(self) -> None:
        self._client.close()

    def known(self, question: Question) -> Reply | None:
        """The reply that is kept, if it is."""
        try:
            return Reply.model_validate_json(self._place(question).read_bytes())
        except FileNotFoundError:
            return None

    def ask(self, questions: Sequence[Question]) -> Iterator[Reply]:
        """The replies, in the order of the questions.

        Raises:
            ConfigError: the server refuses the request as such: the address, the model's name or the key is wrong.
        """
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            try:
                sent = {question: pool.submit(self._one, question) for question in dict.fromkeys(questions)}
                yield from (sent[question].result() for question in questions)
            finally:
                pool.shutdown(cancel_futures=True)

    def _one(self, question: Question) -> Reply:
        if reply := self.known(question):
            return reply
        reply = self._send(question)
        if reply.text is not None:  # a failure is asked again next time
            with whole_file(self._place(question)) as file:
                file.write(reply.model_dump_json().encode())
        return reply

    def _posted(self, question: Question) -> Reply:
        told = self.settings
        failure = ""
        for attempt in range(told.tries):
            if attempt:
                time.sleep(told.wait * 2 ** (attempt - 1))
            self._await_turn()
            try:
                answer = self._client.post("/chat/completions", json=self._body(question))
            except httpx.TransportError as error:
                failure = f"{type(error).__name__}: {error}"
                continue
            if answer.status_code in (408, 409, 429) or answer.status_code >= 500:
                failure = f"HTTP {answer.status_code}"
                continue
            if answer.is_error:
                said = " ".join(answer.text.split())[:200]
                raise ConfigError(
                    f"{told.url} answers HTTP {answer.status_code} ({said})",
                    f"check url, model and the key in {told.key_variable}",
                )
            try:
                found = _Completion.model_validate_json(answer.content)
            except ValidationError:
                failure = "an answer that is no chat completion"
                continue
            usage = found.usage
            return Reply(
                text=found.choices[0].message.content,
                tokens_in=usage.prompt_tokens,
                tokens_out=usage.completion_tokens,
            )
        return Reply(text=None, failure=f"{failure}, {told.tries} times")

    def _await_turn(self) -> None:
        if not self.settings.per_minute:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(self._next, now)
            self._next = turn + 60.0 / self.settings.per_minute
        time.sleep(turn - now)

    def _body(self, question: Question) -> dict[str, object]:
        told = self.settings
        messages = [{"role": "system", "content": question.system}, {"role": "user", "content": question.user}]
        return {
            "model": told.model,
            "messages": messages,
            "temperature": told.temperature,
            "max_tokens": told.max_tokens,
            "seed": question.repeat,
        }

    def _place(self, question: Question) -> Path:
        name = content_hash({"url": self.settings.url, **self._body(question)})
        return self.folder / name[:2] / f"{name}.json"


def _local(settings: ChatSettings) -> Callable[[Question], Reply]:
    try:
        from rewards.local_model import LocalModel
    except ImportError as error:
        raise ConfigError(f"a model here needs transformers ({error})", "pip install 'palate[judge]'") from error
    model = LocalModel(settings.url.removeprefix(LOCAL), settings.temperature, settings.max_tokens)

    def reply(question: Question) -> Reply:
        text, tokens_in, tokens_out = model.answer(question.system, question.user, question.repeat)
        return Reply(text=text, tokens_in=tokens_in, tokens_out=tokens_out)

    return reply


def object_in(text: str) -> str:
    """The JSON in a reply that may stand in a code fence. What else is there is not looked at: it is not asked for."""
    inner = text.strip()
    if inner.startswith("```") and inner.endswith("```"):
        inner = inner.strip("`").removeprefix("json")
    return inner
