"""VidCapBench's numbers: how right, precise, complete and concise captions are, with intervals over videos."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.vidcapbench import DIMENSIONS, UNPARSED, Asked, Marked
from palate.errors import ConfigError
from palate.records import Estimate
from palate.stats.estimate import two_way

LEVEL = 0.95
UNCOUNTED = "no conciseness: nobody said by which tokenizer captions are counted (--tokenizer)"
Floats = NDArray[np.float64]

# Each number is a product of powers of sums over videos.
METRICS: dict[str, dict[str, int]] = {
    "accuracy": {"right": 1, "marked": -1},
    "precision": {"right or loose": 1, "said": -1},
    "coverage": {"said": 1, "marked": -1},
    "conciseness": {"right": 1, "marked": -1, "tokens": -1, "videos": 1},  # of all videos: accuracy over mean tokens
}
# As in the paper's table, where GPT-4o's 5.9 is 100 * 16.8% over captions of about 285 tokens; all else is in percent.
TIMES = {"conciseness": 1e4}
RATES: dict[str, dict[str, int]] = {
    "replied": {"replied": 1, "asked": -1},
    "parsed": {"parsed": 1, "replied": -1},
    "abstained": {"abstained": 1, "parsed": -1},
}


Count = Callable[[str], int]


def tokens_by(folder: Path) -> Count:
    """How many tokens a caption has by the tokenizer in a folder, its end included, as the authors' `eval.py` counts.

    Raises:
        ConfigError: transformers or the tokenizer is not there.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ConfigError(f"a tokenizer needs transformers ({error})", "pip install 'palate[judge]'") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{folder} holds no tokenizer ({reason})", "give the folder of flan-t5's, which the paper counts by"
        ) from error
    return lambda caption: len(tokenizer(caption).input_ids)


def measures(marked: Sequence[Marked], lengths: Mapping[str, int] | None = None) -> dict[str, Estimate]:
    """The four metrics of all marks there are; their intervals take videos as the sample.

    Args:
        lengths: the tokens of the caption of every video, of those without a mark here too, as the authors average them
            for every dimension alike. Without them there is no conciseness.
    """
    known = [one for one in marked if one.mark is not None]
    told = lengths or {}
    at, table = _table(known, ("right", "right or loose", "said", "marked"), told)
    for row, one in zip(at, known):
        table["right"][row] += one.mark == 2
        table["right or loose"][row] += one.mark in (2, 1)
        table["said"][row] += one.mark != 0
        table["marked"][row] += 1
    answered = {name: column[table["marked"] > 0] for name, column in table.items()}
    if told:
        table |= {"tokens": np.array([*told.values()], float), "videos": np.ones(len(told))}
    lost = len(marked) - len(known)
    note = f"{lost} of {len(marked)} judgements give no mark" if lost else ""
    found = {
        name: _product(answered, powers, len(known), name, note)
        for name, powers in METRICS.items()
        if powers.keys() <= answered.keys()
    }
    if told:
        return found | {"conciseness": _product(table, METRICS["conciseness"], len(known), "conciseness", note)}
    nothing = {"value": None, "low": None, "high": None, "note": UNCOUNTED, "method": "conciseness"}
    return found | {"conciseness": found["accuracy"].model_copy(update=nothing)}


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


def _table(
    marked: Sequence[Marked], names: Sequence[str], videos: Iterable[str] = ()
) -> tuple[list[int], dict[str, Floats]]:
    """The row of each mark's video, after those of `videos`, and a column of zeros for each name."""
    rows = {video: at for at, video in enumerate(videos)}
    at = [rows.setdefault(one.asked.video, len(rows)) for one in marked]
    return at, {name: np.zeros(len(rows)) for name in names}


def _product(table: Mapping[str, Floats], powers: Mapping[str, int], n: int, name: str, note: str) -> Estimate:
    """The product of powers of the columns' sums, times 100 or as `TIMES` says, and the interval of its linear part."""
    sums = {one: float(table[one].sum()) for one in powers}
    videos = len(next(iter(table.values())))
    value = half = None
    if any(sums[one] == 0 for one, power in powers.items() if power < 0):
        why = "there is nothing to count"
    elif not all(sums.values()):
        value, why = 0.0, "no interval: there is none of it"
    else:
        value = TIMES.get(name, 100.0) * float(np.prod([sums[one] ** float(power) for one, power in powers.items()]))
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
        method=f"{name}, linearised, t over videos",
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


def summary(marked: Sequence[Marked], count: Count | None = None) -> dict[str, dict[str, Estimate]]:
    """Metrics of all, of each dimension, and of both kinds of repeats where there are any; and how the judging went."""
    lengths = {one.asked.video: count(one.asked.caption) for one in marked} if count else {}
    found = {name: measures(part, lengths) for name, part in by_dimension(marked).items()}
    found["all"] |= rates(marked)
    if any(one.repeat for one in marked):
        alike, others = consistent(marked)
        found["all"] |= {"judged alike": agreement(marked)}
        found |= {
            name: measures(part, lengths) for name, part in (("alike (AE)", alike), ("not alike (HE)", others)) if part
        }
    return found
