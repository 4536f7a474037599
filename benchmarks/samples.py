"""Videos that were made elsewhere, as samples: matched to their cases by a manifest, never by guess.

A manifest is a CSV with a header. `case` is the id of a case in the store and `file` a path from the folder; further
columns are `seed`, `failure` (why there is no video) and `prompt`, which must then be the case's own. `template` writes
one to be filled in; a row with neither a file nor a failure is left out and counted.
"""

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

from palate.errors import MediaError
from palate.records import Case, RecordId, Sample
from palate.source import Source

COLUMNS = ("case", "id", "prompt", "file", "seed", "failure")


def template(cases: Iterable[Case]) -> str:
    """A manifest of these cases without any file."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows([case.id, case.tags.get("id", ""), case.prompt, "", "", ""] for case in cases)
    return text.getvalue()


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    case: RecordId
    id: str = ""
    prompt: str = ""
    file: str = ""
    seed: Annotated[int | None, BeforeValidator(lambda text: text or None)] = None
    failure: str = ""


@dataclass(frozen=True)
class Brought:
    """What a manifest brings. `left_out` rows say nothing yet; `strangers` are files that no row names."""

    samples: list[Sample]
    left_out: int
    strangers: list[Path]


def read(
    manifest: Path, folder: Path, system: str, known: Callable[[str], Case | None], keep: Callable[[Path], str]
) -> Brought:
    """The samples of a manifest.

    Args:
        known: the case of an id, None where there is none.
        keep: stores a video and returns its name. Called once every row has been checked.

    Raises:
        ImportRefusedError: a row that does not fit, an unknown case, two rows for one case and seed, a file that is
            missing or does not decode.
    """
    source = Source(manifest)
    rows = csv.DictReader(source.lines(), strict=True)
    lines: list[tuple[int, _Line]] = []
    first: dict[tuple[str, int | None], int] = {}
    left_out = 0
    try:
        for row in rows:
            at = rows.line_num
            with source.line(at):
                line = _Line.model_validate({str(key): value for key, value in row.items()})
            case = known(line.case)
            if case is None:
                raise source.refuse(at, f"{line.case} is not in the store", "write the manifest with `palate samples`")
            if line.prompt and line.prompt != case.prompt:
                raise source.refuse(at, f"the prompt is not that of {line.case}", "check which video answers what")
            if line.file and line.failure:
                raise source.refuse(at, "a file and a failure", "keep one of them")
            if not (line.file or line.failure):
                left_out += 1
                continue
            if (before := first.setdefault((line.case, line.seed), at)) != at:
                raise source.refuse(at, f"line {before} has this case and seed too", "number them in `seed`")
            if line.file and not (folder / line.file).is_file():
                raise source.refuse(at, f"{folder / line.file} is not there", "check the name, from the folder")
            lines.append((at, line))
    except csv.Error as error:
        raise source.refuse(rows.line_num, str(error), "save the table as CSV again") from error
    samples: list[Sample] = []
    for at, line in lines:
        try:
            media = keep(folder / line.file) if line.file else None
        except MediaError as error:
            raise source.refuse(at, error.problem, error.remedy) from error
        failure = line.failure or None
        samples.append(Sample(case=line.case, system=system, seed=line.seed, media=media, failure=failure))
    named = {(folder / line.file).resolve() for _, line in lines}
    strangers = [one for one in sorted(folder.rglob("*.mp4")) if one.resolve() not in named]
    return Brought(samples, left_out, strangers)
