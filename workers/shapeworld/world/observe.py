"""Observation: what of each thing can be seen when, counted on a coarse raster a few times a second.

Every answer is derived from this, so a thing that a scene meant to show but that stands behind another isn't asked for.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.shapeworld.world.scene import Scene
from workers.shapeworld.world.shapes import REACH, signed_distance
from workers.shapeworld.world.things import Thing

STEP_S = 0.25
#: Pixels of the raster's shorter side: the smallest thing covers about forty of them.
SIDE_PX = 64
#: A thing is seen from this share of its whole on, and gone below the other.
SEEN_SHARE, GONE_SHARE = 0.4, 0.03


@dataclass(frozen=True, slots=True)
class Observation:
    """Of N things at T times. Shares are of a thing's whole area, also of what lies outside the view."""

    time_s: NDArray[np.float64]  # (T,)
    center: NDArray[np.float64]  # (N, T, 2) in the view
    world_center: NDArray[np.float64]  # (N, T, 2)
    radius: NDArray[np.float64]  # (N, T)
    visible: NDArray[np.float64]  # (N, T)
    in_view: NDArray[np.float64]  # (N, T), hidden or not
    hidden_by: NDArray[np.float64]  # (N, N, T): of thing i, by thing j
    view: tuple[float, float]

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(N, T)"""
        return self.visible >= SEEN_SHARE

    @property
    def gone(self) -> NDArray[np.bool_]:
        """(N, T)"""
        return self.visible <= GONE_SHARE


@dataclass(frozen=True, slots=True)
class _Cover:
    """The pixels of a thing's own patch, (T, P, P): whether they are inside it, and where they are on the canvas."""

    inside: NDArray[np.bool_]
    rows: NDArray[np.int64]  # (T, P, 1)
    columns: NDArray[np.int64]  # (T, 1, P)
    in_view: NDArray[np.bool_]


def observe(scene: Scene) -> Observation:
    """Look at the scene every `STEP_S`, with everything that is in front of something."""
    times = np.arange(0, scene.duration_s - 1e-9, STEP_S, dtype=np.float64)
    corner = scene.camera.corner(times)
    world = np.stack([thing.motion.center(times) for thing in scene.things])
    radius = np.stack([thing.radius_at(times) for thing in scene.things])
    covers = [
        _cover(thing, at, size, times, scene.view)
        for thing, at, size in zip(scene.things, world - corner, radius, strict=True)
    ]
    count = len(covers)
    whole = np.stack([cover.inside.sum((1, 2)) for cover in covers])
    # A margin wider than any patch: what lies outside the view is painted there and never read.
    labels = np.zeros((len(times), *_canvas(scene.view)), np.uint8)
    step = np.arange(len(times))[:, None, None]
    for index, (thing, cover) in enumerate(zip(scene.things, covers, strict=True)):
        there = cover.inside & cover.in_view & thing.exists(times)[:, None, None]
        patch = labels[step, cover.rows, cover.columns]
        labels[step, cover.rows, cover.columns] = np.where(there, index + 1, patch)
    in_view, on_top = np.zeros((count, len(times))), np.zeros((count, count, len(times)))
    for index, (thing, cover) in enumerate(zip(scene.things, covers, strict=True)):
        there = cover.inside & cover.in_view & thing.exists(times)[:, None, None]
        in_view[index] = there.sum((1, 2)) / whole[index]
        top = np.where(there, labels[step, cover.rows, cover.columns], 0)
        for other in range(count):
            on_top[index, other] = (top == other + 1).sum((1, 2)) / whole[index]
    visible = on_top[np.arange(count), np.arange(count)].copy()
    on_top[np.arange(count), np.arange(count)] = 0
    return Observation(times, world - corner, world, radius, visible, in_view, on_top, scene.view)


def _canvas(view: tuple[float, float]) -> tuple[int, int]:
    return round(view[1] * SIDE_PX), round(view[0] * SIDE_PX)


def _cover(
    thing: Thing, center: NDArray[Any], radius: NDArray[Any], times: NDArray[Any], view: tuple[float, float]
) -> _Cover:
    reach = int(np.ceil(REACH * radius.max() * SIDE_PX)) + 1
    offsets = np.arange(-reach, reach + 1)
    first = np.floor(center * SIDE_PX).astype(np.int64)
    columns = first[:, 0, None, None] + offsets[None, None, :]
    rows = first[:, 1, None, None] + offsets[None, :, None]
    x = (columns + 0.5) / SIDE_PX - center[:, 0, None, None]
    y = (rows + 0.5) / SIDE_PX - center[:, 1, None, None]
    angle, size = thing.angle_at(times)[:, None, None], radius[:, None, None]
    cos, sin = np.cos(angle) / size, np.sin(angle) / size
    inside = signed_distance(thing.shape, cos * x + sin * y, cos * y - sin * x) < 0
    height, width = _canvas(view)
    in_view = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return _Cover(inside, rows.clip(0, height - 1), columns.clip(0, width - 1), in_view)
