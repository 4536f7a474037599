"""What `palate reward audit` found, as it lies in the record."""

from dashboards import charts
from dashboards.exhibit import (
    Ask,
    Content,
    Exhibit,
    Missing,
    Remark,
    fine,
    numbers,
    short,
    spread,
    spread_formats,
    whole,
)
from dashboards.reader import Reader, Told

AUDIT = "palate reward audit --reward FILE --study NAME"


def audits(reader: Reader, ask: Ask) -> Content:
    """The newest audit of each reward, one of which is chosen."""
    found = reader.told("audit.")
    if not found:
        yield Missing("No reward has been audited", AUDIT)
        return
    newest: dict[str, Told] = {}
    for one in found:
        newest.setdefault(one.of("reward")[:12], one)
    chosen = newest[ask.one("reward", "Reward audited", list(newest), "A checkpoint's first 12 hex digits.")]
    own = [one for one in found if one.of("audit") == chosen.of("audit")]
    own.sort(key=lambda one: (_axis(one), one.name, one.of("group")))
    if chosen.simulated:
        yield Remark("SIMULATED votes are what the audit below held the reward against: no person gave them.", True)
    about = (
        f"reward {chosen.of('reward')[:12]} on study {chosen.of('study')}, audited {chosen.when:%Y-%m-%d %H:%M} UTC; "
        "palate trace ID walks a number back, and tells whether votes have come since"
    )
    yield _probes([one for one in own if one.of("probe")], about, chosen.simulated)
    errors = [one for one in own if ".calibration_error" in one.name]
    yield (
        _errors(errors, about, chosen.simulated)
        if errors
        else Remark("No axis has the ten ordered pairs that a calibration error takes.")
    )
    if groups := [one for one in own if one.of("group")]:
        yield _groups(groups, about, chosen.simulated)


def _axis(one: Told) -> str:
    return one.of("axis")


def _probes(found: list[Told], about: str, simulated: bool) -> Exhibit:
    rows = [
        {
            "probe": one.of("probe"),
            "axis": _axis(one),
            **spread("change", one.estimate),
            "n": one.estimate.n,
            "prompts": one.estimate.clusters.get("prompts"),
            "unit": one.of("unit"),
            "should": {"falls": "fall", "stays": "stay", "free": "do either"}.get(one.of("expected"), ""),
            "verdict": one.of("found"),
            "note": one.estimate.note,
            "id": one.id,
        }
        for one in found
    ]
    table = numbers(rows)
    failed = sum(one.of("found") == "FAILS" for one in found)
    judged = sum(bool(one.of("found")) for one in found)
    return Exhibit(
        "audit-probes",
        f"What moves the reward: {failed} of {judged} judged probes fail",
        "Mean change of the score of n videos when the video or its prompt is changed, in the unit of its row; 95% t "
        "over prompts. Verdicts only where an effect is expected and known; refused answers are in the note and in no "
        f"mean. Videos are drawn from the pairs that the study's votes name. {about}.",
        table,
        {**spread_formats("change", short), "n": whole, "prompts": whole},
        tuple(
            charts.whiskers(part, "probe", "change", f"{axis}: change, {part['unit'].iloc[0]}", 0.0, "+.2f")
            for axis, part in table.groupby("axis")
        ),
        simulated,
        open=True,
    )


def _errors(found: list[Told], about: str, simulated: bool) -> Exhibit:
    rows = [
        {
            "error": f"{_axis(one)}, {'if it were calibrated' if one.name.endswith('_of_calibrated') else 'measured'}",
            **spread("calibration error", one.estimate),
            "n": one.estimate.n,
            "prompts": one.estimate.clusters.get("prompts"),
            "id": one.id,
        }
        for one in found
    ]
    table = numbers(rows)
    return Exhibit(
        "audit-calibration",
        "How far the reward's probabilities are off",
        "Expected calibration error: mean of |probability said − share won| over bins of n ordered pairs; 95% "
        "percentiles. It is never zero: beside it is what probabilities that are right would have with as many pairs. "
        f"{about}.",
        table,
        {**spread_formats("calibration error", fine), "n": whole, "prompts": whole},
        (charts.whiskers(table, "error", "calibration error", "calibration error, 95% interval", 0.0, ".0%"),),
        simulated,
        open=True,
    )


def _groups(found: list[Told], about: str, simulated: bool) -> Exhibit:
    rows = [
        {
            "annotators": one.of("group"),
            "axis": _axis(one),
            **spread("accuracy", one.estimate),
            "n": one.estimate.n,
            "prompts": one.estimate.clusters.get("prompts"),
            "note": one.estimate.note,
            "id": one.id,
        }
        for one in found
    ]
    table = numbers(rows)
    return Exhibit(
        "audit-groups",
        f"With whom the reward agrees, on {_axis(found[0])}",
        "Share of n pairs that the annotators of a group order and the reward orders alike; 50% is chance; 95% "
        f"cluster-robust t over prompts. {about}.",
        table,
        {**spread_formats("accuracy", fine), "n": whole, "prompts": whole},
        (charts.whiskers(table, "annotators", "accuracy", "accuracy, 95% interval", 0.5, ".0%"),),
        simulated,
        open=True,
    )
