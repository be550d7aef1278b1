"""Words: System 1's reasoning and answer as text, and the words that are single tokens.

The reasoning lists what is heard and seen, sorted by looks, then chooses by number:
`<think> 1) red plain star @3.7 @4.7 @5.7 … - - since0 v7 right yes 2) … no thus 1) the red star</think>`.
Of each thing the cells where it is at the eight moments come first, for each of them can be looked up by itself; since
when it is there, how fast and which way it goes follow from them. A thing ends with whether it is what is looked for,
as far as the list has come by then. What a side of something is asked of, or what passes behind it, is listed first,
and each other thing says before its mark on which sides of it it lies, ` beside left up no`, or whether the two ever
overlap and which of them is in front, ` behind yes`. The answer is one JSON object a moment, and nothing between the
tags where there is no target.
"""

from collections.abc import Iterable, Iterator, Sequence

from workers.shapeworld.training.system1.sightings import (
    MOMENT_COUNT,
    NOMINAL_FPS,
    PLACE_PX,
    SIZES_PX,
    SPEEDS,
    Place,
    Sighting,
)
from workers.shapeworld.world.answers import HIDDEN_NONE
from workers.shapeworld.world.queries import Kind, Question
from workers.shapeworld.world.shapes import COLORS, SHAPES, TEXTURES
from workers.shapeworld.world.things import Look

THING_COUNT_MAX = 6
SILENCE = "nothing"
COLUMN_COUNT, ROW_COUNT = (max(size[axis] for size in SIZES_PX.values()) // PLACE_PX for axis in (0, 1))
NUMBERS = tuple(f" {number + 1})" for number in range(THING_COUNT_MAX))
ALL, NONE = " all", " none"
WAYS = tuple(f" {way}" for way in ("still", "about", "left", "right", "up", "down"))
#: Cells row by row; like moments and speeds, a near miss is nearly right.
CELLS = tuple(f" @{column}.{row}" for row in range(ROW_COUNT) for column in range(COLUMN_COUNT))
NOWHERE = " -"
SINCE = tuple(f" since{moment}" for moment in range(MOMENT_COUNT))
SPEED_WORDS = tuple(f" v{speed}" for speed in range(len(SPEEDS) + 1))
TIMES = tuple(f"00:{moment * 2 / NOMINAL_FPS:05.2f}" for moment in range(MOMENT_COUNT + 1))
COLOR_WORDS = tuple(f" {color}" for color in COLORS)
SHAPE_WORDS = tuple(f" {shape}" for shape in SHAPES)
TEXTURE_WORDS = tuple(f" {texture}" for texture in TEXTURES)
PLURALS = tuple(f" {Look(shape=shape).phrase(plural=True)}" for shape in SHAPES)
BEGIN, BESIDE, CHOICE, END = "<think>", " beside", " thus", "</think>"
LEAVES, HEARD = " leaves", " sound:"
#: Where one is when the two overlap: under what is asked of, or on it; or they never do.
DEPTHS = BEHIND, OVER, APART = " behind", " over", " apart"
MARKS = (" no", " yes")
OPEN, CLOSE = "<answer>", "</answer>"
START, UNTIL, SAYS, DONE = '{"start_time": "', '", "end_time": "', '", "description": "the', '"}'
PIECES = (
    BEGIN, END, OPEN, CLOSE, START, UNTIL, SAYS, DONE, CHOICE, ALL, NONE, LEAVES, HEARD, " the", " shapes",
    " shape", f" {SILENCE}", *MARKS, *NUMBERS, *WAYS, *CELLS, NOWHERE, *SINCE, *SPEED_WORDS, *TIMES, *COLOR_WORDS,
    *SHAPE_WORDS, *TEXTURE_WORDS, *PLURALS, BESIDE, *DEPTHS,
)  # fmt: skip


def in_order(question: Question, sightings: Sequence[Sighting]) -> list[int]:
    """Indices of the things as they are listed: by colour, shape, texture, as the world names them; what others
    are set against before all of them."""
    colors, shapes, anchors = list(COLORS), list(SHAPES), anchors_of(question, sightings)

    def rank(index: int) -> tuple[bool, int, int, int, int]:
        look = sightings[index].look
        assert look.color is not None
        assert look.shape is not None
        assert look.texture is not None
        texture = TEXTURES.index(look.texture)
        return index not in anchors, colors.index(look.color), shapes.index(look.shape), texture, index

    return sorted(range(len(sightings)), key=rank)


def anchors_of(question: Question, sightings: Sequence[Sighting]) -> set[int]:
    """What others are set against: what lies beside it, or passes behind it."""
    look = question.query.look
    if question.query.kind not in (Kind.RELATION, Kind.PASSES_BEHIND) or look is None:
        return set()
    return {index for index, thing in enumerate(sightings) if _is_like(thing.look, look)}


def marked(question: Question, sightings: Sequence[Sighting]) -> set[int]:
    """The things that the list marks: those that fit; for a comparison each that beats all listed before it, so that
    the last one marked is the answer."""
    kind = question.query.kind
    if kind not in (Kind.FASTEST, Kind.APPEARS_LAST):
        return set(question.targets)
    found, best = set[int](), 0
    for index in in_order(question, sightings):
        thing = sightings[index]
        value = thing.speed if kind is Kind.FASTEST else thing.first_moment
        if value > best or index in question.targets:
            found, best = found | {index}, value
        if index in question.targets:
            break
    return found


def _is_like(seen: Look, said: Look) -> bool:
    pairs = ((said.color, seen.color), (said.shape, seen.shape), (said.texture, seen.texture))
    return all(word is None or word == found for word, found in pairs)


def say_list(question: Question, sightings: Sequence[Sighting]) -> str:
    """Every thing with its number, looks, trace, first moment, speed, way, place beside or behind what is asked of, and
    mark."""
    order, marks, anchors = in_order(question, sightings), marked(question, sightings), anchors_of(question, sightings)

    def against(index: int, anchor: int) -> str:
        if question.query.kind is Kind.RELATION:
            return _say_sides(sightings[index], sightings[anchor])
        return depth(sightings[index].hidden_by[anchor], sightings[anchor].hidden_by[index])

    def compared(index: int) -> str:
        return "" if index in anchors else "".join(against(index, anchor) for anchor in anchors)

    return "".join(NUMBERS[n] + _say(sightings[i]) + compared(i) + MARKS[i in marks] for n, i in enumerate(order))


def depth(hidden: float, hides: float) -> str:
    """The word for a thing of which what is asked of ever hides a share, or of which it hides one."""
    if max(hidden, hides) <= HIDDEN_NONE:
        return APART
    return BEHIND if hidden > hides else OVER


def _say_sides(thing: Sighting, anchor: Sighting) -> str:
    """On which sides of the other it lies, by their cells at the moments that show both; nothing if none does."""
    pairs = zip(thing.trace, anchor.trace, strict=True)
    away = [(a[0] - b[0], a[1] - b[1]) for a, b in pairs if a is not None and b is not None]
    if not away:
        return ""
    across, down = (sum(steps) for steps in zip(*away, strict=True))
    return f"{BESIDE} {'left' if across < 0 else 'right'} {'up' if down < 0 else 'down'}"


def _say(thing: Sighting) -> str:
    look = thing.look
    trace = "".join(NOWHERE if place is None else CELLS[cell(place)] for place in thing.trace)
    more = LEAVES if thing.leaves else ""
    when = f"{SINCE[thing.first_moment]}{SPEED_WORDS[thing.speed]}"
    return f" {look.color} {look.texture} {look.shape}{trace}{when} {thing.way}{more}"


def cell(place: Place) -> int:
    """The number of a cell in `CELLS`."""
    return place[1] * COLUMN_COUNT + place[0]


def say_choice(question: Question, sightings: Sequence[Sighting]) -> str:
    """What the list leads to: a number, all of a kind, or none; with the description."""
    if not question.targets:
        return f"{CHOICE}{NONE}"
    if question.query.kind is Kind.PLURAL:
        return f"{CHOICE}{ALL} {question.description}"
    number = NUMBERS[in_order(question, sightings).index(question.targets[0])]
    return f"{CHOICE}{number} {question.description}"


def say_answer(description: str, moments: Iterable[int]) -> str:
    """`moments`: half nominal seconds (0 to 7); none, if there is no target."""
    said = description.removeprefix("the")
    items = (f"{START}{TIMES[m]}{UNTIL}{TIMES[m + 1]}{SAYS}{said}{DONE}" for m in moments)
    return f"{OPEN}{''.join(items)}{CLOSE}"


def say(question: Question, sightings: Sequence[Sighting], moments: Iterable[int], heard: str | None) -> str:
    """The whole completion. `heard`: the shape whose timbre it is, `SILENCE`, or None where nobody listens."""
    sound = f"{HEARD} {heard}" if heard else ""
    reasoning = f"{sound}{say_list(question, sightings)}{say_choice(question, sightings)}"
    return f"{BEGIN}{reasoning}{END}{say_answer(question.description, moments)}"


def without_pieces(text: str) -> Iterator[str]:
    """The parts of a text that the tokenizer has to learn."""
    parts = [text]
    for piece in sorted(PIECES, key=len, reverse=True):
        parts = [rest for part in parts for rest in part.split(piece)]
    return (part for part in parts if part)
