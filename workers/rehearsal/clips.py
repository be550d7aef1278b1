"""The clips of a rehearsal: what comes in each night, what is asked of it, and its truth, which only the annotator
sees.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from backend.domain.annotation import Mask
from workers.shapeworld.world import video
from workers.shapeworld.world.levels import EASY, MEDIUM
from workers.shapeworld.world.make import Example, make_training_scene
from workers.shapeworld.world.queries import ASKED_KINDS, Kind
from workers.shapeworld.world.scene import Scene, frame_times

SIDE_PX = 384
#: In the training range, away from what the small models were trained on; a night has all the room that it wants.
_FIRST_SEED, _NIGHT = 1_950_000_000, 100_000
_LEVELS = (EASY, MEDIUM)
#: Longer scenes are left out, and those of more frames: a rehearsal is to be over sometime.
_DURATION_MAX_S, _FRAMES_MAX = 6.0, 36
#: With two, half of all guesses are right.
_THINGS_MIN = 3


@dataclass(frozen=True, slots=True)
class Clip:
    """`key`: below the rehearsal's prefix; instructions are told by their folder."""

    key: str
    example: Example

    @property
    def instruction(self) -> str:
        return self.example.question.text

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height and width of its file."""
        width, height = self.example.scene.size_px(SIDE_PX)
        return len(frame_times(self.example.scene)), height, width

    def render(self, folder: Path) -> tuple[Path, list[dict[int, Mask]]]:
        """The file, and of each target its masks by frame index where it is seen."""
        path = folder / Path(self.key).name
        truth = video.write(self.example.scene, path, SIDE_PX)
        return path, [truth.seen((target,)) for target in self.example.question.targets]


def folder_of(instruction: str) -> str:
    """Where clips lie of which that is asked."""
    return hashlib.sha256(instruction.encode()).hexdigest()[:12]


def other_kinds(kind: str) -> list[Kind]:
    """Those that a rehearsal asks beside that one: it has no sound."""
    return [one for one in ASKED_KINDS if one not in (kind, Kind.SOUND)]


def of_night(night: int, count: int, kind: Kind, others_every: int = 0) -> list[Clip]:
    """So many clips of scenes with several things, never those of another night: of that kind, but for each
    `others_every`-th (0: none), which is of one of the other kinds in turn."""
    others = other_kinds(kind)
    clips: list[Clip] = []
    seed = _FIRST_SEED + night * _NIGHT
    while len(clips) < count:
        turn, place = divmod(len(clips) + 1, others_every or count + 1)
        asked = kind if place else others[turn % len(others)]
        example = make_training_scene(seed, asked, _LEVELS[seed % len(_LEVELS)])
        if len(example.scene.things) >= _THINGS_MIN and _is_short(example.scene):
            name = f"night{night}-{len(clips):03d}.mp4"
            clips.append(Clip(f"{folder_of(example.question.text)}/{name}", example))
        seed += 1
    return clips


def _is_short(scene: Scene) -> bool:
    return scene.duration_s <= _DURATION_MAX_S and len(frame_times(scene)) <= _FRAMES_MAX
