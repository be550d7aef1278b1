"""The demo's sample videos: six short clips of as many kinds with several things in each, of seeds that no training has
used.

A show, not a measurement: how good the models are is what `premask shapeworld evaluate` prints.
"""

from dataclasses import dataclass
from itertools import count
from pathlib import Path

from backend.domain.annotation import Mask
from workers.shapeworld.world import video
from workers.shapeworld.world.levels import EASY
from workers.shapeworld.world.make import Example, make_scene
from workers.shapeworld.world.queries import Kind

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
        example = _example(kind)
        scene, question = example.scene, example.question
        name = f"clip-{position + 1}-{kind.value.replace('_', '-')}"
        path = folder / f"{name}.mp4"
        truth = video.write(scene, path, SIDE_PX)
        target = {t: mask for t, mask in enumerate(truth.union(question.targets)) if mask.area}
        samples.append(
            SampleVideo(name, path, question.text, question.mode, len(scene.things), truth.frame_count, target)
        )
    return samples


def _example(kind: Kind) -> Example:
    examples = (make_scene(seed, kind, EASY) for seed in count(FIRST_SEED))
    return next(
        one for one in examples if len(one.scene.things) >= THINGS_MIN and one.scene.duration_s <= DURATION_MAX_S
    )
