"""The rewards of Omni-R1 (arXiv 2505.20256, appendix B): what an answer of System 1 is worth.

Pure functions: of a completion, of the keyframes it chose, of the boxes System 2 found there and of the masks SAM2 made
of them, against the truth. Every coefficient is a setting. Ours where the paper is silent or can be gamed: only as
many keyframes as are wanted earn for being distinct, and nothing is paid for finding nothing.
"""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from backend.domain import masks as rle
from backend.domain.annotation import Box, Mask
from backend.settings import RewardSettings
from workers.pipeline.parsing import read_system1

_WHOLE = re.compile(r"\s*<think>.+?</think>\s*<answer>.+</answer>\s*", re.S)

_WHOLE_NONE = re.compile(r"\s*<think>.+?</think>\s*<answer>.*</answer>\s*", re.S)

#: By frame index; a frame without an entry is empty.
Masks = Mapping[int, Mask]


@dataclass(frozen=True, slots=True)
class Reward:
    """The parts, unweighted but for what is inside R_K. `boxes` and `masks` are None where System 2 and SAM2 weren't
    asked or didn't answer. `absent`: 1 for saying of a clip without a target that there is none. `aid`: R_A of a sample
    of that mode, which has no other part beside its form; None as with the boxes."""

    format: float
    keyframes: float
    boxes: float | None
    masks: float | None
    absent: float = 0.0
    aid: float | None = 0.0

    def weighted(self, weights: RewardSettings) -> dict[str, float | None]:
        """What each part adds to R; a part that isn't known adds nothing, and is no zero either."""
        parts = {name: getattr(self, name) for name in PARTS}
        return {name: None if part is None else getattr(weights, name) * part for name, part in parts.items()}

    def total(self, weights: RewardSettings) -> float:
        """R, of the parts that are known."""
        return sum(part for part in self.weighted(weights).values() if part is not None)


#: The parts of R, as they and their weights are called.
PARTS = ("format", "keyframes", "boxes", "masks", "absent", "aid")


def absent_reward(completion: str, nominal_duration_s: float) -> float:
    """1 for a whole completion whose answer is that there is none. [Ours]"""
    whole = _WHOLE_NONE.fullmatch(completion) is not None
    return float(whole and read_system1(completion, nominal_duration_s).says_none)


def format_reward(completion: str, nominal_duration_s: float, *, timed: bool = True) -> float:
    """R_format: 1 if the whole completion is reasoning and answer with at least one moment within the clip, else 0. Not
    `timed`: it was shown one image, so a description is enough."""
    if _WHOLE.fullmatch(completion) is None:
        return 0.0
    return float(bool(read_system1(completion, nominal_duration_s, timed=timed).moments))


def diversity_reward(frame_indices: Sequence[int], weights: RewardSettings) -> float:
    """R_diversity = overlap · |I| + distinct · |D|: with the keyframes sorted by time, I are those whose successor is
    the same frame and D the others.

    |D| counts up to the wanted number of keyframes, so that naming every frame earns nothing more.
    """
    distinct = len(set(frame_indices))
    overlaps = len(frame_indices) - distinct
    return weights.overlap * overlaps + weights.distinct * min(distinct, weights.wanted_keyframes)


def number_reward(frame_indices: Sequence[int], weights: RewardSettings) -> float:
    """R_num: rises by `per_keyframe` with each distinct keyframe up to the wanted number; beyond, falls to 0.

    With the defaults 0.4 · u for u <= 4, else max(0, 0.4 · (7 − u)).
    """
    count = len(set(frame_indices))
    if count > weights.wanted_keyframes:
        count = max(0, weights.wanted_keyframes + weights.spare_keyframes - count)
    return weights.per_keyframe * count


def saliency_reward(frame_indices: Sequence[int], truth: Masks, known: Container[int] | None = None) -> float:
    """R_saliency = mean over the chosen frames of area(m*_s) / max_t area(m*_t); 0 without frames or target.

    `known`: the frames of which the truth is known (default: all); the others don't count.
    """
    frame_indices = [i for i in frame_indices if known is None or i in known]
    largest = max((mask.area for mask in truth.values()), default=0)
    if not frame_indices or not largest:
        return 0.0
    return float(np.mean([truth[i].area / largest if i in truth else 0.0 for i in frame_indices]))


def keyframe_reward(
    frame_indices: Sequence[int], truth: Masks, weights: RewardSettings, known: Container[int] | None = None
) -> float:
    """R_K. `known`: as for `saliency_reward`."""
    return (
        weights.diversity * diversity_reward(frame_indices, weights)
        + weights.number * number_reward(frame_indices, weights)
        + weights.saliency * saliency_reward(frame_indices, truth, known)
    )


def box_reward(found: Sequence[Sequence[Box]], true: Sequence[Sequence[Box]]) -> float:
    """R_A = 1/K Σ (1 − L_Hungarian): over the keyframes, the mean IoU of the best one-to-one matching.

    The mean is over the larger of the two counts, so boxes too many cost as much as boxes too few. A keyframe on which
    nothing is true pays nothing. `found`, `true`: for each keyframe its boxes.
    """
    if not found:
        return 0.0
    return float(np.mean([_matched_iou(ours, theirs) for ours, theirs in zip(found, true, strict=True)]))


def _matched_iou(found: Sequence[Box], true: Sequence[Box]) -> float:
    if not found or not true:
        return 0.0
    ious = np.asarray([[one.iou(other) for other in true] for one in found])
    return float(ious[linear_sum_assignment(-ious)].sum() / max(ious.shape))


def mask_reward(tracks: Sequence[Masks], truth: Masks, frame_count: int) -> float:
    """R_G = 1/T Σ IoU(m̂_t, m*_t), m̂_t the union of all tracks.

    A frame on which both are empty counts as found, but only for an answer that found something somewhere in a clip
    that has a target: nothing is paid for finding nothing.
    """
    if not any(mask.area for mask in truth.values()) or not any(m.area for track in tracks for m in track.values()):
        return 0.0
    return float(np.mean([_frame_iou(tracks, truth, frame_index) for frame_index in range(frame_count)]))


def _frame_iou(tracks: Sequence[Masks], truth: Masks, frame_index: int) -> float:
    found = [track[frame_index] for track in tracks if frame_index in track]
    true = truth.get(frame_index)
    if not found or true is None:
        return float(not any(mask.area for mask in found) and (true is None or not true.area))
    return rle.iou(rle.union(found), true)
