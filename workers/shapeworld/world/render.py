"""Rendering: the frames of a scene at any size, and at every pixel which thing is in front there.

Each thing is painted within its own box only, so a frame costs what is in it; the truth is counted while painting.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.shapeworld.world.scene import Scene, frame_times
from workers.shapeworld.world.shapes import COLORS, MARK_SHADE, REACH, is_mark, signed_distance
from workers.shapeworld.world.things import Thing

#: The noise of a frame is cut at random from a larger sheet of it: drawing it anew would take half of the time.
_NOISE_SLACK_PX = 64


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture and its truth.

    `image` (H, W, 3) uint8 RGB; `labels` (H, W) uint8, 0 background, i + 1 where thing i is in front at the pixel's
    centre; `whole_px` (N,) pixels each thing would have if nothing hid it and the view didn't end; 0 before it appears.
    """

    index: int
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    whole_px: NDArray[np.int64]


def frames(scene: Scene, side_px: int) -> Iterator[Frame]:
    """Every frame of the scene, its shorter side `side_px` pixels."""
    return frames_at(scene, [float(time) for time in frame_times(scene)], side_px)


def frames_at(scene: Scene, times_s: Sequence[float], side_px: int) -> Iterator[Frame]:
    """The scene at any times, which needn't be those of its frames; `index` counts them. Noise depends on their
    order."""
    width, height = scene.size_px(side_px)
    rng = np.random.default_rng([scene.seed, 1])
    ground, margin_px = _ground(rng, scene, side_px)
    slack = _NOISE_SLACK_PX
    sheet = rng.standard_normal((height + slack, width + slack, 1), dtype=np.float32) * np.float32(rng.uniform(2, 6))
    for index, time_s in enumerate(times_s):
        # The ground moves by whole pixels, which noise hides; things move exactly.
        x, y = np.rint(scene.camera.corner(np.asarray([time_s]))[0] * side_px).astype(int) + margin_px
        image = ground[y : y + height, x : x + width].copy()
        labels = np.zeros((height, width), np.uint8)
        whole_px = paint(scene, time_s, side_px, labels, image)
        image *= np.float32(scene.light.gain(time_s))
        down, across = rng.integers(slack, size=2)
        image += sheet[down : down + height, across : across + width]
        yield Frame(index, np.clip(image, 0, 255, out=image).astype(np.uint8), labels, whole_px)


def paint(
    scene: Scene, time_s: float, side_px: int, labels: NDArray[np.uint8], image: NDArray[np.float32] | None = None
) -> NDArray[np.int64]:
    """Paint all things over `labels` (H, W), and over `image` (H, W, 3) if there is one; returns `whole_px`."""
    whole_px = np.zeros(len(scene.things), np.int64)
    at = np.asarray([time_s])
    for index, thing in enumerate(scene.things):
        if thing.exists(at)[0]:
            x, y = scene.centers(index, at)[0]
            place = (float(x) * side_px, float(y) * side_px, float(thing.radius_at(at)[0]) * side_px)
            whole_px[index] = _paint_thing(thing, index + 1, time_s, place, labels, image)
    return whole_px


def _paint_thing(
    thing: Thing, label: int, time_s: float, place_px: tuple[float, float, float], labels: NDArray[np.uint8],
    image: NDArray[np.float32] | None,
) -> int:  # fmt: skip
    """`place_px`: centre x, y and radius. Returns the pixels of the whole thing, also of what is outside the view."""
    center_x, center_y, radius = place_px
    height, width = labels.shape
    reach = REACH * radius + 1
    left, right = int(np.floor(center_x - reach)), int(np.ceil(center_x + reach))
    top, bottom = int(np.floor(center_y - reach)), int(np.ceil(center_y + reach))
    angle = float(thing.angle_at(np.asarray([time_s]))[0])
    cos, sin = np.float32(np.cos(angle) / radius), np.float32(np.sin(angle) / radius)
    x = (np.arange(left, right, dtype=np.float32) + 0.5 - np.float32(center_x))[None]
    y = (np.arange(top, bottom, dtype=np.float32) + 0.5 - np.float32(center_y))[:, None]
    u, v = cos * x + sin * y, cos * y - sin * x
    distance = signed_distance(thing.shape, u, v)
    inside = distance < 0
    rows = slice(max(0, -top), min(bottom, height) - top)
    columns = slice(max(0, -left), min(right, width) - left)
    if rows.start < rows.stop and columns.start < columns.stop:
        box = slice(top + rows.start, top + rows.stop), slice(left + columns.start, left + columns.stop)
        labels[box][inside[rows, columns]] = label
        if image is not None:
            share = np.clip(0.5 - distance[rows, columns] * np.float32(radius), 0, 1)[..., None]
            image[box] += share * (_paint_of(thing, u[rows, columns], v[rows, columns]) - image[box])
    return int(inside.sum())


def _paint_of(thing: Thing, u: NDArray[Any], v: NDArray[Any]) -> NDArray[np.float32]:
    """The thing's colour at points of its own frame: (3,) if it is plain, else (..., 3)."""
    color = np.asarray(COLORS[thing.color], np.float32) * np.float32(thing.shade)
    if thing.texture == "plain":
        return color
    marks = is_mark(thing.texture, u, v)[..., None]
    return np.where(marks, color * np.float32(MARK_SHADE), color).astype(np.float32)


def _ground(rng: np.random.Generator, scene: Scene, side_px: int) -> tuple[NDArray[np.float32], int]:
    """The background with its clutter, (H, W, 3) float32, larger than the view by the margin (pixels) on each side."""
    width, height = scene.size_px(side_px)
    corners = np.abs(scene.camera.corner(np.asarray([0.0, scene.duration_s]))).max()
    margin = int(np.ceil(corners * side_px)) + 1
    shape = (height + 2 * margin, width + 2 * margin)
    coarse = rng.uniform(15, 110, (4, 4, 3)).astype(np.float32)
    ground = _stretch(_stretch(coarse, shape[0]).swapaxes(0, 1), shape[1]).swapaxes(0, 1)
    ground = ground + rng.standard_normal((*shape, 1), dtype=np.float32) * np.float32(rng.uniform(1, 6))
    for _ in range(scene.clutter):
        center = rng.uniform(0, 1, 2) * shape[::-1]
        half = np.maximum(rng.uniform(0.004, 0.022, 2) * side_px, 0.6)
        (x1, y1), (x2, y2) = np.floor(center - half).astype(int), np.ceil(center + half).astype(int)
        color = np.asarray(COLORS[str(rng.choice(list(COLORS)))], np.float32)
        ground[max(y1, 0) : y2, max(x1, 0) : x2] = color * np.float32(rng.uniform(0.5, 0.9))
    return np.ascontiguousarray(ground, np.float32), margin


def _stretch(rows: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Linear interpolation along the first axis."""
    position = np.linspace(0, len(rows) - 1.001, length, dtype=np.float32)
    below = position.astype(int)
    share = (position - below)[:, None, None].astype(np.float32)
    return np.asarray(rows[below] * (1 - share) + rows[below + 1] * share, np.float32)
