"""Staging: drawing a scene in which a question of some kind is likely to have a clear answer, or clearly none.

Nothing here is the truth. A scene that came out otherwise (hidden, too close, too slow) is drawn again by its caller.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from workers.shapeworld.world.levels import Level
from workers.shapeworld.world.motion import (
    DIRECTIONS,
    Motion,
    Point,
    Role,
    Stage,
    cross,
    dash,
    drift,
    enter,
    leave,
    stay,
    through,
)
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.scene import Camera, Light, Scene, Sound
from workers.shapeworld.world.shapes import COLORS
from workers.shapeworld.world.splits import Pair
from workers.shapeworld.world.things import Look, Thing

_COMMON = {Role.STILL: 0.3, Role.DRIFT: 0.3, Role.CROSS: 0.2, Role.FAST: 0.06, Role.LEAVE: 0.07, Role.ENTER: 0.07}
#: How often each role is played by those the question isn't about. Rivals of the answer are left out, for most of the
#: scenes that have them are unclear.
_OTHERS: dict[Kind, dict[Role, float]] = {
    Kind.FASTEST: {Role.STILL: 0.3, Role.DRIFT: 0.5, Role.CROSS: 0.2},
    Kind.APPEARS_LAST: {Role.STILL: 0.4, Role.DRIFT: 0.4, Role.CROSS: 0.15, Role.LEAVE: 0.05},
    Kind.LEAVES: {Role.STILL: 0.35, Role.DRIFT: 0.35, Role.CROSS: 0.15, Role.FAST: 0.05, Role.ENTER: 0.1},
    Kind.DIRECTION: {Role.STILL: 0.4, Role.DRIFT: 0.3, Role.CROSS: 0.3},
    Kind.PASSES_BEHIND: {Role.STILL: 0.4, Role.DRIFT: 0.3, Role.CROSS: 0.3},
    Kind.RELATION: {Role.STILL: 0.6, Role.DRIFT: 0.4},
}
_LATE_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Cast:
    """What the scene is drawn for."""

    kind: Kind
    absent: bool
    level: Level
    pairs: tuple[Pair, ...]


def draw(rng: np.random.Generator, seed: int, cast: Cast) -> Scene:
    """One scene; the caller looks whether it is good."""
    level = cast.level
    fewest = 1 if cast.kind in (Kind.ATTRIBUTE, Kind.LEAVES, Kind.DIRECTION, Kind.SOUND) or cast.absent else 2
    count = int(rng.integers(max(level.thing_count[0], fewest), level.thing_count[1] + 1))
    aspect = float(level.aspects[int(rng.integers(len(level.aspects)))])
    view = (max(aspect, 1.0), max(1 / aspect, 1.0))
    duration_s = round(2 * rng.uniform(*level.duration_s)) / 2
    stage = Stage(view, duration_s, level.speed_change_max)
    looks = _looks(rng, cast, count)
    radii = rng.uniform(*level.radius, count)
    motions, appears = _motions(rng, stage, cast, radii)
    frozen = cast.absent and cast.kind is Kind.FASTEST
    things = [
        _thing(rng, level, look, float(size), motion, late, duration_s, frozen)
        for look, size, motion, late in zip(looks, radii, motions, appears, strict=True)
    ]
    things = _stacked(rng, things, cast)
    variable = rng.random() < level.variable_rate_share
    rate = None if variable else int(rng.choice(level.frame_rates))
    pan = 0.0 if frozen or rng.random() < 0.5 else float(rng.uniform(0.3, 1)) * level.pan_max
    light = Light(
        float(rng.uniform(0, level.light_change_max)), float(rng.uniform(2, 8)), float(rng.uniform(0, 2 * np.pi))
    )
    clutter = int(rng.integers(level.clutter_max + 1))
    sound = _sound(rng, cast, things, duration_s)
    return Scene(
        seed, level.name, tuple(things), view, duration_s, rate, _camera(rng, pan, duration_s), light, clutter, sound
    )


def _looks(rng: np.random.Generator, cast: Cast, count: int) -> list[Look]:
    """Looks that differ pairwise, from the allowed pairs. In plural scenes two or more share a colour, shape or
    texture."""
    level, looks = cast.level, list[Look]()
    share = str(rng.choice(["color", "shape"])) if cast.kind is Kind.PLURAL and not cast.absent else ""
    group = int(rng.integers(2, count + 1)) if share and count > 1 else 0
    pairs = cast.pairs
    while len(looks) < count:
        color, shape = pairs[int(rng.integers(len(pairs)))]
        look = Look(color, shape, str(rng.choice(level.textures)))
        used = {other.color for other in looks}
        if 0 < len(looks) < group:
            allowed = getattr(look, share) == getattr(looks[0], share) and (share == "color" or color not in used)
        elif len(used) < len(COLORS) - 1 and rng.random() >= level.shared_color_share:
            allowed = color not in used
        else:
            allowed = True
        if allowed and look not in looks:
            looks.append(look)
    return looks


def _motions(
    rng: np.random.Generator, stage: Stage, cast: Cast, radii: NDArray[np.float64]
) -> tuple[list[Motion], list[float]]:
    """Paths and times of appearing. Thing 0 plays the part that is asked for; in scenes for absent answers nobody."""
    kind, count = cast.kind, len(radii)
    others = dict(_OTHERS.get(kind, _COMMON))
    if cast.absent and kind is Kind.FASTEST:
        others = {Role.STILL: 1.0}
    taken: list[Point] = []
    motions, appears = [], []
    for index in range(count):
        role = _part(rng, kind, others, leading=index == 0 and not cast.absent)
        at = _place(rng, stage, float(radii[index]), taken, cast.level.placing_tries)
        if kind is Kind.PASSES_BEHIND and index == 1:
            # In the middle, so that there is room in the view on either side of it.
            at = (float(rng.uniform(0.38, 0.62)) * stage.view[0], float(rng.uniform(0.38, 0.62)) * stage.view[1])
        late = 0.0
        if kind is Kind.APPEARS_LAST and not cast.absent:
            late = rng.uniform(0.4, 0.6) * stage.duration_s if index == 0 else 0.0
            if index and rng.random() < 0.4:
                late = rng.uniform(0.05, 0.15) * stage.duration_s
        elif kind not in (Kind.RELATION, Kind.PASSES_BEHIND, Kind.APPEARS_LAST) and rng.random() < _LATE_SHARE:
            late = rng.uniform(0.15, 0.5) * stage.duration_s
        motion = _motion(rng, stage, role, at, float(radii[index]), late)
        if role is Role.ENTER:
            late = 0.0  # it comes from outside; it needn't be kept from existing
        motions.append(motion)
        appears.append(float(late))
        taken.append(at)
    if kind is Kind.PASSES_BEHIND and count > 1:
        motions[0], motions[1] = through(rng, stage, taken[1]), stay(taken[1], stage)
    return motions, appears


def _part(rng: np.random.Generator, kind: Kind, others: dict[Role, float], leading: bool) -> Role:
    lead = {
        Kind.FASTEST: (Role.FAST,),
        Kind.APPEARS_LAST: (Role.STILL, Role.DRIFT, Role.ENTER),
        Kind.LEAVES: (Role.LEAVE,),
        Kind.DIRECTION: (Role.CROSS,),
    }.get(kind)
    if leading and lead:
        return lead[int(rng.integers(len(lead)))]
    weights = np.asarray(list(others.values()))
    return list(others)[int(rng.choice(len(weights), p=weights / weights.sum()))]


def _motion(rng: np.random.Generator, stage: Stage, role: Role, at: Point, radius: float, late_s: float) -> Motion:
    direction = str(rng.choice(list(DIRECTIONS)))
    if role is Role.STILL:
        return stay(at, stage)
    if role is Role.DRIFT:
        return drift(rng, stage, at, radius)
    if role is Role.CROSS:
        return cross(rng, stage, direction, radius)
    if role is Role.FAST:
        return dash(rng, stage, radius)
    if role is Role.LEAVE:
        return leave(rng, stage, direction, radius)
    return enter(rng, stage, direction, radius, late_s or 0.2 * stage.duration_s)


def _place(rng: np.random.Generator, stage: Stage, radius: float, taken: list[Point], tries: int) -> Point:
    """Of some places in the view, the one farthest from those taken."""
    room = np.asarray(stage.view) - 2.2 * radius
    places = 1.1 * radius + rng.random((tries, 2)) * room
    if taken:
        nearest = np.hypot(*(places[:, None] - np.asarray(taken)[None]).transpose(2, 0, 1)).min(1)
        places = places[[int(nearest.argmax())]]
    return float(places[0, 0]), float(places[0, 1])


def _thing(
    rng: np.random.Generator, level: Level, look: Look, radius: float, motion: Motion, appears_s: float,
    duration_s: float, frozen: bool,
) -> Thing:  # fmt: skip
    assert look.color is not None
    assert look.shape is not None
    assert look.texture is not None
    turns = not frozen and level.spin_max_rad_s > 0 and rng.random() < 0.5
    growth = float(rng.uniform(-0.5, 0.5)) * level.size_change_max if rng.random() < 0.6 else 0.0
    return Thing(
        look.shape, look.color, look.texture, float(rng.uniform(0.9, 1.06)), radius * (1 - growth / 2),
        radius * growth / duration_s, float(rng.uniform(-0.25, 0.25)),
        float(rng.uniform(-1, 1)) * level.spin_max_rad_s if turns else 0.0, appears_s, motion,
    )  # fmt: skip


def _stacked(rng: np.random.Generator, things: list[Thing], cast: Cast) -> list[Thing]:
    """Back to front in any order, but for who passes behind whom; its opposite, in front, is the near miss."""
    order = [int(i) for i in rng.permutation(len(things))]
    if cast.kind is Kind.PASSES_BEHIND and len(things) > 1:
        passer, anchor = order.index(0), order.index(1)
        if (passer > anchor) != cast.absent:
            order[passer], order[anchor] = order[anchor], order[passer]
        if not cast.absent:
            # The one in front is the larger: it should hide the other for a moment.
            big = max(things[0].radius, things[1].radius)
            small = min(things[0].radius, things[1].radius)
            things[0], things[1] = replace(things[0], radius=small), replace(things[1], radius=big)
    return [things[i] for i in order]


def _sound(rng: np.random.Generator, cast: Cast, things: list[Thing], duration_s: float) -> Sound | None:
    """Of a thing whose shape is its own, if there is one; for absent answers silence, or a shape that isn't there."""
    shapes = [thing.shape for thing in things]
    alone = [thing for thing in things if shapes.count(thing.shape) == 1]
    if cast.kind is Kind.SOUND and cast.absent:
        strangers = [shape for shape in cast.level.shapes if shape not in shapes]
        if not strangers or rng.random() < 0.5:
            return None
        return _span(rng, str(rng.choice(strangers)), 0, duration_s)
    if not alone or (cast.kind is not Kind.SOUND and rng.random() < 0.5):
        return None
    thing = alone[int(rng.integers(len(alone)))]
    return _span(rng, thing.shape, thing.appears_s, duration_s)


def _span(rng: np.random.Generator, shape: str, from_s: float, until_s: float) -> Sound:
    room_s = until_s - from_s
    heard_s = float(rng.uniform(0.5, 0.9)) * room_s
    begins_s = from_s + float(rng.uniform(0, room_s - heard_s))
    return Sound(shape, begins_s, begins_s + heard_s)


def _camera(rng: np.random.Generator, pan: float, duration_s: float) -> Camera:
    """A pan of that length (shares of the side) over the clip, the view's own place in its middle."""
    angle = rng.uniform(0, 2 * np.pi)
    way = pan * np.asarray([np.cos(angle), np.sin(angle)])
    return Camera((float(-way[0] / 2), float(-way[1] / 2)), (float(way[0] / duration_s), float(way[1] / duration_s)))
