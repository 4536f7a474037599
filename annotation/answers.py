"""What annotators answered, as rows of the record, whatever the server let through.

Label Studio checks nothing. It takes any answer from anybody, twice, beyond the overlap, and lets it be edited and
deleted. So every annotation becomes exactly one row that stands: verdicts, a skip, or a refusal with its reason; and
what changes later supersedes the row before.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from annotation.interface import LEFT, REASONS, RIGHT, SAME, SKIP
from palate.records import Axis, Comparison, Judgement, Verdict

REFUSED = "refused: "
WITHDRAWN = "withdrawn: the annotation was deleted"
NOBODY = "unknown"

_SOURCE = "label-studio annotation "


def judgements(
    comparison: Comparison,
    annotations: Iterable[Mapping[str, Any]],
    people: Mapping[int, str],
    axes: Collection[Axis],
    overlap: int,
) -> Iterator[Judgement]:
    """One row for every annotation of a comparison, the earliest first: verdicts, a skip, or a refusal.

    Of each person the first answer counts, and of all people the first `overlap`.

    Args:
        annotations: as Label Studio exports them.
        people: user number -> e-mail address.
        axes: the questions that were asked.
    """
    answered: set[str] = set()
    for one in sorted(annotations, key=lambda one: (one["created_at"], one["id"])):
        annotator = people.get(_number(one["completed_by"]), NOBODY)
        choices, reasons = _answers(one["result"])
        verdicts, skip = {}, None
        if one["was_cancelled"]:
            skip = "; ".join(choices.get(SKIP, ())) or "no reason given"
        elif annotator == NOBODY:
            skip = f"{REFUSED}by nobody the server knows"
        elif fault := _fault(choices, axes):
            skip = REFUSED + fault
        elif annotator in answered:
            skip = f"{REFUSED}a second answer by the same person"
        elif len(answered) >= overlap:
            skip = f"{REFUSED}beyond the overlap of {overlap}"
        else:
            answered.add(annotator)
            verdicts = {axis: _verdict(choices[axis][0], comparison) for axis in axes if axis in choices}
        time = one["lead_time"]
        yield Judgement(
            comparison=comparison.id,
            annotator=annotator,
            simulated=False,
            source=_SOURCE + one["unique_id"],
            verdicts=verdicts,
            skip=skip,
            reasons=reasons,
            seconds=time if isinstance(time, int | float) and 0 <= time < math.inf else None,
        )


def changes(stood: Mapping[str, Judgement], read: Sequence[Judgement]) -> list[Judgement]:
    """The rows to add, so that what stands is what was read: new ones, corrections, and withdrawals of what is gone.

    Args:
        stood: source -> the row that stands, of all comparisons that were read.
    """
    rows: list[Judgement] = []
    for one in read:
        before = stood.get(one.source)
        if before is None:
            rows.append(one)
        elif before.model_copy(update={"supersedes": None}) != one:
            rows.append(one.model_copy(update={"supersedes": before.id}))
    present = {one.source for one in read}
    for source, before in stood.items():
        if source not in present and before.skip != WITHDRAWN:
            gone = {"supersedes": before.id, "verdicts": {}, "skip": WITHDRAWN, "reasons": "", "seconds": None}
            rows.append(before.model_copy(update=gone))
    return rows


def standing(rows: Iterable[Judgement]) -> dict[str, Judgement]:
    """Source -> the row that stands, of rows that came from here."""
    ours = [one for one in rows if one.source.startswith(_SOURCE)]
    superseded = {one.supersedes for one in ours}
    return {one.source: one for one in ours if one.id not in superseded}


def _number(person: object) -> int:
    """A user's number, which the server writes by itself or in a mapping."""
    found = person.get("id") if isinstance(person, Mapping) else person
    return found if isinstance(found, int) else -1


def _answers(result: Iterable[Mapping[str, Any]]) -> tuple[dict[str, list[str]], str]:
    choices: dict[str, list[str]] = {}
    reasons: list[str] = []
    for item in result:
        value = item.get("value", {})
        if item.get("from_name") == REASONS:
            reasons += [str(text).replace("\0", "") for text in value.get("text", [])]
        else:
            picked = value.get("choices", [])
            choices.setdefault(str(item.get("from_name")), []).extend(map(str, picked))
    return choices, "\n".join(reasons)


def _fault(choices: Mapping[str, Sequence[str]], axes: Collection[Axis]) -> str | None:
    for name, picked in choices.items():
        if name not in axes and name != SKIP:
            return f"an answer to {name[:40]!r}, which was not asked"
        if name in axes and len(picked) != 1:
            return f"{len(picked)} answers on {name}"
        if name in axes and picked[0] not in (LEFT, SAME, RIGHT):
            return f"{picked[0][:40]!r} is no answer on {name}"
    return None if choices.keys() & set(axes) else "an empty answer"


def _verdict(choice: str, comparison: Comparison) -> Verdict:
    if choice == SAME:
        return Verdict.SAME
    return Verdict.GOOD if choice == comparison.candidate_side else Verdict.BAD
