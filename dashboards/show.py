"""Pages on a screen: what a page asks becomes widgets whose values are in the URL, what it yields becomes elements."""

import io
from collections.abc import Callable, Sequence
from typing import Any, assert_never

import altair as alt
import pandas as pd
import streamlit as st
from altair.utils.schemapi import debug_mode
from streamlit.delta_generator import DeltaGenerator

from dashboards.charts import Chart, marked, picture
from dashboards.exhibit import Ask, Card, Clips, Content, Exhibit, Item, Missing, Remark, Text
from dashboards.reader import Reader
from palate.errors import PalateError

LIVE_SECONDS = 5
FILTER = 168  # pixels: two stand side by side on a phone
PLAYER = 340  # pixels of one of two videos: both fit beside each other on a desk, one on a phone
WIDTH = 720  # of a picture that is taken away
_SIGN = {"good": ":material/check_circle:", "bad": ":material/do_not_disturb_on:", "open": ":material/help:"}
_ROWS, _ROW = 12, 35  # a table taller than so many rows scrolls; pixels a row


class Widgets:
    """Answers to what a page asks, from widgets in a row that wraps on a phone."""

    def __init__(self, place: DeltaGenerator) -> None:
        self._place = place

    def one(self, key: str, label: str, options: Sequence[str], help: str = "") -> str:
        chosen = self._place.selectbox(label, options, key=key, bind="query-params", help=help or None, width=FILTER)
        return options[0] if chosen is None else chosen

    def text(self, key: str, label: str, help: str = "") -> str:
        return self._place.text_input(label, key=key, bind="query-params", help=help or None, width=FILTER) or ""

    def number(self, key: str, label: str, default: float, least: float, most: float, help: str = "") -> float:
        given = self._place.number_input(
            label,
            float(least),
            float(most),
            float(default),
            format="%g",
            key=key,
            bind="query-params",
            help=help or None,
            width=FILTER,
        )
        return default if given is None else float(given)

    def yes(self, key: str, label: str) -> bool:
        return self._place.toggle(label, key=key, bind="query-params", width=FILTER)

    def file(self, key: str, label: str) -> bytes | None:
        given = self._place.file_uploader(label, type="csv", key=key, width=480)
        return None if given is None else given.getvalue()


def page(reader: Reader, title: str, content: Callable[[Reader, Ask], Content]) -> None:
    """One page, as a visitor with this URL sees it now."""
    st.title(title)
    filters = st.container(horizontal=True, vertical_alignment="bottom")
    with st.sidebar:
        _live(reader, dict(reader.counts))
    try:
        # Altair checks a chart against thousands of definitions while it is built, which takes longer than all the
        # statistics of a page. The tests check every chart of every page.
        with debug_mode(False):
            for item in content(reader, Widgets(filters)):
                show(item)
    except PalateError as error:
        st.error(str(error), icon=":material/error:")


@st.fragment(run_every=LIVE_SECONDS)
def _live(reader: Reader, drawn: dict[str, int]) -> None:
    """Looks at the store's counts, and draws the page again when there is more than it was `drawn` from."""
    if reader.counts != drawn:
        st.rerun()
    st.caption(f"Live: {drawn['judgement']:,} judgements, {drawn['sample']:,} samples. {reader.store.name}, read-only.")


def show(item: Item) -> None:
    match item:
        case Exhibit():
            _exhibit(item)
        case Card(question, answer, because, tone):
            with st.container(border=True):
                st.markdown(question)
                st.markdown(f"#### {_SIGN[tone]} {_escaped(answer)}")
                st.caption(_escaped(because))
        case Missing(what, command):
            with st.container(border=True):
                st.markdown(f"{what}. The command that would change this:")
                st.code(command, language="bash")
        case Remark(text, warning):
            if warning:
                st.warning(_escaped(text), icon=":material/warning:")
            else:
                st.markdown(_escaped(text))
        case Text(title, text):
            with st.expander(title, expanded=True):
                st.code(text, language=None, wrap_lines=True)
        case Clips(title, clips):
            st.markdown(_escaped(title))
            row = st.container(horizontal=True)  # wraps: on a phone two of many stand side by side
            for clip in clips:
                column = row.container(width=PLAYER if len(clips) < 3 else FILTER)
                column.markdown(f"**{_escaped(clip.label)}**")
                if clip.path is None:
                    column.info(clip.note)
                else:
                    column.video(str(clip.path), loop=True, autoplay=True, muted=True, alt=clip.label)
                    column.caption(clip.note)
        case _:
            assert_never(item)


def _exhibit(one: Exhibit) -> None:
    badge = ":orange-badge[SIMULATED] " if one.simulated else ""
    st.subheader(f"{badge}{_escaped(one.title)}", anchor=one.key)
    for number, chart in enumerate(one.charts):
        described = f"{'Simulated votes. ' if one.simulated else ''}{one.title}. The table under it has the numbers."
        spec = _drawn(marked(chart, one.simulated))
        st.vega_lite_chart(spec=spec, key=f"{one.key}-{number}", alt=described)
    if one.charts:
        _behind(one)
    else:
        _table(one)
    st.caption(_escaped(one.says))
    if not one.charts:
        _files(one)


@st.fragment
def _behind(one: Exhibit) -> None:
    """The data of charts and all of it as files, sent once somebody opens the drawer: most of a page's bytes, and of
    the time a browser takes for it, would otherwise be for tables that nobody looks at."""
    files = "CSV, PNG" if len(one.charts) == 1 else "CSV, PNGs"
    label = f"Data: {len(one.table):,} rows, {files}"
    drawer = st.expander(label, expanded=one.open, key=f"data-{one.key}", on_change="rerun")
    if drawer.open:
        with drawer:
            _table(one)
            _files(one)


def _files(one: Exhibit) -> None:
    with st.container(horizontal=True):
        st.download_button(
            "CSV", lambda: one.csv, f"{one.file}.csv", "text/csv", key=f"csv-{one.key}", on_click="ignore"
        )
        for number, chart in enumerate(one.charts):
            name = f"{one.file}-{number + 1}.png"
            picture = _picture(marked(chart, one.simulated))
            label = "PNG" if len(one.charts) == 1 else f"PNG {number + 1}"
            st.download_button(label, picture, name, "image/png", key=f"png-{one.key}-{number}", on_click="ignore")


def _drawn(chart: Chart) -> dict[str, Any]:
    """What the browser draws, unchecked: `st.altair_chart` checks it, for longer than it takes to make. The size that
    altair adds is for a chart outside a page.

    Tables go beside the drawing and under names of their own: where a filter changes the numbers alone, the browser
    keeps the chart and puts the new ones in, which takes it a fraction of drawing another.
    """
    tables: dict[str, pd.DataFrame] = {}
    spec = _without(chart, tables).to_dict(validate=False)
    kept = {key: value for key, value in spec.items() if key != "config"}
    return {**kept, "datasets": {**spec.get("datasets", {}), **tables}}


def _without(chart: Chart, tables: dict[str, pd.DataFrame]) -> Chart:
    """The chart with names in place of its tables, which are put into `tables`."""
    bare = chart.copy(deep=False)
    if isinstance(chart.data, pd.DataFrame):
        name = f"table {len(tables)}"
        tables[name], bare.data = chart.data, alt.NamedData(name)
    if isinstance(chart, alt.LayerChart):
        bare.layer = [_without(one, tables) for one in chart.layer]  # type: ignore[assignment]
    return bare


def _table(one: Exhibit) -> None:
    shown = one.table.style.format(dict(one.formats), na_rep="–")  # type: ignore[arg-type]
    height = (min(len(one.table), _ROWS) + 1) * _ROW + 3
    st.dataframe(shown, hide_index=True, height=height, key=f"table-{one.key}", alt=one.title, placeholder="–")


def _picture(chart: Chart) -> Callable[[], bytes]:
    """Drawn only when it is asked for."""

    def draw() -> bytes:
        file = io.BytesIO()
        picture(chart, WIDTH).save(file, format="png", scale_factor=2)
        return file.getvalue()

    return draw


def _escaped(text: str) -> str:
    """As Markdown that says just this: prompts and names may hold anything."""
    for sign in "\\`*_[]$<~:":
        text = text.replace(sign, f"\\{sign}")
    return text
