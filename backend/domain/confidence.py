"""Confidence: what speaks for a track, and how likely it is right by that.

`Evidence` is what the three models say of themselves and of each other; `Calibration`, measured for one set of weights,
makes a probability of it. Nobody's own figure is one: SAM2's estimate of a mask's IoU knows nothing of whether the
right thing was named.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

#: A share of 0 or 1 says no more than this.
_CLIP = 1e-3


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of one track, all in 0..1.

    `said`, `said_lowest`: System 1's answer, the geometric mean and the least of its tokens' probabilities; `named`,
    `named_lowest`: System 2's answers on the keyframes that name the track, the means of the same two; `seen`,
    `seen_low`: SAM2's estimate of its masks' IoU, mean and 10th percentile over the frames on which it is visible;
    `agreed`: the IoU of the masks that neighbouring keyframes lead to, on those keyframes, 0.5 where one alone names
    the track; `supported`: of the keyframes that show the track, the share that names it.
    """

    said: float
    said_lowest: float
    named: float
    named_lowest: float
    seen: float
    seen_low: float
    agreed: float
    supported: float

    def to_dict(self) -> dict[str, float]:
        return {name: round(value, 4) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Calibration:
    """A logistic regression on the evidence's log-odds: the probability that a person would leave the track as it is
    (mean IoU with the truth over all frames of at least `right_iou`)."""

    bias: float
    weights: Mapping[str, float]
    right_iou: float = 0.75

    def probability(self, evidence: Evidence) -> float:
        given = asdict(evidence)
        total = self.bias + sum(weight * log_odds(given[name]) for name, weight in self.weights.items())
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))


def log_odds(share: float) -> float:
    """Of a share in 0..1, which are taken for a thousandth off."""
    inside = min(max(share, _CLIP), 1 - _CLIP)
    return math.log(inside / (1 - inside))
