"""Splits: which seeds are for what, and the colour × shape pairs that training never sees. Only this knows."""

from enum import StrEnum

from workers.shapeworld.world.shapes import COLORS, SHAPES


class Split(StrEnum):
    TEST = "test"
    #: As the test range, but every answer has a colour × shape pair that training never shows or names.
    UNSEEN = "unseen"
    VALIDATION = "validation"
    TRAIN = "train"


#: The small numbers are for people to type; training has all the room.
SEEDS = {
    Split.TEST: range(100_000),
    Split.UNSEEN: range(100_000, 200_000),
    Split.VALIDATION: range(200_000, 300_000),
    Split.TRAIN: range(1_000_000, 2**31),
}

Pair = tuple[str, str]


def _pairs(held_out: bool) -> tuple[Pair, ...]:
    # One colour for each shape and one shape for each colour, so that every word itself is learned; three is prime
    # to the number of colours, so no colour comes twice.
    return tuple(
        (color, shape)
        for s, shape in enumerate(SHAPES)
        for c, color in enumerate(COLORS)
        if (c == (3 * s + 2) % len(COLORS)) == held_out
    )


HELD_OUT_PAIRS = _pairs(held_out=True)
SEEN_PAIRS = _pairs(held_out=False)


class NotTrainable(ValueError):
    """A seed outside the training range was asked for by training."""


def split_of(seed: int) -> Split:
    """The split a seed belongs to; seeds between the ranges belong to none and are refused."""
    for split, seeds in SEEDS.items():
        if seed in seeds:
            return split
    raise ValueError(f"seed {seed} belongs to no split")


def check_trainable(seed: int) -> None:
    """Raises `NotTrainable` unless training may look at that seed."""
    if seed not in SEEDS[Split.TRAIN]:
        raise NotTrainable(f"seed {seed} is not in the training range; training must never see it")


def check_validation(seed: int) -> None:
    """Raises `NotTrainable` unless training may be judged by that seed."""
    if seed not in SEEDS[Split.VALIDATION]:
        raise NotTrainable(f"seed {seed} is not in the validation range")
