"""What System 1 and System 2 came to on a clip: all that the segmenter needs to begin, and a form to keep it in."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from backend.domain.annotation import Box
from workers.pipeline.parsing import Moment, System1Answer
from workers.pipeline.segmenter import BoxPrompt
from workers.pipeline.system1 import System1Result
from workers.pipeline.system2 import GroundedBox


class Origin(StrEnum):
    CHOSEN = "chosen"
    REANCHORED = "reanchored"


@dataclass(frozen=True, slots=True)
class Looked:
    """A moment of System 1 at its source frame, or one at which a track was in doubt, and what System 2 found there."""

    frame_index: int
    moment: Moment
    boxes: tuple[GroundedBox, ...]
    origin: Origin = Origin.CHOSEN


@dataclass(frozen=True, slots=True)
class Decision:
    """`warnings` and `timings_s`: what was said and spent on the way to it."""

    chosen: System1Result
    looked: tuple[Looked, ...]
    warnings: tuple[str, ...]
    timings_s: dict[str, float]

    @property
    def prompts(self) -> list[BoxPrompt]:
        """The boxes, keyframe by keyframe."""
        return [BoxPrompt(k.frame_index, box.box_xyxy_px) for k in self.looked for box in k.boxes]

    def to_bytes(self) -> bytes:
        """JSON in ASCII: what a model wrote may hold what no other encoding takes."""
        return json.dumps(asdict(self)).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> "Decision":
        """The decision that `to_bytes` was asked of."""
        raw = json.loads(data)
        answer = raw["chosen"]["answer"]
        moments = tuple(Moment(**moment) for moment in answer["moments"])
        answer |= {"moments": moments, "warnings": tuple(answer["warnings"])}
        # Decisions of before had no least probability; the mean says the most there is.
        lowest = {"lowest": raw["chosen"]["confidence"]}
        chosen = System1Result(**(lowest | raw["chosen"] | {"answer": System1Answer(**answer)}))
        looked = tuple(_looked(one) for one in raw["looked"])
        return cls(chosen, looked, tuple(raw["warnings"]), raw["timings_s"])


def _looked(raw: dict[str, Any]) -> Looked:
    boxes = tuple(
        GroundedBox(**({"lowest": box["score"]} | box | {"box_xyxy_px": Box(**box["box_xyxy_px"])}))
        for box in raw["boxes"]
    )
    return Looked(raw["frame_index"], Moment(**raw["moment"]), boxes, Origin(raw.get("origin", Origin.CHOSEN)))
