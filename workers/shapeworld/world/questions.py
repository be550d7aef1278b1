"""Questions: wordings of each kind, and the search for one about a scene whose answer is clear."""

from collections.abc import Iterator

import numpy as np

from workers.shapeworld.world.answers import answer
from workers.shapeworld.world.levels import LEVELS
from workers.shapeworld.world.observe import Observation
from workers.shapeworld.world.queries import SIDES, Kind, Query, Question
from workers.shapeworld.world.scene import Scene
from workers.shapeworld.world.shapes import COLORS
from workers.shapeworld.world.splits import Pair
from workers.shapeworld.world.things import Look, describe

WORDINGS: dict[Kind, tuple[str, ...]] = {
    Kind.ATTRIBUTE: ("the {look}", "find the {look}", "segment the {look}", "where is the {look}?", "track the {look}"),
    Kind.PLURAL: ("all {looks}", "find all {looks}", "segment every {look}", "each {look}", "the {looks}, all of them"),
    Kind.RELATION: (
        "the shape {side} the {look}",
        "which shape is {side} the {look}?",
        "find what is {side} the {look}",
        "the object {side} the {look}",
    ),
    Kind.FASTEST: (
        "the shape that moves fastest",
        "which object is the fastest?",
        "the fastest shape in the view",
        "the one with the highest speed",
        "find the shape that moves faster than all others",
    ),
    Kind.APPEARS_LAST: (
        "the shape that appears last",
        "the last object to appear",
        "which shape shows up last?",
        "the one that comes into the view after all others",
    ),
    Kind.LEAVES: (
        "the shape that leaves the view",
        "the object that goes out of the view",
        "which shape leaves?",
        "the one that moves out of the picture",
    ),
    Kind.DIRECTION: (
        "the one moving {way}",
        "the shape that goes {way}",
        "which object moves {way}?",
        "find the shape that travels {way}",
    ),
    Kind.PASSES_BEHIND: (
        "the shape that passes behind the {look}",
        "which object goes behind the {look}?",
        "the one that moves behind the {look}",
        "find what disappears behind the {look} and comes out again",
    ),
    Kind.SOUND: (
        "the shape that makes the sound",
        "which object is making the sound?",
        "the object you can hear",
        "find what is heard",
        "the source of the sound",
    ),
}
_SIDE_WORDS = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
_WAY_WORDS = {
    "right": "from left to right",
    "left": "from right to left",
    "down": "from top to bottom",
    "up": "from bottom to top",
}
#: Queries tried about one scene before it is given up.
_TRIES = 16


def ask(
    rng: np.random.Generator, scene: Scene, seen: Observation, kind: Kind, pairs: tuple[Pair, ...], absent: bool = False
) -> Question | None:
    """A question of the kind with a clear answer, or, if `absent`, one in its wording that nothing fits.

    `pairs` are the colour × shape pairs that may be named. None if this scene has no such question.
    """
    for query in _queries(rng, scene, kind, pairs, absent):
        targets = answer(query, scene, seen)
        if targets is not None and bool(targets) != absent:
            return _word(rng, scene, query, targets, absent)
    return None


def _queries(
    rng: np.random.Generator, scene: Scene, kind: Kind, pairs: tuple[Pair, ...], absent: bool
) -> Iterator[Query]:
    if kind is Kind.DIRECTION:
        yield from (Query(kind, toward=str(way)) for way in rng.permutation(list(_WAY_WORDS)))
    elif kind is Kind.ATTRIBUTE:
        for _ in range(_TRIES):
            yield Query(kind, _near_miss(rng, scene, pairs) if absent else _any_look(rng, scene))
    elif kind is Kind.PLURAL:
        yield from (Query(kind, _group_look(rng, scene, absent)) for _ in range(_TRIES))
    elif kind in (Kind.RELATION, Kind.PASSES_BEHIND):
        for _ in range(_TRIES):
            # Nothing fits because nothing stands there, or because the thing it is set against isn't there.
            missing = absent and rng.random() < 0.4
            anchor = int(rng.integers(len(scene.things)))
            look = _near_miss(rng, scene, pairs) if missing else describe(anchor, scene.things)
            yield Query(kind, look, str(rng.choice(SIDES)) if kind is Kind.RELATION else None)
    else:
        yield Query(kind)


def _any_look(rng: np.random.Generator, scene: Scene) -> Look:
    """Some words about some thing; whether they tell it from the others is for the answer to say."""
    thing = scene.things[int(rng.integers(len(scene.things)))]
    said = ("color shape", "color shape", "color shape texture", "shape texture", "color texture", "shape", "color")
    words = str(rng.choice(said)).split()
    return Look(**{word: getattr(thing, word) for word in words if getattr(thing, word) != "plain"})


def _near_miss(rng: np.random.Generator, scene: Scene, pairs: tuple[Pair, ...]) -> Look:
    """Mostly words that are all seen in the picture, but not on one thing."""
    things = scene.things
    one, other = things[int(rng.integers(len(things)))], things[int(rng.integers(len(things)))]
    textures = LEVELS[scene.level].textures[1:]
    fate = rng.random()
    if fate < 0.45 and (one.color, other.shape) in pairs:
        return Look(one.color, other.shape)
    if fate < 0.6 and textures:
        return Look(one.color, one.shape, str(rng.choice(textures)))
    color, shape = pairs[int(rng.integers(len(pairs)))]
    if fate < 0.8:
        shape = str(rng.choice([s for c, s in pairs if c == one.color] or [shape]))
        color = one.color if (one.color, shape) in pairs else color
    return Look(color, shape)


def _group_look(rng: np.random.Generator, scene: Scene, absent: bool) -> Look:
    """One word that several things may share."""
    field = str(rng.choice(["color", "color", "shape", "texture"]))
    if absent:
        level = LEVELS[scene.level]
        words = {"color": tuple(COLORS), "shape": level.shapes, "texture": level.textures[1:] or ("plain",)}[field]
        value = str(rng.choice(words))
    else:
        value = getattr(scene.things[int(rng.integers(len(scene.things)))], field)
    # "plain" is said of nothing: a thing without marks isn't seen as having a texture.
    return Look(**{field: value}) if value != "plain" else Look(color=str(rng.choice(tuple(COLORS))))


def _word(rng: np.random.Generator, scene: Scene, query: Query, targets: tuple[int, ...], absent: bool) -> Question:
    look = query.look or Look()
    text = str(rng.choice(WORDINGS[query.kind])).format(
        look=look.phrase(),
        looks=look.phrase(plural=True),
        side=_SIDE_WORDS.get(query.toward or "", ""),
        way=_WAY_WORDS.get(query.toward or "", ""),
    )
    if absent:
        description = ""
    elif query.kind is Kind.PLURAL:
        description = f"the {look.phrase(plural=True)}"
    else:
        description = f"the {describe(targets[0], scene.things).phrase()}"
    kind = Kind.ABSENT if absent else query.kind
    return Question(kind, query, "avs" if query.kind is Kind.SOUND else "vos", text, targets, description)
