"""Figures with their uncertainty: a 95% interval beside every mean and every share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_Z = 1.959964
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` of `n` clips, and the ends of its 95% interval; all None where n is 0."""

    value: float | None
    low: float | None
    high: float | None
    n: int

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def share(hits: Sequence[bool]) -> Figure:
    """A share of yes and no, with Wilson's score interval (honest near 0 and 1, where the normal one is not)."""
    n = len(hits)
    if n == 0:
        return Figure(None, None, None, 0)
    p = sum(hits) / n
    center = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n)) / (1 + _Z**2 / n)
    return Figure(round(p, 4), round(max(0.0, center - half), 4), round(min(1.0, center + half), 4), n)


def mean(values: Sequence[float], seed: int = 0) -> Figure:
    """A mean over clips, with the percentile interval of a bootstrap over them."""
    n = len(values)
    if n == 0:
        return Figure(None, None, None, 0)
    array = np.asarray(values, float)
    draws = np.random.default_rng(seed).integers(0, n, (_RESAMPLES, n))
    low, high = np.percentile(array[draws].mean(1), [2.5, 97.5])
    return Figure(round(float(array.mean()), 4), round(float(low), 4), round(float(high), 4), n)
