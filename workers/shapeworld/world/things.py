"""Things: one shape with its looks, size, turning and path; and the words that name it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.shapeworld.world.motion import Motion


@dataclass(frozen=True, slots=True)
class Look:
    """What can be said of a thing from one picture. None means that it isn't said."""

    color: str | None = None
    shape: str | None = None
    texture: str | None = None

    def matches(self, thing: "Thing") -> bool:
        said = ((self.color, thing.color), (self.shape, thing.shape), (self.texture, thing.texture))
        return all(word is None or word == seen for word, seen in said)

    def phrase(self, plural: bool = False) -> str:
        """ "red striped star", "blue shapes", "circle"."""
        noun = self.shape or "shape"
        if plural:
            noun = f"{noun}es" if noun == "cross" else f"{noun}s"
        return " ".join(word for word in (self.color, self.texture, noun) if word)


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape. `radius` (share of the shorter side) is that at time 0; it is there from `appears_s` on."""

    shape: str
    color: str
    texture: str
    shade: float
    radius: float
    growth_per_s: float
    angle_rad: float
    spin_rad_s: float
    appears_s: float
    motion: Motion

    @property
    def look(self) -> Look:
        return Look(self.color, self.shape, self.texture)

    def exists(self, time_s: NDArray[Any]) -> NDArray[Any]:
        """(len(time_s),) bool; it may still be outside the view, or hidden."""
        return np.asarray(time_s >= self.appears_s - 1e-9)

    def radius_at(self, time_s: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self.radius + self.growth_per_s * time_s)

    def angle_at(self, time_s: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self.angle_rad + self.spin_rad_s * time_s)


def describe(index: int, things: tuple[Thing, ...]) -> Look:
    """The least that is said to tell thing `index` from all others in one picture: colour and shape, texture if
    needed."""
    thing = things[index]
    short = Look(thing.color, thing.shape)
    return short if sum(short.matches(other) for other in things) == 1 else thing.look
