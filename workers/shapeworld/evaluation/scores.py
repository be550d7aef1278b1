"""Scores of one clip, as plain data: what a campaign writes down for each clip, and figures are made of."""

import json
from dataclasses import asdict, dataclass

from workers.shapeworld.world.levels import EASY, HARD, LEVELS, MEDIUM, Level
from workers.shapeworld.world.queries import Kind

_CYCLE = (EASY, MEDIUM, HARD)


def level_of(seed: int) -> Level:
    """Levels go round with the seed, so that any three seeds in a row have one clip of each."""
    return _CYCLE[seed % len(_CYCLE)]


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
class ClipScore:
    """J and F are means over all frames of the clip. What doesn't apply is None: without a target nothing can be boxed
    or followed.

    `keyframes_visible`: of each chosen frame whether it shows the target. `box_hit`: System 2, given the description
    and the frame that shows the target best, boxed just what it should, each with IoU > 0.5; `things_seen`: how many
    things that frame shows. `segmenter_*`: SAM2 from true boxes on the frame that shows each target best.
    """

    case: Case
    well_formed: bool
    described: bool
    keyframes_visible: tuple[bool, ...]
    pipeline_j: float
    pipeline_f: float
    seconds: float
    duration_s: float
    box_hit: bool | None = None
    things_seen: int | None = None
    segmenter_j: float | None = None
    segmenter_f: float | None = None

    def to_line(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> "ClipScore":
        data = json.loads(line)
        case = Case(data["case"]["seed"], Kind(data["case"]["kind"]), data["case"]["level"])
        return cls(**data | {"case": case, "keyframes_visible": tuple(data["keyframes_visible"])})
