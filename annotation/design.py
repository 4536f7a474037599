"""Which pairs are shown, to whom, and under which names: blind, balanced, and the same again from the same seed.

Two designs. `versus` asks whether one system beats another. `knockout_round` and `advance` collect preferences to train
on, among several samples of one system: winners meet winners until one is left. With k samples a case that costs k - 1
comparisons, and yields the best sample beside samples known to be worse, directly or through others. Two samples drawn
at random teach little: they are mostly alike, so people tie, and where they do not, the answers are not far from coin
tosses. Best against beaten is the widest contrast that so few answers can buy.
"""

import hmac
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import gcd
from random import Random
from typing import Literal, TypeVar

from palate.errors import DataError
from palate.records import Comparison, Preference, Sample, Side, content_hash

T = TypeVar("T")
Pair = tuple[str, str]  # sample ids: candidate, baseline


@dataclass(frozen=True)
class Plan:
    """What is shown, and what could not be: every sample given is compared, failed, or unpaired."""

    comparisons: list[Comparison]
    failed: int  # samples without a video
    unpaired: int  # samples with a video for which the other system had no partner


def versus(
    study: str,
    candidates: Iterable[Sample],
    baselines: Iterable[Sample],
    seed: int,
    gold: Sequence[tuple[Sample, Sample]] = (),
    repeat: float = 0.0,
) -> Plan:
    """Pair the samples of two systems case by case: same seed with same seed, then whoever is left, in order.

    The candidate stands on the left in half of the comparisons and in half of each case's pairs, to within one; repeats
    and gold pairs keep the whole in balance. The order of the inputs changes nothing.

    Args:
        gold: (better, worse) pairs with a known answer. The better one stands as the candidate, so the expected
            verdict on a gold comparison is always `good`.
        repeat: share of the pairs, in 0..1, that is shown again with the sides swapped.

    Raises:
        DataError: `repeat` is not a share, a sample is on both sides, or a gold pair has two cases or lacks a video.
    """
    first, second = ({sample.id: sample for sample in samples} for samples in (candidates, baselines))
    if shared := first.keys() & second.keys():
        raise DataError(f"{len(shared)} samples are candidate and baseline at once", "compare two different systems")
    videos: dict[str, tuple[list[Sample], list[Sample]]] = defaultdict(lambda: ([], []))
    for side, samples in enumerate((first, second)):
        for sample in samples.values():
            if sample.media is not None:
                videos[sample.case][side].append(sample)
    pairs = {case: _partners(*both) for case, both in videos.items()}
    failed = sum(sample.media is None for sample in [*first.values(), *second.values()])
    shown = sum(map(len, pairs.values()))
    return Plan(mixed(study, pairs, gold, repeat, seed), failed, len(first) + len(second) - failed - 2 * shown)


def mixed(
    study: str, pairs: Mapping[str, list[Pair]], gold: Sequence[tuple[Sample, Sample]], repeat: float, seed: int
) -> list[Comparison]:
    """Comparisons of each case's pairs, with gold and repeats among them that nobody can tell from the others.

    Args:
        pairs: case id -> (candidate, baseline).
        gold: (better, worse) pairs with a known answer.
        repeat: share of the pairs, in 0..1, that is shown again with the sides swapped.

    Raises:
        DataError: `repeat` is not a share, or a gold pair has two cases or lacks a video.
    """
    if not 0 <= repeat <= 1:
        raise DataError(f"repeat is {repeat}", "give the share of the pairs to show twice, from 0 to 1")
    for better, worse in gold:
        if better.case != worse.case or better.media is None or worse.media is None:
            raise DataError(f"gold pair {better.id}, {worse.id} cannot be shown", "give two videos of one case")
    known: dict[str, list[Pair]] = defaultdict(list)
    for better, worse in gold:
        known[better.case].append((better.id, worse.id))

    rng = _random("versus", study, seed)
    sides = _sides(rng)
    shown = _blind(study, pairs, "normal", sides, rng)
    golden = _blind(study, known, "gold", sides, rng)
    # Neighbours stand on different sides, so an even draw from the two halves keeps the repeats balanced too.
    again = round(repeat * len(shown))
    chosen = rng.sample(shown[::2], (again + 1) // 2) + rng.sample(shown[1::2], again // 2)
    repeats = [
        Comparison(
            study=study,
            case=one.case,
            candidate=one.candidate,
            baseline=one.baseline,
            candidate_side=one.candidate_side and one.candidate_side.other,
            role="repeat",
        )
        for one in chosen
    ]
    return shown + golden + repeats


def knockout_round(study: str, entrants: Mapping[str, Iterable[str]], seed: int) -> list[Comparison]:
    """Pair the entrants of each case at random; the odd one out waits for the next round.

    Args:
        entrants: case id -> the ids of the samples still in. Their order changes nothing.

    Returns:
        The round's comparisons, sides balanced as in `versus`; none once every case has a single entrant.
        Which of two samples is called the candidate is random and means nothing.
    """
    rng = _random("knockout", study, seed)
    pairs = {}
    for case in sorted(entrants):
        samples = sorted(set(entrants[case]))
        rng.shuffle(samples)
        pairs[case] = list(zip(samples[::2], samples[1::2]))
    return _blind(study, pairs, "normal", _sides(rng), rng)


def advance(
    entrants: Mapping[str, Iterable[str]],
    comparisons: Iterable[Comparison],
    preferences: Iterable[Preference],
    seed: int,
) -> dict[str, tuple[str, ...]]:
    """The next round's entrants: everyone but this round's losers.

    A comparison without a preference (people found the two alike, disagreed evenly or skipped it) is settled by a coin
    that depends on the seed and the comparison alone. The coin is no preference and is never recorded as one.

    Raises:
        DataError: the preferences contradict each other about one comparison, as those of two axes can, or those of
            simulated and real people.
    """
    beaten = {(preference.winner, preference.loser) for preference in preferences}
    out: set[str] = set()
    for comparison in comparisons:
        pair = (comparison.candidate, comparison.baseline)
        lost = {loser for winner, loser in (pair, pair[::-1]) if (winner, loser) in beaten}
        if len(lost) > 1:
            raise DataError(f"both samples of {comparison.id} lost", "give those of one axis and one kind of people")
        out |= lost or {_random("coin", comparison.id, seed).choice(pair)}
    return {case: tuple(sorted(set(samples) - out)) for case, samples in entrants.items()}


def assign(
    comparisons: Iterable[Comparison], annotators: Sequence[str], overlap: int, seed: int
) -> dict[str, tuple[str, ...]]:
    """Give each comparison to `overlap` different people, and each person an order of their own.

    Loads are equal to within one. A repeat goes to the people who had its original, half of their list later; only when
    nearly everything is repeated do a few (at most half as many as there are annotators) go to other people.

    Returns:
        Annotator -> comparison ids in the order to show them. Depends on neither input's order.

    Raises:
        DataError: there are fewer people than `overlap`, or somebody is listed twice.
    """
    people = sorted(set(annotators))
    if len(people) != len(annotators):
        raise DataError("an annotator is listed twice", "give every annotator once")
    if not 1 <= overlap <= len(people):
        raise DataError(f"an overlap of {overlap} among {len(people)} annotators", "ask for 1 to as many as there are")
    ordered = sorted({one.id: one for one in comparisons}.values(), key=lambda one: one.id)
    originals = {_samples(one): one.id for one in ordered if one.role != "repeat"}
    twins = [
        (originals.pop(_samples(one)), one.id) for one in ordered if one.role == "repeat" and _samples(one) in originals
    ]
    rng = _random("assign", seed)

    # Teams are windows that slide over a circle of people: after `lap` comparisons everybody has the same load and the
    # same teams come again. Each circle serves two laps, so a seat and the seat one lap later have the same people.
    lap = len(people) // gcd(len(people), overlap)
    seats = [(seat, seat + lap) for seat in range(len(ordered) - lap) if seat // lap % 2 == 0]
    loads: dict[str, list[str]] = {person: [] for person in people}
    for seat, comparison in enumerate(_seated([one.id for one in ordered], twins, seats, rng)):
        if seat % (2 * lap) == 0:
            rng.shuffle(people)
        start = seat % lap * overlap
        for place in range(start, start + overlap):
            loads[people[place % len(people)]].append(comparison)

    lists: dict[str, tuple[str, ...]] = {}
    for person, load in loads.items():
        half = len(load) // 2
        both = [twin for twin in twins if set(twin) <= set(load)]
        apart = [(place, place + half) for place in range(half)]
        lists[person] = tuple(_seated(sorted(load), both, apart, _random("order", seed, person)))
    return lists


def blind_name(comparison: str, side: Side, salt: bytes) -> str:
    """The name, 64 hex digits, under which one side of one comparison is shown (HMAC-SHA256).

    Without the salt it cannot be linked to the sample, the system, or any other comparison of either, so the salt
    stays outside the annotation tool.

    Raises:
        DataError: the salt has fewer than 16 bytes and could be guessed.
    """
    if len(salt) < 16:
        raise DataError(f"a salt of {len(salt)} bytes can be guessed", "use secrets.token_bytes(32), and keep it")
    return hmac.digest(salt, f"{comparison} {side}".encode(), "sha256").hex()


def _random(*purpose: object) -> Random:
    """A generator of its own for each purpose, so that none disturbs another."""
    return Random(content_hash(purpose))


def _sides(rng: Random) -> Iterator[Side]:
    """Left and right in turn: every stretch of it, hence every case, is balanced to within one."""
    return cycle(rng.sample(list(Side), 2))


def _samples(comparison: Comparison) -> frozenset[str]:
    return frozenset((comparison.candidate, comparison.baseline))


def _partners(candidates: list[Sample], baselines: list[Sample]) -> list[Pair]:
    """Same seed with same seed, then whoever is left, in order."""
    left, right = (sorted(samples, key=lambda one: (one.seed or 0, one.id)) for samples in (candidates, baselines))
    pairs: list[Pair] = []
    for one in list(left):
        if twin := next((other for other in right if other.seed == one.seed), None):
            left.remove(one)
            right.remove(twin)
            pairs.append((one.id, twin.id))
    return pairs + [(one.id, other.id) for one, other in zip(left, right)]


def _blind(
    study: str, pairs: Mapping[str, list[Pair]], role: Literal["normal", "gold"], sides: Iterator[Side], rng: Random
) -> list[Comparison]:
    """Comparisons of each case's pairs, in random order within random cases, on alternating sides."""
    comparisons: list[Comparison] = []
    for case in rng.sample(sorted(pairs), len(pairs)):
        for candidate, baseline in rng.sample(sorted(pairs[case]), len(pairs[case])):
            comparisons.append(
                Comparison(
                    study=study,
                    case=case,
                    candidate=candidate,
                    baseline=baseline,
                    candidate_side=next(sides),
                    role=role,
                )
            )
    return comparisons


def _seated(everyone: list[T], twins: list[tuple[T, T]], seats: list[tuple[int, int]], rng: Random) -> list[T]:
    """A random order of `everyone` in which each pair of `twins` holds a pair of `seats`, while there are any."""
    seating: dict[int, T] = {}
    for pair, places in zip(twins, rng.sample(seats, len(seats))):
        seating.update(zip(places, pair))
    placed = set(seating.values())
    rest = [one for one in everyone if one not in placed]
    rng.shuffle(rest)
    return [seating[seat] if seat in seating else rest.pop() for seat in range(len(everyone))]
