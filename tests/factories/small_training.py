"""A training of the small System 1, cut short: easy scenes of one thing, two groups of four, rewards of R_K alone.

As a script it is one process of a training: `python -m tests.factories.small_training FOLDER STEPS`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from backend.profiles import ModelProfile, load_profile
from backend.settings import RewardSettings, TrainingSettings
from workers.learning.items import TrainingItem
from workers.learning.judging import Judge
from workers.learning.run import Verdict, train
from workers.shapeworld.training.items import TrainingScenes
from workers.shapeworld.world.levels import EASY
from workers.shapeworld.world.queries import Kind

WEIGHTS = RewardSettings(boxes=0, masks=0, aid=0)
SETTINGS = TrainingSettings(
    steps=2, prompts_per_step=2, group_size=4, micro_batch=4, learning_rate=2e-4, beta=0.04, temperature=1.5,
    frames_min=16, max_new_tokens=90, loaders=0, save_every_steps=1, evaluate_every_steps=2, held_out_items=1,
    held_out_masks=False,
)  # fmt: skip


@dataclass(frozen=True)
class FewThings:
    """Draws of the training range, those with one thing: their answers are short."""

    scenes: TrainingScenes = field(default_factory=lambda: TrainingScenes(0, (Kind.ATTRIBUTE, Kind.SOUND), (EASY,)))
    name: str = "scenes of one thing"

    def draw(self, number: int) -> TrainingItem:
        candidates = (self.scenes.draw(100 * number + n) for n in range(100))
        return next(item for item in candidates if len(item.footage.scene.things) == 1)  # type: ignore[attr-defined]


class NobodyAsked:
    """Stands where System 2 and SAM2 would, and must not be asked."""

    def follow(self, *_: object, **__: object) -> None:
        raise AssertionError("System 2 was asked though nothing it finds is worth anything")


def profile() -> ModelProfile:
    return load_profile("shapeworld")


def judge(weights: RewardSettings = WEIGHTS) -> Judge:
    return Judge(NobodyAsked(), weights, 4)


def small_training(
    folder: Path, settings: TrainingSettings = SETTINGS, held_out: Sequence[TrainingItem] | None = None
) -> Verdict:
    torch.set_num_threads(1)
    held_out = [FewThings().draw(7)] if held_out is None else held_out
    return train(
        profile(), FewThings(), held_out, NobodyAsked(), folder, settings, WEIGHTS, say=lambda _: None
    )  # fmt: skip


if __name__ == "__main__":
    small_training(Path(sys.argv[1]), SETTINGS.model_copy(update={"steps": int(sys.argv[2])}))
