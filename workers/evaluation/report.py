"""A verdict as a page: one HTML file with its plots inside, that needs nothing from elsewhere.

The figures are the verdict's own; nothing is computed here.
"""

import io
from collections.abc import Sequence
from html import escape
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from workers.evaluation.gate import Check, Comparison, SuiteFigures, Verdict
from workers.evaluation.plots import BETTER, FAINT, INK, NEITHER, STYLE, WORSE

_ROW_IN, _HEAD_IN, _WIDTH_IN = 0.28, 1.0, 8.6
#: Text stays text, so that it can be read and searched; the same verdict gives the same bytes.
_SVG: dict[Any, Any] = {**STYLE, "svg.fonttype": "none", "svg.hashsalt": "premask", "xtick.color": NEITHER}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.passed { color: #1a7f37 } .failed { color: #b42318 } .open { color: #57606a }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #d0d7de; vertical-align: top }
th { font-weight: 600 } td.n, th.n { text-align: right; white-space: nowrap }
code { font-size: .85em } .whole td { font-weight: 600 } svg { max-width: 100%; height: auto }
.plots { display: flex; flex-wrap: wrap; gap: 1rem } p.note { color: #57606a; font-size: .9em }
"""


def page(verdict: Verdict) -> str:
    """The whole page."""
    word, kind = ("may be promoted", "passed") if verdict.passed else ("is refused", "failed")
    limits = ", ".join(f"{name} {value:g}" for name, value in verdict.limits.items())
    parts = [
        f"<h1 class={kind}>The candidate {word}</h1>",
        f"<p>Candidate <code>{verdict.candidate[:12]}</code>, champion <code>{verdict.champion[:12]}</code>, "
        f"verdict <code>{verdict.digest[:12]}</code>.</p>",
        "".join(f"<p class=failed>{escape(reason)}.</p>" for reason in verdict.reasons),
        _checks(verdict.checks),
        "<h2>Candidate minus champion, J&amp;F</h2>",
        _forest(verdict),
        "<p class=note>Means over source videos, paired; bars are bootstrap intervals over the videos. Dotted: what a "
        "regression suite may lose.</p>",
        "<h2>Item by item</h2>",
        f"<div class=plots>{''.join(_scatter(suite) for suite in verdict.suites)}</div>",
        *(_table(suite) for suite in verdict.suites),
        f"<p class=note>Limits: {escape(limits)}.</p>",
    ]
    title = f"Verdict {verdict.digest[:12]}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
        f"<body>{''.join(parts)}</body></html>"
    )


def _checks(checks: Sequence[Check]) -> str:
    words = {True: ("passed", "passed"), False: ("failed", "failed"), None: ("not measured", "open")}
    rows = "".join(
        f"<tr><td class={words[check.passed][1]}>{words[check.passed][0]}</td><td>{escape(check.name)}</td>"
        f"<td>{escape(check.said)}</td></tr>"
        for check in checks
    )
    return f"<table><tr><th>check</th><th></th><th>found</th></tr>{rows}</table>"


def _table(suite: SuiteFigures) -> str:
    rows = [_row("all", suite.whole, " class=whole")]
    if len(suite.groups) > 1:
        rows += [_row(group, compared) for group, compared in suite.groups.items()]
    heads = "<th></th>" + "".join(f"<th class=n>{h}</th>" for h in ("videos", "champion", "candidate", "difference"))
    return f"<h2>{escape(suite.name)} ({suite.role})</h2><table><tr>{heads}</tr>{''.join(rows)}</table>"


def _row(name: str, compared: Comparison, attributes: str = "") -> str:
    found = compared.difference
    interval = f"{found.mean:+.4f} <span class=open>({found.low:+.4f} to {found.high:+.4f})</span>"
    cells = (str(found.videos), f"{compared.champion_jf:.4f}", f"{compared.candidate_jf:.4f}", interval)
    return f"<tr{attributes}><td>{escape(name)}</td>{''.join(f'<td class=n>{cell}</td>' for cell in cells)}</tr>"


def _forest(verdict: Verdict) -> str:
    """A row for each suite, and under it one for each of its groups."""
    rows: list[tuple[str, Comparison, bool]] = []
    for suite in verdict.suites:
        rows.append((f"{suite.name} ({suite.role})", suite.whole, True))
        if len(suite.groups) > 1:
            rows += [(group, compared, False) for group, compared in suite.groups.items()]
    with rc_context(_SVG):
        figure = Figure((_WIDTH_IN, _HEAD_IN + _ROW_IN * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.axvline(-float(verdict.limits["epsilon"]), color=WORSE, linewidth=0.8, linestyle=":")
        for place, (_, compared, whole) in enumerate(rows):
            found = compared.difference
            color = BETTER if found.low > 0 else WORSE if found.high < 0 else NEITHER
            axes.plot((found.low, found.high), (place, place), color=color, linewidth=3 if whole else 1.5)
            axes.plot(found.mean, place, "o", color=color, markersize=7 if whole else 4)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        for label, (_, _, whole) in zip(axes.get_yticklabels(), rows, strict=True):
            label.set_fontweight("bold" if whole else "normal")
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("difference of J&F")
        return _svg(figure)


def _scatter(suite: SuiteFigures) -> str:
    with rc_context(_SVG):
        figure = Figure((_WIDTH_IN / 2, _WIDTH_IN / 2), layout="constrained")
        axes = figure.subplots()
        before, after = [item[2] for item in suite.items], [item[3] for item in suite.items]
        colors = [BETTER if b < a else WORSE if a < b else NEITHER for b, a in zip(before, after, strict=True)]
        axes.plot((0, 1), (0, 1), color=FAINT, linewidth=1, zorder=0)
        axes.scatter(before, after, s=14, c=colors, alpha=0.55, linewidths=0)
        axes.set(
            xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="champion, J&F", ylabel="candidate, J&F", aspect="equal"
        )
        better, worse = (sum(sign * (a - b) > 0 for b, a in zip(before, after, strict=True)) for sign in (1, -1))
        axes.set_title(f"{suite.name}\n{better} better, {worse} worse of {len(before)}", fontsize=9, loc="left")
        return _svg(figure)


def _svg(figure: Figure) -> str:
    """The picture alone, without the declaration that a file of its own would begin with."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
