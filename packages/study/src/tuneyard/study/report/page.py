"""report.html: one file that opens offline, light and dark, with its charts inside it and no script at all."""

from __future__ import annotations

import os
import re
from html import escape
from pathlib import Path
from urllib.parse import quote

from tuneyard.study.report.content import Content
from tuneyard.study.report.figures import Figure
from tuneyard.study.report.wording import MINUS, NONE

# Eight colours that stay apart for readers who do not see red and green, each a little lighter on dark paper.
STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f24;--soft:#5b6570;--rule:#d9dee3;--faint:#f4f6f8;--link:#0b5cad;
--heat:#0b5cad;--c0:#0b62a8;--c1:#c75000;--c2:#00795c;--c3:#a64d86;--c4:#8a6d00;--c5:#2b8cc4;--c6:#8b1a1a;--c7:#555}
@media (prefers-color-scheme:dark){:root{--paper:#14171a;--ink:#e6e9ec;--soft:#9aa5b0;--rule:#333a41;--faint:#1c2024;
--link:#6cb2f5;--heat:#4f9fe6;--c0:#5aa9ee;--c1:#f08a3e;--c2:#3cc29c;--c3:#dd90bd;--c4:#dcc04a;--c5:#8fd0f2;--c6:#ee7d7d;
--c7:#b5b5b5}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2.5rem 1.25rem 4rem;max-width:66rem;background:var(--paper);color:var(--ink);
font:16px/1.55 "Charter","Iowan Old Style","Source Serif 4",Georgia,serif}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .25rem}
h2{font-size:1.2rem;margin:2.4rem 0 .6rem;padding-bottom:.2rem;border-bottom:1px solid var(--rule)}
h3{font-size:1rem;margin:1.4rem 0 .4rem}
p{margin:.5rem 0}
.by,.note,figcaption,.legend,th,caption{color:var(--soft)}
.by{margin-bottom:1.2rem}
.question{font-size:1.12rem}
a{color:var(--link)}
ul{padding-left:1.2rem;margin:.4rem 0}
li{margin:.25rem 0}
.wide{overflow-x:auto}
table{border-collapse:collapse;font:13.5px/1.4 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
font-variant-numeric:tabular-nums;width:100%;margin:.5rem 0 1rem}
th{font-weight:600;text-align:left;border-bottom:1.5px solid var(--ink);vertical-align:bottom}
th,td{padding:.3rem .8rem .3rem 0;text-align:left}
code{font:.88em ui-monospace,"DejaVu Sans Mono",monospace}
table.data{width:auto;min-width:60%} table.data td{white-space:nowrap}
td{border-bottom:1px solid var(--rule);vertical-align:top}
table td.n,table th.n{text-align:right}
td.t{white-space:nowrap}
figure{margin:1.2rem 0 1.8rem;break-inside:avoid}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(26rem,100%),1fr));gap:0 1.5rem}
svg{width:100%;height:auto;display:block}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:var(--soft);
font-variant-numeric:tabular-nums}
svg .label{fill:var(--ink)} svg .value{fill:var(--ink);font-size:13px} svg .over{fill:var(--paper)}
.grid{stroke:var(--rule);stroke-width:.7} .axis{stroke:var(--ink)} .base{stroke:var(--ink);stroke-dasharray:5 4}
.series{fill:none;stroke-width:1.5;stroke-opacity:.85}
.d1{stroke-dasharray:6 3} .d2{stroke-dasharray:2 3} .d3{stroke-dasharray:8 3 2 3}
.error{fill:none;stroke-width:1.6} .seed{fill:none;stroke-width:1.3}
.cell{fill:var(--heat)}
COLOURS
.legend{font:13px system-ui,sans-serif;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;margin:.2rem 0 .2rem 3.2rem}
.legend i{display:inline-block;width:1.4em;height:0;border-top:3px solid;vertical-align:middle;margin-right:.4em}
figcaption{font-size:.9rem;margin:.3rem 0 0 3.2rem}
details summary{cursor:pointer;color:var(--link)}
@media print{body{max-width:none;padding:0} a{color:inherit;text-decoration:none}
:root{--paper:#fff;--ink:#000;--soft:#444;--rule:#bbb;--heat:#0b5cad}}
"""


_CODE = re.compile(r"`([^`]+)`")


def _style() -> str:
    colours = "".join(
        f"svg .c{n}{{stroke:var(--c{n})}}svg .mean.c{n}{{fill:var(--c{n})}}.legend .c{n}{{border-color:var(--c{n})}}"
        for n in range(8)
    )
    return STYLE.replace("COLOURS", colours).strip()


def page(content: Content, runs: Path, place: Path, files: tuple[str, ...]) -> str:
    """The report as HTML.

    Args:
        content: what it says.
        runs: the folder of all runs, for links.
        place: the folder that the page is written to; links are relative to it.
        files: names of the data files beside it.
    """
    links = _Links(runs, place)
    about = content.about
    body = [
        f"<h1>{escape(about.name)}</h1>",
        _by(content),
        *(f'<p class="question"><b>{name}.</b> {escape(text)}</p>' for name, text in _asked(content)),
        f"<p>{escape(about.notes.strip())}</p>" if about.notes.strip() else "",
        f"<p>{escape(content.counts)}.</p>",
        f"<h2>What was found</h2>{_list(content.findings)}",
        f"<h3>What limits it</h3>{_list(content.cautions)}" if content.cautions else "",
        "<h2>Scores</h2>" if content.score_tables else "",
        *(f"<h3>{escape(title)}</h3>{_table(head, rows, kind='data')}" for title, head, rows in content.score_tables),
        _figures(content.figures),
        f"<h2>Design</h2>{_table((), content.design)}",
        _matrix(content, links),
        f"<h2>Cost</h2>{_table(('', 'runs', 'wall time', 'devices'), content.cost)}",
        _failures(content, links),
        f"<h2>Environment</h2>{''.join(_environment(title, facts) for title, facts in content.environments)}",
        f"<h2>How the numbers were made</h2>{_list(content.method)}",
        _files(files),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(about.name)}</title>\n<style>\n{_style()}\n</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


class _Links:
    """Addresses of runs, relative to the page."""

    def __init__(self, runs: Path, place: Path) -> None:
        self._runs = quote(os.path.relpath(runs, place))

    def __call__(self, text: str, run: str | None) -> str:
        if run is None:
            return escape(text)
        return f'<a href="{self._runs}/{quote(run)}/">{escape(text)}</a>'


def _asked(content: Content) -> list[tuple[str, str]]:
    about = content.about
    return [(name, text) for name, text in (("Question", about.question), ("Hypothesis", about.hypothesis)) if text]


def _by(content: Content) -> str:
    about = content.about
    parts = [about.researcher, about.date, " ".join(f"#{tag}" for tag in about.tags), f"report of {content.made}"]
    return f'<p class="by">{escape(" · ".join(part for part in parts if part))}</p>'


def _list(texts: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{_marked(text)}</li>" for text in texts) + "</ul>"


def _marked(text: str) -> str:
    """A text with what stands between backticks as code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _table(head, rows, cells=None, kind: str = "plain") -> str:
    """A table; `cells` turns a row's number and cells into HTML where escaping is not all."""
    numeric = _numeric(rows)
    top = "".join(f"<th{_class(n in numeric)}>{escape(str(text))}</th>" for n, text in enumerate(head))
    made = []
    for number, row in enumerate(rows):
        inside = cells(number, row) if cells else [escape(str(cell)) for cell in row]
        made.append(
            "<tr>" + "".join(f"<td{_class(n in numeric)}>{cell}</td>" for n, cell in enumerate(inside)) + "</tr>"
        )
    thead = f"<thead><tr>{top}</tr></thead>" if head else ""
    return f'<div class="wide"><table class="{kind}">{thead}<tbody>{"".join(made)}</tbody></table></div>'


def _class(numeric: bool) -> str:
    return ' class="n"' if numeric else ""


def _numeric(rows) -> set[int]:
    """Columns in which every cell is a number."""
    columns = list(zip(*rows, strict=True)) if rows else []
    return {n for n, column in enumerate(columns) if all(_is_number(str(cell)) for cell in column)}


def _is_number(text: str) -> bool:
    try:
        float(text.replace(MINUS, "-").replace("< ", "").replace(",", ""))
    except ValueError:
        return text == NONE
    return True


def _figures(figures: list[Figure]) -> str:
    if not figures:
        return ""
    made = [_figure(number, figure) for number, figure in enumerate(figures, 1)]
    return f'<h2>Figures</h2><div class="pair">{"".join(made)}</div>'


def _figure(number: int, figure: Figure) -> str:
    keys = "".join(f'<span><i class="c{colour}"></i>{escape(text)}</span>' for colour, text in figure.legend)
    legend = f'<div class="legend">{keys}</div>' if keys else ""
    caption = f"<figcaption><b>Figure {number}.</b> {escape(figure.caption)}</figcaption>"
    return f'<figure class="{figure.kind}">{figure.svg}{legend}{caption}</figure>'


def _matrix(content: Content, links: _Links) -> str:
    head, rows = content.matrix
    table = _table(
        head, rows, lambda n, row: [links(row[0], content.runs[n]), *(escape(str(cell)) for cell in row[1:])], "data"
    )
    more = f'<p class="note">{content.unlisted:,} more in results.csv.</p>' if content.unlisted else ""
    if len(rows) <= 40:
        return f"<h3>Runs</h3>{table}{more}"
    return f"<details><summary>All {len(rows):,} runs</summary>{table}{more}</details>"


def _failures(content: Content, links: _Links) -> str:
    head, rows = content.failures
    retried = _list(content.retried) if content.retried else ""
    if not rows:
        return f"<h2>Failures</h2><p>None.</p>{retried}"
    table = _table(
        head, rows, lambda n, row: [links(row[0], content.failed_runs[n]), *(escape(str(cell)) for cell in row[1:])]
    )
    return f"<h2>Failures</h2>{table}{retried}"


def _environment(title: str, facts: list[tuple[str, str]]) -> str:
    return f"<details open><summary>{escape(title)}</summary>{_table((), facts)}</details>"


def _files(names: tuple[str, ...]) -> str:
    links = ", ".join(f'<a href="{quote(name)}">{escape(name)}</a>' for name in names)
    return f'<p class="note">The same as text and as data: {links}.</p>'
