"""What speaks for each track: gathered from what System 1 and 2 said, and what their boxes became."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from backend.domain import masks as rle
from backend.domain.confidence import Evidence
from workers.pipeline.decision import Decision
from workers.pipeline.linking import LinkedTrack, support
from workers.pipeline.segmenter import Propagation

#: Where one keyframe alone names a track, nothing speaks for or against it.
_UNKNOWN = 0.5


def evidence_of(track: LinkedTrack, decision: Decision, propagations: Sequence[Propagation]) -> Evidence:
    """`propagations`: of the decision's prompts, in order."""
    boxes = [box for looked in decision.looked for box in looked.boxes]
    keyframes = [looked.frame_index for looked in decision.looked]
    seen = np.array(list(track.predicted_iou.values()))
    named = [boxes[member] for member in track.members]
    return Evidence(
        said=decision.chosen.confidence, said_lowest=decision.chosen.lowest,
        named=float(np.mean([box.score for box in named])), named_lowest=float(np.mean([box.lowest for box in named])),
        seen=float(seen.mean()), seen_low=float(np.percentile(seen, 10)),
        agreed=_agreed(track, decision, propagations), supported=support(track, decision.prompts, keyframes),
    )  # fmt: skip


def _agreed(track: LinkedTrack, decision: Decision, propagations: Sequence[Propagation]) -> float:
    """Mean IoU of what each two neighbouring members see on their two keyframes."""
    prompts = decision.prompts
    members = sorted(track.members, key=lambda member: prompts[member].frame_index)
    found = []
    for one, other in pairwise(members):
        for frame_index in (prompts[one].frame_index, prompts[other].frame_index):
            masks = [propagations[member].masks.get(frame_index) for member in (one, other)]
            found.append(0.0 if None in masks else rle.iou(*masks))  # type: ignore[arg-type]
    return float(np.mean(found)) if found else _UNKNOWN
