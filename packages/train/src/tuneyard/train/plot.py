"""artifacts/loss.png: the loss while training, and where it was measured on other data."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

Point = tuple[float, float]

SMOOTHED_FROM = 40
"""Points from which on a second, smoothed line is drawn."""


def curve(history: Sequence[dict[str, Any]], name: str) -> list[Point]:
    """(step, value) of every entry of a trainer's log that has `name`; the last one of each step counts."""
    return sorted({entry["step"]: entry[name] for entry in history if name in entry and "step" in entry}.items())


def smoothed(points: Sequence[Point]) -> list[Point]:
    """The mean of each point and its neighbours, a fifteenth of all to either side.

    Near the start as many to one side as to the other, so that a curve which falls is not drawn above itself.
    """
    reach = max(1, len(points) // 15)
    sums = [0.0, *accumulate(value for _, value in points)]
    line = []
    for place, (step, _) in enumerate(points):
        first, last = place - min(place, reach), min(place + min(place, reach), len(points) - 1)
        line.append((step, (sums[last + 1] - sums[first]) / (last + 1 - first)))
    return line


def plot_loss(history: Sequence[dict[str, Any]], file: Path, title: str) -> bool:
    """Draw the losses in a trainer's log as a PNG; False, and nothing drawn, where it has none.

    Args:
        history: `log_history` of trainer_state.json.
        file: the picture.
        title: stands above it.
    """
    losses = curve(history, "loss")
    if not losses:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(*zip(*losses, strict=True), color="#9ecae1", linewidth=1, label="loss")
    if len(losses) >= SMOOTHED_FROM:
        axes.plot(*zip(*smoothed(losses), strict=True), color="#08519c", linewidth=1.8, label="loss, smoothed")
    for name, color in zip(_measured(history), ("#e6550d", "#31a354", "#756bb1"), strict=False):
        axes.plot(*zip(*curve(history, name), strict=True), "o-", color=color, markersize=4, label=_spoken(name))
    axes.set(title=title, xlabel="step", ylabel="loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=120)
    return True


def _measured(history: Sequence[dict[str, Any]]) -> list[str]:
    """eval_loss, or one such name for each dataset that is measured."""
    return sorted({name for entry in history for name in entry if name.startswith("eval_") and name.endswith("_loss")})


def _spoken(name: str) -> str:
    dataset = name.removeprefix("eval_").removesuffix("loss").strip("_")
    return f"loss on {dataset}" if dataset else "loss on held-out data"
