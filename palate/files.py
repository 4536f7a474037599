"""Writing files: whole or not at all, and with a remedy where they cannot be."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from palate.errors import FileError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Makes the folder of `path`. Raises FileError where the block cannot write there, or the disk is full."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        remedy = "free some space there, or check that the folder may be written, and run the same command again"
        raise FileError(f"{path} cannot be written ({error.strerror})", remedy) from error


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears at `path` when it is complete and on disk; after any error what was there stays as it was.

    Raises:
        FileError: the place cannot be written, or the disk is full.
    """
    part = path.with_name(f".{uuid4().hex}.part")
    try:
        with writing(path):
            with part.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink()
