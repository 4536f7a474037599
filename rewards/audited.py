"""An audit as figures of the record: each number with the votes that chose the videos, or that it was held against."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from palate.digest import digest
from palate.errors import DataError
from palate.gsb import Basis
from palate.records import UNKNOWN_ANNOTATOR, Axis, Estimate, Figure, Scalar, content_hash
from palate.report import vote_figure
from palate.store import Store
from palate.votes import Votes
from rewards.audit import Finding, Reliability
from rewards.reward import Unit

KIND = "audit"


@dataclass(frozen=True)
class Audited:
    """What was audited: a reward's checkpoint with its axes, on these votes of a study (those of `counted`)."""

    reward: str
    study: str
    axes: tuple[Axis, ...]
    votes: Votes


def counted(store: Store, study: str, axes: Sequence[Axis]) -> Votes:
    """The votes that rewards learn from (rewards/pairs.py): people's where there are any, else simulated ones.

    Raises DataError where the study has none on these axes.
    """
    votes = store.votes(study=study)
    votes = votes.select((votes.role != "gold") & votes.axis.among(axes))
    if not len(votes):
        raise DataError(f"study {study} has no votes on {', '.join(axes)}", "collect some, or name another study")
    return votes.select(votes.simulated == votes.simulated.all())


def audit_figures(
    of: Audited,
    findings: Sequence[Finding],
    curves: Mapping[Axis, Reliability],
    groups: Mapping[str, tuple[Axis, Sequence[str], Estimate]],
) -> list[Figure]:
    """A figure of every number.

    A probe asks no person, but which videos it was tried on is chosen by the votes on all the reward's axes: those are
    its evidence. Calibration has the votes on its axis, and a group its own members' votes on it.

    Args:
        groups: name -> axis, annotators, accuracy on what they said.
    """
    every, shares = {"axes": ", ".join(of.axes)}, {"unit": Unit.SHARE.value}
    rows: list[tuple[str, Axis, Estimate, dict[str, Scalar]]] = []
    for one in findings:
        axis = one.column.rpartition(".")[2]
        told = {"probe": one.probe, "unit": Unit.DEVIATIONS.value, "expected": one.expected, "found": _found(one)}
        refused = f"{one.refused} answers were refused" if one.refused else ""
        note = "; ".join(filter(None, (one.change.note, refused)))
        change = one.change.model_copy(update={"note": note})
        rows.append((one.probe.replace(" ", "_"), axis, change, {**told, **every}))
    for axis, one in curves.items():
        rows.append(("calibration_error", axis, one.ece, dict(shares)))
        rows.append(("calibration_error_of_calibrated", axis, one.ece_of_calibrated, dict(shares)))
    for name, (axis, annotators, accuracy) in groups.items():
        rows.append(("accuracy", axis, accuracy, {**shares, "group": name, "annotators": json.dumps(list(annotators))}))
    same = [of.reward, of.study, digest(of.votes.judgement.tolist())]
    audit = content_hash([*same, [[name, axis, one.model_dump(mode="json"), told] for name, axis, one, told in rows]])
    about = {"reward": of.reward, "study": of.study, "repeats": True, "audit": audit[:12]}
    return [
        vote_figure(KIND, name, one, _basis(of.votes, axis, told), {**about, **told}) for name, axis, one, told in rows
    ]


def _found(one: Finding) -> str:
    return "" if one.passed is None else "as it should" if one.passed else "FAILS"


def _basis(votes: Votes, axis: Axis, told: Mapping[str, Scalar]) -> Basis:
    """Of the votes that palate/provenance.py finds by the same words."""
    mask = votes.axis.among(str(told["axes"]).split(", ") if "axes" in told else [axis])
    if "annotators" in told:
        mask &= votes.annotator.among(json.loads(str(told["annotators"])))
    own = votes.select(mask)
    people = None if (own.annotator == UNKNOWN_ANNOTATOR).any() else len(own.annotator.present())
    simulated, prompts = bool(votes.simulated[0]), len(own.case.present())
    return Basis(axis, simulated, len(own), digest(own.judgement.tolist()), prompts, people)
