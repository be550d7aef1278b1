"""Calibration: from things of which it is known whether they are right to the probability that one is; and how far such
probabilities can be relied on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

from backend.domain.confidence import Calibration, Evidence, log_odds, names_of

#: On weights of standardized evidence: with few wrong tracks the fit must not go to their last detail.
_RIDGE = 3.0
#: Evidence by which the clips hardly differ is taken as if it differed by this much, in log-odds: its weight would
#: otherwise be as large as its spread is small, and throw over the score of the first thing that is unlike them.
_SPREAD_MIN = 0.5
_BINS = 5


@dataclass(frozen=True, slots=True)
class Reliability:
    """`expected_calibration_error`: mean distance of probability and share of right ones over bins of equally many;
    `brier`: mean square of the difference; `auc`: how often a right track is given more than a wrong one. `bins`:
    (mean probability, share right, how many) of each, ascending."""

    expected_calibration_error: float
    brier: float
    auc: float
    bins: tuple[tuple[float, float, int], ...]


def fit(evidence: Sequence[Evidence], right: Sequence[bool], right_iou: float) -> Calibration:
    """Logistic regression with a ridge, by maximum likelihood; no weight is below 0, for evidence speaks for a thing,
    and what is otherwise in few clips is chance. Raises `ValueError` unless there are right and wrong ones."""
    y = np.asarray(right, np.float64)
    if not 0 < y.sum() < len(y):
        raise ValueError("a calibration needs some that are right and some that are wrong")
    names = names_of(type(evidence[0]))
    x = np.array([[log_odds(getattr(one, name)) for name in names] for one in evidence])
    middle, spread = x.mean(0), np.maximum(x.std(0), _SPREAD_MIN)
    z = (x - middle) / spread

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        bias, weights = parameters[0], parameters[1:]
        logits = bias + z @ weights
        error = expit(logits) - y
        value = float(np.logaddexp(0, np.where(y > 0, -logits, logits)).sum() + _RIDGE / 2 * weights @ weights)
        return value, np.concatenate([[error.sum()], z.T @ error + _RIDGE * weights])

    bounds = [(None, None), *[(0.0, None)] * len(names)]
    found = minimize(loss, np.zeros(len(names) + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    weights = found[1:] / spread
    bias = float(found[0] - weights @ middle)
    return Calibration(round(bias, 4), {n: round(float(w), 4) for n, w in zip(names, weights, strict=True)}, right_iou)


def reliability(probabilities: Sequence[float], right: Sequence[bool]) -> Reliability:
    """Raises `ValueError` unless there are right and wrong ones."""
    p, y = np.asarray(probabilities, np.float64), np.asarray(right, np.float64)
    positives = int(y.sum())
    if not 0 < positives < len(y):
        raise ValueError("there must be some that are right and some that are wrong")
    ranks = rankdata(p)
    auc = (ranks[y > 0].sum() - positives * (positives + 1) / 2) / (positives * (len(y) - positives))
    bins = [
        (float(p[part].mean()), float(y[part].mean()), len(part))
        for part in np.array_split(np.argsort(p, kind="stable"), min(_BINS, len(p)))
    ]
    error = sum(count * abs(said - was) for said, was, count in bins) / len(p)
    return Reliability(error, float(np.mean((p - y) ** 2)), float(auc), tuple(bins))
