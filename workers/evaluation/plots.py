"""How our plots look: one hand for verdicts, nights and reliability."""

from typing import Any

BETTER, WORSE, NEITHER, INK, FAINT = "#1a7f37", "#b42318", "#57606a", "#1f2328", "#d0d7de"
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": FAINT, "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
}  # fmt: skip
