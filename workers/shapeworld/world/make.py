"""Making: the scene and question of a seed. Scenes are drawn until everything in them is clearly seen and the question
has a clear answer; the same seed, kind and level are the same example for ever.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import numpy as np

from workers.shapeworld.world.levels import LEVELS, Level
from workers.shapeworld.world.observe import STEP_S, Observation, observe
from workers.shapeworld.world.queries import ASKED_KINDS, Kind, Question
from workers.shapeworld.world.questions import ask
from workers.shapeworld.world.scene import Scene
from workers.shapeworld.world.splits import (
    HELD_OUT_PAIRS,
    SEEN_PAIRS,
    Pair,
    Split,
    check_trainable,
    check_validation,
    split_of,
)
from workers.shapeworld.world.staging import Cast, draw

#: Scenes drawn before a seed is given up. A test holds that far fewer are needed.
DRAWS_MAX = 400
_SEEN_MIN_S = 0.75


class NoScene(RuntimeError):
    """No scene of `DRAWS_MAX` had a clear question of the kind."""


@dataclass(frozen=True, slots=True)
class Example:
    """`draws` scenes were looked at until this one was good."""

    scene: Scene
    question: Question
    draws: int


def make_training_scene(seed: int, kind: Kind, level: Level) -> Example:
    """As `make_scene`, for seeds that training may see. Training code has no other way in."""
    check_trainable(seed)
    return make_scene(seed, kind, level)


def make_validation_scene(seed: int, kind: Kind, level: Level) -> Example:
    """As `make_scene`, for the seeds by which training may be judged while it goes on."""
    check_validation(seed)
    return make_scene(seed, kind, level)


def make_scene(seed: int, kind: Kind, level: Level) -> Example:
    """The example of that seed, kind and level. Raises `NoScene` rather than drawing for ever."""
    split = split_of(seed)
    rng = np.random.default_rng([seed, list(Kind).index(kind), list(LEVELS).index(level.name)])
    asked = ASKED_KINDS[int(rng.integers(len(ASKED_KINDS)))] if kind is Kind.ABSENT else kind
    pairs = _pairs(split, level)
    cast = Cast(asked, kind is Kind.ABSENT, level, pairs)
    for draws in range(1, DRAWS_MAX + 1):
        scene = draw(rng, seed, cast)
        if split is Split.UNSEEN and not _held_out(scene):
            continue
        seen = observe(scene)
        if not _is_clear(seen, level):
            continue
        question = ask(rng, scene, seen, asked, pairs, cast.absent)
        if question is not None and (split is not Split.UNSEEN or _is_unseen(scene, question)):
            return Example(scene, question, draws)
    raise NoScene(f"no scene of {DRAWS_MAX} for seed {seed}, {kind}, {level.name}")


def first_scene(first_seed: int, kind: Kind, level: Level, fits: Callable[[Scene], bool]) -> Example:
    """The example of the first seed from there on whose scene fits."""
    examples = (make_scene(seed, kind, level) for seed in count(first_seed))
    return next(example for example in examples if fits(example.scene))


def _pairs(split: Split, level: Level) -> tuple[Pair, ...]:
    """Pairs that things may have and instructions may name; in the unseen range held-out ones are as many as the
    rest."""
    known = tuple(pair for pair in SEEN_PAIRS if pair[1] in level.shapes)
    if split is not Split.UNSEEN:
        return known
    held_out = tuple(pair for pair in HELD_OUT_PAIRS if pair[1] in level.shapes)
    return known + held_out * (len(known) // len(held_out))


def _held_out(scene: Scene) -> list[int]:
    return [i for i, thing in enumerate(scene.things) if (thing.color, thing.shape) in HELD_OUT_PAIRS]


def _is_unseen(scene: Scene, question: Question) -> bool:
    """Whether the answer (where there is none: the scene) has what training never saw."""
    return not question.targets or bool(set(question.targets) & set(_held_out(scene)))


def _is_clear(seen: Observation, level: Level) -> bool:
    """Whether each thing is seen for a while, and not too much of it is hidden while it is in the view."""
    here = seen.in_view > 0.4
    hidden = seen.hidden_by.sum(1)
    mean_hidden = (hidden * here).sum(1) / np.maximum(here.sum(1), 1)
    long_enough = (seen.visible >= 0.6).sum(1) * STEP_S >= _SEEN_MIN_S
    return bool(long_enough.all() and (mean_hidden <= level.hidden_share_max).all())
