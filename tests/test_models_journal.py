"""What the record keeps of a run's journal."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from models.fit import Progress
from models.journal import JOURNAL, POINTS, Journal, curves
from palate.errors import FileError
from palate.records import Curve, Run
from palate.store import Store

RUN = Run(task="toy", recipe={}, code="0", seed=0)


def test_a_run_that_went_on_has_one_curve_of_each_metric(tmp_path: Path) -> None:
    for steps in (range(6), range(4, 10)):  # stopped after step 5, and gone on from a state saved after step 3
        journal = Journal(tmp_path / JOURNAL)
        for step in steps:
            more = {"reward": step / 2} if step % 2 else {"reward": float("nan")}
            journal(Progress(step, 1.0 - step, more))
    loss, reward = curves(tmp_path / JOURNAL, RUN)
    assert (loss.metric, loss.steps, loss.readings) == ("loss", tuple(range(10)), tuple(1.0 - s for s in range(10)))
    assert (reward.steps, reward.readings) == ((1, 3, 5, 7, 9), (0.5, 1.5, 2.5, 3.5, 4.5))
    with Store(str(tmp_path / "palate.db")) as store:
        store.add([loss, RUN, reward])
        assert {one.id for one in store.select(Curve, run=RUN.id)} == {loss.id, reward.id}


def test_a_long_run_keeps_its_ends_and_what_lies_evenly_between(tmp_path: Path) -> None:
    journal = Journal(tmp_path / JOURNAL)
    for step in range(2 * POINTS + 7):
        journal(Progress(step, float(step), {}))
    (loss,) = curves(tmp_path / JOURNAL, RUN)
    assert len(loss.steps) == POINTS
    assert (loss.steps[0], loss.steps[-1]) == (0, 2 * POINTS + 6)
    assert {later - earlier for earlier, later in zip(loss.steps, loss.steps[1:])} == {2, 3}
    assert loss.readings == tuple(map(float, loss.steps))


def test_a_journal_that_cannot_be_written_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot be written"):
        Journal(tmp_path / "file" / JOURNAL)(Progress(0, 1.0, {}))
    full = tmp_path / JOURNAL
    journal = Journal(full)
    journal(Progress(0, 1.0, {}))
    full.unlink()
    full.symlink_to("/dev/full")
    with pytest.raises(FileError, match="No space left"):
        journal(Progress(1, 1.0, {}))


def test_without_a_journal_there_is_no_curve_and_a_curve_needs_its_steps(tmp_path: Path) -> None:
    assert curves(tmp_path / JOURNAL, RUN) == []
    for steps, readings in (((1, 1), (0.0, 0.0)), ((0, 1), (0.0,)), ((), ())):
        with pytest.raises(ValidationError):
            Curve(run=RUN.id, metric="loss", steps=steps, readings=readings)
