"""The annotation of what was decided and carried: keyframes, boxes and tracks with their scores, and how it ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.domain.annotation import Annotation, Detection, Keyframe, Track, VideoProbe
from backend.domain.confidence import BoxEvidence, Confidence
from backend.domain.runs import RunStatus
from backend.profiles import ModelProfile
from workers.pipeline import evidence, scoring
from workers.pipeline.decision import Decision
from workers.pipeline.linking import LinkedTrack
from workers.pipeline.segmenter import Propagation


@dataclass(frozen=True, slots=True)
class Found:
    """What is known in the end. `propagations`: of the decision's prompts, in order; none in mode `aid`."""

    probe: VideoProbe
    decision: Decision
    linked: Sequence[LinkedTrack]
    propagations: Sequence[Propagation]
    images: dict[int, NDArray[Any]]


def each_alone(decision: Decision) -> list[LinkedTrack]:
    """Every box a thing of its own, of which nothing but the box is known."""
    return [LinkedTrack((member,), {}, {}) for member in range(len(decision.prompts))]


def assemble(
    found: Found, profile: ModelProfile, confidence: Confidence | None, seed: int, timings_s: dict[str, float],
    warnings: list[str],
) -> Annotation:  # fmt: skip
    """`confidence`: the profile's, if it has one."""
    keyframes = _keyframes(found, confidence)
    tracks = tuple(_track(found, index, thing, keyframes, confidence) for index, thing in enumerate(found.linked))
    if lost := sum(not one.masks for one in found.propagations):
        warnings.append(f"{lost} of {len(found.propagations)} boxes became no mask and are in no track")
    status, outcome = _outcome(found.decision, tracks)
    chosen = found.decision.chosen
    return Annotation(
        probe=found.probe, status=status, outcome_code=outcome, reasoning=chosen.answer.reasoning,
        raw_output=chosen.raw_output, keyframes=keyframes, tracks=tracks, timings_s=timings_s,
        warnings=tuple(warnings), model=_provenance(profile, seed), keyframe_images=found.images,
    )  # fmt: skip


def _keyframes(found: Found, confidence: Confidence | None) -> tuple[Keyframe, ...]:
    """The keyframes with their detections led to their tracks."""
    track_of = {member: index for index, track in enumerate(found.linked) for member in track.members}
    spoken = _spoken_for_boxes(found)
    keyframes, row = [], 0
    for position, looked in enumerate(found.decision.looked):
        detections = []
        for index, box in enumerate(looked.boxes):
            given = spoken[row]
            score = box.score if confidence is None or given is None else confidence.box.probability(given)
            label = box.label or looked.moment.description
            detections.append(Detection(index, box.box_xyxy_px, label, round(score, 4), track_of.get(row), given))
            row += 1
        moment = looked.moment
        keyframes.append(
            Keyframe(
                frame_index=looked.frame_index, position=position,
                time_s=round(found.probe.time_s(looked.frame_index), 6), segment_start_s=moment.start_s,
                segment_end_s=moment.end_s, description=moment.description, detections=tuple(detections),
                origin=looked.origin.value,
            )
        )  # fmt: skip
    return tuple(keyframes)


def _spoken_for_boxes(found: Found) -> Sequence[BoxEvidence | None]:
    """In mode `aid` there are boxes alone, and no mask speaks for one."""
    if not found.propagations:
        return [None] * len(found.decision.prompts)
    return evidence.of_boxes(found.decision, found.propagations)


def _track(
    found: Found, index: int, thing: LinkedTrack, keyframes: Sequence[Keyframe], confidence: Confidence | None
) -> Track:
    """The track, named as by its first detection. Without masks: with its boxes and the mean of their scores."""
    named = [(k.frame_index, d) for k in keyframes for d in k.detections if d.track_index == index]
    label = named[0][1].label
    if not thing.masks:
        score = round(float(np.mean([detection.score for _, detection in named])), 4)
        return Track(index, label, score, {}, {frame_index: detection.box_xyxy_px for frame_index, detection in named})
    score, given, scores = scoring.of_track(thing, found.decision, found.propagations, found.probe, confidence)
    return Track(index, label, score, thing.masks, evidence=given, frame_scores=scores)


def _outcome(decision: Decision, tracks: Sequence[Track]) -> tuple[RunStatus, str | None]:
    """Succeeded, or no_target with the reason: absent (System 1 says so), unparsable, no_box, no_mask."""
    if tracks:
        return RunStatus.SUCCEEDED, None
    answer = decision.chosen.answer
    if not answer.moments:
        return RunStatus.NO_TARGET, "absent" if answer.says_none else "unparsable"
    return RunStatus.NO_TARGET, "no_mask" if any(k.boxes for k in decision.looked) else "no_box"


def _provenance(profile: ModelProfile, seed: int) -> dict[str, Any]:
    parts = {
        "system1": profile.system1.weights,
        "system2": profile.system2.weights or profile.system1.weights,
        "segmenter": profile.segmenter.weights,
    }
    return {
        "profile": profile.name,
        "digest": profile.digest,
        "seed": seed,
        "trained_on": {role: weights.trained_on for role, weights in parts.items()},
    }
