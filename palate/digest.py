"""Which rows a number was computed from, as one hash to which rows can be added a few at a time and in any order."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from palate.stats.estimate import distinct
from palate.votes import Labels

_LIMBS = 8  # of 32 bits


def digest(ids: Iterable[str]) -> str:
    """The sum of the ids' SHA-256 modulo 2^256, as 64 hex digits. Ids that occur twice count twice."""
    return _hex(sum((int.from_bytes(_hash(id)) for id in ids), 0))


class Digests:
    """The digests of groups of ids, and how many ids a group has. Groups are numbered from zero."""

    def __init__(self) -> None:
        self._sums, self._sizes = np.zeros((0, _LIMBS), np.int64), np.zeros(0, np.int64)

    def add(self, group: NDArray[np.integer], ids: Labels) -> None:
        """One more id, (n,), for each of these groups, (n,)."""
        more = max(int(group.max(initial=-1)) + 1 - len(self._sizes), 0)
        self._sums, self._sizes = np.pad(self._sums, [(0, more), (0, 0)]), np.pad(self._sizes, (0, more))
        values, of = distinct(ids.codes)
        present = values.astype(np.intp)
        found = hashes(ids.names[present].tolist()) if ids.hashes is None else ids.hashes[present]
        limbs = found.view(">u4").astype(np.int64)
        for limb, total in zip(limbs.T, self._sums.T):
            np.add.at(total, group, limb[of])
        self._sizes += np.bincount(group, minlength=len(self._sizes))

    def size(self, groups: Iterable[int]) -> int:
        """How many ids these groups have."""
        return sum(int(self._sizes[group]) for group in groups)

    def digest(self, groups: Iterable[int]) -> str:
        """As `digest` of all ids of these groups."""
        sums = sum((self._sums[group] for group in groups), np.zeros(_LIMBS, np.int64)).tolist()
        return _hex(sum(limb << 32 * at for at, limb in enumerate(reversed(sums))))


def hashes(ids: Iterable[str]) -> NDArray[np.uint8]:
    """The SHA-256 (k, 32) of each id."""
    return np.frombuffer(b"".join(map(_hash, ids)), np.uint8).reshape(-1, 32)


def _hash(id: str) -> bytes:
    return hashlib.sha256(id.encode()).digest()


def _hex(total: int) -> str:
    return f"{total % 2**256:064x}"
