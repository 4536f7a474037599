"""GenAI-Bench (Jiang et al. 2024): one vote by an unnamed person on each of 1,069 pairs of videos.

The systems behind the two videos are not published: they are called "left" and "right", which says where they stood
and nothing more. The files' votes by vision-language models are not people's and are not read.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from annotation.votes.vote import vote
from palate.records import OVERALL, UNKNOWN_ANNOTATOR, Case, Record, Sample, Side, Verdict
from palate.source import Source

VERDICTS = {
    "leftvote": Verdict.GOOD,
    "rightvote": Verdict.BAD,
    "tievote": Verdict.SAME,
    "bothbad_vote": Verdict.BOTH_BAD,
}


class _Vote(BaseModel):
    idx: int
    prompt: str
    human_vote: Literal["leftvote", "rightvote", "tievote", "bothbad_vote"]


def read(path: Path, study: str) -> list[Record]:
    """The votes of a JSONL file, the candidate being the left video.

    Raises ImportRefusedError for a broken line, an unknown vote or a missing prompt.
    """
    source = Source(path)
    records: list[Record] = []
    for line, row in source.objects(_Vote):
        with source.line(line):
            case = Case(suite="genai-bench", prompt=row.prompt)
            # Pairs of one prompt show different videos: their index is all that is known of them.
            left, right = (Sample(case=case.id, system=side, sampler={"pair": row.idx}) for side in Side)
            verdicts = {OVERALL: VERDICTS[row.human_vote]}
            records += vote(study, case, (left, right), Side.LEFT, UNKNOWN_ANNOTATOR, source.at(line), verdicts)
    return records
