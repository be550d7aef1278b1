"""Scenes: which shapes there are, how they move, and which of them an instruction refers to. Geometry only, no pixels.

Lengths are shares of the frame's side, speeds are shares a second, times are seconds; y points down.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 50, 47),
    "green": (40, 170, 70),
    "blue": (50, 90, 225),
    "yellow": (240, 215, 50),
    "purple": (170, 60, 200),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle")
DURATION_S = 3.0
#: Things appear at multiples of this.
BEAT_S = 0.5


class Kind(StrEnum):
    """What an instruction asks for."""

    ATTRIBUTE = "attribute"
    FASTEST = "fastest"
    APPEARS_LAST = "appears_last"
    LEAVES = "leaves"
    SOUND = "sound"


_WORDINGS: dict[Kind, tuple[str, ...]] = {
    Kind.ATTRIBUTE: ("the {color} {shape}", "find the {color} {shape}", "segment the {color} {shape}"),
    Kind.FASTEST: ("the shape that moves fastest", "which object is the fastest?", "the fastest shape in the view"),
    Kind.APPEARS_LAST: ("the shape that appears last", "the last object to appear", "which shape shows up last?"),
    Kind.LEAVES: ("the shape that leaves the view", "the object that goes out of the view", "which shape leaves?"),
    Kind.SOUND: (
        "the shape that makes the sound",
        "which object is making the sound?",
        "the object you can hear",
    ),
}


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape. It is there from `appears_s` on, at `start` then, and moves with constant `velocity`."""

    shape: str
    color: str
    radius: float
    growth: float  # relative change of the radius from the clip's start to its end
    start: tuple[float, float]
    velocity: tuple[float, float]
    appears_s: float
    angle: float
    shade: float

    @property
    def speed(self) -> float:
        return float(np.hypot(*self.velocity))

    def exists(self, time_s: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(time_s >= self.appears_s - 1e-9)

    def center(self, time_s: NDArray[Any]) -> NDArray[Any]:
        """(len(time_s), 2) centre x, y."""
        since = np.clip(time_s - self.appears_s, 0, None)[:, None]
        return np.asarray(np.asarray(self.start)[None] + since * np.asarray(self.velocity)[None])

    def radius_at(self, time_s: NDArray[Any]) -> NDArray[Any]:
        grown = self.radius * (1 + self.growth * (2 * time_s / DURATION_S - 1))
        return np.clip(grown, 0.1, 0.23)


@dataclass(frozen=True, slots=True)
class Scene:
    """Things from back to front. `sounding` is the index of the thing that is heard, None for silence."""

    seed: int
    things: tuple[Thing, ...]
    sounding: int | None


@dataclass(frozen=True, slots=True)
class Question:
    """An instruction about a scene, and its answer."""

    kind: Kind
    mode: str
    instruction: str
    target: int


def coverage(thing: Thing, time_s: float, x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Whether the points (x, y) lie inside the thing at `time_s` (also before it appears; the caller asks `exists`)."""
    at = np.asarray([time_s])
    (center_x, center_y), radius = thing.center(at)[0], float(thing.radius_at(at)[0])
    cos, sin = np.cos(thing.angle), np.sin(thing.angle)
    u = cos * (x - center_x) + sin * (y - center_y)
    v = -sin * (x - center_x) + cos * (y - center_y)
    if thing.shape == "circle":
        inside = u * u + v * v < radius * radius
    elif thing.shape == "square":
        inside = (np.abs(u) < 0.88 * radius) & (np.abs(v) < 0.88 * radius)
    else:
        inside = (v < 0.75 * radius) & (0.9 * np.abs(u) - 0.5 * v < 0.5 * radius)
    return np.asarray(inside)


def label_map(scene: Scene, time_s: float, size_px: int) -> NDArray[Any]:
    """(size_px, size_px) uint8: 0 background, i + 1 where thing i is the one in front, sampled at pixel centres."""
    grid = (np.arange(size_px) + 0.5) / size_px
    x, y = np.meshgrid(grid, grid)
    labels = np.zeros((size_px, size_px), np.uint8)
    for index, thing in enumerate(scene.things):
        if thing.exists(np.asarray([time_s]))[0]:
            labels[coverage(thing, time_s, x, y)] = index + 1
    return labels


def _thing(rng: np.random.Generator, color: str, shape: str) -> Thing:
    pace = str(rng.choice(["still", "slow", "fast"], p=[0.36, 0.36, 0.28]))
    speed = {"still": 0.0, "slow": rng.uniform(0.067, 0.1), "fast": rng.uniform(0.2, 0.275)}[pace]
    axis, sign = int(rng.integers(2)), int(rng.choice([-1, 1]))
    velocity = np.zeros(2)
    velocity[axis], velocity[1 - axis] = sign * speed, rng.uniform(-0.25, 0.25) * speed
    radius = rng.uniform(0.125, 0.1875)
    fate = rng.random()
    appears_s = BEAT_S * int(rng.integers(1, 5)) if fate < 0.3 else 0.0
    distance = speed * (DURATION_S - appears_s)
    start = rng.uniform(0.17, 0.83, 2)
    if speed and 0.3 <= fate < 0.5:  # leaves: its centre passes the edge well before the end
        edge = 1 + radius if sign > 0 else -radius
        start[axis] = np.clip(edge - sign * speed * rng.uniform(1.5, 2.4), 0.1, 0.9)
    elif speed:
        low, high = (0.125, 0.875 - distance) if sign > 0 else (0.125 + distance, 0.875)
        start[axis] = rng.uniform(low, high) if low < high else (low + high) / 2
    return Thing(
        shape, color, float(radius), float(rng.uniform(-0.45, 0.45) if rng.random() < 0.6 else 0.0),
        (float(start[0]), float(start[1])), (float(velocity[0]), float(velocity[1])), appears_s,
        float(rng.uniform(-0.2, 0.2)), float(rng.uniform(0.88, 1.08)),
    )  # fmt: skip


def visible_area(scene: Scene, beats: int = int(DURATION_S / BEAT_S), size_px: int = 48) -> NDArray[Any]:
    """(things, beats) the smallest visible area within each beat, as a share of the frame."""
    areas = np.zeros((len(scene.things), beats, 2))
    for beat in range(beats):
        for half in range(2):
            labels = label_map(scene, (beat + half / 2) * BEAT_S, size_px)
            areas[:, beat, half] = np.bincount(labels.ravel(), minlength=len(scene.things) + 1)[1:]
    return np.asarray(areas.min(-1) / size_px**2)


def _presence(scene: Scene) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """First and last-plus-one visible beat of each thing; None unless each is either clearly there or clearly gone."""
    area = visible_area(scene)
    peak = area.max(1, keepdims=True)
    seen = (area > 0.3 * peak) & (area >= 24 / 48**2)
    if (peak < 60 / 48**2).any() or (seen.sum(1) < 2).any():
        return None
    beats = area.shape[1]
    first, end = seen.argmax(1), beats - seen[:, ::-1].argmax(1)
    gone = area <= 3 / 48**2
    for index in range(len(scene.things)):
        if not gone[index, : first[index]].all():
            return None
        if end[index] < beats and not (gone[index, min(end[index] + 1, beats - 1) :].all() and gone[index, -1]):
            return None
    return first, end


def _answers(scene: Scene, kind: Kind, first: NDArray[Any], end: NDArray[Any]) -> list[int]:
    """Indices of things the kind of question can be asked about with exactly one right answer each."""
    indices = range(len(scene.things))
    if kind is Kind.ATTRIBUTE:
        return list(indices)
    if kind is Kind.SOUND:
        return [] if scene.sounding is None else [scene.sounding]
    if kind is Kind.FASTEST:
        found = [i for i in indices if scene.things[i].speed > 0.15]
    elif kind is Kind.APPEARS_LAST:
        found = [i for i in indices if first[i] == first.max() > 0]
    else:
        found = [i for i in indices if end[i] < int(DURATION_S / BEAT_S)]
    return found if len(found) == 1 else []


def make(seed: int, kind: Kind, thing_count: int) -> tuple[Scene, Question]:
    """The scene and question of that seed: drawn again until every thing is clearly seen and the answer is one
    thing."""
    rng = np.random.default_rng([seed, list(Kind).index(kind), thing_count])
    while True:
        colors = rng.permutation(list(COLORS))[:thing_count]
        shapes = rng.choice(SHAPES, thing_count)
        if kind is Kind.SOUND and thing_count <= len(SHAPES):
            shapes = rng.permutation(SHAPES)[:thing_count]  # the timbre tells the shape, so shapes must differ
        things = tuple(_thing(rng, str(c), str(s)) for c, s in zip(colors, shapes, strict=True))
        alone = [i for i in range(thing_count) if list(shapes).count(shapes[i]) == 1]
        sounding = int(rng.choice(alone)) if alone else None
        scene = Scene(seed, things, sounding)
        presence = _presence(scene)
        answers = _answers(scene, kind, *presence) if presence else []
        if answers:
            target = int(rng.choice(answers))
            wording = str(rng.choice(_WORDINGS[kind])).format(color=things[target].color, shape=things[target].shape)
            return scene, Question(kind, "avs" if kind is Kind.SOUND else "vos", wording, target)
