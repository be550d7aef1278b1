"""Reliability as a picture: of so much said to be right, how much was."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workers.evaluation.calibration import Reliability
from workers.evaluation.plots import BETTER, FAINT, STYLE

_OWN = "#9a6700"


def draw(parts: Mapping[str, tuple[Reliability, Reliability]], path: Path) -> None:
    """Write a PNG with a panel for each part; of each what is calibrated, and the model's own word."""
    with rc_context(STYLE):
        figure = Figure((2.9 * len(parts), 3.1), layout="constrained")
        for axes, (name, both) in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts.items(), strict=True):
            _panel(axes, name, *both)
        figure.savefig(path, dpi=110)


def _panel(axes: Axes, name: str, calibrated: Reliability, own: Reliability) -> None:
    axes.set_title(name, loc="left")
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    for one, color, who in ((own, _OWN, "its own word"), (calibrated, BETTER, "calibrated")):
        axes.plot([said for said, _, _ in one.bins], [was for _, was, _ in one.bins], "o-", color=color, label=who)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("said to be right")
    axes.set_ylabel("were right")
    axes.legend(frameon=False, loc="upper left")
