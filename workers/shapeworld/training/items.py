"""What GRPO learns from on the proving ground: fresh scenes of the training range, each asked once, with their truth.

The pictures are rendered at the size in which clips are written, without going through a file; whoever is to be
measured on files is measured by `workers.shapeworld.evaluation`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.domain.errors import BadInput
from backend.domain.masks import encode_mask
from backend.domain.runs import Mode
from workers.learning.items import Shown, TrainingItem, Truth
from workers.shapeworld.world.levels import EASY, HARD, LEVELS, MEDIUM, Level
from workers.shapeworld.world.make import Example, make_training_scene, make_validation_scene
from workers.shapeworld.world.queries import ASKED_KINDS, Kind
from workers.shapeworld.world.render import frames_at
from workers.shapeworld.world.scene import Scene, frame_times
from workers.shapeworld.world.sound import SAMPLE_RATE, audio
from workers.shapeworld.world.splits import SEEDS, Split

SIDE_PX = 384
_LEVELS = (EASY, MEDIUM, HARD)
#: Seeds of one training, disjoint from those of the others and of the supervised trainings, which take the first of
#: each million.
_OFFSET, _ROOM = 500_000, 400_000


@dataclass(frozen=True, slots=True)
class SceneFootage:
    """A scene as a clip, with the truth about its targets."""

    scene: Scene
    targets: tuple[int, ...]

    @property
    def frame_count(self) -> int:
        return len(frame_times(self.scene))

    def show(self, frame_indices: Sequence[int]) -> Shown:
        times = frame_times(self.scene)
        images, masks, boxes = [], {}, {}
        for frame in frames_at(self.scene, [float(times[i]) for i in frame_indices], SIDE_PX):
            images.append(frame.image)
            each = [encode_mask(frame.labels == target + 1) for target in self.targets]
            if seen := tuple(mask.box_xyxy_px for mask in each if mask.area):
                masks[frame.index] = encode_mask(np.isin(frame.labels, [target + 1 for target in self.targets]))
                boxes[frame.index] = seen
        known = frozenset(range(len(images)))
        return Shown(np.stack(images), Truth(masks, boxes, known, known))

    def sound(self, sample_rate_hz: int, max_s: float) -> NDArray[np.float32] | None:
        if sample_rate_hz != SAMPLE_RATE:
            raise BadInput(f"the world sounds at {SAMPLE_RATE} Hz, and the model hears {sample_rate_hz}")
        return audio(self.scene)[: int(max_s * SAMPLE_RATE)]


@dataclass(frozen=True, slots=True)
class TrainingScenes:
    """Draw n is a scene of the training range that no other draw has, of a kind and level drawn for it."""

    seed: int
    kinds: tuple[Kind, ...] = ASKED_KINDS
    levels: tuple[Level, ...] = _LEVELS

    @property
    def name(self) -> str:
        return f"shapeworld, training range: {', '.join(self.kinds)}; {', '.join(level.name for level in self.levels)}"

    def draw(self, number: int) -> TrainingItem:
        train = SEEDS[Split.TRAIN]
        seed = train.start + self.seed % 1000 * 1_000_000 + _OFFSET + number % _ROOM
        rng = np.random.default_rng([self.seed, number])
        kind = self.kinds[int(rng.integers(len(self.kinds)))]
        level = self.levels[int(rng.integers(len(self.levels)))]
        return training_item(make_training_scene(seed, kind, level), kind)


def training_scenes(seed: int, kinds: Sequence[str] | None, levels: Sequence[str] | None) -> TrainingScenes:
    """Of these kinds and levels; all kinds that have an answer, and all levels, if none are given. Raises `BadInput`
    for a name that is none."""
    for names, known in ((kinds, list(Kind)), (levels, list(LEVELS))):
        if wrong := [name for name in names or () if name not in known]:
            raise BadInput(f"{', '.join(wrong)}: the world has {', '.join(known)}")
    return TrainingScenes(
        seed, tuple(map(Kind, kinds)) if kinds else ASKED_KINDS,
        tuple(LEVELS[name] for name in levels) if levels else _LEVELS,
    )  # fmt: skip


def held_out(count: int, kinds: Sequence[Kind] = tuple(Kind), levels: Sequence[Level] = _LEVELS) -> list[TrainingItem]:
    """Scenes of the validation range: kinds in turn, and with each round of them the next level."""
    first = SEEDS[Split.VALIDATION].start + 10_000
    items = []
    for number in range(count):
        round_, place = divmod(number, len(kinds))
        kind, level = kinds[place], levels[round_ % len(levels)]
        items.append(training_item(make_validation_scene(first + round_, kind, level), kind))
    return items


def training_item(example: Example, kind: Kind) -> TrainingItem:
    question, scene = example.question, example.scene
    footage = SceneFootage(scene, question.targets)
    name = f"{scene.level}-{kind}-{scene.seed}"
    return TrainingItem(
        name, footage, question.text, Mode(question.mode), bool(question.targets), str(kind), question.description
    )
