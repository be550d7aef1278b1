"""Scores of one clip, as plain data: what a campaign writes down for each clip, and figures are made of."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from backend.domain.confidence import BoxEvidence, FrameEvidence, TrackEvidence
from workers.evaluation.alike import Prompted
from workers.shapeworld.world.levels import LEVELS, Level
from workers.shapeworld.world.queries import Kind


class Part(StrEnum):
    """What is measured on a clip: the whole pipeline (and System 1 with it), or a model alone with true input. System 1
    alone is what it is in the pipeline, where nothing comes before it."""

    PIPELINE = "pipeline"
    SYSTEM1 = "system1"
    SYSTEM2 = "system2"
    SEGMENTER = "segmenter"


@dataclass(frozen=True, slots=True)
class Case:
    """One clip to be scored."""

    seed: int
    kind: Kind
    level: str

    @property
    def preset(self) -> Level:
        return LEVELS[self.level]


@dataclass(frozen=True, slots=True)
class TrackScore:
    """A track of the pipeline: what speaks for it, and its J with the target that it is most like; of some of its masks
    likewise what speaks for each and its IoU."""

    evidence: TrackEvidence
    j: float
    frames: tuple[tuple[FrameEvidence, float], ...]


@dataclass(frozen=True, slots=True)
class ClipScore:
    """J and F are means over all frames of the clip. What wasn't measured or doesn't apply is None: without a target
    nothing can be boxed or followed.

    `keyframes_visible`: of each chosen frame whether it shows the target. `box_hit`: System 2, given the description
    and the frame that shows the target best, boxed just what it should, each with IoU > 0.5; `things_seen`: how many
    things that frame shows. `segmenter_*`: SAM2 from true boxes on the frame that shows each target best.
    """

    case: Case
    duration_s: float
    well_formed: bool | None = None
    described: bool | None = None
    keyframes_visible: tuple[bool, ...] = ()
    pipeline_j: float | None = None
    pipeline_f: float | None = None
    seconds: float | None = None
    box_hit: bool | None = None
    things_seen: int | None = None
    segmenter_j: float | None = None
    segmenter_f: float | None = None
    tracks: tuple[TrackScore, ...] = ()
    boxes: tuple[tuple[BoxEvidence, float], ...] = ()
    #: Of a pipeline that was compared with: what its segmenter was asked to carry.
    prompted: Prompted | None = None

    def to_line(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> "ClipScore":
        data = json.loads(line)
        case = Case(data["case"]["seed"], Kind(data["case"]["kind"]), data["case"]["level"])
        tracks = tuple(_track(one) for one in data.get("tracks", ()))
        boxes = tuple((BoxEvidence(**given), iou) for given, iou in data.get("boxes", ()))
        prompted = Prompted(**given) if (given := data.get("prompted")) else None
        return cls(
            **data | {"case": case, "keyframes_visible": tuple(data["keyframes_visible"]), "tracks": tracks,
                      "boxes": boxes, "prompted": prompted}
        )  # fmt: skip


def _track(data: dict[str, Any]) -> TrackScore:
    frames = tuple((FrameEvidence(**given), iou) for given, iou in data["frames"])
    return TrackScore(TrackEvidence(**data["evidence"]), data["j"], frames)
