"""Any table with one side-by-side vote a row, given the names of its columns.

Columns are named by what they hold:

    prompt                            what was asked (required)
    left, right   or   a, b           the two systems: left and right where the file says how they stood, a and b where
                                      it does not. The first is the candidate. Left out, the systems are called so.
    left.media, right.media           the videos, as paths from the table's folder
    annotator                         who voted; left out, the annotators are unknown
    verdict   or   axis.NAME ...      the verdict overall, or on each axis (required)
    tag.NAME                          a tag of the case
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from annotation.votes.vote import vote
from palate.errors import ConfigError, MediaError
from palate.records import OVERALL, UNKNOWN_ANNOTATOR, Case, Record, Sample, Side, Verdict
from palate.source import Source


@dataclass(frozen=True)
class _Row:
    """One vote, before its videos are stored. `systems` and `videos` are the candidate's and the baseline's."""

    line: int
    prompt: str
    tags: dict[str, str]
    systems: tuple[str, str]
    videos: tuple[Path, Path] | None
    annotator: str
    verdicts: dict[str, Verdict]


def read(
    path: Path,
    study: str,
    columns: Mapping[str, str],
    verdicts: Mapping[str, str],
    add_media: Callable[[Path], str],
) -> list[Record]:
    """The votes of a CSV file with a header.

    Args:
        columns: what a column holds, as above -> its name in the file.
        verdicts: the file's word -> good, same, bad or both_bad, from the first system's side.
        add_media: stores a video and returns its name. Called once every row has been checked.

    Raises:
        ConfigError: a key or a verdict that is not one of ours, or no prompt or verdict column.
        ImportRefusedError: a column that the file lacks, a short row, an unknown verdict, an unreadable video.
    """
    source = Source(path)
    meaning = {word: _verdict(verdict) for word, verdict in verdicts.items()}
    axes = _axes(columns)
    sides = ("left", "right") if {"left", "left.media"} & columns.keys() else ("a", "b")
    rows = _rows(source, columns, meaning, axes, sides)

    names: dict[Path, str] = {}
    for row in rows:
        for video in row.videos or ():
            try:
                names[video] = names.get(video) or add_media(video)
            except MediaError as error:
                raise source.refuse(row.line, error.problem, error.remedy) from error

    records: list[Record] = []
    for row in rows:
        with source.line(row.line):
            case = Case(suite=study, prompt=row.prompt, tags=row.tags, axes=tuple(axes))
            media = [names[video] for video in row.videos] if row.videos else [None, None]
            ours, theirs = (Sample(case=case.id, system=s, media=m) for s, m in zip(row.systems, media))
            side = Side.LEFT if sides[0] == "left" else None
            records += vote(study, case, (ours, theirs), side, row.annotator, source.at(row.line), row.verdicts)
    return records


def _rows(
    source: Source,
    columns: Mapping[str, str],
    meaning: Mapping[str, Verdict],
    axes: Mapping[str, str],
    sides: tuple[str, str],
) -> list[_Row]:
    table = csv.DictReader(source.lines(), strict=True)
    header = table.fieldnames or []
    if missing := [column for column in columns.values() if column not in header]:
        raise source.refuse(1, f"no column {', '.join(missing)}", f"it has {', '.join(header)}")
    media = [columns[f"{side}.media"] for side in sides if f"{side}.media" in columns]
    rows: list[_Row] = []
    try:
        for cells in table:
            line = table.line_num
            if None in cells or None in cells.values():
                raise source.refuse(line, f"not {len(header)} cells", "mend the row")
            if empty := [column for column in columns.values() if not cells[column]]:
                raise source.refuse(line, f"nothing in {', '.join(empty)}", "fill or remove the row")
            if unknown := [cells[column] for column in axes.values() if cells[column] not in meaning]:
                raise source.refuse(line, f"unknown verdict {unknown[0]!r}", f"map it: known are {', '.join(meaning)}")
            videos = tuple(source.path.parent / cells[column] for column in media)
            if lost := [video for video in videos if not video.is_file()]:
                raise source.refuse(line, f"no file {lost[0]}", "put the videos where the table says")
            first, second = (cells[columns[side]] if side in columns else side for side in sides)
            rows.append(
                _Row(
                    line=line,
                    prompt=cells[columns["prompt"]],
                    tags={key[4:]: cells[column] for key, column in columns.items() if key.startswith("tag.")},
                    systems=(first, second),
                    videos=(videos[0], videos[1]) if videos else None,
                    annotator=cells[columns["annotator"]] if "annotator" in columns else UNKNOWN_ANNOTATOR,
                    verdicts={axis: meaning[cells[column]] for axis, column in axes.items()},
                )
            )
    except csv.Error as error:
        raise source.refuse(table.reader.line_num, f"not CSV ({error})", "mend the quoting") from error
    return rows


def _axes(columns: Mapping[str, str]) -> dict[str, str]:
    """Axis -> column, once the keys are known to make sense together."""
    pairs = ({"left", "right"}, {"a", "b"}, {"left.media", "right.media"}, {"a.media", "b.media"})
    given = {key for pair in pairs for key in pair if key in columns}
    plain = {key for key in columns if not key.startswith(("axis.", "tag."))}
    axes = {key[5:]: column for key, column in columns.items() if key.startswith("axis.")}
    if "verdict" in columns:
        axes[OVERALL] = columns["verdict"]
    if unknown := plain - given - {"prompt", "annotator", "verdict"}:
        raise ConfigError(f"unknown column keys {', '.join(sorted(unknown))}", "see palate votes import --help")
    if any(len(pair & given) == 1 for pair in pairs) or ({"left", "left.media"} & given and {"a", "a.media"} & given):
        raise ConfigError("systems and videos come in pairs", "give left and right, or a and b")
    if "prompt" not in columns or not axes:
        raise ConfigError(
            "no column for the prompt or for any verdict", "give prompt=... and verdict=... or axis.NAME=..."
        )
    return axes


def _verdict(text: str) -> Verdict:
    try:
        return Verdict(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no verdict", f"map to one of {', '.join(Verdict)}") from error
