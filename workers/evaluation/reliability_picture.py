"""Reliability as a picture: of so much said to be right, how much was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workers.evaluation.calibration import Reliability

_CALIBRATED, _OWN, _INK, _FAINT = "#1a7f37", "#9a6700", "#1f2328", "#d0d7de"
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": _FAINT, "text.color": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
}  # fmt: skip


def draw(parts: Mapping[str, tuple[Reliability, Reliability]], path: Path) -> None:
    """Write a PNG with a panel for each part; of each what is calibrated, and the model's own word."""
    with rc_context(_STYLE):
        figure = Figure((2.9 * len(parts), 3.1), layout="constrained")
        for axes, (name, both) in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts.items(), strict=True):
            _panel(axes, name, *both)
        figure.savefig(path, dpi=110)


def _panel(axes: Axes, name: str, calibrated: Reliability, own: Reliability) -> None:
    axes.set_title(name, loc="left")
    axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=1)
    for one, color, who in ((own, _OWN, "its own word"), (calibrated, _CALIBRATED, "calibrated")):
        axes.plot([said for said, _, _ in one.bins], [was for _, was, _ in one.bins], "o-", color=color, label=who)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("said to be right")
    axes.set_ylabel("were right")
    axes.legend(frameon=False, loc="upper left")
