"""The demo's sample videos: six short clips of as many kinds with several things in each, of seeds that no training has
used.

A show, not a measurement: how good the models are is what `premask shapeworld evaluate` prints.
"""

from dataclasses import dataclass
from pathlib import Path

from backend.domain.annotation import Mask
from workers.shapeworld.world import video
from workers.shapeworld.world.levels import EASY
from workers.shapeworld.world.make import first_scene
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.scene import Scene

#: Each clip is the first of its kind from here on that has so many things and is no longer than this.
FIRST_SEED = 1000
THINGS_MIN, DURATION_MAX_S = 2, 4.0
CASTING = (Kind.ATTRIBUTE, Kind.SOUND, Kind.RELATION, Kind.LEAVES, Kind.DIRECTION, Kind.FASTEST)
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
        example = first_scene(FIRST_SEED, kind, EASY, _fits)
        scene, question = example.scene, example.question
        name = f"clip-{position + 1}-{kind.value.replace('_', '-')}"
        path = folder / f"{name}.mp4"
        truth = video.write(scene, path, SIDE_PX)
        samples.append(
            SampleVideo(
                name, path, question.text, question.mode, len(scene.things), truth.frame_count,
                truth.seen(question.targets),
            )
        )  # fmt: skip
    return samples


def _fits(scene: Scene) -> bool:
    return len(scene.things) >= THINGS_MIN and scene.duration_s <= DURATION_MAX_S
