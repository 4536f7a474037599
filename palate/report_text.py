"""A GSB report as aligned plain text."""

from collections.abc import Iterable, Sequence

from palate.accords import Accord
from palate.gsb import Basis, Contest
from palate.records import Estimate
from palate.standings import Standing
from palate.stats.wins import Form


def gsb_text(
    contests: Sequence[Contest],
    standings: Sequence[Standing],
    accords: Sequence[Accord],
    remarks: Sequence[str],
) -> str:
    """Three tables (pairs, systems, agreement), then the notes that their numbers refer to in parentheses.

    Args:
        remarks: lines for the foot, such as why an axis has no ratings.
    """
    notes = Notes()
    sliced = any(one.slice for one in contests)
    both_bad = any(one.both_bad for one in contests)
    pairs = [
        [
            source_of(one.basis),
            *([one.slice] if sliced else []),
            one.basis.axis,
            one.candidate,
            one.baseline,
            str(one.good),
            str(one.same),
            str(one.bad),
            *([str(one.both_bad)] if both_bad else []),
            *(notes.show(one.forms[form]) for form in Form),
            *([notes.show(one.anytime)] if one.anytime else []),
            "–" if one.p_holm is None else f"{one.p_holm:.2g}",
            *sizes_of(one.basis),
        ]
        for one in contests
    ]
    forms = ["ratio (G+S)/(B+S)", "net (G-B)/N", "win rate G/(G+B)", "not worse (G+S)/N"]
    if any(one.anytime for one in contests):
        forms.append("net, any time")
    optional = (["slice"] if sliced else []), (["both-bad votes"] if both_bad else [])
    head = ["from", *optional[0], "axis", "candidate", "baseline", "G", "S", "B", *optional[1], *forms, "p net"]
    systems = [
        [
            source_of(one.basis),
            one.basis.axis,
            one.system,
            notes.show(one.elo, digits=0),
            _ranks(one.rank),
            _ranks(one.rank_at_once),
            "–" if one.arena_rank is None else str(one.arena_rank),
            notes.show(one.win_rate),
            *sizes_of(one.basis),
        ]
        for one in standings
    ]
    people = [
        [
            source_of(one.basis),
            one.basis.axis,
            *(notes.show(estimate) for estimate in (one.nominal, one.ordinal, one.share)),
            str(one.comparisons),
            *sizes_of(one.basis),
        ]
        for one in accords
    ]
    sizes = ["votes", "prompts", "people"]
    agreement = ["alpha nominal", "alpha ordinal", "share of agreeing pairs", "comparisons > 1 vote"]
    parts = [
        *(
            ["*** Rows marked SIMULATED are made-up votes by a program. No person gave them. ***"]
            if any(one.basis.simulated for one in (*contests, *standings, *accords))
            else []
        ),
        table([*head, *sizes], pairs),
        table(
            ["from", "axis", "system", "rating (Elo)", "rank", "all at once", "rank (UB)", "win rate G/(G+B)", *sizes],
            systems,
        ),
        table(["from", "axis", *agreement, *sizes], people),
        "\n".join([*_method(contests, standings, accords), *_effects(standings, notes), *remarks, *notes.lines()]),
    ]
    return "\n\n".join(filter(None, parts))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart; numbers to the right. Empty without rows."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    right = [all(cell[:1].isdigit() or cell[:1] in "-–" for cell in column) for column in zip(*rows)]

    def line(cells: Iterable[str]) -> str:
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right)).rstrip()

    return "\n".join([line(head), line("-" * width for width in widths), *map(line, rows)])


def _method(contests: Sequence[Contest], standings: Sequence[Standing], accords: Sequence[Accord]) -> list[str]:
    methods = "; ".join(sorted({estimate.method for one in contests for estimate in one.forms.values()}))
    ratings = "; ".join(sorted({one.elo.method for one in standings})) or "none"
    lines = [f"Intervals are 95%. {f'G/S/B: {methods}. ' if methods else ''}Ratings: {ratings}."]
    if any(one.anytime for one in contests):
        lines.append(
            "net, any time: this interval holds at every look, however often one looks; the others hold at one only."
        )
    if contests:
        lines.append(
            "p net: two-sided for net = 0, Holm-corrected over a pair's axes (in a slice), not over pairs or slices."
        )
    if standings:
        lines.append(
            "Ranks: below those significantly above it, each pair of systems at 5%; all at once: Bonferroni over "
            "pairs; (UB): one more than the systems whose interval lies above its own, as LMArena counts."
        )
    if accords:
        lines.append("Agreement: bootstrap over comparisons; ordinal takes bad < same < good.")
    return [*lines, "Both-bad votes count as same."]


def _effects(standings: Sequence[Standing], notes: "Notes") -> list[str]:
    """A line for each thing that was taken out of an axis's ratings."""
    return [
        f"{one.basis.axis} ({source_of(one.basis)}): {one.name} adds {notes.show(one.estimate)} to the log-odds; "
        "the ratings are without it."
        for one in dict.fromkeys(effect for standing in standings for effect in standing.effects)
    ]


def _ranks(ranks: tuple[int, int]) -> str:
    return "-".join(str(rank) for rank in dict.fromkeys(ranks))


def source_of(basis: Basis) -> str:
    return "SIMULATED" if basis.simulated else "people"


def sizes_of(basis: Basis) -> list[str]:
    return [str(basis.votes), str(basis.prompts), "unknown" if basis.people is None else str(basis.people)]


def _number(x: float | None, digits: int) -> str:
    return "–" if x is None else f"{x:.{digits}f}" if abs(x) < 1e5 else f"{x:.1e}"


class Notes:
    """Notes are long and repeat: a number refers to its own by an index, and each is written once."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}

    def show(self, estimate: Estimate, digits: int = 2) -> str:
        value, low, high = (_number(x, digits) for x in (estimate.value, estimate.low, estimate.high))
        note = self._index.setdefault(estimate.note, len(self._index) + 1) if estimate.note else None
        return f"{value} [{low}, {high}]" + (f" ({note})" if note else "")

    def lines(self) -> list[str]:
        return [f"({index}) {note}." for note, index in self._index.items()]
