"""An outside file, and where in it something is."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from palate.errors import ImportRefusedError

T = TypeVar("T", bound=BaseModel)


class Source:
    """A text file: its content and the twelve digits that name this version of it.

    Raises:
        ImportRefusedError: it cannot be read, or is not UTF-8.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = path.read_bytes()
            self.text = content.decode("utf-8-sig")
        except OSError as error:
            raise ImportRefusedError(f"{path}: {error.strerror}", "give the path of a file") from error
        except UnicodeDecodeError as error:
            raise ImportRefusedError(f"{path}: byte {error.start} is not UTF-8", "save the file as UTF-8") from error
        self.digest = hashlib.sha256(content).hexdigest()[:12]

    def lines(self) -> StringIO:
        """The lines, ends kept; unlike str.splitlines it leaves alone a U+2028 within a JSON string or a cell."""
        return StringIO(self.text, newline="")

    def at(self, line: int) -> str:
        """The name of a line, whatever the file is called: what a record of it is stored with."""
        return f"{self.digest}:{line}"

    def refuse(self, line: int, problem: str, remedy: str) -> ImportRefusedError:
        return ImportRefusedError(f"{self.path}:{line}: {problem}", f"{remedy}; nothing of this file was stored")

    @contextmanager
    def line(self, line: int) -> Iterator[None]:
        """Turns content that does not fit its model into a refusal of this line."""
        try:
            yield
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the line"
            raise self.refuse(line, f"{field}: {first['msg']}", "mend the line, or get the file again") from error

    def objects(self, model: type[T]) -> Iterator[tuple[int, T]]:
        """What is on each line of JSON, with its line number."""
        for number, text in enumerate(self.lines(), 1):
            with self.line(number):
                yield number, model.model_validate_json(text)
