"""Clips of the validation range by which a training is judged while it goes on."""

from collections.abc import Iterator
from functools import cache
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.shapeworld.training.segmenter.batches import ClipBatch, draw_batch
from workers.shapeworld.world.levels import LEVELS, Level
from workers.shapeworld.world.make import Example, make_validation_scene
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.splits import SEEDS, Split

_BATCHES, _CLIPS, _PROMPTS = 2, 4, 8


@cache
def validation_batches(side_px: int, frame_count: int) -> tuple[tuple[str, tuple[ClipBatch[NDArray[Any]], ...]], ...]:
    """By level: a few batches of clips with exact boxes, always the same."""
    return tuple((name, tuple(_batches(level, side_px, frame_count))) for name, level in LEVELS.items())


def _batches(level: Level, side_px: int, frame_count: int) -> Iterator[ClipBatch[NDArray[Any]]]:
    rng, examples = np.random.default_rng(0), _examples(level)
    for _ in range(_BATCHES):
        yield draw_batch(
            rng, examples, side_px=side_px, clip_count=_CLIPS, prompt_count=_PROMPTS, frame_count=frame_count
        )


def _examples(level: Level) -> Iterator[Example]:
    kinds = tuple(Kind)
    for number in count():
        yield make_validation_scene(SEEDS[Split.VALIDATION][number], kinds[number % len(kinds)], level)
