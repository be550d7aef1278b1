"""Answers of a second model, without carrying again what a first one's segmenter has carried already.

What the segmenter makes of a video follows from the boxes it is given and the frames they are on. A retrained System 1
sends most videos on as its parent did; of those System 1 and System 2 alone need to be run, and the masks are known.
"""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

from backend.domain.annotation import Annotation, VideoProbe
from backend.domain.runs import Mode
from backend.profiles import ModelProfile
from backend.settings import PipelineSettings
from workers.evaluation.form import well_formed
from workers.pipeline.decision import Decision
from workers.pipeline.omni import OmniPipeline
from workers.pipeline.scratch import ScratchCheckpoints


@dataclass(frozen=True, slots=True)
class Prompted:
    """What the segmenter was asked to carry, as a digest of keyframes and boxes, and how long all took after that."""

    digest: str
    carrying_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """`annotation` None: its masks are those of the answer that it was compared with. `decision`, and with it
    `prompted`, is None only of a pipeline that tells none. `seconds`: how long it took, or would have taken."""

    annotation: Annotation | None
    decision: Decision | None
    prompted: Prompted | None
    seconds: float

    @property
    def well_formed(self) -> bool:
        """Whether System 1's answer has the form that was asked for."""
        if self.annotation is not None:
            found = self.annotation
            answered = bool(found.keyframes) or found.outcome_code == "absent"
            return well_formed(found.raw_output, found.warnings, answered)
        assert self.decision is not None
        chosen = self.decision.chosen
        answered = bool(chosen.answer.moments) or chosen.answer.says_none
        return well_formed(chosen.raw_output, self.decision.warnings, answered)


def carries_alike(one: ModelProfile, other: ModelProfile, settings: PipelineSettings) -> bool:
    """Whether the same boxes become the same masks with both: one segmenter on one device, and no second looks, which
    depend on more than boxes."""
    if settings.feedback.rounds or settings.reanchoring.frames or one.device != other.device:
        return False
    apart = {"weights", "clicks_as"}
    same = one.segmenter.model_dump(exclude=apart) == other.segmenter.model_dump(exclude=apart)
    return same and one.segmenter.weights.digest() == other.segmenter.weights.digest()


def answer(
    pipeline: OmniPipeline, path: Path, instruction: str, mode: Mode, *, seed: int = 0, probe: VideoProbe | None = None,
    known: Prompted | None = None,
) -> Answer:  # fmt: skip
    """The pipeline's answer. With `known`, of a model that `carries_alike`, nothing is carried if it would be that."""
    begin, decision = time.perf_counter(), None
    if known is not None:
        decision = pipeline.decide(path, instruction, mode, seed=seed, probe=probe)
        if digest_of(decision) == known.digest:
            return Answer(None, decision, known, time.perf_counter() - begin + known.carrying_s)
    kept = _Deciding(decision)
    annotation = pipeline.annotate(path, instruction, mode, seed=seed, probe=probe, checkpoints=kept)
    seconds = time.perf_counter() - begin
    if kept.decided is None:
        return Answer(annotation, None, None, seconds)
    deciding_s = sum(kept.decided.timings_s.values())
    return Answer(annotation, kept.decided, Prompted(digest_of(kept.decided), seconds - deciding_s), seconds)


def digest_of(decision: Decision) -> str:
    """Of what is carried: the keyframes in order, each with its boxes."""
    looked = [
        (k.frame_index, [(b.x1, b.y1, b.x2, b.y2) for b in (box.box_xyxy_px for box in k.boxes)])
        for k in decision.looked
    ]
    return hashlib.sha256(json.dumps(looked).encode()).hexdigest()


class _Deciding(ScratchCheckpoints):
    """Keeps the decision; begins with it where it was made before."""

    def __init__(self, decided: Decision | None) -> None:
        super().__init__()
        self.decided = decided

    def decision(self) -> bytes | None:
        return None if self.decided is None else self.decided.to_bytes()

    def decide(self, decision: bytes) -> None:
        self.decided = Decision.from_bytes(decision)
