"""Scenes for training: drawn from the world once, used many times in other colours and with other questions.

Scenes are staged for one kind of question; asking others about them, and asking for what isn't there, keeps the answer
from being guessed by the staging. Where something is and what hides it doesn't depend on colours, so the observation
stays true when they change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from workers.shapeworld.training.system1 import sightings, words
from workers.shapeworld.world.levels import EASY, HARD, LEVELS, MEDIUM, Level
from workers.shapeworld.world.make import make_training_scene
from workers.shapeworld.world.motion import Point
from workers.shapeworld.world.observe import Observation, observe
from workers.shapeworld.world.queries import ASKED_KINDS, Kind, Question
from workers.shapeworld.world.questions import ask
from workers.shapeworld.world.scene import Scene
from workers.shapeworld.world.shapes import COLORS
from workers.shapeworld.world.splits import HELD_OUT_PAIRS, SEEDS, SEEN_PAIRS, Split
from workers.shapeworld.world.things import Thing

#: How often each level is drawn.
_LEVEL_SHARES = {EASY: 0.15, MEDIUM: 0.35, HARD: 0.5}
#: How often scenes are staged for a kind, relative to each other: what passes behind something is seen nowhere else,
#: what leaves or comes late seldom.
_STAGED = dict.fromkeys(Kind, 1.0) | {Kind.PASSES_BEHIND: 2.0, Kind.LEAVES: 2.0, Kind.APPEARS_LAST: 1.5}
#: The same of hard scenes, with which a training ends: on the easy level hardly anything is wrong by then.
_LATE_LEVEL_SHARES = {EASY: 0.1, MEDIUM: 0.25, HARD: 0.65}
_LATE_STAGED = dict.fromkeys(Kind, 1.0) | {Kind.PASSES_BEHIND: 2.5, Kind.LEAVES: 1.5, Kind.APPEARS_LAST: 1.2}
_LATE_COUNT = 4_000
#: How often each kind is asked, relative to each other, where the scene wasn't staged for it.
_ASKED = {
    Kind.ATTRIBUTE: 1.0, Kind.PLURAL: 1.0, Kind.RELATION: 3.0, Kind.FASTEST: 1.5, Kind.APPEARS_LAST: 1.2,
    Kind.LEAVES: 1.5, Kind.DIRECTION: 1.5, Kind.PASSES_BEHIND: 3.0, Kind.SOUND: 0.0,
}  # fmt: skip
ANY_COUNT = range(1, words.THING_COUNT_MAX + 1)
_OWN_KIND_SHARE, _ABSENT_SHARE = 0.4, 0.2
#: Kinds tried about one scene before another scene is taken.
_TRIES = 4
#: How often two things of one shape get one colour, so that only their textures tell them apart.
_TWIN_SHARE = 0.4
#: Crossed scenes: how many there are, how often each level is staged, and how many scenes are tried for one.
_CROSSED_COUNT, _CROSSED_TRIES = 600, 24
_CROSSED_SHARES = {MEDIUM: 0.3, HARD: 0.7}
_OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
#: Keyframes in an answer: one fewer than the pipeline takes at most, for each costs eight tokens.
MOMENTS = 3


@dataclass(frozen=True, slots=True)
class Staged:
    """A scene, its observation, and the kind of question that it was staged for."""

    scene: Scene
    seen: Observation
    kind: Kind


@dataclass(frozen=True, slots=True)
class Sample:
    """A question about a scene and the completion that answers it. `heard` is None where nobody listens."""

    staged: Staged
    question: Question
    sightings: tuple[sightings.Sighting, ...]
    heard: str | None
    completion: str


class Scenes:
    """`count` scenes by number, made when they are first asked for."""

    #: How far behind the first seed of the training theirs begin; how often each level and kind is drawn.
    _apart = 0
    _levels: Mapping[Level, float] = _LEVEL_SHARES
    _kinds: Mapping[Kind, float] = _STAGED

    def __init__(self, training_seed: int, count: int) -> None:
        self.count, self._first = count, _first_seed(training_seed) + self._apart
        self._made: dict[int, Staged] = {}

    def __getitem__(self, number: int) -> Staged:
        if number not in self._made:
            self._made[number] = self._stage(np.random.default_rng([self._first, number]), number)
        return self._made[number]

    def _stage(self, rng: np.random.Generator, number: int) -> Staged:
        shares = np.asarray([self._kinds[kind] for kind in Kind])
        level = _drawn_level(rng, self._levels)
        kind = list(Kind)[int(rng.choice(len(Kind), p=shares / shares.sum()))]
        return _staged(self._first + number, kind, level)

    def draw(self, rng: np.random.Generator, size: tuple[int, int] | None = None, counts: range = ANY_COUNT) -> Staged:
        """Any scene (whose picture has that size) with so many things, in other colours and before another ground."""
        while True:
            staged = self[int(rng.integers(self.count))]
            if len(staged.scene.things) in counts and size in (None, sightings.size_px(staged.scene)):
                scene = recolored(rng, staged.scene)
                return replace(staged, scene=twinned(rng, scene) if rng.random() < _TWIN_SHARE else scene)


class CrossedScenes(Scenes):
    """Scenes in which one thing goes one way and another the opposite: that only the order of two words says which is
    meant isn't learned from scenes in which a single thing goes anywhere."""

    _apart = 500_000

    def __init__(self, training_seed: int) -> None:
        super().__init__(training_seed, _CROSSED_COUNT)

    def _stage(self, rng: np.random.Generator, number: int) -> Staged:
        level = _drawn_level(rng, _CROSSED_SHARES)
        first = self._first + number * _CROSSED_TRIES
        tried = (_staged(first + again, Kind.DIRECTION, level) for again in range(_CROSSED_TRIES))
        return next((staged for staged in tried if is_crossed(staged)), _staged(first, Kind.DIRECTION, level))


class LateScenes(Scenes):
    """Scenes for the end of a training: more of what is still wrong by then."""

    _apart = 600_000
    _levels, _kinds = _LATE_LEVEL_SHARES, _LATE_STAGED

    def __init__(self, training_seed: int) -> None:
        super().__init__(training_seed, _LATE_COUNT)


def is_crossed(staged: Staged) -> bool:
    """Whether two things go opposite ways."""
    ways = {thing.way for thing in sightings.sight(staged.scene, staged.seen)}
    return any(_OPPOSITE.get(way) in ways for way in ways)


def _drawn_level(rng: np.random.Generator, shares: Mapping[Level, float]) -> Level:
    return list(shares)[int(rng.choice(len(shares), p=list(shares.values())))]


def _staged(seed: int, kind: Kind, level: Level) -> Staged:
    example = make_training_scene(seed, kind, level)
    return Staged(example.scene, observe(example.scene), example.question.query.kind)


def _first_seed(training_seed: int) -> int:
    """Where the seeds of a training's scenes begin; trainings don't share scenes."""
    train = SEEDS[Split.TRAIN]
    return train.start + training_seed % 1000 * 1_000_000


def recolored(rng: np.random.Generator, scene: Scene) -> Scene:
    """The scene with its colours exchanged for others, never to a held-out pair, and with other noise and ground."""
    while True:
        palette = dict(zip(COLORS, rng.permutation(list(COLORS)).tolist(), strict=True))
        things = tuple(replace(thing, color=palette[thing.color]) for thing in scene.things)
        if not any((thing.color, thing.shape) in HELD_OUT_PAIRS for thing in things):
            train = SEEDS[Split.TRAIN]
            return replace(scene, things=things, seed=int(rng.integers(train.start, train.stop)))


def twinned(rng: np.random.Generator, scene: Scene) -> Scene:
    """The scene with one thing in the colour of another of its shape but not of its texture; as it is if there are no
    two."""
    pairs = [
        (one, other)
        for one, thing in enumerate(scene.things)
        for other, like in enumerate(scene.things)
        if thing.shape == like.shape and thing.texture != like.texture
    ]
    if not pairs:
        return scene
    one, other = pairs[int(rng.integers(len(pairs)))]
    changed = replace(scene.things[one], color=scene.things[other].color)
    return replace(scene, things=(*scene.things[:one], changed, *scene.things[one + 1 :]))


def draw_sample(
    rng: np.random.Generator, scenes: Scenes, listening: bool = False, size: tuple[int, int] | None = None,
    counts: range = ANY_COUNT, kind: Kind | None = None,
) -> Sample:  # fmt: skip
    """A scene with a question, of that kind or of any. `listening`: it is asked together with the sound."""
    while True:
        sample = ask_about(rng, scenes.draw(rng, size, counts), listening, kind)
        if sample is not None:
            return sample


def ask_about(rng: np.random.Generator, staged: Staged, listening: bool, kind: Kind | None = None) -> Sample | None:
    """A question of some kind, or of that one, about the scene, or None if none of a few has a clear answer."""
    scene = staged.scene
    for _ in range(_TRIES):
        asked = kind or (Kind.SOUND if listening else _kind(rng, staged.kind))
        absent = bool(rng.random() < _ABSENT_SHARE)
        question = ask(rng, scene, staged.seen, asked, _pairs(LEVELS[scene.level]), absent)
        if question is not None:
            return complete(staged, question)
    return None


def _kind(rng: np.random.Generator, own: Kind) -> Kind:
    if own is not Kind.SOUND and rng.random() < _OWN_KIND_SHARE:
        return own
    weights = np.asarray([_ASKED[kind] for kind in ASKED_KINDS])
    return ASKED_KINDS[int(rng.choice(len(ASKED_KINDS), p=weights / weights.sum()))]


def _pairs(level: Level) -> tuple[tuple[str, str], ...]:
    return tuple(pair for pair in SEEN_PAIRS if pair[1] in level.shapes)


def complete(staged: Staged, question: Question) -> Sample:
    """The completion that answers a question."""
    scene, seen = staged.scene, staged.seen
    found = sightings.sight(scene, seen)
    heard = None
    if question.query.kind is Kind.SOUND:
        heard = words.SILENCE if scene.sound is None else scene.sound.shape
    return Sample(staged, question, found, heard, words.say(question, found, _moments(staged, question), heard))


def _moments(staged: Staged, question: Question) -> tuple[int, ...]:
    if not question.targets:
        return ()
    return sightings.keyframes(staged.seen, question.targets, sightings.sampled_times(staged.scene), MOMENTS)


def doubled(rng: np.random.Generator, sample: Sample) -> Sample:
    """The sample with one thing listed twice and another left out, neither meant nor what others are set against; as it
    is where there are no two such things. So are lists that a model writes mistaken, and the rest of them still says
    which thing is meant."""
    question, found = sample.question, sample.sightings
    kept = {*question.targets, *words.anchors_of(question, found)}
    others = [index for index in range(len(found)) if index not in kept]
    if len(others) < 2:
        return sample
    lost, twice = rng.choice(others, 2, replace=False).tolist()
    hidden = [list(thing.hidden_by) for thing in found]
    for shares in hidden:
        shares[lost] = shares[twice]
    listed = [replace(thing, hidden_by=tuple(shares)) for thing, shares in zip(found, hidden, strict=True)]
    listed[lost] = listed[twice]
    said = words.say(question, listed, _moments(sample.staged, question), sample.heard)
    return replace(sample, sightings=tuple(listed), completion=said)


def mirrored(staged: Staged) -> Staged:
    """The scene with left and right exchanged, in the same colours."""
    scene, seen = staged.scene, staged.seen
    camera = replace(scene.camera, start=_opposite(scene.camera.start), velocity=_opposite(scene.camera.velocity))
    things = tuple(_turned(thing, scene.view[0]) for thing in scene.things)
    there = replace(scene, camera=camera, things=things)
    width = np.asarray((scene.view[0], 0.0))
    seen = replace(seen, center=width + seen.center * (-1, 1), world_center=width + seen.world_center * (-1, 1))
    return Staged(there, seen, staged.kind)


def _turned(thing: Thing, width: float) -> Thing:
    motion = thing.motion
    (start_x, start_y), (end_x, end_y) = motion.start, motion.end
    motion = replace(motion, start=(width - start_x, start_y), end=(width - end_x, end_y), bow=-motion.bow)
    # The crescent alone opens to a side; its halves above and below are alike, and so are all others' left and right.
    half_turn = np.pi if thing.shape == "crescent" else 0.0
    return replace(thing, motion=motion, angle_rad=half_turn - thing.angle_rad, spin_rad_s=-thing.spin_rad_s)


def _opposite(point: Point) -> Point:
    return -point[0], point[1]
