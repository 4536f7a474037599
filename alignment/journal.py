"""What a run reports while it learns: one line of JSON a step, in `metrics.jsonl` of its folder."""

import json
import math
from pathlib import Path

from models.fit import Progress


class Journal:
    """Lines of a run that was stopped and goes on are those of one that never stopped: later ones are dropped first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tidy = False

    def __call__(self, progress: Progress) -> None:
        if not self._tidy:
            self._drop_from(progress.step)
        known = {name: value for name, value in progress.metrics.items() if math.isfinite(value)}
        with self.path.open("a") as file:
            file.write(json.dumps({"step": progress.step, "loss": progress.loss, **known}) + "\n")

    def _drop_from(self, step: int) -> None:
        self._tidy = True
        kept = [line for line in read(self.path) if line["step"] < step]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept))


def read(path: Path) -> list[dict[str, float]]:
    """All lines, in order of their steps; a last line that a kill cut short is left out."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]
