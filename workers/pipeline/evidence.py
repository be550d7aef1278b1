"""What speaks for each track, box and mask: gathered from what System 1 and 2 said, and what their boxes became."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from backend.domain import masks as rle
from backend.domain.annotation import VideoProbe
from backend.domain.confidence import UNKNOWN, BoxEvidence, FrameEvidence, TrackEvidence
from backend.ports.pipeline import Estimate
from workers.pipeline.carried import ByFrame
from workers.pipeline.decision import Decision
from workers.pipeline.linking import LinkedTrack, support
from workers.pipeline.segmenter import Propagation

_NOT_SEEN = Estimate(0.0, 0.0)


def of_track(track: LinkedTrack, decision: Decision, propagations: Sequence[Propagation]) -> TrackEvidence:
    """`propagations`: of the decision's prompts, in order."""
    boxes = [box for looked in decision.looked for box in looked.boxes]
    keyframes = [looked.frame_index for looked in decision.looked]
    estimates = list(track.estimates.values())
    seen = np.array([one.predicted_iou for one in estimates])
    named = [boxes[member] for member in track.members]
    return TrackEvidence(
        said=decision.chosen.confidence, said_lowest=decision.chosen.lowest,
        named=float(np.mean([box.score for box in named])), named_lowest=float(np.mean([box.lowest for box in named])),
        seen=float(seen.mean()), seen_low=float(np.percentile(seen, 10)),
        agreed=_agreed(track, decision, propagations), supported=support(track, decision.prompts, keyframes),
        present=float(np.mean([one.objectness for one in estimates])),
    )  # fmt: skip


def _agreed(track: LinkedTrack, decision: Decision, propagations: Sequence[Propagation]) -> float:
    """Mean IoU of what each two neighbouring members see on those of their two keyframes to which both were carried."""
    prompts = decision.prompts
    members = sorted(track.members, key=lambda member: prompts[member].frame_index)
    found = []
    for one, other in pairwise(members):
        for frame_index in (prompts[one].frame_index, prompts[other].frame_index):
            if not all(propagations[member].covers(frame_index) for member in (one, other)):
                continue
            masks = [propagations[member].masks.get(frame_index) for member in (one, other)]
            found.append(0.0 if None in masks else rle.iou(*masks))  # type: ignore[arg-type]
    return float(np.mean(found)) if found else UNKNOWN


def of_boxes(decision: Decision, propagations: Sequence[Propagation]) -> list[BoxEvidence]:
    """Of each of the decision's prompts, in order."""
    chosen, boxes = decision.chosen, [box for looked in decision.looked for box in looked.boxes]
    found = []
    for row, (prompt, box) in enumerate(zip(decision.prompts, boxes, strict=True)):
        mask = propagations[row].masks.get(prompt.frame_index)
        estimate = propagations[row].estimates.get(prompt.frame_index, _NOT_SEEN)
        others = [
            other.masks.get(prompt.frame_index)
            for second, other in zip(decision.prompts, propagations, strict=True)
            if second.frame_index != prompt.frame_index and other.covers(prompt.frame_index)
        ]
        shared = [0.0 if None in (mask, other) else rle.iou(mask, other) for other in others]  # type: ignore[arg-type]
        found.append(
            BoxEvidence(
                said=chosen.confidence, said_lowest=chosen.lowest, named=box.score, named_lowest=box.lowest,
                seen=estimate.predicted_iou,
                filled=0.0 if mask is None else box.box_xyxy_px.iou(mask.box_xyxy_px),
                agreed=max(shared, default=UNKNOWN), present=estimate.objectness,
            )
        )  # fmt: skip
    return found


def of_frames(
    track: LinkedTrack, keyframes: Sequence[int], probe: VideoProbe, track_score: float
) -> Iterator[tuple[int, FrameEvidence]]:
    """Of the track's mask on each frame where there is one, ascending. `keyframes`: those that name it."""
    times_s = np.array([probe.time_s(frame_index) for frame_index in keyframes])
    before: tuple[int, int] | None = None
    for (frame_index, mask), estimate in zip(track.masks.items(), track.estimates.values(), strict=True):
        near = 1 / (1 + float(np.abs(times_s - probe.time_s(frame_index)).min()))
        steady = UNKNOWN
        if before is not None and before[0] == frame_index - 1:
            steady = min(mask.area, before[1]) / max(mask.area, before[1])
        yield frame_index, FrameEvidence(track_score, estimate.predicted_iou, near, steady, estimate.objectness)
        before = (frame_index, mask.area)


class FrameScores(ByFrame[float]):
    """A track's score on each frame, made as it is asked for: the track may be long, and its masks lie elsewhere.
    `evidence`: begins anew each time, as `of_frames`."""

    def __init__(
        self, evidence: Callable[[], Iterator[tuple[int, FrameEvidence]]], score: Callable[[FrameEvidence], float]
    ) -> None:
        self.evidence, self._score = evidence, score

    def told(self) -> Iterator[tuple[int, float, FrameEvidence]]:
        """Each frame with its score and what speaks for it, in one pass over the masks."""
        return ((frame_index, round(self._score(one), 4), one) for frame_index, one in self.evidence())

    def between(self, begin: int, end: int | None) -> Iterator[tuple[int, float]]:
        for frame_index, score, _ in self.told():
            if end is not None and frame_index >= end:
                return
            if frame_index >= begin:
                yield frame_index, score

    def __getitem__(self, frame_index: int) -> float:
        for _, found in self.between(frame_index, frame_index + 1):
            return found
        raise KeyError(frame_index)

    def __len__(self) -> int:
        return sum(1 for _ in self.evidence())
