"""Pictures with what may be asked about them: moments of training scenes, cut to the size in which System 2 sees them.

What is asked for is clearly there or clearly not: a thing of which only a bit is seen is left unasked. Answers are
boxes of what is seen of a thing, from left to right.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.shapeworld.training.boxes import box_of
from workers.shapeworld.world.levels import LEVELS, Level
from workers.shapeworld.world.render import Frame, frames_at
from workers.shapeworld.world.scene import Scene
from workers.shapeworld.world.shapes import COLORS, SHAPES, TEXTURES
from workers.shapeworld.world.splits import SEEN_PAIRS
from workers.shapeworld.world.things import Look, Thing, describe

#: Pixels of a side of what becomes one token.
CELL_PX = 16
#: A thing is seen from this share of its whole on, and gone below the other; in between it isn't asked for.
SEEN_SHARE, GONE_SHARE = 0.3, 0.03
#: The share of a token's pixels from which on it belongs to the thing that has most of them.
_OWNED_SHARE = 0.06
_RENDERED_SIDE_PX = 224
_COLORS, _TRIES = tuple(COLORS), 6
#: How often what is asked: the words of System 1, other words for one thing, words for several, and what isn't there.
_ASKED = {"one": 0.53, "short": 0.1, "group": 0.2, "missing": 0.17}
#: The same once single things are found: now more often for those that share a word, or for any that might.
_ASKED_LATER = {"one": 0.36, "short": 0.06, "shared": 0.4, "missing": 0.1, "any": 0.08}


@dataclass(frozen=True, slots=True)
class Picture:
    """`image` (H, W, 3) uint8; `owners` (H / 16, W / 16) index of the thing that each token shows, or -1;
    `boxes_xyxy_px` (N, 4) float32 of what is seen of each thing, zeros if nothing; `visible` (N,) its share of the
    whole."""

    things: tuple[Thing, ...]
    level: str
    image: NDArray[np.uint8]
    owners: NDArray[np.int8]
    boxes_xyxy_px: NDArray[np.float32]
    visible: NDArray[np.float64]

    def flipped(self, horizontally: bool, vertically: bool) -> "Picture":
        """The picture in a mirror."""
        rows, columns = slice(None, None, -1 if vertically else 1), slice(None, None, -1 if horizontally else 1)
        height, width = self.image.shape[:2]
        x1, y1, x2, y2 = self.boxes_xyxy_px.T
        x1, x2 = (width - x2, width - x1) if horizontally else (x1, x2)
        y1, y2 = (height - y2, height - y1) if vertically else (y1, y2)
        boxes = np.where((self.visible > 0)[:, None], np.stack([x1, y1, x2, y2], 1), 0).astype(np.float32)
        return Picture(
            self.things, self.level, self.image[rows, columns], self.owners[rows, columns], boxes, self.visible
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """A description, and the things it fits from left to right."""

    description: str
    targets: tuple[int, ...]


def take(scene: Scene, times_s: Sequence[float], size: tuple[int, int]) -> list[Picture]:
    """Pictures of the scene at these times, resized to (width, height) as the processor would resize them."""
    return [_picture(scene, frame, size) for frame in frames_at(scene, times_s, _RENDERED_SIDE_PX)]


def _picture(scene: Scene, frame: Frame, size: tuple[int, int]) -> Picture:
    width, height = size
    image = np.asarray(Image.fromarray(frame.image).resize(size, Image.Resampling.BICUBIC))
    labels = np.asarray(Image.fromarray(frame.labels).resize(size, Image.Resampling.NEAREST))
    count = len(scene.things)
    cells = labels.reshape(height // CELL_PX, CELL_PX, width // CELL_PX, CELL_PX)
    shares = (cells[..., None] == np.arange(1, count + 1, dtype=np.uint8)).mean((1, 3))
    owners = np.where(shares.max(-1) >= _OWNED_SHARE, shares.argmax(-1), -1).astype(np.int8)
    scale = np.asarray([width, height, width, height]) / np.tile(frame.labels.shape[::-1], 2)
    boxes = np.zeros((count, 4), np.float32)
    seen_px = np.bincount(frame.labels.ravel(), minlength=count + 1)[1:]
    for index in np.flatnonzero(seen_px):
        boxes[index] = np.multiply(box_of(frame.labels == index + 1), scale)
    visible = seen_px / np.maximum(frame.whole_px, 1)
    return Picture(scene.things, scene.level, image, owners, boxes, visible)


def ask(rng: np.random.Generator, picture: Picture, later: bool = False) -> Asked | None:
    """Something with a clear answer, or None if a few tries found nothing. `later`: more about several things."""
    shares = _ASKED_LATER if later else _ASKED
    kinds, weights = list(shares), list(shares.values())
    for _ in range(_TRIES):
        kind = kinds[int(rng.choice(len(kinds), p=weights))]
        look = _look(rng, picture, kind)
        plural = kind in ("group", "shared", "any")
        asked = look and _answer(picture, look, plural)
        if asked and (plural or len(asked.targets) == (kind != "missing")):
            return asked
    return None


def _look(rng: np.random.Generator, picture: Picture, kind: str) -> Look | None:
    things = picture.things
    if kind == "shared":
        return _shared(rng, picture)
    if kind == "any":
        return _any(rng, LEVELS[picture.level])
    index = int(rng.integers(len(things)))
    if kind == "missing" and picture.visible[index] > GONE_SHARE:
        return _near_miss(rng, picture)
    if kind in ("one", "missing"):
        return describe(index, things)
    thing = things[index]
    fields = ("color", "shape", "texture") if kind == "group" else ("shape", "texture shape", "color texture", "color")
    said = str(rng.choice(fields)).split()
    if thing.texture == "plain" and "texture" in said:
        return None
    return Look(**{field: getattr(thing, field) for field in said})


def _shared(rng: np.random.Generator, picture: Picture) -> Look | None:
    """A word for two or more things that are seen, if there is one."""
    seen = [thing for thing, share in zip(picture.things, picture.visible, strict=True) if share >= SEEN_SHARE]
    words = [(field, getattr(thing, field)) for field in ("color", "shape", "texture") for thing in seen]
    shared = sorted({word for word in words if words.count(word) > 1 and word[1] != "plain"})
    if not shared:
        return None
    field, word = shared[int(rng.integers(len(shared)))]
    return Look(**{field: word})


def _any(rng: np.random.Generator, level: Level) -> Look:
    """A word for whatever it fits, mostly nothing."""
    words = [("color", _COLORS), ("shape", level.shapes), ("texture", level.textures[1:])]
    field, known = words[int(rng.integers(len(words) if len(level.textures) > 1 else 2))]
    return Look(**{field: str(rng.choice(known))})


def _near_miss(rng: np.random.Generator, picture: Picture) -> Look:
    """Words of a thing in the picture, but for one or two that are another's or nobody's."""
    thing = picture.things[int(rng.integers(len(picture.things)))]
    other = picture.things[int(rng.integers(len(picture.things)))]
    level, fate = LEVELS[picture.level], rng.random()
    textured = Look(thing.color, thing.shape, str(rng.choice(level.textures)))
    looks = (
        Look(thing.color, other.shape),
        Look(thing.color, str(rng.choice(level.shapes))),
        Look(str(rng.choice(_COLORS)), thing.shape),
        textured,
        Look(shape=str(rng.choice(level.shapes))),
    )
    look = looks[min(int(fate * len(looks)), len(looks) - 1)]
    # Pairs that no training scene shows aren't named either.
    named = look.color is None or look.shape is None or (look.color, look.shape) in SEEN_PAIRS
    return look if named else textured


def _answer(picture: Picture, look: Look, plural: bool) -> Asked | None:
    """What fits the look, unless something that fits is neither seen nor gone."""
    fits = [i for i, thing in enumerate(picture.things) if look.matches(thing)]
    if any(GONE_SHARE < picture.visible[i] < SEEN_SHARE for i in fits):
        return None
    seen = [i for i in fits if picture.visible[i] >= SEEN_SHARE]
    ordered = sorted(seen, key=lambda i: float(picture.boxes_xyxy_px[i, 0] + picture.boxes_xyxy_px[i, 2]))
    return Asked(f"the {look.phrase(plural)}", tuple(ordered))


def look_indices(things: Sequence[Thing]) -> NDArray[np.int64]:
    """(N, 3) which colour, shape and texture each thing has."""
    return np.asarray(
        [(_COLORS.index(t.color), SHAPES.index(t.shape), TEXTURES.index(t.texture)) for t in things], np.int64
    )
