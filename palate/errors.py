"""One exception per boundary crossed. Each message is one line and ends with what to do next.

The command turns any `PalateError` into that line on stderr and exit code 2 (the user can mend it).
Everything else is our fault: a traceback and exit code 1.
"""


class PalateError(Exception):
    """Something the user can mend.

    Args:
        problem: what is wrong, in one clause, naming the file, field or value.
        remedy: what to do next, in one clause.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: {remedy}")
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[type["PalateError"], tuple[str, str]]:
        """So that it comes whole out of a worker process."""
        return type(self), (self.problem, self.remedy)


class ConfigError(PalateError):
    """A recipe or an override that does not fit its schema."""


class RecordError(PalateError):
    """Content that no record may hold, or an id that the store does not know."""


class StoreError(PalateError):
    """The database cannot be opened, read or written."""


class FileError(PalateError):
    """A place on disk that cannot be written."""


class MediaError(PalateError):
    """A video or audio file that is missing, truncated or unreadable."""


class ImportRefusedError(PalateError):
    """An outside file that breaks a rule; nothing of it has been stored."""


class CheckpointError(PalateError):
    """Weights or training state that are missing, damaged or of another shape."""


class DataError(PalateError):
    """Numbers that a statistic cannot be computed from."""


class PromptError(PalateError):
    """Text that is not of the multimodal prompt language."""
