"""What the segmenter trains on: a few frames of a few scenes, boxes of things on the first of them, and all labels.

Frames lie apart as at one of the world's frame rates, run forward or backward, and are squeezed to a square as the
pipeline's frame store does. Plain numpy: a loader process runs this.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Generic, NamedTuple, TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.shapeworld.training.boxes import box_of
from workers.shapeworld.training.segmenter.moments import Moments, Spacing, pick
from workers.shapeworld.training.trainee import Phase, Source
from workers.shapeworld.world.levels import EASY, HARD, MEDIUM, Level
from workers.shapeworld.world.make import Example, make_training_scene
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.render import frames_at
from workers.shapeworld.world.scene import Scene
from workers.shapeworld.world.shapes import COLORS, SHAPES
from workers.shapeworld.world.splits import SEEDS, Split

LEVEL_SHARES: tuple[tuple[Level, float], ...] = ((EASY, 0.2), (MEDIUM, 0.35), (HARD, 0.45))
#: Hard scenes of things that are alike and hide each other.
CROWD = replace(HARD, shared_color_share=0.85, hidden_share_max=0.6)
#: A thing is prompted where at least this share of it is seen, and this share of the picture.
_SEEN_SHARE_MIN, _AREA_SHARE_MIN = 0.3, 0.001
#: Standard deviation of a box's edges, as a share of the side: System 2's are off by a pixel or two of 384.
_BOX_NOISE = 0.004
#: Half the sides of boxes without a picture, as shares of its side.
_FILL_HALF = (0.03, 0.16)
_THINGS_MAX = max(level.thing_count[1] for level in (EASY, MEDIUM, HARD))


#: Numpy arrays as they are drawn, tensors as they are learned from.
Array = TypeVar("Array")


class ClipBatch(NamedTuple, Generic[Array]):
    """B clips of T frames and N prompts, all at S pixels a side.

    A prompt says which clip and which label it is of. Frame 0 is prompted. `positions` are the frames' distances from
    it; where the second frame is not its neighbour, that one is prompted as well (`boxes_xyxy_px[1]`).
    """

    images: Array  # (B, T, S, S, 3) uint8 RGB
    labels: Array  # (B, T, S, S) uint8, 0 background, i + 1 thing i
    colors: Array  # (B, things + 1) int64, colour of a label, 0 none
    shapes: Array  # (B, things + 1) int64
    clips: Array  # (N,) int64
    things: Array  # (N,) int64, labels
    boxes_xyxy_px: Array  # (2, N, 4) float32
    positions: Array  # (T,) int64


class ClipSource(Source):
    """Batches of the training range, drawn from the training seed, the phase's name and the step."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def batch(self, phase: Phase, step: int) -> Any:
        """A `ClipBatch`; where the phase has the option "fill", only boxes (N, 4)."""
        rng = np.random.default_rng([self._seed, crc32(phase.name.encode()), step])
        if phase.option("fill"):
            return draw_boxes(rng, int(phase.option("prompts")), int(phase.option("side_px")))
        frame_count = int(rng.integers(int(phase.option("frames_min", 1)), int(phase.option("frames_max", 1)) + 1))
        is_far = rng.uniform() < phase.option("far_share") and frame_count > 2
        return draw_batch(
            rng, _training_examples(rng, phase.option("crowd_share")), side_px=int(phase.option("side_px")),
            clip_count=int(phase.option("pictures")) // frame_count, frame_count=frame_count,
            prompt_count=int(phase.option("masks")) // frame_count, is_far=is_far, spacing=_spacing(rng, phase),
            noise=_BOX_NOISE,
        )  # fmt: skip


def draw_boxes(rng: np.random.Generator, count: int, side_px: int) -> NDArray[np.float32]:
    """(count, 4) corners of boxes about as large as things are, cut off at the picture's edges."""
    center, half = rng.uniform(0, 1, (count, 2)), rng.uniform(*_FILL_HALF, (count, 2))
    boxes = np.concatenate([center - half, center + half], 1).clip(0, 1) * side_px
    return boxes.astype(np.float32)


def draw_batch(
    rng: np.random.Generator, examples: Iterator[Example], *, side_px: int, clip_count: int, prompt_count: int,
    frame_count: int, is_far: bool = False, spacing: Spacing = Spacing.NEAR, noise: float = 0,
) -> ClipBatch[NDArray[Any]]:  # fmt: skip
    """A batch of the first examples that have something to prompt. With `is_far` the first frame may lie anywhere, and
    the others follow each other somewhere else."""
    clips: list[_Clip] = []
    distance = int(rng.integers(5, 100)) if is_far else 1
    while len(clips) < clip_count:
        scene = next(examples).scene
        moments = pick(rng, scene, frame_count, spacing, is_far)
        clip = None if moments is None else _Clip.draw(rng, scene, moments, side_px, is_far)
        if clip is not None and clip.candidates:
            clips.append(clip)
    choices = [(c, label) for c, clip in enumerate(clips) for label in clip.candidates]
    picked = [choices[i] for i in rng.permutation(np.resize(rng.permutation(len(choices)), prompt_count))]
    boxes = np.asarray(
        [[box_of(clips[c].labels[t] == label) for c, label in picked] for t in (0, min(1, frame_count - 1))], np.float32
    )
    boxes += rng.normal(0, noise * side_px, boxes.shape).astype(np.float32) if noise else np.float32(0)
    return ClipBatch(
        np.stack([clip.images for clip in clips]), np.stack([clip.labels for clip in clips]),
        np.stack([clip.classes(0) for clip in clips]), np.stack([clip.classes(1) for clip in clips]),
        np.asarray([c for c, _ in picked]), np.asarray([label for _, label in picked]), boxes,
        np.asarray([0, *range(distance, distance + frame_count - 1)]),
    )  # fmt: skip


class _Clip(NamedTuple):
    scene: Scene
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    #: Labels that can be prompted on the frame (or the two frames) that need it.
    candidates: list[int]

    @classmethod
    def draw(
        cls, rng: np.random.Generator, scene: Scene, moments: Moments, side_px: int, is_far: bool
    ) -> "_Clip":  # fmt: skip
        turn = int(rng.integers(8))
        rendered = list(frames_at(scene, moments.times_s, side_px))
        images = np.stack([_turned(_squeezed(frame.image, side_px), turn) for frame in rendered])
        labels = np.stack([_turned(_squeezed(frame.labels, side_px), turn) for frame in rendered])
        seen = {thing + 1 for thing in moments.things}
        for t in range(2 if is_far else 1):
            areas_px = np.bincount(labels[t].ravel(), minlength=len(scene.things) + 1)[1:]
            whole_px = rendered[t].whole_px * (side_px**2 / rendered[t].labels.size)
            enough = (areas_px >= _SEEN_SHARE_MIN * whole_px) & (areas_px >= _AREA_SHARE_MIN * side_px**2)
            seen &= set((np.flatnonzero(enough) + 1).tolist())
        return cls(scene, images, labels, sorted(seen))

    def classes(self, of: int) -> NDArray[np.int64]:
        """By label: 1 + the index of its colour (`of` 0) or shape (1)."""
        names, known = (
            ([t.color for t in self.scene.things], tuple(COLORS))
            if of == 0
            else ([t.shape for t in self.scene.things], SHAPES)
        )
        found = np.zeros(_THINGS_MAX + 1, np.int64)
        found[1 : len(names) + 1] = [1 + known.index(name) for name in names]
        return found


def _training_examples(rng: np.random.Generator, crowd_share: float) -> Iterator[Example]:
    kinds, (levels, shares) = tuple(Kind), zip(*LEVEL_SHARES, strict=True)
    seeds = SEEDS[Split.TRAIN]
    while True:
        level = levels[int(rng.choice(len(levels), p=shares))]
        if crowd_share and rng.uniform() < crowd_share:
            level = CROWD
        yield make_training_scene(
            int(rng.integers(seeds.start, seeds.stop)), kinds[int(rng.integers(len(kinds)))], level
        )


def _spacing(rng: np.random.Generator, phase: Phase) -> Spacing:
    """As often as the phase says in its shares; else near."""
    shares = {s: phase.option(f"{s}_share") for s in (Spacing.WIDE, Spacing.PASSING, Spacing.LEAVING)}
    drawn = rng.uniform() if any(shares.values()) else 1.0
    for spacing, share in shares.items():
        if drawn < share:
            return spacing
        drawn -= share
    return Spacing.NEAR


def _squeezed(picture: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """To a square; labels (H, W) keep their values."""
    if picture.shape[:2] == (side_px, side_px):
        return picture
    how = Image.Resampling.BICUBIC if picture.ndim == 3 else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize((side_px, side_px), how))


def _turned(picture: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """One of the eight ways to lay a square."""
    picture = picture[::-1] if turn & 1 else picture
    picture = picture[:, ::-1] if turn & 2 else picture
    return np.ascontiguousarray(picture.swapaxes(0, 1) if turn & 4 else picture)
