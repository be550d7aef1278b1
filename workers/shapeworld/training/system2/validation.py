"""How well System 2 grounds on the validation range, through the code that the pipeline runs."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Qwen2_5OmniProcessor

from backend.domain.annotation import Box
from backend.profiles import System2Profile, Weights
from workers.pipeline.engines.thinker import Thinker
from workers.pipeline.system2 import Grounding, System2
from workers.shapeworld.training.boxes import box_of
from workers.shapeworld.training.system2.batches import MAX_PIXELS
from workers.shapeworld.training.system2.language import PROMPTS
from workers.shapeworld.training.system2.pictures import GONE_SHARE, SEEN_SHARE
from workers.shapeworld.training.thinkers import save_checkpoint
from workers.shapeworld.training.trainee import Figures
from workers.shapeworld.world.levels import LEVELS, Level
from workers.shapeworld.world.make import Example, make_validation_scene
from workers.shapeworld.world.observe import observe
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.render import frames_at
from workers.shapeworld.world.splits import SEEDS, Split

_SIDE_PX = 384
_CLEARLY_SEEN_SHARE = 0.5
_HIT_IOU = 0.5
_SINGLE_KINDS = (Kind.ATTRIBUTE, Kind.RELATION, Kind.FASTEST, Kind.LEAVES, Kind.PASSES_BEHIND, Kind.SOUND)
_EVERY_SO_OFTEN = 16


@dataclass(frozen=True, slots=True)
class Case:
    """A picture at source size, the words, and the boxes of what they fit."""

    image: NDArray[np.uint8]
    description: str
    boxes_xyxy_px: tuple[Box, ...]
    thing_count: int


def case(seed: int, kind: Kind, level: Level) -> Case | None:
    """The case of a validation seed: the question's description (for `ABSENT`: its words for one picture) at a moment
    that shows all of its targets; None if there is no such moment."""
    example = make_validation_scene(seed, kind, level)
    description = _description(example)
    moment_s = _moment_s(np.random.default_rng([seed, 5]), example)
    if not description or moment_s is None:
        return None
    [frame] = frames_at(example.scene, [moment_s], _SIDE_PX)
    boxes = []
    for target in example.question.targets:
        mask = frame.labels == target + 1
        if not mask.sum() / max(frame.whole_px[target], 1) > GONE_SHARE:
            return None
        boxes.append(Box(*box_of(mask)))
    return Case(frame.image, description, tuple(boxes), len(example.scene.things))


def _description(example: Example) -> str:
    question = example.question
    if question.targets:
        return question.description
    look, plural = question.query.look, question.query.kind is Kind.PLURAL
    return f"the {look.phrase(plural)}" if look and question.query.kind in (Kind.ATTRIBUTE, Kind.PLURAL) else ""


def _moment_s(rng: np.random.Generator, example: Example) -> float | None:
    seen = observe(example.scene)
    targets = list(example.question.targets)
    worst = seen.visible[targets].min(0) if targets else np.ones(len(seen.time_s))
    good = np.flatnonzero(worst >= (_CLEARLY_SEEN_SHARE if len(targets) < 2 else SEEN_SHARE))
    return float(seen.time_s[int(rng.choice(good))]) if len(good) else None


def cases(kinds: Sequence[Kind], level: Level, count: int, first: int = 0) -> list[Case]:
    """`count` cases of kinds in turn, from the `first` seed of the range on."""
    seeds = SEEDS[Split.VALIDATION]
    drawn = (case(seed, kind, level) for seed, kind in zip(seeds[first:], cycle(kinds), strict=False))
    return list(islice((found for found in drawn if found is not None), count))


def is_right(truth: Sequence[Box], found: Iterable[Box]) -> bool:
    """Whether each true box has its own found one with IoU above a half, and nothing else was found."""
    left = list(found)
    if len(left) != len(truth):
        return False
    for box in truth:
        best = max(left, key=box.iou)
        if box.iou(best) <= _HIT_IOU:
            return False
        left.remove(best)
    return True


def load(checkpoint: Path) -> System2:
    """System 2 as the pipeline runs it, from a checkpoint of this training."""
    weights = Weights(source="path", name=str(checkpoint), license="", trained_on="")
    profile = System2Profile(
        weights=weights, dtype="float32", prompts=PROMPTS, max_pixels=MAX_PIXELS, min_pixels=MAX_PIXELS,
        content_order=("text", "image"), coordinates="absolute", max_new_tokens=96, batch_size=16,
    )  # fmt: skip
    return System2(Thinker(weights, profile.dtype, "cpu"), profile)


def ground(system2: System2, asked: Sequence[Case]) -> list[Grounding]:
    return system2.ground([each.image for each in asked], [each.description for each in asked])


@cache
def _few() -> dict[str, list[Case]]:
    """One thing at each level, several, and nothing."""
    groups = {name: cases(_SINGLE_KINDS, level, _EVERY_SO_OFTEN) for name, level in LEVELS.items()}
    groups["plural"] = cases([Kind.PLURAL], LEVELS["medium"], _EVERY_SO_OFTEN)
    groups["absent"] = cases([Kind.ABSENT], LEVELS["medium"], _EVERY_SO_OFTEN)
    return groups


def validate(thinker: Any, processor: Qwen2_5OmniProcessor) -> Figures:
    """Shares of right answers in a few cases of each group."""
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        save_checkpoint(thinker, processor, Path(folder))
        system2 = load(Path(folder))
        return {name: _share_right(system2, group) for name, group in _few().items()}


def _share_right(system2: System2, asked: Sequence[Case]) -> float:
    answers = ground(system2, asked)
    right = [
        is_right(each.boxes_xyxy_px, [box.box_xyxy_px for box in answer.boxes])
        for each, answer in zip(asked, answers, strict=True)
    ]
    return sum(right) / len(right)
