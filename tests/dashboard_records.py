"""Records for the dashboards to show: empty, in part, simulated alone, people's, and one of a million votes."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from sqlalchemy import create_engine, insert, text

from palate.records import Case, Comparison, Curve, Judgement, Record, Run, Sample, Score, Side, Verdict
from palate.schema import TABLES, VERDICT
from palate.store import Store

AXES = ("overall", "prompt_following")
VERDICTS = np.array([Verdict.GOOD, Verdict.SAME, Verdict.BAD], object)


def partial(url: str) -> None:
    """Cases and samples, two of which failed, and nothing else."""
    with Store(url) as store:
        cases = [Case(suite="toy", prompt=f"a red square {n}", tags={"subject": "square"}) for n in range(4)]
        failed = {"failure": "out of memory"}
        samples = [
            Sample(case=one.id, system="old", seed=n, **(failed if n > 1 else {})) for n, one in enumerate(cases)
        ]
        store.add([*cases, *samples])


def judged(url: str, simulated: bool, prompts: int = 40, people: int = 6) -> None:
    """Three systems, of which `new` beats `old` in 60% of verdicts and loses in 20%; a gold pair, repeats, and a run.

    On every axis; the same in each of two slices. `third` meets `old` and is its equal.
    """
    generator = np.random.default_rng(0)
    rows: list[Record] = []
    checkpoint = "c" * 64
    for number in range(prompts):
        tags = {"subject": "animal" if number % 2 else "person", "scene": "indoors" if number % 3 else "outdoors"}
        case = Case(suite="toy", prompt=f"prompt <b>{number}</b> of *many*: $x_{number}$", tags=tags, axes=AXES)
        made = {s: Sample(case=case.id, system=s, seed=number) for s in ("old", "third")}
        made["new"] = Sample(case=case.id, system="new", seed=number, checkpoint=checkpoint)
        rows += [case, *made.values()]
        for system, sample in made.items():
            better = 0.3 if system == "new" else 0.0
            rows += [
                Score(
                    sample=sample.id, scorer="toy.strict", value=float(generator.random() < 0.4 + better), unit="share"
                ),
                Score(sample=sample.id, scorer="toy.proxy", value=float(generator.normal(better, 1)), unit=""),
            ]
        for system, odds in (("new", (0.6, 0.2, 0.2)), ("third", (0.35, 0.3, 0.35))):
            side = Side.LEFT if generator.random() < 0.5 else Side.RIGHT
            told = {"study": f"{system} against old", "case": case.id, "candidate_side": side}
            roles = ["normal", *(["gold"] if number % 10 == 0 else []), *(["repeat"] if number % 8 == 0 else [])]
            for role in roles:
                shown = side.other if role == "repeat" else side
                asked = Comparison(
                    candidate=made[system].id, baseline=made["old"].id, role=role, **{**told, "candidate_side": shown}
                )
                rows.append(asked)
                for person in range(people):
                    verdicts = dict(zip(AXES, generator.choice(VERDICTS, len(AXES), p=odds)))
                    rows.append(
                        Judgement(
                            comparison=asked.id,
                            annotator=f"{'simulated' if simulated else 'person'}-{person}",
                            simulated=simulated,
                            source=f"test {person}",
                            verdicts=verdicts,
                            seconds=float(generator.gamma(4, 3)),
                        )
                    )
    runs = [
        Run(task="toy train", recipe={"fit": {"lr": 0.1}}, code="0", seed=0, outputs=(checkpoint,)),
        Run(task="toy train", recipe={"fit": {"lr": 0.2}}, code="0", seed=1),
    ]
    rows += runs
    for slope, run in enumerate(runs, 1):
        for metric in ("loss", "reward_mean"):
            readings = tuple(1 / (1 + slope * step) for step in range(20))
            rows.append(Curve(run=run.id, metric=metric, steps=tuple(range(20)), readings=readings))
    with Store(url) as store:
        store.add(rows)


def vast(file: Path, votes: int = 1_000_000, systems: int = 200, samples: int = 50_000) -> None:
    """A record as large as the dashboards must bear, written past the store's checks, which would take half an hour.

    Four axes a judgement; three judgements a comparison; every system as strong as its number. Ids of comparisons and
    judgements are not hashes of their content here, which only `Store.select` would notice.
    """
    Store(str(file)).close()
    generator = np.random.default_rng(0)
    cases, axes = samples // systems, ("overall", "prompt_following", "motion_quality", "visual_quality")
    judgements = votes // len(axes)
    comparisons = judgements // 3
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def name(kind: str, number: int) -> str:
        return f"{kind}-{hashlib.sha256(f'{kind}{number}'.encode()).hexdigest()[:24]}"

    system, of_case = np.arange(samples) % systems, np.arange(samples) // systems
    tags = [{"subject": f"subject {n % 7}", "scenario": f"scenario {n % 5}"} for n in range(cases)]
    asks = [Case(suite="vast", prompt=f"prompt {n}", tags=tags[n], axes=axes) for n in range(cases)]
    made = [Sample(case=asks[of_case[n]].id, system=f"system-{system[n]:03d}", seed=0) for n in range(samples)]
    right = generator.random(samples) < 0.3 + 0.002 * system
    scores = [
        Score(sample=made[n].id, scorer="vast.strict", value=float(right[n]), unit="share") for n in range(samples)
    ]
    names = {"case": [one.id for one in asks], "sample": [one.id for one in made]}
    names |= {
        kind: [name(kind, n) for n in range(size)]
        for kind, size in (("comparison", comparisons), ("judgement", judgements))
    }
    asked = generator.integers(cases, size=comparisons)
    one = generator.integers(systems, size=comparisons)
    # Neighbours on the ladder meet, as they do where the ranking is least certain.
    other = (one + generator.integers(1, 6, size=comparisons)) % systems
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        connection.execute(text("PRAGMA synchronous = OFF"))
        when = {"case": [start] * cases, "score": [start] * samples}
        when["sample"] = [start + timedelta(minutes=int(one)) for one in system]
        for kind, records in (("case", asks), ("sample", made), ("score", scores)):
            rows = [
                {"id": one.id, "recorded_at": at, **one.model_dump(mode="json")} for one, at in zip(records, when[kind])
            ]
            connection.execute(insert(TABLES[kind]), rows)
        connection.execute(
            insert(TABLES["comparison"]),
            [
                {
                    "id": names["comparison"][n],
                    "study": f"study {n % 20}",
                    "case": names["case"][asked[n]],
                    "candidate": names["sample"][asked[n] * systems + one[n]],
                    "baseline": names["sample"][asked[n] * systems + other[n]],
                    "candidate_side": "left" if n % 2 else "right",
                    "role": "normal",
                    "recorded_at": start,
                }
                for n in range(comparisons)
            ],
        )
        of = np.minimum(np.arange(judgements) // 3, comparisons - 1)
        connection.execute(
            insert(TABLES["judgement"]),
            [
                {
                    "id": names["judgement"][n],
                    "comparison": names["comparison"][of[n]],
                    "annotator": f"person-{(n * 7 + n // 3) % 60:02d}",
                    "simulated": False,
                    "source": "vast",
                    "reasons": "",
                    "seconds": 12.0,
                    "recorded_at": start + timedelta(seconds=10 * n),
                }
                for n in range(judgements)
            ],
        )
        win = 1 / (1 + np.exp(-0.05 * (one - other)[of]))
        for axis in axes:
            drawn = np.where(generator.random(judgements) < 0.2, 1, np.where(generator.random(judgements) < win, 0, 2))
            connection.execute(
                insert(VERDICT),
                [
                    {"judgement": names["judgement"][n], "axis": axis, "verdict": str(VERDICTS[drawn[n]])}
                    for n in range(judgements)
                ],
            )
    engine.dispose()


def scaling_csv(noise: float = 0.002) -> bytes:
    """Runs of a law with A = 400, B = 410, E = 1.7, alpha = 0.34, beta = 0.28 (as Hoffmann's), and its noise."""
    generator, rows = np.random.default_rng(0), ["params,tokens,loss"]
    for size in np.logspace(7, 9, 6):
        for tokens in np.logspace(8.5, 10.5, 5):
            loss = (1.7 + 400 * size**-0.34 + 410 * tokens**-0.28) * np.exp(noise * generator.normal())
            rows.append(f"{size:.6g},{tokens:.6g},{loss:.6g}")
    return "\n".join(rows).encode()
