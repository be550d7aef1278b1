"""Confidence: what speaks for a track, a box and a mask, and how likely each is right by that.

Evidence is what the three models say of themselves and of each other; a `Calibration`, measured for one set of weights,
makes a probability of it. Nobody's own figure is one: SAM2's estimate of a mask's IoU knows nothing of whether the
right thing was named.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

#: A share of 0 or 1 says no more than this.
_CLIP = 1e-3
#: What speaks neither for nor against; results from before something was noted have it.
UNKNOWN = 0.5


@dataclass(frozen=True, slots=True)
class TrackEvidence:
    """Of one track, all in 0..1.

    `said`, `said_lowest`: System 1's answer, the geometric mean and the least of its tokens' probabilities; `named`,
    `named_lowest`: System 2's answers on the keyframes that name the track, the means of the same two; `seen`,
    `seen_low`: SAM2's estimate of its masks' IoU, mean and 10th percentile over the frames on which it is visible;
    `agreed`: the IoU of the masks that neighbouring keyframes lead to, on those keyframes that both were carried to,
    0.5 where one alone names the track; `supported`: of the keyframes that show the track, the share that names it;
    `present`: how likely SAM2 thinks that there is anything to see, the mean over the same frames.
    """

    said: float
    said_lowest: float
    named: float
    named_lowest: float
    seen: float
    seen_low: float
    agreed: float
    supported: float
    present: float = UNKNOWN


@dataclass(frozen=True, slots=True)
class BoxEvidence:
    """Of one box on a keyframe, all in 0..1.

    `said`, `said_lowest`, `named`, `named_lowest` as of a track, the latter two of this keyframe's answer; `seen`:
    SAM2's estimate of the box's mask on the keyframe; `filled`: the IoU of the box with that mask's own; `agreed`: the
    greatest IoU of that mask with those to which boxes of other keyframes were carried there, 0.5 where none was;
    `present`: how likely SAM2 thinks that there is anything to see on the keyframe.
    """

    said: float
    said_lowest: float
    named: float
    named_lowest: float
    seen: float
    filled: float
    agreed: float
    present: float = UNKNOWN


@dataclass(frozen=True, slots=True)
class FrameEvidence:
    """Of a track's mask on one frame, all in 0..1.

    `track`: how likely the track is right; `seen`: SAM2's estimate of the mask's IoU; `near`: 1 / (1 + seconds to the
    nearest keyframe that names the track); `steady`: the lesser of its area and that of the mask on the frame before
    over the greater, 0.5 where there is none on that frame; `present`: how likely SAM2 thinks that there is anything to
    see.
    """

    track: float
    seen: float
    near: float
    steady: float
    present: float = UNKNOWN


Evidence = TrackEvidence | BoxEvidence | FrameEvidence


@dataclass(frozen=True, slots=True)
class Calibration:
    """A logistic regression on the evidence's log-odds: the probability of an IoU with the truth of at least
    `right_iou` (of a track, of its mean over all frames)."""

    bias: float
    weights: Mapping[str, float]
    right_iou: float

    def probability(self, evidence: Evidence) -> float:
        total = self.bias + sum(weight * log_odds(getattr(evidence, name)) for name, weight in self.weights.items())
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))


@dataclass(frozen=True, slots=True)
class Confidence:
    """What makes probabilities of all three."""

    track: Calibration
    box: Calibration
    frame: Calibration


def told(evidence: Evidence) -> dict[str, float]:
    """By name, as it is kept."""
    return {name: round(value, 4) for name, value in asdict(evidence).items()}


def names_of(kind: type[Evidence]) -> list[str]:
    """What speaks for a thing of that kind."""
    return [field.name for field in fields(kind)]


def log_odds(share: float) -> float:
    """Of a share in 0..1, which are taken for a thousandth off."""
    inside = min(max(share, _CLIP), 1 - _CLIP)
    return math.log(inside / (1 - inside))
