"""Whole numbers that are looked at again later, without holding them in memory."""

from collections import defaultdict
from collections.abc import Iterator
from os import SEEK_END
from tempfile import SpooledTemporaryFile

import numpy as np
from numpy.typing import NDArray

IN_MEMORY = 4 << 20  # bytes; with more, a temporary file that nobody else sees


class Spool:
    """Arrays under keys, kept in the order they came; closed, they are gone."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 (open for as long as the spool is)
        self._places: dict[int, list[int]] = defaultdict(list)

    def append(self, key: int, numbers: NDArray[np.int32]) -> None:
        self._places[key].append(self._file.seek(0, SEEK_END))
        np.save(self._file, numbers)

    def parts(self, key: int) -> Iterator[NDArray[np.int32]]:
        for place in self._places[key]:
            self._file.seek(place)
            yield np.load(self._file)

    def close(self) -> None:
        self._file.close()
