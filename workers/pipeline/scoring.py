"""How likely tracks and masks are right: by the profile's calibration, where it has one."""

from collections.abc import Sequence
from functools import partial

from backend.domain.annotation import VideoProbe
from backend.domain.confidence import Confidence, FrameEvidence, TrackEvidence
from workers.pipeline import evidence
from workers.pipeline.decision import Decision
from workers.pipeline.linking import LinkedTrack
from workers.pipeline.segmenter import Propagation


def of_track(
    thing: LinkedTrack, decision: Decision, propagations: Sequence[Propagation], probe: VideoProbe,
    confidence: Confidence | None,
) -> tuple[float, TrackEvidence, evidence.FrameScores]:  # fmt: skip
    """Its score, what speaks for it, and the score of each of its masks. Without a calibration SAM2's own estimates."""
    given = evidence.of_track(thing, decision, propagations)
    score = round(given.seen if confidence is None else confidence.track.probability(given), 4)
    prompts = decision.prompts
    named = [prompts[member].frame_index for member in thing.members]

    def of_frame(one: FrameEvidence) -> float:
        return one.seen if confidence is None else confidence.frame.probability(one)

    return score, given, evidence.FrameScores(partial(evidence.of_frames, thing, named, probe, score), of_frame)
