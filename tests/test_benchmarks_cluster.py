"""A suite spread over a real Ray cluster: the record is that of one process, bit for bit, whoever dies on the way."""

import os
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

ray = pytest.importorskip("ray", reason="pip install 'palate[ray]'")

from ray.cluster_utils import Cluster  # noqa: E402 (ray may be missing)

from benchmarks import cluster, shapes_omni  # noqa: E402
from benchmarks import shapes as suite  # noqa: E402
from benchmarks.cli import bench  # noqa: E402
from benchmarks.runner import Answering, Ask, Clip, answer, in_process  # noqa: E402
from palate import shapes  # noqa: E402
from palate.config import Settings  # noqa: E402
from palate.errors import CheckpointError, ConfigError, DataError  # noqa: E402
from palate.records import Case, Record, Sample, Score  # noqa: E402
from palate.store import Store  # noqa: E402
from rewards.programmatic import shapes_scores  # noqa: E402

pytestmark = pytest.mark.slow  # a cluster takes its time to begin


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Two machines of two cores as Ray sees them: raylets of their own on this one. Workers find this file."""
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1]), before])
    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    machines.add_node(num_cpus=1)
    yield machines.address
    machines.shutdown()
    os.environ["PYTHONPATH"] = before


class NoSettings(Settings):
    pass


class Painter:
    """Draws the truth of a caption in the tone of what it is shown, fails on circles, and logs who asked.

    With a file named `deadly` beside the log it dies over its first chunk, once; with `poison`, always.
    """

    checkpoint = "0" * 64

    def __init__(self, log: Path) -> None:
        self.log = log

    def answers(self, asks: Sequence[Ask], sampler: Settings) -> list[Clip]:
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"
        with self.log.open("a") as file:
            file.write(f"{node} {os.getpid()} {len(asks)}\n")
        if self.log.with_name("poison").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if (deadly := self.log.with_name("deadly")).exists():
            deadly.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return [self._clip(ask) for ask in asks]

    def _clip(self, ask: Ask) -> NDArray[np.uint8]:
        if "circle" in ask.prompt:
            raise RuntimeError("no circle today")
        rng = np.random.default_rng(ask.seed)
        if ask.references:
            return next(iter(ask.references.values()))[:1, ::4, ::4].repeat(8, 0)
        return shapes.render(shapes.parse(ask.prompt), rng)


def work(folder: Path, system: str, checkpoint: str = Painter.checkpoint) -> Answering[Any]:
    load = partial(Painter, folder / "log")
    return Answering(load, system, checkpoint, NoSettings(), shapes_scores, folder / "media", shapes.FPS, chunk=5)


def everything(store: Store) -> list[Record]:
    return [record for kind in (Case, Sample, Score) for record in store.select(kind)]


def test_two_machines_give_the_record_of_one_process_though_a_worker_dies(address: str, tmp_path: Path) -> None:
    """Cases with and without references, two systems, two seeds; the cluster is stopped early and goes on."""
    records: list[list[Record]] = []
    for name, spread in (("here", in_process), ("there", cluster.cluster(address, 2))):
        folder = tmp_path / name
        folder.mkdir()
        with Store(str(folder / "record.db")) as store:
            drawn = shapes_omni.attach(shapes_omni.cases("heldout", 34), store.media, 4)
            shown = [case for case in drawn if case.tags["task"] in ("first_frame", "add")]
            cases = [*suite.cases("heldout", 13), *shown]
            works = [work(folder, "a"), work(folder, "b")]
            if name == "there":
                (folder / "deadly").touch()
                answer(store, cases[:10], 1, works[:1], spread)  # as if it had been stopped
                assert not (folder / "deadly").exists()
            both = answer(store, cases, 2, works, spread)
            assert [[sample.case for sample in of] for of in both] == [
                [case.id for case in cases for _ in range(2)]
            ] * 2
            failed = [sample.failure for of in both for sample in of if sample.failure]
            assert set(failed) == {"RuntimeError: no circle today"}
            for sample in both[1]:
                assert sample.media is None or store.media.has(sample.media)
            records.append(everything(store))
            asked = (folder / "log").read_text()
            answer(store, cases, 2, works, spread)
            assert (folder / "log").read_text() == asked
    assert records[0] == records[1]
    assert len({line.split()[0] for line in asked.splitlines()}) == 2  # both machines had work


def test_what_goes_wrong_there_is_told_in_one_line(address: str, tmp_path: Path) -> None:
    cases = suite.cases("heldout", 3)
    with Store(str(tmp_path / "record.db")) as store:
        with pytest.raises(CheckpointError, match="the weights of a are others here: copy them to every machine"):
            answer(store, cases, 1, [work(tmp_path, "a", "1" * 64)], cluster.cluster(address, 1))
        with pytest.raises(ConfigError, match="the cluster has 2 cores: ask for as many"):
            answer(store, cases, 1, [work(tmp_path, "a")], cluster.cluster(address, 3))
        (tmp_path / "poison").touch()
        with pytest.raises(DataError, match="a worker died 3 times over one chunk"):
            answer(store, cases, 1, [work(tmp_path, "a")], cluster.cluster(address, 1))
        assert len((tmp_path / "log").read_text().split()) == 3 * 3
        (tmp_path / "poison").unlink()
        (samples,) = answer(store, cases, 1, [work(tmp_path, "a")], cluster.cluster(address, 1))
    assert len(samples) == 3


def test_the_command_asks_the_shipped_generator_there(address: str, tmp_path: Path) -> None:
    """The same samples as with two processes of this machine; and an address where there is no cluster."""
    found: list[list[Record]] = []
    for name, where in (("here", ()), ("there", ("--ray", address))):
        store = str(tmp_path / f"{name}.db")
        told = ["run", "shapes", "--system", "base", "--cases", "6", "--workers", "2", "--store", store, *where]
        assert CliRunner().invoke(bench, told, catch_exceptions=False).exit_code == 0
        with Store(store) as record:
            found.append(everything(record))
            assert all(record.media.has(one.media or "") for one in record.select(Sample))
    assert found[0] == found[1]
    for nowhere in ("no address", "127.0.0.1:9"):
        told = ["run", "shapes", "--system", "base", "--cases", "2", "--store", store, "steps=9", "--ray", nowhere]
        refused = CliRunner().invoke(bench, told)
        assert isinstance(refused.exception, ConfigError)
        assert f"no Ray cluster at {nowhere} (" in str(refused.exception)
