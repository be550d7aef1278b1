"""How a training goes, read off its `metrics.jsonl` by somebody who doesn't run it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backend.ports.registry import Curves

#: The KL that a candidate is known by is the mean over so many last steps.
_KL_STEPS = 20
_TOLD = ("reward", "kl", "entropy", "length", "seconds")


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows that are whole."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def figures(written: Sequence[dict[str, Any]], steps: int) -> dict[str, Any]:
    """What there is to see: step, of how many, the last row, and the held-out scores first and last."""
    trained = [row for row in written if "held_out" not in row]
    measured = [row for row in written if "held_out" in row]
    found: dict[str, Any] = {"step": trained[-1]["step"] if trained else 0, "steps": steps}
    if trained:
        found |= {name: trained[-1][name] for name in _TOLD if trained[-1].get(name) is not None}
    if measured:
        found |= {"held_out_first": measured[0]["held_out"], "held_out_last": measured[-1]["held_out"]}
    return found


def mean_kl(written: Sequence[dict[str, Any]]) -> float | None:
    """Nats a token away from the base over the last steps; None where it wasn't measured."""
    values = [row["kl"] for row in written if row.get("kl") is not None][-_KL_STEPS:]
    return sum(values) / len(values) if values else None


def curves(name: str, written: Sequence[dict[str, Any]], parameters: dict[str, str]) -> Curves:
    """As the registry shows them: each figure of the steps, and each of the held-out measurements."""
    values: dict[str, list[tuple[int, float]]] = {}
    for row in written:
        measured = {f"held_out_{part}": value for part, value in row.get("held_out", {}).items()}
        for part, value in {**row, **measured}.items():
            if part != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                values.setdefault(part, []).append((row["step"], float(value)))
    return Curves(name, parameters, values)
