"""Sightings: what the list in System 1's reasoning says of each thing, measured on the frames it is shown.

Lengths are pixels of the picture as the model gets it, times are moments (pairs of sampled frames); no words here.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.domain.frames import sample_uniformly
from workers.shapeworld.world.observe import SEEN_SHARE, Observation
from workers.shapeworld.world.scene import Scene, frame_ticks
from workers.shapeworld.world.things import Look

#: The profile's `max_frames` and `nominal_fps`: sixteen frames shown as four seconds.
FRAME_COUNT, NOMINAL_FPS = 16, 4.0
#: Two frames are one token in time, and one moment of the answer.
MOMENT_COUNT = FRAME_COUNT // 2
#: (width, height) of the picture that the profile's 9216 pixels become, by the view's width over height.
SIZES_PX = {
    Fraction(1): (96, 96),
    Fraction(4, 3): (96, 80),
    Fraction(16, 9): (112, 64),
    Fraction(3, 4): (80, 96),
}
#: Places are said as cells of so many pixels.
PLACE_PX = 8
#: Way over the whole clip (shares of the shorter side) from which each speed is said; slower is 0.
SPEEDS = (0.03, 0.06, 0.1, 0.14, 0.2, 0.28, 0.4, 0.56, 0.8, 1.12, 1.6, 2.2)
#: A way this long is said to have a direction, if it is this straight.
_WAY_MIN, _STRAIGHT = 0.25, 0.45
#: What is chosen as a keyframe shows this share of the target.
SHOWN_MIN = 0.6


Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Sighting:
    """One thing as the list has it. `trace`: its cell (column, row) at each moment, None where it isn't seen;
    `hidden_by`: the largest share of it that each thing of the scene ever hides."""

    look: Look
    trace: tuple[Place | None, ...]
    speed: int
    way: str
    leaves: bool
    hidden_by: tuple[float, ...]

    @property
    def first_moment(self) -> int:
        return next(moment for moment, place in enumerate(self.trace) if place is not None)


def size_px(scene: Scene) -> tuple[int, int]:
    """(width, height) of the picture the model gets."""
    ratio = scene.view[0] / scene.view[1]
    return SIZES_PX[min(SIZES_PX, key=lambda known: abs(float(known) - ratio))]


def sampled_times(scene: Scene) -> NDArray[np.float64]:
    """(16,) times in seconds of the frames that the pipeline samples."""
    ticks, tick_s = frame_ticks(scene)
    indices = sample_uniformly(len(ticks), FRAME_COUNT, NOMINAL_FPS).frame_indices
    # Rounded as the exact fraction would be, without one for each frame.
    return np.asarray([ticks[index] * tick_s.numerator / tick_s.denominator for index in indices])


def shown(seen: Observation, time_s: NDArray[Any]) -> NDArray[np.float64]:
    """(N, T) share of each thing that is visible at those times."""
    return np.stack([np.interp(time_s, seen.time_s, visible) for visible in seen.visible])


def sight(scene: Scene, seen: Observation) -> tuple[Sighting, ...]:
    """A sighting for each thing of the scene, in the scene's order."""
    time_s = sampled_times(scene)
    visible = shown(seen, time_s)
    in_view = np.stack([np.interp(time_s, seen.time_s, share) for share in seen.in_view])
    return tuple(
        _sight(index, scene, seen, time_s, visible[index], in_view[index]) for index in range(len(scene.things))
    )


def _sight(
    index: int, scene: Scene, seen: Observation, time_s: NDArray[Any], visible: NDArray[Any], in_view: NDArray[Any]
) -> Sighting:
    when = np.flatnonzero(visible >= min(SEEN_SHARE, float(visible.max())))
    first, last = int(when[0]), int(when[-1])
    centers = scene.centers(index, time_s)
    steps = np.hypot(*np.diff(centers, axis=0).T)[(visible[1:] >= SEEN_SHARE) & (visible[:-1] >= SEEN_SHARE)]
    whole_way = float(steps.mean()) * (FRAME_COUNT - 1) if len(steps) else 0.0
    return Sighting(
        look=scene.things[index].look,
        trace=_trace(scene, centers, visible),
        speed=int(np.searchsorted(SPEEDS, whole_way, side="right")),
        way=_way(centers[first : last + 1]),
        leaves=bool(in_view[-1] <= 0.02),
        hidden_by=tuple(float(share) for share in seen.hidden_by[index].max(1)),
    )


def _trace(scene: Scene, centers: NDArray[Any], visible: NDArray[Any]) -> tuple[Place | None, ...]:
    """Of each moment the cell in the middle of the thing's way, if the two frames show enough of it; of a thing that
    never shows enough, where it shows most."""
    share = visible.reshape(MOMENT_COUNT, -1).mean(1)
    places = cells(scene, centers.reshape(MOMENT_COUNT, -1, 2).mean(1))
    enough = min(SEEN_SHARE, float(share.max()))
    return tuple(
        (int(place[0]), int(place[1])) if seen >= enough else None for place, seen in zip(places, share, strict=True)
    )


def cells(scene: Scene, centers: NDArray[Any]) -> NDArray[np.int64]:
    """(..., 2) column and row of the cell at places in the view (..., 2), or nearest to them."""
    size = np.asarray(size_px(scene))
    places: NDArray[np.int64] = (np.clip(centers / np.asarray(scene.view), 0, 0.9999) * size / PLACE_PX).astype(
        np.int64
    )
    return places


def _way(centers: NDArray[Any]) -> str:
    """Where a path leads: a side, "about" if nowhere straight, "still"."""
    net, spread = centers[-1] - centers[0], np.ptp(centers, axis=0)
    if spread.max() < SPEEDS[0]:
        return "still"
    axis = int(np.abs(net).argmax())
    if abs(net[axis]) < _WAY_MIN or spread[axis] > 1.15 * abs(net[axis]) or spread[1 - axis] > _STRAIGHT * spread[axis]:
        return "about"
    return (("left", "right"), ("up", "down"))[axis][int(net[axis] > 0)]


def nearest(scene: Scene, index: int, other: int) -> int:
    """The moment (0 to 7) at which two things are nearest to each other."""
    time_s = sampled_times(scene)
    away = scene.centers(index, time_s) - scene.centers(other, time_s)
    return int(np.hypot(*away.T).argmin()) // (FRAME_COUNT // MOMENT_COUNT)


def keyframes(seen: Observation, targets: tuple[int, ...], time_s: NDArray[Any], count: int) -> tuple[int, ...]:
    """Moments (0 to 7) whose first frame shows the targets best: where all are well visible, spread over that time.

    The pipeline takes the first frame of a moment. Where no frame shows all of them well, those that show most.
    """
    worst = shown(seen, time_s[::2])[list(targets)].min(0)
    good = np.flatnonzero(worst >= min(SHOWN_MIN, float(worst.max())))
    picks = np.linspace(0, len(good) - 1, min(count, len(good))).round().astype(int)
    return tuple(int(good[pick]) for pick in picks)
