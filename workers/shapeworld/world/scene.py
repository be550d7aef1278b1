"""Scenes: things in front of each other, a camera, the light, a sound, and the times of the frames. No pixels.

Lengths are shares of the view's shorter side, so the view is 1 by 1 or longer; times are seconds; y points down.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.shapeworld.world.motion import Point
from workers.shapeworld.world.things import Thing

#: Times of the frames of a clip with variable frame rate are multiples of this.
VARIABLE_TICK_S = Fraction(1, 1000)
_VARIABLE_STEPS_MS = (33, 40, 67, 83, 125, 200)


@dataclass(frozen=True, slots=True)
class Camera:
    """The view's upper left corner in the world: at `start`, moving evenly."""

    start: Point
    velocity: Point

    def corner(self, time_s: NDArray[Any]) -> NDArray[Any]:
        """(len(time_s), 2) x, y."""
        return np.asarray(np.asarray(self.start) + time_s[:, None] * np.asarray(self.velocity))


@dataclass(frozen=True, slots=True)
class Light:
    """Brightness over time: one wave of the given depth (relative) and period."""

    depth: float
    period_s: float
    phase_rad: float

    def gain(self, time_s: float) -> float:
        return 1 + self.depth * float(np.sin(2 * np.pi * time_s / self.period_s + self.phase_rad))


@dataclass(frozen=True, slots=True)
class Sound:
    """The timbre of a shape (there or not), heard from `begins_s` until `ends_s`."""

    shape: str
    begins_s: float
    ends_s: float


@dataclass(frozen=True, slots=True)
class Scene:
    """Things from back to front, and what surrounds them. `frame_rate` None is variable frame rate."""

    seed: int
    level: str
    things: tuple[Thing, ...]
    view: Point
    duration_s: float
    frame_rate: int | None
    camera: Camera
    light: Light
    clutter: int
    sound: Sound | None

    def centers(self, index: int, time_s: NDArray[Any]) -> NDArray[Any]:
        """(len(time_s), 2) centre of a thing in the view, whether or not it is there already."""
        return np.asarray(self.things[index].motion.center(time_s) - self.camera.corner(time_s))

    def size_px(self, side_px: int) -> tuple[int, int]:
        """(width, height) for a shorter side of `side_px`; even, as the codec wants it."""
        return round(self.view[0] * side_px / 2) * 2, round(self.view[1] * side_px / 2) * 2


def frame_times(scene: Scene) -> tuple[Fraction, ...]:
    """The exact time in seconds at which each frame is shown; the first at 0."""
    ticks, tick_s = frame_ticks(scene)
    return tuple(at * tick_s for at in ticks)


def frame_ticks(scene: Scene) -> tuple[Sequence[int], Fraction]:
    """The same in ticks, and how long a tick is in seconds."""
    if scene.frame_rate is not None:
        return range(int(scene.duration_s * scene.frame_rate)), Fraction(1, scene.frame_rate)
    return _variable_ticks(scene.seed, scene.duration_s), VARIABLE_TICK_S


@lru_cache(maxsize=64)
def _variable_ticks(seed: int, duration_s: float) -> tuple[int, ...]:
    rng = np.random.default_rng([seed, 3])
    times_ms, at_ms = [], 0
    while at_ms < duration_s * 1000:
        times_ms.append(at_ms)
        at_ms += int(rng.choice(_VARIABLE_STEPS_MS))
    return tuple(times_ms)
