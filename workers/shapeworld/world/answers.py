"""Answers: which things fit a query, measured on an observation. Three outcomes: these things, clearly none, unclear.

Every rule has a margin between fitting and not fitting; one thing between the two makes the whole query unclear.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from workers.shapeworld.world.motion import DIRECTIONS
from workers.shapeworld.world.observe import STEP_S, Observation
from workers.shapeworld.world.queries import Kind, Query
from workers.shapeworld.world.scene import Scene
from workers.shapeworld.world.things import Look

#: Between two appearances, on top of what the raster's step may hide; and how long what is gone must have been gone.
TIME_MARGIN_S = 0.5
#: The fastest thing is this much faster than the second, over its time in view and at its best half second.
MEAN_SPEED_FACTOR, PEAK_SPEED_FACTOR = 1.6, 1.25
FAST_MIN_PER_S, STILL_MAX_PER_S, STILL_MAX_RAD_S = 0.06, 0.002, 0.02
#: Way in a direction that counts, and way that clearly doesn't (shares of the shorter side).
WAY_MIN, WAY_NONE = 0.35, 0.12
#: Of a thing's whole: clearly hidden by the other, and clearly not.
HIDDEN_MIN, HIDDEN_NONE = 0.5, 0.04
#: What goes behind something is seen this much of on either side of it.
WHOLE_MIN = 0.8

#: Of each thing: fits, clearly doesn't, unclear.
Verdict = bool | None
Answer = tuple[int, ...] | None
_AXES = {"left": (0, -1.0), "right": (0, 1.0), "above": (1, -1.0), "below": (1, 1.0)}


def answer(query: Query, scene: Scene, seen: Observation) -> Answer:
    """Indices of the things that fit, () where clearly none does, None where it isn't clear."""
    return _RULES[query.kind](query, scene, seen)


def _one(verdicts: list[Verdict]) -> Answer:
    """The one that fits, if it is one; all others must clearly not."""
    if None in verdicts or verdicts.count(True) > 1:
        return None
    return tuple(index for index, fits in enumerate(verdicts) if fits)


def _attribute(query: Query, scene: Scene, _: Observation) -> Answer:
    assert query.look is not None
    return _one([query.look.matches(thing) for thing in scene.things])


def _plural(query: Query, scene: Scene, _: Observation) -> Answer:
    assert query.look is not None
    found = tuple(index for index, thing in enumerate(scene.things) if query.look.matches(thing))
    return None if len(found) == 1 else found  # "all blue shapes" of one is odd, not wrong


def _sound(_: Query, scene: Scene, __: Observation) -> Answer:
    return _one([scene.sound is not None and thing.shape == scene.sound.shape for thing in scene.things])


def _anchor(look: Look | None, scene: Scene) -> Answer:
    assert look is not None
    return _one([look.matches(thing) for thing in scene.things])


def _relation(query: Query, scene: Scene, seen: Observation) -> Answer:
    anchors = _anchor(query.look, scene)
    if not anchors:
        return anchors
    assert query.toward is not None
    anchor, (axis, sign) = anchors[0], _AXES[query.toward]
    verdicts: list[Verdict] = []
    for index in range(len(scene.things)):
        both = seen.seen[index] & seen.seen[anchor]
        if index == anchor:
            verdicts.append(False)
            continue
        if both.sum() * STEP_S < 2 * TIME_MARGIN_S:
            return None
        away = seen.center[index][both] - seen.center[anchor][both]
        gap, across = sign * away[:, axis], np.abs(away[:, 1 - axis])
        margin = 0.5 * (seen.radius[index] + seen.radius[anchor])[both] + 0.03
        holds = bool((gap >= margin).all() and (gap >= 0.5 * across).all())
        verdicts.append(True if holds else False if (gap <= 0).all() else None)
    return _one(verdicts)


def _speeds(center: NDArray[np.float64], seen: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean over the steps in view, and the largest over half a second of them; per second."""
    steps = np.hypot(*np.diff(center, axis=0).T) / STEP_S
    steps = steps[seen[1:] & seen[:-1]]
    if not len(steps):
        return 0.0, 0.0
    pairs = (steps[1:] + steps[:-1]) / 2
    return float(steps.mean()), float(pairs.max(initial=0.0))


def _fastest(_: Query, scene: Scene, seen: Observation) -> Answer:
    if len(scene.things) < 2:
        return None
    found = set[Answer]()
    for centers in (seen.center, seen.world_center):
        speeds = np.asarray([_speeds(center, when) for center, when in zip(centers, seen.seen, strict=True)])
        spins = max(abs(thing.spin_rad_s) for thing in scene.things)
        if speeds.max() <= STILL_MAX_PER_S and spins <= STILL_MAX_RAD_S:
            found.add(())
            continue
        first = int(speeds[:, 0].argmax())
        mean, peak = np.delete(speeds, first, axis=0).max(0)
        clear = speeds[first, 0] >= max(FAST_MIN_PER_S, MEAN_SPEED_FACTOR * mean)
        found.add((first,) if clear and speeds[first, 1] >= PEAK_SPEED_FACTOR * peak else None)
    # On the screen and in the world: a camera that follows a thing must not decide.
    return found.pop() if len(found) == 1 else None


def _appears_last(_: Query, scene: Scene, seen: Observation) -> Answer:
    if len(scene.things) < 2:
        return None
    appears = seen.seen.argmax(1)  # clearly there
    begins = (~seen.gone).argmax(1)  # the first bit of it
    last = int(begins.argmax())
    for gone, there, since in zip(seen.gone, seen.seen, appears, strict=True):
        lost = since + np.flatnonzero(gone[since:])
        if len(lost) and there[lost[0] :].any():
            return None  # it comes back: which appearance is meant?
    if appears.max() == 0:
        return ()
    margin = TIME_MARGIN_S / STEP_S + 1
    others = np.delete(appears, last)
    return (last,) if begins[last] >= max(others.max(), 0) + margin else None


def _leaves(_: Query, scene: Scene, seen: Observation) -> Answer:
    final = int(np.ceil(TIME_MARGIN_S / STEP_S)) + 1
    verdicts: list[Verdict] = []
    for index in range(len(scene.things)):
        begins, ends = _span(seen.seen[index])
        inset = np.minimum(seen.center[index], np.asarray(seen.view) - seen.center[index]).min(1) / seen.radius[index]
        out = bool((seen.in_view[index, -final:] <= 0.01).all() and (inset[-final:] < 0).all())
        back = bool((seen.in_view[index, begins:ends] < 0.3).any())
        # On its way in a thing may still reach out of the view; at the end it may not be on its way out.
        stays = bool((inset[begins:] >= 0.2).all() and (inset[-final:] >= 0.7).all())
        verdicts.append(True if out and not back else False if stays else None)
    return _one(verdicts)


def _direction(query: Query, scene: Scene, seen: Observation) -> Answer:
    assert query.toward is not None
    axis, sign = (0, DIRECTIONS[query.toward][0]) if DIRECTIONS[query.toward][0] else (1, DIRECTIONS[query.toward][1])
    verdicts: list[Verdict] = []
    for index in range(len(scene.things)):
        begins, ends = _span(seen.seen[index])
        views = [centers[index, begins:ends] for centers in (seen.center, seen.world_center)]
        goes = [_goes(sign * path[:, axis], path[:, 1 - axis]) for path in views]
        verdicts.append(goes[0] if goes[0] == goes[1] else None)
    return _one(verdicts)


def _goes(along: NDArray[np.float64], across: NDArray[np.float64]) -> Verdict:
    """Whether a path goes the way of `along`, nearly straight and never back."""
    net = along[-1] - along[0]
    farthest = float((along - np.minimum.accumulate(along)).max())
    if farthest <= WAY_NONE:
        return False
    straight = float(np.ptp(across)) <= 0.4 * net and float(np.abs(np.diff(along)).sum()) <= 1.1 * net
    return True if net >= WAY_MIN and straight else None


def _passes_behind(query: Query, scene: Scene, seen: Observation) -> Answer:
    anchors = _anchor(query.look, scene)
    if not anchors:
        return anchors
    others = range(len(scene.things))
    return _one([False if i == anchors[0] else _passes(i, anchors[0], seen) for i in others])


def _passes(index: int, anchor: int, seen: Observation) -> Verdict:
    """Whether the thing goes behind the anchor on one side and comes out on the other, and is the one that moves."""
    hidden = seen.hidden_by[index, anchor]
    if hidden.max() <= HIDDEN_NONE:
        return False
    most = int(hidden.argmax())
    clear = (seen.visible[index] >= WHOLE_MIN) & (hidden <= HIDDEN_NONE)
    before, after = np.flatnonzero(clear[:most]), np.flatnonzero(clear[most:])
    if hidden[most] < HIDDEN_MIN or not len(before) or not len(after):
        return None
    span = slice(before[-1], most + after[0] + 1)
    away = (seen.center[index] - seen.center[anchor])[span]
    ways = [float(np.hypot(*np.diff(seen.world_center[i, span], axis=0).T).sum()) for i in (index, anchor)]
    if float(away[0] @ away[-1]) >= 0 or ways[0] < 2 * ways[1]:
        return None
    return True


def _span(seen: NDArray[np.bool_]) -> tuple[int, int]:
    """First step at which a thing is seen, and one past the last."""
    return int(seen.argmax()), len(seen) - int(seen[::-1].argmax())


_RULES: dict[Kind, Callable[[Query, Scene, Observation], Answer]] = {
    Kind.ATTRIBUTE: _attribute,
    Kind.PLURAL: _plural,
    Kind.RELATION: _relation,
    Kind.FASTEST: _fastest,
    Kind.APPEARS_LAST: _appears_last,
    Kind.LEAVES: _leaves,
    Kind.DIRECTION: _direction,
    Kind.PASSES_BEHIND: _passes_behind,
    Kind.SOUND: _sound,
}
