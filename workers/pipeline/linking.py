"""Identity: which detections of different keyframes are the same thing. [Ours: the paper takes identity from ground
truth.]

Keyframe by keyframe in time, detections are matched to the tracks so far by the IoU of their propagated masks on the
keyframes that both reach (Hungarian, with a threshold); what matches nothing begins a new track. A track's mask on a
frame is that of its member whose keyframe lies nearest in time: the one that had the least way to drift. A track that
most of the keyframes on which it can be seen did not name is a slip of System 2 or of SAM2, and is dropped.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment

from backend.domain import masks as rle
from backend.domain.annotation import Mask
from backend.ports.pipeline import Estimate
from workers.pipeline.carried import Stitched
from workers.pipeline.segmenter import BoxPrompt, Propagation


@dataclass(frozen=True, slots=True)
class LinkedTrack:
    """`members` index the detections. `masks` and `estimates` by frame index, where the thing is visible; they lie
    where those of the members do."""

    members: tuple[int, ...]
    masks: Mapping[int, Mask]
    estimates: Mapping[int, Estimate]


def agreement(left: Propagation, right: Propagation, frames: Sequence[int]) -> float:
    """Mean mask IoU over those of `frames` to which both were carried and on which at least one of the two sees
    something; 0 if there is none."""
    scores = []
    for frame_index in (i for i in frames if left.covers(i) and right.covers(i)):
        a, b = left.masks.get(frame_index), right.masks.get(frame_index)
        if a is not None and b is not None:
            scores.append(rle.iou(a, b))
        elif a is not None or b is not None:
            scores.append(0.0)
    return float(np.mean(scores)) if scores else 0.0


def link(
    prompts: Sequence[BoxPrompt], propagations: Sequence[Propagation], threshold: float,
    compared: Sequence[int] | None = None,
) -> list[LinkedTrack]:  # fmt: skip
    """Tracks in the order in which their first detection appears. Detections that became no mask at all are left
    out. `compared`: of the frames of prompts those on which they are compared; without it, all."""
    alive = [i for i, p in enumerate(propagations) if p.masks]
    keyframes = sorted({prompts[i].frame_index for i in alive})
    compared = keyframes if compared is None else [frame_index for frame_index in keyframes if frame_index in compared]
    groups: list[list[int]] = []
    for frame_index in keyframes:
        here = [i for i in alive if prompts[i].frame_index == frame_index]
        scores = np.zeros((len(groups), len(here)))
        for row, members in enumerate(groups):
            for column, candidate in enumerate(here):
                scores[row, column] = max(
                    agreement(propagations[m], propagations[candidate], compared) for m in members
                )
        taken = set()
        for row, column in zip(*linear_sum_assignment(-scores), strict=True):
            if scores[row, column] >= threshold:
                groups[row].append(here[column])
                taken.add(int(column))
        groups += [[candidate] for column, candidate in enumerate(here) if column not in taken]
    return [_merge(members, prompts, propagations) for members in groups]


def support(track: LinkedTrack, prompts: Sequence[BoxPrompt], keyframes: Sequence[int]) -> float:
    """Of the keyframes on which the track can be seen, the share on which System 2 named it.

    A thing that enters late is not held against the keyframes before it came.
    """
    named = {prompts[m].frame_index for m in track.members}
    seen = named | {frame_index for frame_index in keyframes if frame_index in track.masks}
    return len(named) / len(seen)


def corroborated(
    tracks: Sequence[LinkedTrack], prompts: Sequence[BoxPrompt], keyframes: Sequence[int], min_support: float
) -> list[LinkedTrack]:
    """The tracks with at least `min_support`; where none has it, the best supported one alone."""
    if not tracks:
        return []
    supports = [support(track, prompts, keyframes) for track in tracks]
    floor = min(min_support, max(supports))
    kept = [track for track, share in zip(tracks, supports, strict=True) if share >= floor]
    if floor < min_support:
        kept = [max(kept, key=lambda track: (len(track.members), _mean_iou(track)))]
    return kept


def _mean_iou(track: LinkedTrack) -> float:
    return float(np.mean([one.predicted_iou for one in track.estimates.values()]))


def stretches(keyframes: Sequence[int]) -> list[range]:
    """Of ascending keyframes the frames that lie nearest to each; in the middle between two the earlier one has it."""
    middles = [(a + b) // 2 + 1 for a, b in pairwise(keyframes)]
    return [range(begin, end) for begin, end in zip([0, *middles], [*middles, sys.maxsize], strict=True)]


def _merge(members: list[int], prompts: Sequence[BoxPrompt], propagations: Sequence[Propagation]) -> LinkedTrack:
    """On each frame, what the member with the nearest keyframe says: a mask, or that the thing is not visible."""
    nearest = stretches([prompts[m].frame_index for m in members])
    return LinkedTrack(
        tuple(members),
        Stitched([(frames, propagations[m].masks) for frames, m in zip(nearest, members, strict=True)]),
        Stitched([(frames, propagations[m].estimates) for frames, m in zip(nearest, members, strict=True)]),
    )
