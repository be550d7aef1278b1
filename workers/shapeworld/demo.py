"""The demo's sample videos: six clips from consecutive seeds that no training has used.

A show, not a measurement: how good the models are is what `premask shapeworld evaluate` prints.
"""

from dataclasses import dataclass
from pathlib import Path

from backend.domain.annotation import Mask
from workers.shapeworld import clip, scene
from workers.shapeworld.scene import Kind

#: Clip i has seed FIRST_SEED + i.
FIRST_SEED = 1000
#: What is asked, and how many things there are.
CASTING = (
    (Kind.ATTRIBUTE, 1),
    (Kind.SOUND, 1),
    (Kind.ATTRIBUTE, 3),
    (Kind.FASTEST, 2),
    (Kind.APPEARS_LAST, 2),
    (Kind.SOUND, 3),
)


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
    for position, (kind, thing_count) in enumerate(CASTING):
        made, question = scene.make(FIRST_SEED + position, kind, thing_count)
        name = f"clip-{position + 1}-{kind.value.replace('_', '-')}"
        path = folder / f"{name}.mp4"
        labels = clip.write(made, path)
        truth = clip.target_masks(labels, question)
        samples.append(SampleVideo(name, path, question.instruction, question.mode, thing_count, len(labels), truth))
    return samples
