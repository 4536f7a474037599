"""What the demo found, as figures of the record, as a table for people and as a summary for machines."""

from dataclasses import dataclass

from palate.gsb import Contest, contests
from palate.records import Figure
from palate.report import figures, score_difference, score_figure
from palate.report_text import table
from palate.stats.wins import Form
from palate.store import Store

SCORER = "shapes.strict"


@dataclass(frozen=True)
class Findings:
    """What the demo found: verifier scores by system, their paired gain over the base, and the blind contests."""

    verifier: dict[str, Figure]
    gain: dict[str, Figure]
    contests: list[Contest]
    gsb: dict[tuple[str, str, str], Figure]  # system, axis, form

    @classmethod
    def read(cls, record: Store, suite: str) -> "Findings":
        """Computes the figures from the store and keeps them there, so that each can be traced."""
        systems = ("base", "control", "aligned")
        verifier = {one: score_figure(record, SCORER, one, suite, "heldout") for one in systems}
        gain = {one: score_difference(record, SCORER, one, "base", suite, "heldout") for one in systems[1:]}
        held: list[Contest] = []
        gsb: dict[tuple[str, str, str], Figure] = {}
        for system in systems[1:]:
            study = f"{system} against base"
            pairs = contests(record.votes(study=study), "pooled", system, "base")
            shown = figures(pairs, [], [], {"study": study})
            gsb |= {(system, str(one.selection["axis"]), one.name.rpartition(".")[2]): one for one in shown}
            held += pairs
        record.add([*verifier.values(), *gain.values(), *gsb.values()])
        return cls(verifier, gain, held, gsb)

    @property
    def simulated(self) -> bool:
        """Whether those who compared were not people."""
        return any(one.basis.simulated for one in self.contests)

    def summary(self) -> dict[str, object]:
        return {
            "simulated": self.simulated,
            "verifier": {name: _estimate(figure) for name, figure in self.verifier.items()},
            "verifier_gain": {name: _estimate(figure) for name, figure in self.gain.items()},
            "gsb": {one.basis.axis: self._contest(one) for one in self.contests if one.candidate == "aligned"},
            "gsb_control": {one.basis.axis: self._contest(one) for one in self.contests if one.candidate == "control"},
        }

    def text(self) -> str:
        base = self.verifier["base"].estimate
        rows = [
            [name, _share(figure), _share(self.gain[name]) if name in self.gain else "", figure.id]
            for name, figure in self.verifier.items()
        ]
        blind = [
            [one.candidate, one.basis.axis, *(str(n) for n in (one.good, one.same, one.bad)), *self._forms(one)]
            for one in self.contests
        ]
        judges = "SIMULATED people (no person voted)" if self.simulated else "people"
        forms = ["ratio (G+S)/(B+S)", "net (G-B)/N", "figure of the ratio"]
        return "\n\n".join(
            (
                f"All of the caption right, by program: {base.n} answers to {base.clusters['cases']} held-out cases",
                table(["system", "strict", "gain over base", "figure"], rows),
                f"Blind comparisons with the base, by {judges}",
                table(["candidate", "axis", "G", "S", "B", *forms], blind),
                "Intervals are 95%; of blind comparisons they treat prompts and annotators as samples.",
            )
        )

    def _forms(self, one: Contest) -> list[str]:
        ratio = self.gsb[one.candidate, one.basis.axis, Form.RATIO]
        net = self.gsb[one.candidate, one.basis.axis, Form.NET]
        return [_plain(ratio), _plain(net), ratio.id]

    def _contest(self, one: Contest) -> dict[str, object]:
        ratio = self.gsb[one.candidate, one.basis.axis, Form.RATIO]
        seen = {"good": one.good, "same": one.same, "bad": one.bad, "ratio": ratio.estimate.value}
        return {**seen, "ratio_low": ratio.estimate.low, "ratio_high": ratio.estimate.high, "figure": ratio.id}


def _estimate(figure: Figure) -> dict[str, object]:
    found = figure.estimate
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n, "figure": figure.id}


def _plain(figure: Figure) -> str:
    found = figure.estimate
    return " ".join((_number(found.value), f"[{_number(found.low)}, {_number(found.high)}]"))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _share(figure: Figure) -> str:
    found = figure.estimate
    value, low, high = ("–" if x is None else f"{100 * x:.1f}" for x in (found.value, found.low, found.high))
    return f"{value}% [{low}, {high}]"
