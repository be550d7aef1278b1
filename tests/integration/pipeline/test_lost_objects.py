"""What leaves the view: its mask ends there, and never becomes the picture.

Clips of the world in which the target leaves (`Kind.LEAVES`), the true box of the frame that shows most of it, and
nothing else to go by. Measured on seeds 2000 to 2023 of each level, at five frames a second, 72 clips in all: after it
has left, 5 of 186 frames of easy clips have a mask (all of one clip), 13 of 265 of medium ones (three clips), 72 of 565
of hard ones (eight). Those are specks, or another thing that the mask has gone over to; the largest is 4.1 % of the
picture. On no frame of any clip is a mask larger than 3.3 times the largest that the target truly has.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from backend.profiles import load_profile
from integrations.media.probe import probe_video
from tests.factories.world import SIDE_PX, stored_frames
from workers.evaluation.metrics import region_j
from workers.pipeline.segmenter import BoxPrompt, Segmenter
from workers.shapeworld.world import video
from workers.shapeworld.world.levels import LEVELS
from workers.shapeworld.world.make import make_scene
from workers.shapeworld.world.queries import Kind

pytestmark = pytest.mark.slow
FRAME_RATE = 5


@dataclass(frozen=True)
class Carried:
    """Areas in pixels, of the masks found by frame index, and of the target's truth where it is seen."""

    picture: int
    frame_count: int
    found: dict[int, int]
    true: dict[int, int]
    j: float

    @property
    def gone(self) -> range:
        """The frames after the last one that shows anything of it."""
        return range(max(self.true) + 1, self.frame_count)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(load_profile("shapeworld").segmenter, "cpu")


def carried(segmenter: Segmenter, folder: Path, level: str, seed: int) -> Carried:
    example = make_scene(seed, Kind.LEAVES, LEVELS[level])
    path = folder / f"{level}-{seed}.mp4"
    truth = video.write(replace(example.scene, frame_rate=FRAME_RATE), path, SIDE_PX).seen(example.question.targets)
    probe = probe_video(path)
    begin = max(truth, key=lambda frame_index: truth[frame_index].area)
    with stored_frames(path, segmenter.size_px) as frames:
        prompt = BoxPrompt(begin, truth[begin].box_xyxy_px)
        [propagation] = segmenter.propagate(frames, [prompt], (probe.width, probe.height))
        masks = dict(propagation.masks)
    return Carried(
        probe.width * probe.height, probe.frame_count, {i: mask.area for i, mask in masks.items()},
        {i: mask.area for i, mask in truth.items()}, region_j([masks], truth, probe.frame_count),
    )  # fmt: skip


@pytest.mark.parametrize("level", ["easy", "medium"])
def test_a_thing_that_has_left_has_no_mask(segmenter: Segmenter, tmp_path: Path, level: str) -> None:
    """On the first eight clips of the level, of which one frame had one when this was written (medium)."""
    clips = [carried(segmenter, tmp_path, level, seed) for seed in range(2000, 2008)]
    gone = sum(len(clip.gone) for clip in clips)
    still = sum(frame_index in clip.found for clip in clips for frame_index in clip.gone)
    assert gone >= 50
    assert still <= 0.03 * gone
    for clip in clips:
        # It was there before, and followed: ending early is no way out.
        assert len(clip.gone) >= 4
        assert clip.j > 0.85
        assert max(clip.found.values()) <= 4 * max(clip.true.values())


@pytest.mark.parametrize(
    ("level", "seed"),
    [
        ("easy", 2017), ("medium", 2017), ("hard", 2001), ("hard", 2007), ("hard", 2011), ("hard", 2014),
        ("hard", 2017),
    ],
)  # fmt: skip
def test_a_mask_that_outlives_its_thing_stays_small(
    segmenter: Segmenter, tmp_path: Path, level: str, seed: int
) -> None:
    """The worst clips of those measured, with this model and with the one before it."""
    clip = carried(segmenter, tmp_path, level, seed)
    left = [clip.found[frame_index] for frame_index in clip.gone if frame_index in clip.found]
    assert max(left, default=0) <= 0.1 * clip.picture
    assert max(clip.found.values()) <= 4 * max(clip.true.values())
