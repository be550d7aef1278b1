"""The demo's sample videos: six clips of as many kinds, from consecutive seeds that no training has used.

A show, not a measurement: how good the models are is what `premask shapeworld evaluate` prints.
"""

from dataclasses import dataclass
from pathlib import Path

from backend.domain.annotation import Mask
from workers.shapeworld.world import video
from workers.shapeworld.world.levels import EASY
from workers.shapeworld.world.make import make_scene
from workers.shapeworld.world.queries import Kind

#: Clip i has seed FIRST_SEED + i.
FIRST_SEED = 1000
CASTING = (Kind.ATTRIBUTE, Kind.SOUND, Kind.RELATION, Kind.LEAVES, Kind.DIRECTION, Kind.PLURAL)
SIDE_PX = 384


@dataclass(frozen=True, slots=True)
class SampleVideo:
    """A rendered clip, what is asked of it, and the true mask of the answer by frame index."""

    name: str
    path: Path
    instruction: str
    mode: str
    objects_in_scene: int
    frame_count: int
    truth: dict[int, Mask]


def render(folder: Path) -> list[SampleVideo]:
    """Write the six clips into the folder. The same files, byte for byte, whenever it is called."""
    samples = []
    for position, kind in enumerate(CASTING):
        example = make_scene(FIRST_SEED + position, kind, EASY)
        scene, question = example.scene, example.question
        name = f"clip-{position + 1}-{kind.value.replace('_', '-')}"
        path = folder / f"{name}.mp4"
        truth = video.write(scene, path, SIDE_PX)
        target = {t: mask for t, mask in enumerate(truth.union(question.targets)) if mask.area}
        samples.append(
            SampleVideo(name, path, question.text, question.mode, len(scene.things), truth.frame_count, target)
        )
    return samples
