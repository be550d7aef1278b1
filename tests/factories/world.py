"""Clips of the proving ground with their truth, as tests want them: so many things, at a chosen frame rate."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from backend.domain.annotation import Mask
from integrations.media.decode import iter_frames
from integrations.media.probe import probe_video
from workers.pipeline.frame_store import FrameStore
from workers.shapeworld.world import video
from workers.shapeworld.world.levels import EASY, Level
from workers.shapeworld.world.make import Example, first_scene
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.truth import Truth

SIDE_PX = 384


@dataclass(frozen=True)
class Sample:
    """A written clip, what is asked of it, and the true mask of the answer by frame index."""

    path: Path
    example: Example
    truth: Truth

    @property
    def instruction(self) -> str:
        return self.example.question.text

    @property
    def mode(self) -> str:
        return self.example.question.mode

    @property
    def frame_count(self) -> int:
        return self.truth.frame_count

    @property
    def target(self) -> dict[int, Mask]:
        return self.truth.seen(self.example.question.targets)


def example_of(kind: Kind, thing_count: int, seed: int, level: Level = EASY) -> Example:
    """The first example from `seed` on that has so many things."""
    return first_scene(seed, kind, level, lambda scene: len(scene.things) == thing_count)


def write_sample(path: Path, kind: Kind, thing_count: int, seed: int, frame_rate: int = 12) -> Sample:
    """Such a clip, at that rate whatever its own is: the answers don't depend on it."""
    found = example_of(kind, thing_count, seed)
    example = replace(found, scene=replace(found.scene, frame_rate=frame_rate))
    return Sample(path, example, video.write(example.scene, path, SIDE_PX))


@contextmanager
def stored_frames(path: Path, size_px: int) -> Iterator[FrameStore]:
    """All frames of a clip, as the segmenter reads them."""
    probe = probe_video(path)
    with FrameStore(probe.frame_count, size_px) as store:
        for frame_index, image in iter_frames(path, probe):
            store.write(frame_index, image)
        yield store
