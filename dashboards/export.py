"""Pages as one HTML file that needs no server: charts as SVG, tables with their CSV, videos inside."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any, assert_never

import vl_convert

from dashboards.charts import Chart, marked, picture
from dashboards.exhibit import Card, Clip, Clips, Exhibit, Item, Missing, Remark, Text
from dashboards.reader import Reader
from dashboards.views import PAGES
from palate.errors import ConfigError, PalateError

WIDTH = 640
LARGEST_CLIP = 4_000_000  # bytes; a larger video is named and left out


@dataclass(frozen=True)
class Given:
    """Answers to what a page asks, from KEY=VALUE as they stand in a dashboard's URL; else the defaults."""

    values: Mapping[str, str]

    def one(self, key: str, label: str, options: Sequence[str], help: str = "") -> str:
        del help
        chosen = self.values.get(key, options[0])
        if chosen not in options:
            raise ConfigError(f"{key}={chosen}: no such {label.lower()}", f"choose from {', '.join(options[:20])}")
        return chosen

    def text(self, key: str, label: str, help: str = "") -> str:
        del label, help
        return self.values.get(key, "")

    def number(self, key: str, label: str, default: float, least: float, most: float, help: str = "") -> float:
        del help
        try:
            chosen = float(self.values.get(key, default))
        except ValueError:
            chosen = float("nan")
        if not least <= chosen <= most:
            raise ConfigError(f"{key}={self.values.get(key)}: {label}", f"give a number from {least:g} to {most:g}")
        return chosen

    def yes(self, key: str, label: str) -> bool:
        del label
        return self.values.get(key, "false") == "true"

    def file(self, key: str, label: str) -> bytes | None:
        del key, label
        return None


def report(reader: Reader, titles: Sequence[str], values: Mapping[str, str]) -> str:
    """These pages as HTML.

    Raises:
        ConfigError: a value that a page does not offer.
    """
    parts, ask = [], Given(values)
    for title in titles:
        inside = [f'<h2 id="{title.lower()}">{escape(title)}</h2>']
        try:
            inside += [_html(item) for item in PAGES[title](reader, ask)]
        except ConfigError:
            raise
        except PalateError as error:
            inside.append(f'<p class="warning">{escape(str(error))}</p>')
        parts.append(f"<section>{''.join(inside)}</section>")
    links = " · ".join(f'<a href="#{title.lower()}">{escape(title)}</a>' for title in titles)
    filters = ", ".join(f"{key}={value}" for key, value in values.items()) or "none"
    stamp = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    head = f"<h1>Palate</h1><p>{escape(reader.store.name)}, {stamp}. Filters: {escape(filters)}.</p><nav>{links}</nav>"
    return _PAGE.format(style=_STYLE, body=head + "".join(parts))


def _html(item: Item) -> str:
    match item:
        case Exhibit():
            return _exhibit(item)
        case Card(question, answer, because, tone):
            sign = {"good": "✓", "bad": "✗", "open": "?"}[tone]
            said = f"<p>{escape(question)}</p><h3>{sign} {escape(answer)}</h3><small>{escape(because)}</small>"
            return f'<div class="card {tone}">{said}</div>'
        case Missing(what, command):
            return f'<div class="card"><p>{escape(what)}.</p><code>{escape(command)}</code></div>'
        case Remark(text, warning):
            return f"<p{' class=warning' if warning else ''}>{escape(text)}</p>"
        case Text(title, text):
            return f"<details open><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
        case Clips(title, clips):
            return f'<p>{escape(title)}</p><div class="clips">{"".join(map(_clip, clips))}</div>'
        case _:
            assert_never(item)


def _exhibit(one: Exhibit) -> str:
    badge = '<span class="simulated">SIMULATED</span> ' if one.simulated else ""
    charts = "".join(
        f'<figure role="img" aria-label="{escape(one.title)}">{_svg(marked(chart, one.simulated))}</figure>'
        for chart in one.charts
    )
    style = one.table.style.format(dict(one.formats), na_rep="–", escape="html").hide(axis="index")  # type: ignore[arg-type]
    numeric = [name for name in one.table if one.table[name].dtype.kind in "iufb"]
    style = style.set_properties(subset=numeric, **{"text-align": "right"})
    table = f'<div class="wide">{style.to_html(table_uuid=one.key)}</div>'
    if one.charts:
        table = f"<details{' open' * one.open}><summary>Data: {len(one.table):,} rows</summary>{table}</details>"
    csv = base64.b64encode(one.csv).decode()
    link = f'<a download="{one.file}.csv" href="data:text/csv;base64,{csv}">CSV</a>'
    return (
        f"<article><h3>{badge}{escape(one.title)}</h3>{charts}{table}<small>{escape(one.says)} {link}</small></article>"
    )


def _svg(chart: Chart) -> str:
    spec: dict[str, Any] = picture(chart, WIDTH).to_dict()
    return vl_convert.vegalite_to_svg(spec)


def _clip(clip: Clip) -> str:
    label = f"<b>{escape(clip.label)}</b>"
    if clip.path is None or clip.path.stat().st_size > LARGEST_CLIP:
        note = clip.note if clip.path is None else f"left out, {clip.path.stat().st_size:,} bytes; {clip.note}"
        return f"<div>{label}<p>{escape(note)}</p></div>"
    data = base64.b64encode(clip.path.read_bytes()).decode()
    video = f'<video controls loop muted src="data:video/mp4;base64,{data}"></video>'
    return f"<div>{label}{video}<small>{escape(clip.note)}</small></div>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Palate</title><style>{style}</style></head><body><main>{body}</main></body></html>
"""
_STYLE = """
:root{color-scheme:light dark;--line:#8886;--warn:#D55E00}
body{font:16px/1.5 system-ui,sans-serif;margin:0}main{max-width:980px;margin:auto;padding:1rem}
article{margin:2rem 0}h2{border-bottom:1px solid var(--line);padding-top:1.5rem}
figure{margin:.5rem 0;background:#fff;border-radius:6px;padding:.5rem;overflow-x:auto}
figure svg{max-width:100%;height:auto}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}
td,th{padding:.2rem .6rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
.card{border:1px solid var(--line);border-left:5px solid #808080;border-radius:6px;padding:.5rem 1rem;margin:1rem 0}
.card.good{border-left-color:#0072B2}.card.bad{border-left-color:var(--warn)}
.warning{border:2px solid var(--warn);border-radius:6px;padding:.5rem 1rem;font-weight:600}
.simulated{background:var(--warn);color:#fff;border-radius:4px;padding:0 .4rem;font-size:.8em}
.clips{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:1rem}video{width:100%}
pre{overflow-x:auto;font-size:.8rem}small{display:block;opacity:.8}
"""
