"""Downstream of System 1: what System 2 finds on the keyframes of a whole group, and what SAM2 makes of it.

One System 2 batch and one pass of SAM2 for all rollouts of a group, whose detections share the clip (appendix B). Both
are frozen here. They are in this process (`Downstream`) or behind HTTP (`workers.learning.service`).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from backend.domain.annotation import Box, Mask
from backend.profiles import ModelProfile
from workers.pipeline.engines.loading import load_engines
from workers.pipeline.frame_store import FrameStore
from workers.pipeline.group import Detection, propagate_group
from workers.pipeline.segmenter import Segmenter
from workers.pipeline.system2 import System2


@dataclass(frozen=True, slots=True)
class Keyframe:
    """A keyframe of a rollout: its position in the resampled clip, and what System 2 is to find there."""

    position: int
    description: str


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one rollout: for each of its keyframes the boxes, in source pixels, and for each box the masks of
    what it became, by position. `tracks` is None where SAM2 wasn't asked."""

    boxes: tuple[tuple[Box, ...], ...]
    tracks: tuple[Mapping[int, Mask], ...] | None


class Follows(Protocol):
    """System 2 and SAM2 as the rewards ask for them."""

    def follow(
        self, frames: NDArray[Any], rollouts: Sequence[Sequence[Keyframe]], *, segment: bool
    ) -> list[Found] | None:
        """One `Found` a rollout, in order; None if they can't be reached now. `frames`: (n, H, W, 3) uint8 RGB, the
        resampled clip at source resolution. Without `segment` SAM2 is not asked."""


class Downstream:
    """Both models in this process."""

    def __init__(self, system2: System2, segmenter: Segmenter) -> None:
        self._system2, self._segmenter = system2, segmenter

    def follow(self, frames: NDArray[Any], rollouts: Sequence[Sequence[Keyframe]], *, segment: bool) -> list[Found]:
        boxes = self._ground(frames, rollouts)
        if not segment:
            return [Found(found, None) for found in boxes]
        # The paper's tuple; the objects of a rollout are counted through, so that one on another keyframe is another.
        detections = [
            Detection(rollout_index, keyframe.position, object_index, box)
            for rollout_index, (keyframes, found) in enumerate(zip(rollouts, boxes, strict=True))
            for object_index, (keyframe, box) in enumerate(
                (keyframe, box) for keyframe, here in zip(keyframes, found, strict=True) for box in here
            )
        ]
        tracks: list[list[Mapping[int, Mask]]] = [[] for _ in rollouts]
        if detections:
            height, width = frames.shape[1:3]
            with FrameStore(len(frames), self._segmenter.size_px) as store:
                for position, image in enumerate(frames):
                    store.write(position, image)
                propagated = propagate_group(self._segmenter, store, detections, (width, height))
            for detection, propagation in propagated.items():
                tracks[detection.rollout_index].append(propagation.masks)
        return [Found(found, tuple(theirs)) for found, theirs in zip(boxes, tracks, strict=True)]

    def _ground(
        self, frames: NDArray[Any], rollouts: Sequence[Sequence[Keyframe]]
    ) -> list[tuple[tuple[Box, ...], ...]]:
        """Boxes by rollout and keyframe. What several rollouts ask of one frame is asked once: System 2 is greedy."""
        asked = list(dict.fromkeys(keyframe for keyframes in rollouts for keyframe in keyframes))
        grounded = self._system2.ground([frames[k.position] for k in asked], [k.description for k in asked])
        boxes = {k: tuple(b.box_xyxy_px for b in g.boxes) for k, g in zip(asked, grounded, strict=True)}
        return [tuple(boxes[keyframe] for keyframe in keyframes) for keyframes in rollouts]


def version_of(profile: ModelProfile) -> str:
    """Identity of what the rewards depend on: System 2's and SAM2's weights, and all settings that shape what they
    find."""
    sha = hashlib.sha256()
    for part in (profile.system2, profile.segmenter):
        weights = part.weights or profile.system1.weights
        settings = part.model_dump(mode="json", exclude={"weights", "server"})
        sha.update(weights.digest().encode() + json.dumps(settings, sort_keys=True).encode())
    return sha.hexdigest()


def load_downstream(profile: ModelProfile) -> Downstream:
    """The profile's System 2 and SAM2. Raises `Misconfigured` if their weights are not where the profile says."""
    _, engine = load_engines(profile)
    return Downstream(System2(engine, profile.system2), Segmenter(profile.segmenter, profile.device))
