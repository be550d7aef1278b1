"""The moments of a scene that make a training clip: near each other, far apart, while one thing passes another, or
while one comes or goes."""

from collections.abc import Collection
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.shapeworld.world.observe import STEP_S, observe
from workers.shapeworld.world.scene import Scene


class Spacing(StrEnum):
    #: As at 30 frames a second, to as at 8 with one left out.
    NEAR = "near"
    #: So far apart that things are gone, or back, or somewhere else: they must be known by their looks.
    WIDE = "wide"
    #: While one thing is behind another, from before until after.
    PASSING = "passing"
    #: From when one thing is seen until well after it has gone, or, backward, before it has come.
    LEAVING = "leaving"


_STEPS_S = {Spacing.NEAR: (0.033, 0.2), Spacing.WIDE: (0.2, 1.0)}
#: Shares of a thing: hidden while it is behind another, and seen before and after.
_HIDDEN_MIN, _CLEAR_MIN = 0.5, 0.5
_PASSING_MAX_S = 3.0
#: How much longer before and after a clip of a passing goes, at most.
_BEFORE_S, _AFTER_S = 0.3, 0.6
#: Between the frames of a clip in which something leaves.
_LEAVING_STEP_S = (0.05, 0.5)


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
    elif spacing is Spacing.LEAVING:
        leaving = _leaving(rng, scene, count)
        if leaving is None:
            return None
        times_s, thing = leaving
        return Moments([float(time_s) for time_s in times_s], (thing, int(rng.integers(len(scene.things)))))
    else:
        step_s = min(float(rng.uniform(*_STEPS_S[spacing])), scene.duration_s / count)
        times_s = rng.uniform(0, scene.duration_s - step_s * (count - 1)) + step_s * np.arange(count)
    if rng.uniform() < 0.5:
        times_s = times_s[::-1].copy()
    if is_far:
        times_s[0] = rng.uniform(0, scene.duration_s)
    return Moments([float(time_s) for time_s in times_s], things)


def _leaving(rng: np.random.Generator, scene: Scene, count: int) -> tuple[NDArray[np.float64], int] | None:
    """`count` times and the thing that is well seen at the first, and at one or more of the last not at all."""
    seen = observe(scene)
    is_clear = seen.visible >= _CLEAR_MIN
    flips = np.argwhere(seen.gone[:, 1:] != seen.gone[:, :-1])
    if not len(flips):
        return None
    thing, at = (int(n) for n in flips[rng.integers(len(flips))])
    forward = bool(seen.gone[thing, at + 1])
    clear = np.flatnonzero(is_clear[thing, : at + 1] if forward else is_clear[thing, at + 1 :])
    if not len(clear):
        return None
    begin = int(clear[-1]) if forward else at + 1 + int(clear[0])
    sign, begin_s = (1 if forward else -1), float(seen.time_s[begin])
    room_s = scene.duration_s - begin_s if forward else begin_s
    flip_s = abs(float(seen.time_s[at]) - begin_s) + STEP_S
    # The thing is gone from somewhere between the second frame and the last.
    step_s = max(float(rng.uniform(*_LEAVING_STEP_S)), flip_s / (count - 1.5))
    if step_s * (count - 1) >= room_s:
        step_s = room_s / count
    back_s = min(float(rng.uniform(0, 1)) * max(0.0, step_s * (count - 1.5) - flip_s), begin_s if forward else 0.0)
    if not forward:
        back_s = min(back_s, max(0.0, scene.duration_s - STEP_S - begin_s))
    times_s = begin_s - sign * back_s + sign * step_s * np.arange(count)
    return times_s.clip(0, scene.duration_s - 1e-3), thing


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
