"""Batches: pictures of one size with questions about them, drawn from a window over the training scenes that moves on
with the steps, so that a scene is seen several times, in other moments, mirrors and words, and then never again."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from workers.shapeworld.training.system2.pictures import CELL_PX, Asked, Picture, ask, look_indices, take
from workers.shapeworld.training.thinkers import resized_px
from workers.shapeworld.training.trainee import Phase, Source
from workers.shapeworld.world.levels import EASY, HARD, MEDIUM, Level
from workers.shapeworld.world.make import make_training_scene
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.splits import SEEDS, Split

#: Pixels of a picture, as in the model's profile: 128 × 128, 144 × 112, 176 × 96 or 112 × 144.
MAX_PIXELS = 18432
_LEVELS: tuple[tuple[Level, float], ...] = ((EASY, 0.15), (MEDIUM, 0.35), (HARD, 0.5))
#: Of phases about several things, which are far from learned where four and more of them are on a picture.
_CROWDED_LEVELS: tuple[tuple[Level, float], ...] = ((EASY, 0.12), (MEDIUM, 0.28), (HARD, 0.6))
_SIDE_PX = 384
_PICTURES_A_SCENE = 6
#: Room for the scenes of one training seed's phase; phases and seeds follow each other.
_SEEDS_A_PHASE = 200_000


@dataclass(frozen=True, slots=True)
class Batch:
    """B pictures and Q questions. Things are numbered within their picture; K is the most that one has.

    `images` (B, H, W, 3) uint8; `owners` (B, tokens) int64, -1 for the ground; `looks` (B, K, 3) int64 colour, shape,
    texture; `boxes_xyxy_px` (B, K, 4) float32; `asked`: picture and question.
    """

    images: NDArray[np.uint8]
    owners: NDArray[np.int64]
    looks: NDArray[np.int64]
    boxes_xyxy_px: NDArray[np.float32]
    asked: tuple[tuple[int, Asked], ...]


def picture_size(view: tuple[float, float]) -> tuple[int, int]:
    """(width, height) of a picture after the processor's resize."""
    rendered = round(view[0] * _SIDE_PX), round(view[1] * _SIDE_PX)
    return resized_px(rendered, CELL_PX // 2, MAX_PIXELS)


class Pictures(Source):
    """Options of a phase: "pictures" in a batch, "questions" about each, new "scenes" a step, the step "later" from
    which on questions are often about several things, and the share "several" of scenes that have several alike."""

    def __init__(self, seed: int, phases: Sequence[Phase], window_scenes: int = 160) -> None:
        self._seed, self._window_scenes = seed, window_scenes
        self._first = {phase.name: (seed * 16 + position) * _SEEDS_A_PHASE for position, phase in enumerate(phases)}
        self._scene = lru_cache(maxsize=2 * window_scenes)(_take_scene)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_scene"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._scene = lru_cache(maxsize=2 * self._window_scenes)(_take_scene)

    def batch(self, phase: Phase, step: int) -> Batch:
        rng = np.random.default_rng([self._seed, self._first[phase.name], step])
        begin = self._first[phase.name] + step * int(phase.option("scenes"))
        several = phase.option("several")
        window = [self._scene(begin + offset, several) for offset in range(self._window_scenes)]
        # The shape of a random picture is that of the batch, so each comes as often as the world has it.
        shape = window[int(rng.integers(len(window)))][0].image.shape
        alike = [pictures for pictures in window if pictures[0].image.shape == shape]
        chosen = []
        for _ in range(int(phase.option("pictures"))):
            pictures = alike[int(rng.integers(len(alike)))]
            picture = pictures[int(rng.integers(len(pictures)))]
            # Where things don't turn, they don't stand upside down either.
            upside_down = picture.level == HARD.name and rng.random() < 0.5
            chosen.append(picture.flipped(bool(rng.random() < 0.5), upside_down))
        return _collate(rng, chosen, int(phase.option("questions")), step >= phase.option("later", phase.steps))


def _take_scene(index: int, several: float) -> list[Picture]:
    """Some moments of the scene of that index; `several`: how often it is one that has several things alike."""
    rng = np.random.default_rng([index, 2])
    levels = _CROWDED_LEVELS if several else _LEVELS
    level = levels[int(rng.choice(len(levels), p=[share for _, share in levels]))][0]
    kind = list(Kind)[int(rng.integers(len(Kind)))]
    if several and rng.random() < several:
        kind = Kind.PLURAL
    seeds = SEEDS[Split.TRAIN]
    scene = make_training_scene(seeds.start + index % len(seeds), kind, level).scene
    times_s = rng.uniform(0, scene.duration_s, _PICTURES_A_SCENE)
    return take(scene, times_s.tolist(), picture_size(scene.view))


def _collate(rng: np.random.Generator, pictures: Sequence[Picture], questions: int, later: bool) -> Batch:
    most = max(len(picture.things) for picture in pictures)
    looks = np.zeros((len(pictures), most, 3), np.int64)
    boxes = np.zeros((len(pictures), most, 4), np.float32)
    asked = []
    for index, picture in enumerate(pictures):
        looks[index, : len(picture.things)] = look_indices(picture.things)
        boxes[index, : len(picture.things)] = picture.boxes_xyxy_px
        # The same words twice would be the same row twice.
        found = {question.description: question for _ in range(questions) if (question := ask(rng, picture, later))}
        asked += [(index, question) for question in found.values()]
    images = np.stack([picture.image for picture in pictures])
    owners = np.stack([picture.owners.ravel() for picture in pictures]).astype(np.int64)
    return Batch(images, owners, looks, boxes, tuple(asked))


#: What the views of the world become; a test holds that the model's coordinates reach.
SIZES = tuple(picture_size((max(float(a), 1.0), max(1 / float(a), 1.0))) for a in HARD.aspects)
