"""The moments of a scene that make a training clip: near each other, far apart, or while one thing passes another."""

from collections.abc import Collection
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from workers.shapeworld.world.observe import observe
from workers.shapeworld.world.scene import Scene


class Spacing(StrEnum):
    #: As at 30 frames a second, to as at 8 with one left out.
    NEAR = "near"
    #: So far apart that things are gone, or back, or somewhere else: they must be known by their looks.
    WIDE = "wide"
    #: While one thing is behind another, from before until after.
    PASSING = "passing"


_STEPS_S = {Spacing.NEAR: (0.033, 0.2), Spacing.WIDE: (0.2, 1.0)}
#: Shares of a thing: hidden while it is behind another, and seen before and after.
_HIDDEN_MIN, _CLEAR_MIN = 0.5, 0.5
_PASSING_MAX_S = 3.0
#: How much longer before and after a clip of a passing goes, at most.
_BEFORE_S, _AFTER_S = 0.3, 0.6


class Moments(NamedTuple):
    """Times of the frames, and the indices of the things that are worth a prompt."""

    times_s: list[float]
    things: Collection[int]


def pick(rng: np.random.Generator, scene: Scene, count: int, spacing: Spacing, is_far: bool) -> Moments | None:
    """`count` moments at one step from each other, forward or backward; with `is_far` the first of them anywhere. None
    if nothing passes where that is asked for."""
    things: Collection[int] = range(len(scene.things))
    if spacing is Spacing.PASSING:
        passing = _passing(rng, scene)
        if passing is None:
            return None
        begin_s, end_s, things = passing
        times_s = np.linspace(begin_s, end_s, count)
    else:
        step_s = min(float(rng.uniform(*_STEPS_S[spacing])), scene.duration_s / count)
        times_s = rng.uniform(0, scene.duration_s - step_s * (count - 1)) + step_s * np.arange(count)
    if rng.uniform() < 0.5:
        times_s = times_s[::-1].copy()
    if is_far:
        times_s[0] = rng.uniform(0, scene.duration_s)
    return Moments([float(time_s) for time_s in times_s], things)


def _passing(rng: np.random.Generator, scene: Scene) -> tuple[float, float, tuple[int, int]] | None:
    """Begin and end of one time at which something is mostly hidden by something else, and these two."""
    seen = observe(scene)
    behind = np.argwhere((seen.hidden_by.sum(1) >= _HIDDEN_MIN) & (seen.in_view >= _CLEAR_MIN))
    if not len(behind):
        return None
    thing, at = (int(n) for n in behind[rng.integers(len(behind))])
    clear = np.flatnonzero(seen.visible[thing] >= _CLEAR_MIN)
    before, after = clear[clear < at], clear[clear > at]
    if not (len(before) and len(after)) or seen.time_s[after[0]] - seen.time_s[before[-1]] > _PASSING_MAX_S:
        return None
    begin_s = max(0.0, float(seen.time_s[before[-1]] - rng.uniform(0, _BEFORE_S)))
    end_s = min(scene.duration_s, float(seen.time_s[after[0]] + rng.uniform(0, _AFTER_S)))
    return begin_s, end_s, (thing, int(seen.hidden_by[thing, :, at].argmax()))
