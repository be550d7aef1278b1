"""What single benchmarks count, on top of J and F: DAVIS, ReVOS, MeViS, Ref-AVS, each as its own tool does.

Figures are shares from 0 to 1 and never rounded (ReVOS' and MeViS' tools round each expression's percentage to two
digits before they average).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.evaluation.metrics import FrameScores, Similarity, frame_scores

#: A frame counts as found above this similarity (DAVIS' recall).
_RECALLED = 0.5
_DECAY_PARTS = 4
#: Ref-AVS: precision weighs more than recall, thresholds of the F curve, and the one that makes a mask.
_BETA_SQUARED = 0.3
_THRESHOLDS = 255
_MASK_ABOVE = 0.5
#: In the tools' denominators, where it shows in the seventh digit.
_ROBUSTNESS_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Statistics:
    """Over the frames of an object, or means over objects. `decay`: how much better the first quarter of the frames is
    than the last."""

    mean: float
    recall: float
    decay: float


@dataclass(frozen=True, slots=True)
class Davis:
    j: Statistics
    f: Statistics

    @property
    def jf(self) -> float:
        return (self.j.mean + self.f.mean) / 2


def davis(objects: Iterable[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> Davis:
    """J and F of objects, each (predicted, true) of (T, H, W) bool; means over objects, first and last frame left out.

    As davis2017-evaluation has them in the semi-supervised task, but for its `decay` of more than 257 frames, where the
    quarters' ends overflow eight bits there. Raises `ValueError` where fewer than three frames are given.
    """
    each = [_inner(predicted, true) for predicted, true in objects]
    if not each:
        raise ValueError("there is no object to be scored")
    return Davis(_average([_statistics(s.j) for s in each]), _average([_statistics(s.f) for s in each]))


def _inner(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> FrameScores:
    if len(true) < 3:
        raise ValueError(f"DAVIS leaves out the first and the last frame; of {len(true)} none is left")
    return frame_scores(predicted[1:-1], true[1:-1])


def _statistics(values: NDArray[np.float64]) -> Statistics:
    ends = (np.round(np.linspace(1, len(values), _DECAY_PARTS + 1) + 1e-10) - 1).astype(int)
    first, last = values[ends[0] : ends[1] + 1], values[ends[-2] : ends[-1] + 1]
    return Statistics(float(values.mean()), float((values > _RECALLED).mean()), float(first.mean() - last.mean()))


def _average(each: Sequence[Statistics]) -> Statistics:
    mean, recall, decay = np.mean([(s.mean, s.recall, s.decay) for s in each], axis=0).tolist()
    return Statistics(mean, recall, decay)


def over_expressions(scores: Sequence[Similarity]) -> Similarity:
    """MeViS, and each half of ReVOS: every expression counts once, however long its clip is."""
    if not scores:
        raise ValueError("there is no expression to be scored")
    return Similarity(*np.mean([(score.j, score.f) for score in scores], axis=0).tolist())


def revos_overall(referring: Sequence[Similarity], reasoning: Sequence[Similarity]) -> Similarity:
    """ReVOS' overall: the two halves count the same, however many expressions each has."""
    return over_expressions([over_expressions(referring), over_expressions(reasoning)])


def robustness(
    predicted: NDArray[np.bool_], true: NDArray[np.bool_], foreground: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """ReVOS' R of each frame: 1 − |P ∖ T| / |everything annotated|, at least 0; (T, H, W) bool each.

    Nothing predicted where nothing was asked for is 1. `foreground`: the union of all of the video's annotated objects,
    of which the expression means some, or none.
    """
    wrong = (predicted & ~true).sum((1, 2))
    found: NDArray[np.float64] = np.maximum(1 - wrong / (foreground.sum((1, 2)) + _ROBUSTNESS_EPSILON), 0.0)
    return found


def ref_avs(probabilities: NDArray[np.floating], true: NDArray[np.bool_]) -> Similarity:
    """Ref-AVS' J and F of one expression: (T, H, W) each.

    J is the mean IoU of what is more probable than 0.5; on a frame without a target, the share of pixels left free. F
    has β² = 0.3 and is another figure than the boundaries': precision and recall of pixels at each of 255 thresholds,
    the curve averaged over the frames that have a target, and its largest value taken; 0 where no frame has one.
    """
    predicted = probabilities > _MASK_ABOVE
    shared, either = (predicted & true).sum((1, 2)), (predicted | true).sum((1, 2))
    free = (~predicted).mean((1, 2))
    j = np.where(true.any((1, 2)), shared / np.maximum(either, 1), free)
    curves = [_f_curve(p, t) for p, t in zip(probabilities, true, strict=True) if t.any()]
    return Similarity(float(j.mean()), float(np.mean(curves, axis=0).max()) if curves else 0.0)


def _f_curve(probability: NDArray[np.floating], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(255,) F of the pixels at least as probable as each threshold."""
    passed = np.searchsorted(_thresholds(), probability.astype(np.float32).ravel(), side="right")
    taken = _passing(passed)
    right = _passing(passed[true.ravel()])
    precision, recall = right / np.maximum(taken, 1), right / true.sum()
    weighed = _BETA_SQUARED * precision + recall
    found: NDArray[np.float64] = (1 + _BETA_SQUARED) * precision * recall / np.where(weighed > 0, weighed, 1.0)
    return found


def _passing(passed: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many pixels pass each threshold, from how many thresholds each pixel passes."""
    return np.bincount(passed, minlength=_THRESHOLDS + 1)[::-1].cumsum()[::-1][1:]


def _thresholds() -> NDArray[np.float32]:
    """255 from 0 to 1 in single precision, each rounded once, the upper half counted from its end: `torch.linspace`'s,
    because probabilities lie on them."""
    step, index = float(np.float32(1 / (_THRESHOLDS - 1))), np.arange(_THRESHOLDS)
    return np.where(index < _THRESHOLDS // 2, step * index, 1 - step * index[::-1]).astype(np.float32)


def null_s(predicted: NDArray[np.bool_]) -> float:
    """Ref-AVS' S of an expression that means nothing: √(share of the pixels taken), 0 where none is; (T, H, W) bool."""
    return float(np.sqrt(predicted.mean()))
