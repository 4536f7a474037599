"""The records of one vote given elsewhere."""

from collections.abc import Mapping

from palate.records import Axis, Case, Comparison, Judgement, Record, Sample, Side, Verdict


def vote(
    study: str,
    case: Case,
    samples: tuple[Sample, Sample],
    side: Side | None,
    annotator: str,
    source: str,
    verdicts: Mapping[Axis, Verdict],
) -> list[Record]:
    """The records of one person's vote on `samples` (candidate, baseline), whose side is the candidate's."""
    candidate, baseline = samples
    comparison = Comparison(
        study=study, case=case.id, candidate=candidate.id, baseline=baseline.id, candidate_side=side
    )
    judgement = Judgement(
        comparison=comparison.id, annotator=annotator, simulated=False, source=source, verdicts=dict(verdicts)
    )
    return [case, candidate, baseline, comparison, judgement]
