"""The nights of a rehearsal as a picture: what the gate measured each night, and what correcting took each day."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from workers.evaluation.plots import BETTER, FAINT, NEITHER, STYLE, WORSE


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Write a PNG of what `premask rehearse --json` told."""
    nights = report["nights"]
    with rc_context(STYLE):
        figure = Figure((8.6, 3.2), layout="constrained")
        quality, work = figure.subplots(1, 2, width_ratios=[3, 2])
        _quality(quality, nights)
        _work(work, nights)
        for axes in (quality, work):
            axes.set_xlabel("night")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.savefig(path, dpi=110)


def _quality(axes: Axes, nights: Sequence[Mapping[str, Any]]) -> None:
    """Champion and candidate on what each night held out; the bar is the interval of their difference, from the
    champion."""
    axes.set_title("J&F on the night's fresh videos", loc="left")
    axes.set_ylim(0, 1)
    for night in nights:
        fresh = next((suite["all"] for suite in night["held_out"] if suite["role"] == "fresh"), None)
        if fresh is None:
            continue
        at, before, after, gain = night["night"], fresh["champion_jf"], fresh["candidate_jf"], fresh["difference"]
        color = BETTER if night["promoted"] else WORSE
        axes.plot([at - 0.12], [before], "o", color=NEITHER)
        axes.annotate("champion", (at - 0.12, before), (0, -15), textcoords="offset points", color=NEITHER, ha="center")
        error = [[after - before - gain["low"]], [gain["high"] - (after - before)]]
        axes.errorbar([at + 0.12], [after], error, fmt="o", color=color, capsize=3)
        axes.annotate(
            f"{gain['mean']:+.2f}\n{night['state']}", (at + 0.12, after), (8, -6), textcoords="offset points",
            color=color,
        )  # fmt: skip
    axes.set_xlim(0.5, len(nights) + 0.7)


def _work(axes: Axes, nights: Sequence[Mapping[str, Any]]) -> None:
    axes.set_title("What correcting took before it", loc="left")
    days, edits = ([night[name] for night in nights] for name in ("night", "edits_per_task"))
    axes.bar(days, edits, width=0.5, color=FAINT)
    for night in nights:
        told = f"{night['edits_per_task']:.2f}\n{night['accepted']} of {night['clips']}\nleft as is"
        axes.annotate(told, (night["night"], night["edits_per_task"]), (0, 3), textcoords="offset points", ha="center")
    axes.set_ylabel("edits a task")
    axes.set_ylim(0, 1.4 * max(edits) or 1)
