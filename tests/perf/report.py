"""How long `palate report gsb` takes for many verdicts, and how much memory: a store of 8 systems, 2,000 prompts and
100 people is made in a temporary folder, three axes a judgement.

    python tests/perf/report.py --verdicts 1000000
"""

import argparse
import random
import resource
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from itertools import combinations
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path

from palate.accords import Accords
from palate.gsb import Contests
from palate.report import figures
from palate.standings import Standings
from palate.store import Store

SYSTEMS, PROMPTS, PEOPLE, AXES = 8, 2000, 100, ("overall", "motion", "looks")
NOW = "2026-01-01 00:00:00.000000"


def fill(file: Path, judgements: int) -> None:
    """By SQL: a million records through the store would take longer than what is measured."""
    Store(str(file)).close()
    rng = random.Random(0)
    connection = sqlite3.connect(file)

    def name(kind: str) -> str:
        return f"{kind}-{rng.getrandbits(96):024x}"

    def insert(table: str, columns: str, rows: Iterator[tuple]) -> None:
        marks = ", ".join("?" * len(columns.split()))
        listed = ", ".join(f'"{column}"' for column in columns.split())
        connection.executemany(f'insert into "{table}" ({listed}) values ({marks})', rows)

    cases = [name("case") for _ in range(PROMPTS)]
    samples = [[name("sample") for _ in range(SYSTEMS)] for _ in range(PROMPTS)]
    shown = [(name("comparison"), p, pair) for p in range(PROMPTS) for pair in combinations(range(SYSTEMS), 2)]
    voted = [name("judgement") for _ in range(judgements)]
    insert(
        "case",
        "id suite prompt split conditions tags axes recorded_at",
        ((id, "s", id, "heldout", "{}", "{}", "[]", NOW) for id in cases),
    )
    insert(
        "sample",
        "id case system sampler recorded_at",
        ((id, cases[p], f"system {k}", "{}", NOW) for p, row in enumerate(samples) for k, id in enumerate(row)),
    )
    insert(
        "comparison",
        "id study case candidate baseline candidate_side role recorded_at",
        ((id, "s", cases[p], samples[p][a], samples[p][b], "left", "normal", NOW) for id, p, (a, b) in shown),
    )
    insert(
        "judgement",
        "id comparison annotator simulated source reasons recorded_at",
        (
            (id, shown[i % len(shown)][0], f"person {rng.randrange(PEOPLE)}", False, str(i), "", NOW)
            for i, id in enumerate(voted)
        ),
    )
    insert(
        "verdict",
        "judgement axis verdict",
        ((id, axis, rng.choice(("good", "same", "bad"))) for id in voted for axis in AXES),
    )
    connection.commit()
    connection.close()


def measure(file: Path, told: Connection) -> None:
    """Sends what one report took, as a row of the table."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, used = time.perf_counter(), time.process_time()
    counted = contests, standings, accords = Contests(), Standings(), Accords()
    votes, counting = 0, 0.0
    with Store(str(file)) as store:
        for part in store.vote_parts():
            votes += len(part)
            read = time.process_time()
            for one in counted:
                one.add(part)
            counting += time.process_time() - read
        read = time.process_time() - used - counting
        shown = figures(contests.found(), standings.found()[0], accords.found(), {})
        store.add(shown)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told.send(
        f"| {votes:,} | {len(shown)} | {seconds:.1f} | {used:.1f} | {read:.1f} | {before // 1024} | {peak // 1024} |"
    )


def row(verdicts: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file, (found, told) = Path(folder) / "store.db", Pipe(duplex=False)
        # each in a process of its own, whose memory is then nobody else's
        for task, arguments in ((fill, (file, -(-verdicts // len(AXES)))), (measure, (file, told))):
            process = get_context("spawn").Process(target=task, args=arguments)
            process.start()
            process.join()
        return found.recv()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verdicts", type=int, nargs="+", default=[300_000, 1_000_000, 3_000_000])
    parser.add_argument("--out", type=Path, help="write a table in Markdown")
    options = parser.parse_args()
    lines = [
        "# What a report of many verdicts takes",
        "",
        "Written by `make perf` (tests/perf/report.py): good / same / bad, ratings and agreement of 8 systems, 2,000 "
        "prompts,",
        "100 people and three axes, read from an SQLite store in parts and stored as figures that can be walked back.",
        "",
        "| verdicts | figures | seconds | of them on the processor | of these to read | MB before | MB at its peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for verdicts in options.verdicts:
        lines.append(row(verdicts))
        print(lines[-1], flush=True)
    if options.out:
        options.out.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
