"""What a run reports while it learns: one line of JSON a step, in `metrics.jsonl` of its folder, and at its end curves
in the record."""

import json
import math
from pathlib import Path

from models.fit import Progress
from palate.files import whole_file, writing
from palate.records import Curve, Run

JOURNAL, POINTS = "metrics.jsonl", 1000  # of the file in a run's folder; the most that the record keeps of a metric


class Journal:
    """Lines of a run that was stopped and goes on are those of one that never stopped: later ones are dropped first.

    Told of a step, it raises FileError where its file cannot be written, as on a full disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tidy = False

    def __call__(self, progress: Progress) -> None:
        if not self._tidy:
            self._drop_from(progress.step)
        known = {name: value for name, value in progress.metrics.items() if math.isfinite(value)}
        with writing(self.path), self.path.open("a") as file:
            file.write(json.dumps({"step": progress.step, "loss": progress.loss, **known}) + "\n")

    def _drop_from(self, step: int) -> None:
        kept = [line for line in read(self.path) if line["step"] < step]
        with whole_file(self.path) as file:
            file.writelines(json.dumps(line).encode() + b"\n" for line in kept)
        self._tidy = True


def read(path: Path) -> list[dict[str, float]]:
    """All lines, in order of their steps; a last line that a kill cut short is left out."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def curves(path: Path, run: Run) -> list[Curve]:
    """What the record keeps of a finished run's journal: of a metric at most `POINTS` steps, evenly spread."""
    lines = read(path)
    metrics = sorted({name for line in lines for name in line} - {"step"})
    found: list[Curve] = []
    for metric in metrics:
        told = [line for line in lines if metric in line]
        few = min(len(told), POINTS)
        rows = [told[round(at * (len(told) - 1) / max(few - 1, 1))] for at in range(few)]
        steps, readings = tuple(int(row["step"]) for row in rows), tuple(float(row[metric]) for row in rows)
        found.append(Curve(run=run.id, metric=metric, steps=steps, readings=readings))
    return found
