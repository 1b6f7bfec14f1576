"""Charts as inline SVG: lines, points with error bars, a heat map. Colours are classes: a page can turn dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 480, 290
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 12, 46
ROW = 44
"""Height of a row of a heat map."""

COLOURS = 8
"""Classes c0 to c7 of the page."""


@dataclass(frozen=True)
class Line:
    """A series of points."""

    points: Sequence[tuple[float, float]]
    colour: int
    title: str
    dashed: int = 0
    """0 for a whole line, else one of three patterns: for readers who do not tell the colours apart."""


@dataclass(frozen=True)
class Bar:
    """A mean with its interval, and the values it was made of."""

    label: str
    mean: float
    interval: tuple[float, float] | None
    values: Sequence[float] = ()
    title: str = ""
    colour: int = 0


@dataclass(frozen=True)
class Scale:
    """From a value to a place on the page."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(v) for v in (self.low, self.high, value)) if self.log else (
            self.low, self.high, value)  # fmt: skip
        share = 0.5 if high == low else (value - low) / (high - low)
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between two, about so many."""
    if not math.isfinite(low) or not math.isfinite(high) or high <= low:
        return [low]
    raw = (high - low) / about
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A number as an axis shows it: no more digits than it needs."""
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.10g}" if abs(value) >= 100 else f"{value:.4g}"


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = (high - low) * 0.06 or abs(high) * 0.1 or 0.05
    return low - pad, high + pad


def _svg(title: str, body: Sequence[str], height: int = HEIGHT, width: int = WIDTH) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title, quote=True)}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>{"".join(body)}</svg>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "middle", kind: str = "tick", turn: bool = False) -> str:
    turned = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turned}>{escape(text)}</text>'


def _frame(y: Scale, x_label: str, y_label: str, height: int = HEIGHT) -> list[str]:
    """Horizontal grid lines with their numbers, the x axis, and both labels."""
    parts = []
    for value in ticks(y.low, y.high):
        place = y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>')
        parts.append(_text(LEFT - 8, place + 4, number(value), anchor="end"))
    bottom = height - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, height - 8, x_label, kind="label"))
    parts.append(_text(15, (TOP + bottom) / 2, y_label, kind="label", turn=True))
    return parts


def lines_chart(lines: Sequence[Line], title: str, x_label: str, y_label: str) -> str:
    """Lines over a common x axis that starts at its least value."""
    points = [point for line in lines for point in line.points if all(map(math.isfinite, point))]
    if not points:
        return ""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    x = Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    y = Scale(*_padded(min(ys), max(ys)), HEIGHT - BOTTOM, TOP)
    body = _frame(y, x_label, y_label)
    body += [_text(x(value), HEIGHT - BOTTOM + 18, number(value)) for value in ticks(x.low, x.high, 6)]
    body += [_line(line, x, y) for line in lines]
    return _svg(title, body)


def _line(line: Line, x: Scale, y: Scale) -> str:
    kept = [(x(a), y(b)) for a, b in line.points if math.isfinite(a) and math.isfinite(b)]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in kept)
    name = f"series c{line.colour % COLOURS} d{line.dashed}"
    return f'<polyline class="{name}" points="{path}"><title>{escape(line.title)}</title></polyline>'


def bars_chart(
    bars: Sequence[Bar], title: str, x_label: str, y_label: str, baseline: tuple[str, float] | None = None
) -> str:
    """Means with error bars at equal distances, single values beside them, a dashed line for the baseline."""
    if not bars:
        return ""
    ys = [v for bar in bars for v in (bar.mean, *(bar.interval or ()), *bar.values)]
    ys += [baseline[1]] if baseline else []
    y = Scale(*_padded(min(ys), max(ys)), HEIGHT - BOTTOM, TOP)
    step = (WIDTH - LEFT - RIGHT) / len(bars)
    body = _frame(y, x_label, y_label)
    if baseline:
        place = y(baseline[1])
        body.append(f'<line class="base" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>')
        body.append(_text(WIDTH - RIGHT - 2, place - 5, baseline[0], anchor="end"))
    every = max(1, math.ceil(len(bars) / 16))
    for place, bar in enumerate(bars):
        centre = LEFT + (place + 0.5) * step
        body.append(_bar(bar, centre, min(26.0, step / 4), y))
        if place % every == 0:
            body.append(_text(centre, HEIGHT - BOTTOM + 18, shortened(bar.label, max(6, int(step / 6)))))
    return _svg(title, body)


def _bar(bar: Bar, x: float, reach: float, y: Scale) -> str:
    colour = f"c{bar.colour % COLOURS}"
    parts = [f"<g><title>{escape(bar.title or bar.label)}</title>"]
    if bar.interval:
        low, high = (y(value) for value in bar.interval)
        cap = reach / 3
        parts.append(
            f'<path class="error {colour}" d="M{x:.1f} {low:.1f}V{high:.1f}'
            f'M{x - cap:.1f} {low:.1f}h{2 * cap:.1f}M{x - cap:.1f} {high:.1f}h{2 * cap:.1f}"/>'
        )
    for n, value in enumerate(bar.values):
        aside = x + reach * (0.55 + 0.45 * (n / max(1, len(bar.values) - 1)))
        parts.append(f'<circle class="seed {colour}" cx="{aside:.1f}" cy="{y(value):.1f}" r="3"/>')
    parts.append(f'<circle class="mean {colour}" cx="{x:.1f}" cy="{y(bar.mean):.1f}" r="4.5"/></g>')
    return "".join(parts)


def shortened(text: str, most: int) -> str:
    """A text with its middle left out where it is too long."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


@dataclass(frozen=True)
class Cell:
    """One field of a heat map."""

    column: int
    row: int
    value: float
    title: str = ""


@dataclass(frozen=True)
class Grid:
    """A heat map: two lists of labels, and a value where there is one."""

    columns: Sequence[str]
    rows: Sequence[str]
    cells: Sequence[Cell] = field(default_factory=list)


def heat_map(grid: Grid, title: str, x_label: str, y_label: str, show: Callable[[float], str]) -> str:
    """A field per pair of values, its number written in it; stronger is higher."""
    if not grid.cells:
        return ""
    left = LEFT + 8 * max(0, max(map(len, grid.rows)) - 5)
    height = TOP + ROW * len(grid.rows) + BOTTOM
    side = (WIDTH - left - RIGHT) / len(grid.columns)
    shade = Scale(min(c.value for c in grid.cells), max(c.value for c in grid.cells), 0.0, 1.0)
    body = [_cell(cell, left + cell.column * side, side, (shade(cell.value), show(cell.value))) for cell in grid.cells]
    body += [
        _text(left + (n + 0.5) * side, height - BOTTOM + 18, shortened(label, max(5, int(side / 7))))
        for n, label in enumerate(grid.columns)
    ]
    body += [_text(left - 8, TOP + (n + 0.5) * ROW + 4, label, anchor="end") for n, label in enumerate(grid.rows)]
    body.append(_text((left + WIDTH - RIGHT) / 2, height - 8, x_label, kind="label"))
    body.append(_text(15, (TOP + height - BOTTOM) / 2, y_label, kind="label", turn=True))
    return _svg(title, body, height)


def _cell(cell: Cell, x: float, side: float, shown: tuple[float, str]) -> str:
    share, text = shown
    y = TOP + cell.row * ROW
    kind = "value over" if share > 0.55 else "value"
    return (
        f'<g><title>{escape(cell.title)}</title><rect class="cell" x="{x + 1:.1f}" y="{y + 1:.1f}" '
        f'width="{side - 2:.1f}" height="{ROW - 2:.1f}" fill-opacity="{0.08 + 0.92 * share:.3f}"/>'
        f"{_text(x + side / 2, y + ROW / 2 + 5, text, kind=kind)}</g>"
    )
