"""Motion: where a thing is at a time, and how paths are drawn for the parts things play. World coordinates, no pixels.

Lengths are shares of the view's shorter side, speeds are shares a second, times are seconds; y points down.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]

#: Unit vectors on the screen.
DIRECTIONS: dict[str, Point] = {"right": (1.0, 0.0), "left": (-1.0, 0.0), "down": (0.0, 1.0), "up": (0.0, -1.0)}


class Role(StrEnum):
    """The part a thing plays. A way of drawing its path, never the truth: that is measured afterwards."""

    STILL = "still"
    DRIFT = "drift"
    CROSS = "cross"
    FAST = "fast"
    LEAVE = "leave"
    ENTER = "enter"


@dataclass(frozen=True, slots=True)
class Motion:
    """A straight or bowed path from `start` to `end`, gone along `legs` times, there and back; still before and after.

    `ease` in (-1, 1) is the speed's change over a leg: positive starts fast and ends slow.
    """

    start: Point
    end: Point
    begins_s: float
    ends_s: float
    legs: int = 1
    ease: float = 0.0
    bow: float = 0.0

    def center(self, time_s: NDArray[Any]) -> NDArray[Any]:
        """(len(time_s), 2) x, y in the world."""
        start, way = np.asarray(self.start), np.subtract(self.end, self.start)
        share = np.clip((time_s - self.begins_s) / (self.ends_s - self.begins_s), 0, 1) * self.legs
        leg = np.minimum(np.floor(share), self.legs - 1)
        gone = share - leg
        gone = gone + self.ease * gone * (1 - gone)
        gone = np.where(leg % 2 == 1, 1 - gone, gone)[:, None]
        sideways = np.asarray([-way[1], way[0]]) * self.bow
        return np.asarray(start + gone * way + np.sin(np.pi * gone) * sideways)


@dataclass(frozen=True, slots=True)
class Stage:
    """What paths are drawn for: the view's width and height, the clip's length, the largest change of speed."""

    view: Point
    duration_s: float
    ease_max: float


def stay(at: Point, stage: Stage) -> Motion:
    return Motion(at, at, 0, stage.duration_s)


def drift(rng: np.random.Generator, stage: Stage, at: Point, radius: float) -> Motion:
    """A short way at leisure, inside the view."""
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.12, 0.3)
    low, high = np.full(2, radius), np.asarray(stage.view) - radius
    end = np.clip(np.add(at, length * np.asarray([np.cos(angle), np.sin(angle)])), low, high)
    return Motion(at, _point(end), 0, stage.duration_s, ease=_ease(rng, stage))


def cross(
    rng: np.random.Generator, stage: Stage, direction: str, radius: float, speed: tuple[float, float] = (0.1, 0.25)
) -> Motion:
    """Through a good part of the view in one direction."""
    axis, sign = _axis(direction)
    side = stage.view[axis]
    length = rng.uniform(0.5, 0.7) * side
    low = rng.uniform(radius, max(side - radius - length, radius + 0.01))
    start, end = np.zeros(2), np.zeros(2)
    start[axis], end[axis] = (low, low + length) if sign > 0 else (low + length, low)
    start[1 - axis] = rng.uniform(radius, stage.view[1 - axis] - radius)
    end[1 - axis] = np.clip(start[1 - axis] + rng.uniform(-0.12, 0.12), radius, stage.view[1 - axis] - radius)
    takes_s = min(length / rng.uniform(*speed), 0.95 * stage.duration_s)
    begins_s = rng.uniform(0, stage.duration_s - takes_s)
    return Motion(
        _point(start), _point(end), begins_s, begins_s + takes_s, ease=_ease(rng, stage), bow=rng.uniform(-0.1, 0.1)
    )


def dash(rng: np.random.Generator, stage: Stage, radius: float) -> Motion:
    """Fast, and to and fro if the clip is longer than one way takes."""
    way = cross(rng, stage, str(rng.choice(list(DIRECTIONS))), radius)
    takes_s = float(np.hypot(*np.subtract(way.end, way.start))) / rng.uniform(0.4, 0.6)
    legs = max(1, int(0.9 * stage.duration_s / takes_s))
    begins_s = rng.uniform(0, max(stage.duration_s - legs * takes_s, 0.01))
    # Changes of speed would make other things faster for a moment; a dash keeps half of them.
    return Motion(way.start, way.end, begins_s, begins_s + legs * takes_s, legs, ease=way.ease / 2)


def leave(rng: np.random.Generator, stage: Stage, direction: str, radius: float) -> Motion:
    """From inside the view to wholly outside, well before the clip's end."""
    way = cross(rng, stage, direction, radius)
    axis, sign = _axis(direction)
    beyond = 1.25 * radius + 0.15  # the camera may follow it a little
    end = np.asarray(way.end)
    end[axis] = stage.view[axis] + beyond if sign > 0 else -beyond
    ends_s = rng.uniform(0.5, 0.75) * stage.duration_s
    takes_s = min(float(np.hypot(*np.subtract(end, way.start))) / rng.uniform(0.15, 0.35), 0.9 * ends_s)
    return Motion(way.start, _point(end), ends_s - takes_s, ends_s, ease=_ease(rng, stage))


def enter(rng: np.random.Generator, stage: Stage, direction: str, radius: float, not_before_s: float) -> Motion:
    """From wholly outside into the view, coming in after `not_before_s`."""
    back = {"left": "right", "right": "left", "up": "down", "down": "up"}[direction]
    out = leave(rng, stage, back, radius)
    takes_s = min(out.ends_s - out.begins_s, 0.8 * (stage.duration_s - not_before_s))
    return Motion(out.end, out.start, not_before_s, not_before_s + takes_s, ease=-out.ease)


def through(rng: np.random.Generator, stage: Stage, middle: Point) -> Motion:
    """Past a place, from well before it to well beyond, staying in the view where it can."""
    longest = int(np.argmax(stage.view))
    axis = longest if rng.random() < 0.7 else 1 - longest
    sign = 1.0 if rng.random() < 0.5 else -1.0
    half = np.zeros(2)
    half[axis], half[1 - axis] = sign * rng.uniform(0.32, 0.42) * stage.view[axis], rng.uniform(-0.06, 0.06)
    takes_s = rng.uniform(0.5, 0.9) * min(stage.duration_s, 6)
    begins_s = rng.uniform(0.02, 0.08) * stage.duration_s
    aim = np.asarray(middle) + rng.uniform(-0.02, 0.02, 2)
    return Motion(_point(aim - half), _point(aim + half), begins_s, begins_s + takes_s, ease=_ease(rng, stage) / 2)


def _axis(direction: str) -> tuple[int, float]:
    x, y = DIRECTIONS[direction]
    return (0, x) if x else (1, y)


def _ease(rng: np.random.Generator, stage: Stage) -> float:
    return float(rng.uniform(-stage.ease_max, stage.ease_max))


def _point(value: NDArray[Any]) -> Point:
    return float(value[0]), float(value[1])
