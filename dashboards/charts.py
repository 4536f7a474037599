"""Charts that pages share.

Colours are Okabe and Ito's, which the colour-blind tell apart, and nothing is told by colour alone.
"""

import altair as alt
import numpy as np
import pandas as pd

Chart = alt.Chart | alt.LayerChart | alt.FacetChart

BLUE, GREY, VERMILLION, ORANGE, GREEN, SKY = "#0072B2", "#9A9A9A", "#D55E00", "#E69F00", "#009E73", "#56B4E9"
NEUTRAL = "#808080"  # legible on white and on black
SERIES = (BLUE, VERMILLION, GREEN, ORANGE, "#CC79A7", SKY)
CELL = 44  # pixels a row of a heat map, which holds two lines
LEAST = 0.25  # what a heat map's full colour stands for at least: a small difference must not look like a large one
TITLE = 28  # pixels that the line over a simulated chart takes
ROW = 34  # pixels a row; a chart's height is of all of it, with title, legend and axes


def stacked(table: pd.DataFrame, row: str, order: list[str]) -> Chart:
    """Good, same and bad as shares of each row. `table` has the row's name, good, same and bad."""
    long = table.melt([row], ["good", "same", "bad"], "verdict", "count")
    total = long.groupby(row)["count"].transform("sum")
    long["share"] = long["count"] / total
    long["place"] = long["verdict"].map({"good": 0, "same": 1, "bad": 2}.get)
    long = long.sort_values([row, "place"])
    long["end"] = long.groupby(row)["share"].cumsum()
    long["start"] = long["end"] - long["share"]
    long["middle"] = (long["start"] + long["end"]) / 2
    long["label"] = long.apply(
        lambda one: f"{one['verdict'][0].upper()} {one['count']:,}" * (one["share"] > 0.09), axis=1
    )
    scale = alt.Scale(domain=["good", "same", "bad"], range=[BLUE, "#C9C9C9", VERMILLION])
    y = alt.Y(f"{row}:N", sort=order, title=None, axis=alt.Axis(labelLimit=140))
    base = alt.Chart()
    bars = base.mark_bar().encode(
        x=alt.X(
            "start:Q", axis=alt.Axis(format="%", tickCount=5), scale=alt.Scale(domain=[0, 1]), title="share of verdicts"
        ),
        x2=alt.X2("end:Q"),
        y=y,
        color=alt.Color("verdict:N", scale=scale, title=None, legend=alt.Legend(orient="top")),
        tooltip=[
            alt.Tooltip(f"{row}:N"),
            alt.Tooltip("verdict:N"),
            alt.Tooltip("count:Q", format=","),
            alt.Tooltip("share:Q", format=".1%"),
        ],
    )
    labels = base.mark_text(fontWeight="bold", fontSize=12).encode(
        x=alt.X("middle:Q"),
        y=y,
        text=alt.Text("label:N"),
        color=_lettering("datum.verdict != 'same'"),
    )
    return alt.layer(bars, labels, data=long, height=ROW * len(order) + 130)


def _lettering(dark: str) -> alt.ColorValue:
    """White where the ground under it is dark."""
    return alt.ColorValue("#222222", condition={"test": dark, "value": "white"})


# Long names differ at their ends, so what is left out of one is its middle.
_MIDDLE = "length(datum.label) > 28 ? slice(datum.label, 0, 12) + '…' + slice(datum.label, -15) : datum.label"


def whiskers(
    table: pd.DataFrame, row: str, value: str, title: str, zero: float | None = None, format: str = "+.0%"
) -> Chart:
    """A point and its interval in each row, in the order of `table`, which has the row's name and `spread`'s three
    columns of `value`."""
    table = table.rename(columns={value: "value", f"{value} low": "low", f"{value} high": "high"})
    table = table.loc[:, [row, "value", "low", "high"]]
    y = alt.Y(f"{row}:N", sort=None, title=None, axis=alt.Axis(labelLimit=180, labelExpr=_MIDDLE))
    axis, scale = alt.Axis(format=format, tickCount=6), alt.Scale(zero=False, nice=True)
    tips = [
        alt.Tooltip(f"{row}:N"),
        *(alt.Tooltip(f"{name}:Q", format=format.replace("0%", "1%"), title=name) for name in ("value", "low", "high")),
    ]
    base = alt.Chart()
    rules = base.mark_rule(color=BLUE, strokeWidth=3).encode(
        x=alt.X("low:Q", title=title, axis=axis, scale=scale), x2=alt.X2("high:Q"), y=y, tooltip=tips
    )
    points = base.mark_point(color=BLUE, filled=True, size=90, opacity=1).encode(x=alt.X("value:Q"), y=y, tooltip=tips)
    layers = [rules, points]
    if zero is not None:
        at = alt.Chart(alt.InlineData([{"zero": zero}]))
        layers = [at.mark_rule(color=NEUTRAL, strokeDash=[4, 3]).encode(x=alt.X("zero:Q")), *layers]
    return alt.layer(*layers, data=table, height=ROW * len(table) + 90)


def lines(table: pd.DataFrame, x: str, y: str, series: str) -> Chart:
    """A line for each series, told apart by colour and dash."""
    values = table.rename(columns={y: "value"})  # a metric's name may hold what Vega-Lite takes for a path
    colours = alt.Scale(range=list(SERIES))
    return (
        alt.Chart(values, height=280)
        .mark_line(point=len(table) <= 120)
        .encode(
            x=alt.X(f"{x}:Q", title=x, axis=alt.Axis(format=",.0f")),
            y=alt.Y("value:Q", title=y, scale=alt.Scale(zero=False)),
            color=alt.Color(
                f"{series}:N",
                scale=colours,
                title=None,
                legend=alt.Legend(orient="top", direction="vertical", labelLimit=320, symbolType="stroke"),
            ),
            strokeDash=alt.StrokeDash(f"{series}:N", title=None),
            tooltip=[alt.Tooltip(f"{series}:N"), alt.Tooltip(f"{x}:Q"), alt.Tooltip("value:Q", title=y, format=".4g")],
        )
    )


def heat(
    table: pd.DataFrame, row: str, column: str, value: str, label: str, title: str, format: str, middle: float | None
) -> Chart:
    """Cells with their label written in them; diverging around `middle` where there is one."""
    away = np.abs(table[value].to_numpy(float) - (middle or 0))
    largest = max(np.nan_to_num(away).max(), 1e-9)
    lettering = 0.65 if middle is None else 0.85  # of the full colour, from where white is easier to read on it
    if middle is not None:  # in steps, so that a colour mostly means the same whatever the filter
        largest = LEAST * np.ceil(largest / LEAST)
        scale = alt.Scale(domain=[middle - largest, middle, middle + largest], range=[VERMILLION, "#F2F2F2", BLUE])
    else:
        scale = alt.Scale(scheme="blues", domainMin=0)
    rows, columns = (list(dict.fromkeys(table[name])) for name in (row, column))
    if set(rows) == set(columns):  # systems against each other: one order both ways
        columns = rows
    table = table[[row, column, value, label]].assign(
        down=table[row].map(rows.index), along=table[column].map(columns.index), dark=away > lettering * largest
    )
    y = alt.Y(f"{row}:N", title=None, axis=alt.Axis(labelLimit=140), sort=alt.EncodingSortField("down", op="min"))
    x = alt.X(
        f"{column}:N",
        title=None,
        axis=alt.Axis(labelAngle=-35, orient="top", labelLimit=110, labelOverlap=False),
        sort=alt.EncodingSortField("along", op="min"),
    )
    base = alt.Chart()
    cells = base.mark_rect(stroke="white").encode(
        x=x,
        y=y,
        color=alt.Color(f"{value}:Q", scale=scale, title=title, legend=alt.Legend(format=format, orient="bottom")),
        tooltip=[
            alt.Tooltip(f"{row}:N"),
            alt.Tooltip(f"{column}:N"),
            alt.Tooltip(f"{value}:Q", format=format),
            alt.Tooltip(f"{label}:N", title="cell"),
        ],
    )
    words = base.mark_text(fontSize=11, lineBreak="\n", dy=-6 if table[label].str.contains("\n").any() else 0).encode(
        x=x, y=y, text=alt.Text(f"{label}:N"), color=_lettering("datum.dark")
    )
    slanted = 3.2 * min(table[column].astype(str).str.len().max(), 20)  # pixels that the names over the columns take
    return alt.layer(cells, words, data=table, height=CELL * len(set(table[row])) + 175 + int(slanted))


def picture(chart: Chart, width: int) -> Chart:
    """The chart by itself, off the page: as wide as this, its height as on the page."""
    return chart.properties(width=width, autosize=alt.AutoSizeParams(type="fit", contains="padding"))


def marked(chart: Chart, simulated: bool | None) -> Chart:
    """The chart, with SIMULATED written over it where its votes are, so that a picture of it says so too."""
    if not simulated:
        return chart
    title = alt.Title("SIMULATED VOTES · no person gave them", color=VERMILLION, fontSize=12, anchor="start")
    return chart.properties(title=title, height=chart.height + TITLE if isinstance(chart.height, int) else chart.height)
