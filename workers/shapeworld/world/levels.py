"""Difficulty: what a scene may contain. Three presets, so far apart that a model can pass one and guess on another."""

from dataclasses import dataclass
from fractions import Fraction

from workers.shapeworld.world.shapes import SHAPES, TEXTURES


@dataclass(frozen=True, slots=True)
class Level:
    """Ranges that scenes are drawn from. Lengths are shares of the shorter side, rates are per second."""

    name: str
    thing_count: tuple[int, int]
    duration_s: tuple[float, float]
    radius: tuple[float, float]
    shapes: tuple[str, ...]
    textures: tuple[str, ...]
    #: Chance that a thing takes the colour of one before it; 0 keeps colours distinct (but for plural questions).
    shared_color_share: float
    #: Mean share of a thing that others may hide while it is in the view.
    hidden_share_max: float
    #: Places tried for each thing; the one farthest from the others is taken, so fewer means more crowded.
    placing_tries: int
    #: Largest relative change of the radius over the clip, and of the speed over a move.
    size_change_max: float
    speed_change_max: float
    spin_max_rad_s: float
    pan_max: float
    light_change_max: float
    clutter_max: int
    frame_rates: tuple[int, ...]
    variable_rate_share: float
    #: Width over height.
    aspects: tuple[Fraction, ...]


EASY = Level(
    "easy", (1, 3), (2, 5), (0.12, 0.18), SHAPES[:4], ("plain",),
    shared_color_share=0, hidden_share_max=0.2, placing_tries=12, size_change_max=0, speed_change_max=0,
    spin_max_rad_s=0, pan_max=0, light_change_max=0, clutter_max=0, frame_rates=(12, 24), variable_rate_share=0,
    aspects=(Fraction(1),),
)  # fmt: skip
MEDIUM = Level(
    "medium", (2, 4), (3, 8), (0.1, 0.17), SHAPES[:6], ("plain", "striped"),
    shared_color_share=0.3, hidden_share_max=0.3, placing_tries=6, size_change_max=0.3, speed_change_max=0.4,
    spin_max_rad_s=0.5, pan_max=0, light_change_max=0.1, clutter_max=6, frame_rates=(8, 12, 15, 24, 25, 30),
    variable_rate_share=0.1, aspects=(Fraction(1), Fraction(4, 3)),
)  # fmt: skip
HARD = Level(
    "hard", (4, 6), (4, 20), (0.08, 0.16), SHAPES, TEXTURES,
    shared_color_share=0.5, hidden_share_max=0.4, placing_tries=3, size_change_max=0.6, speed_change_max=0.8,
    spin_max_rad_s=1.5, pan_max=0.25, light_change_max=0.25, clutter_max=20, frame_rates=(8, 12, 15, 24, 25, 30),
    variable_rate_share=0.2, aspects=(Fraction(1), Fraction(4, 3), Fraction(16, 9), Fraction(3, 4)),
)  # fmt: skip
LEVELS = {level.name: level for level in (EASY, MEDIUM, HARD)}
