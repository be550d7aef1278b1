"""What System 1 is taught from, drawn once for all tests."""

from functools import cache

import numpy as np

from workers.shapeworld.training.system1 import scenes, sightings, words
from workers.shapeworld.training.system1.recipe import MAX_PIXELS
from workers.shapeworld.training.system1.tokens import Encoder

SCENES = scenes.Scenes(0, 160)
SECONDS = sightings.FRAME_COUNT / sightings.NOMINAL_FPS


@cache
def samples() -> list[scenes.Sample]:
    rng = np.random.default_rng(0)
    return [scenes.draw_sample(rng, SCENES, listening=n % 8 == 0) for n in range(300)]


@cache
def encoder() -> Encoder:
    return Encoder(MAX_PIXELS)


def chosen(completion: str) -> str:
    """Which line of the list a completion chooses."""
    return completion.split(words.CHOICE)[1].split(words.END)[0].split(" the ")[0]
