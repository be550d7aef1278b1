"""Pictures and their truth as arrays: frames as the model gets them, and what is in each of its tokens."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.shapeworld.training.system1 import sightings
from workers.shapeworld.world.render import frames_at
from workers.shapeworld.world.scene import Scene
from workers.shapeworld.world.shapes import COLORS, SHAPES, TEXTURES

#: A token is a square of so many pixels, in two frames.
TOKEN_PX = 16
#: Rendered this many times larger and averaged, so that edges and noise come out as from the full-size clip.
_OVERSIZE = 2
#: Share of a token from which its largest thing is said to be in it.
_THERE_MIN = 0.08
NOT_THERE = -100


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pairs of sampled frames and what is in their tokens; P pieces of R x C tokens.

    `frames` (P, 2, H, W, 3) uint8. Shares of a token's area, the last class being the ground: `colors` (P, R, C, 9),
    `shapes` (P, R, C, 9), `textures` (P, R, C, 5). Of the token's largest thing: `offset` (P, R, C, 2) from the token's
    centre to the thing's and `moved` (P, R, C, 2) between the two frames, both in tokens; `place` (P, R, C, 2) the
    thing's place as the list says it; `thing` (P, R, C) its index in the scene; all meant where `there` (P, R, C).
    """

    frames: NDArray[np.uint8]
    colors: NDArray[np.float32]
    shapes: NDArray[np.float32]
    textures: NDArray[np.float32]
    offset: NDArray[np.float32]
    moved: NDArray[np.float32]
    place: NDArray[np.int64]
    thing: NDArray[np.int64]
    there: NDArray[np.bool_]


def join(pieces: list[Pieces]) -> Pieces:
    return Pieces(*(np.concatenate(parts) for parts in zip(*(_fields(piece) for piece in pieces), strict=True)))


def _fields(piece: Pieces) -> list[NDArray[Any]]:
    return [getattr(piece, name) for name in Pieces.__slots__]


def mirror(pieces: Pieces) -> Pieces:
    """With left and right exchanged."""
    places = pieces.frames.shape[3] // sightings.PLACE_PX
    sideways = np.asarray((-1, 1), np.float32)
    return Pieces(
        frames=pieces.frames[:, :, :, ::-1],
        colors=pieces.colors[:, :, ::-1],
        shapes=pieces.shapes[:, :, ::-1],
        textures=pieces.textures[:, :, ::-1],
        offset=pieces.offset[:, :, ::-1] * sideways,
        moved=pieces.moved[:, :, ::-1] * sideways,
        place=pieces.place[:, :, ::-1] * (-1, 1) + (places - 1, 0),
        thing=pieces.thing[:, :, ::-1],
        there=pieces.there[:, :, ::-1],
    )


def some(pieces: Pieces, which: NDArray[np.int64] | slice) -> Pieces:
    return Pieces(*(part[which] for part in _fields(pieces)))


def gray(rng: np.random.Generator, pieces: Pieces) -> Pieces:
    """Without their colours: each piece in a gray of its own, that weighs red, green and blue somehow, of any contrast
    from half to whole and any brightness, half of them with light and dark exchanged."""
    count = len(pieces.frames)
    weights = rng.dirichlet(np.ones(3), count).astype(np.float32)
    light = np.einsum("pthwc,pc->pthw", pieces.frames, weights)
    low, high = light.min((1, 2, 3), keepdims=True), light.max((1, 2, 3), keepdims=True)
    whole = (light - low) / np.maximum(high - low, 1)
    drawn, raised, exchanged = (rng.random((count, 1, 1, 1), np.float32) for _ in range(3))
    contrast = 0.5 + drawn / 2
    shade = np.where(exchanged < 0.5, 1 - whole, whole) * contrast + raised * (1 - contrast)
    frames = np.repeat((shade * 255).round().astype(np.uint8)[..., None], 3, -1)
    return replace(pieces, frames=frames)


def show(scene: Scene, moments: NDArray[Any]) -> Pieces:
    """The pieces of those moments (0 to 7), rendered, with their truth."""
    width, height = sightings.size_px(scene)
    sampled = (moments[:, None] * 2 + np.arange(2)).ravel()
    time_s = sightings.sampled_times(scene)[sampled]
    images, labels = [], []
    for frame in frames_at(scene, time_s.tolist(), _OVERSIZE * min(width, height)):
        images.append(_shrink(frame.image, width, height))
        labels.append(_pick(frame.labels, width, height))
    centers = np.stack([scene.centers(i, time_s) for i in range(len(scene.things))])
    centers_px = (centers / np.asarray(scene.view) * (width, height)).reshape(len(centers), -1, 2, 2)
    shares = _shares(np.stack(labels), len(scene.things))
    return _truth(scene, np.stack(images).reshape(-1, 2, height, width, 3), shares, centers_px)


@cache
def _lines(there: int, wanted: int) -> NDArray[np.intp]:
    """Which rows or columns of a rendered picture are kept: without the few that would make the sides no whole number
    of tokens."""
    return np.linspace(0, there - 1, wanted * _OVERSIZE).round().astype(np.intp)


def _pick(labels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    rows, columns = _lines(labels.shape[0], height), _lines(labels.shape[1], width)
    return labels[rows[::_OVERSIZE]].take(columns[::_OVERSIZE], 1)


def _shrink(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    rows, columns = _lines(image.shape[0], height), _lines(image.shape[1], width)
    # One after the other, and in as few columns as there are: each of these moves the whole picture.
    pairs = np.add(image[rows[::2]], image[rows[1::2]], dtype=np.uint16)
    total = pairs.take(columns[::2], 1)
    total += pairs.take(columns[1::2], 1)
    total += 2
    total //= _OVERSIZE**2
    return total.astype(np.uint8)


def _shares(labels: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    """(P, R, C, count) of each token's area in its two frames, by thing."""
    frame_count, height, width = labels.shape
    split = labels.reshape(frame_count // 2, 2, height // TOKEN_PX, TOKEN_PX, width // TOKEN_PX, TOKEN_PX)
    found = [(split == index + 1).mean((1, 3, 5), dtype=np.float32) for index in range(count)]
    return np.stack(found, -1)


def _truth(
    scene: Scene, images: NDArray[np.uint8], shares: NDArray[np.float32], centers_px: NDArray[np.float64]
) -> Pieces:
    piece_count, rows, columns, _ = shares.shape
    ground = 1 - shares.sum(-1, keepdims=True)

    def by_word(field: str, words: tuple[str, ...]) -> NDArray[np.float32]:
        has = np.asarray([[getattr(thing, field) == word for word in words] for thing in scene.things], np.float32)
        return np.asarray(np.concatenate([shares @ has, ground], -1), np.float32)

    main, piece = shares.argmax(-1), np.arange(piece_count)[:, None, None]
    center = centers_px.mean(2)[main, piece]
    moved = (centers_px[:, :, 1] - centers_px[:, :, 0])[main, piece]
    tokens = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1) * TOKEN_PX + TOKEN_PX / 2
    limit = np.asarray((columns, rows)) * TOKEN_PX - 1
    return Pieces(
        frames=images,
        colors=by_word("color", tuple(COLORS)),
        shapes=by_word("shape", SHAPES),
        textures=by_word("texture", TEXTURES),
        offset=((center - tokens) / TOKEN_PX).astype(np.float32),
        moved=(moved / TOKEN_PX).astype(np.float32),
        place=(np.clip(center, 0, limit) / sightings.PLACE_PX).astype(np.int64),
        thing=main,
        there=shares.max(-1) >= _THERE_MIN,
    )
