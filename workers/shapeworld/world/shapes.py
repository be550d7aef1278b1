"""What a thing can look like: colours, shapes as signed distances, textures. Functions of points; no scene, no time.

Points are given in the thing's own frame: its centre is the origin, its radius the unit, y points down.
"""

from collections.abc import Callable
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
    "orange": (245, 140, 30),
    "cyan": (60, 205, 215),
}
#: The word an instruction uses for each texture.
TEXTURES = ("plain", "striped", "dotted", "checkered")
#: Marks of a texture have the thing's colour, this much of it.
MARK_SHADE = 0.35
#: No shape reaches farther from its centre, in radii.
REACH = 1.15


def _circle(u: NDArray[Any], v: NDArray[Any]) -> Any:
    return np.hypot(u, v) - 0.92


def _square(u: NDArray[Any], v: NDArray[Any]) -> Any:
    return np.maximum(np.abs(u), np.abs(v)) - 0.8


def _triangle(u: NDArray[Any], v: NDArray[Any]) -> Any:
    slant = 0.8660254 * np.abs(u) - 0.5 * v
    return np.maximum(v, slant) - 0.57


def _star(u: NDArray[Any], v: NDArray[Any]) -> Any:
    # Folded into one tenth of the star, whose outline there is one straight edge from a valley to a tip.
    tenth = np.pi / 5
    distance = np.hypot(u, v)
    angle = np.abs((np.arctan2(v, u) + np.pi / 2) % (2 * tenth) - tenth)
    valley, tip = 0.5, 1.14
    along_x, along_y = tip * np.cos(tenth) - valley, tip * np.sin(tenth)
    length = np.hypot(along_x, along_y)
    outward = along_y * (distance * np.cos(angle) - valley) - along_x * distance * np.sin(angle)
    return outward / length


def _ring(u: NDArray[Any], v: NDArray[Any]) -> Any:
    return np.abs(np.hypot(u, v) - 0.72) - 0.25


def _cross(u: NDArray[Any], v: NDArray[Any]) -> Any:
    across, along = np.abs(u), np.abs(v)
    return np.minimum(np.maximum(across - 1.0, along - 0.33), np.maximum(across - 0.33, along - 1.0))


def _crescent(u: NDArray[Any], v: NDArray[Any]) -> Any:
    return np.maximum(np.hypot(u, v) - 1.0, 0.74 - np.hypot(u - 0.45, v))


def _bar(u: NDArray[Any], v: NDArray[Any]) -> Any:
    return np.maximum(np.abs(u) - 1.05, np.abs(v) - 0.36)


_DISTANCES: dict[str, Callable[[NDArray[Any], NDArray[Any]], Any]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
    "crescent": _crescent,
    "bar": _bar,
}
SHAPES = tuple(_DISTANCES)


def signed_distance(shape: str, u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    """Distance to the outline in radii, negative inside; exact near the edges, which is where it is looked at."""
    return np.asarray(_DISTANCES[shape](u, v))


def is_mark(texture: str, u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    """Where the texture's darker marks are (bool). The marks turn and grow with the thing."""
    if texture == "striped":
        return np.asarray((u * 1.7 + 0 * v) % 1 < 0.45)
    if texture == "dotted":
        return np.asarray((u % 0.5 - 0.25) ** 2 + (v % 0.5 - 0.25) ** 2 < 0.15**2)
    if texture == "checkered":
        return np.asarray((np.floor(u / 0.42) + np.floor(v / 0.42)) % 2 == 1)
    return np.zeros(np.broadcast(u, v).shape, bool)
