"""Questions of the world: what is asked has exactly the answer it is said to have, found again from label maps."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from workers.shapeworld.world.levels import EASY, HARD, LEVELS, MEDIUM, Level
from workers.shapeworld.world.make import DRAWS_MAX, make_scene
from workers.shapeworld.world.queries import Kind, Question
from workers.shapeworld.world.questions import WORDINGS
from workers.shapeworld.world.render import paint
from workers.shapeworld.world.scene import Scene
from workers.shapeworld.world.shapes import COLORS, SHAPES, TEXTURES
from workers.shapeworld.world.splits import SEEDS, Split

FIRST = SEEDS[Split.TRAIN].start
SIDE_PX, RATE_HZ = 72, 5


@dataclass(frozen=True)
class Seen:
    """What label maps show of N things at T times; lengths are shares of the shorter side, NaN where unseen."""

    share: NDArray[Any]  # (N, T) visible of the whole
    center: NDArray[Any]  # (N, T, 2) of what is visible
    at_border: NDArray[Any]  # (N, T) whether it touches the frame


def look(scene: Scene) -> Seen:
    width, height = scene.size_px(SIDE_PX)
    times = np.arange(0, scene.duration_s - 1e-6, 1 / RATE_HZ)
    count = len(scene.things)
    share, border = np.zeros((count, len(times))), np.zeros((count, len(times)), bool)
    center = np.full((count, len(times), 2), np.nan)
    for step, time_s in enumerate(times):
        labels = np.zeros((height, width), np.uint8)
        whole_px = paint(scene, float(time_s), SIDE_PX, labels)
        for index in range(count):
            rows, columns = np.nonzero(labels == index + 1)
            if len(rows):
                share[index, step] = len(rows) / whole_px[index]
                center[index, step] = columns.mean() / SIDE_PX, rows.mean() / SIDE_PX
                border[index, step] = {0} & {*rows, *columns} or height - 1 in rows or width - 1 in columns
    return Seen(share, center, border)


def named(text: str, scene: Scene) -> set[int]:
    """Things that have every colour, texture and shape the text names."""
    tokens = set(re.findall("[a-z]+", text))
    words = tokens | {shape for shape in SHAPES if tokens & {f"{shape}s", f"{shape}es"}}
    fields = (("color", COLORS), ("texture", TEXTURES), ("shape", SHAPES))
    return {
        index
        for index, thing in enumerate(scene.things)
        if all(getattr(thing, field) in words for field, known in fields if words & set(known))
    }


def fastest(_: str, __: Scene, seen: Seen) -> set[int]:
    speeds = []
    for share, center in zip(seen.share, seen.center, strict=True):
        both = (share > 0.5)[1:] & (share > 0.5)[:-1]
        steps = np.hypot(*np.diff(center, axis=0).T)[both] * RATE_HZ
        speeds.append(float(steps.mean()) if len(steps) else 0.0)
    return {int(np.argmax(speeds))} if max(speeds) > 0.03 else set()


def appears_last(_: str, __: Scene, seen: Seen) -> set[int]:
    first = (seen.share > 0.4).argmax(1)
    return {int(first.argmax())} if first.max() > 0 and list(first).count(first.max()) == 1 else set()


def leaves(_: str, __: Scene, seen: Seen) -> set[int]:
    found = set()
    for index, share in enumerate(seen.share):
        last = int(np.flatnonzero(share > 0)[-1])
        before = seen.at_border[index, max(0, last - 1) : last + 1]
        if last < len(share) - RATE_HZ * 0.5 and before.any():
            found.add(index)
    return found


def direction(text: str, _: Scene, seen: Seen) -> set[int]:
    axis, sign = {
        "from left to right": (0, 1), "from right to left": (0, -1), "from top to bottom": (1, 1),
        "from bottom to top": (1, -1),
    }[" ".join(text.strip("?").split()[-4:])]  # fmt: skip
    found = set()
    for index, share in enumerate(seen.share):
        along = sign * seen.center[index][share > 0.5][:, axis]
        if (along - np.minimum.accumulate(along)).max() > 0.24:
            found.add(index)
    return found


def relation(text: str, scene: Scene, seen: Seen) -> set[int]:
    anchors = named(text.replace("the shape ", ""), scene)
    if not anchors:
        return set()
    (anchor,) = anchors
    side = next(word for word in ("left of", "right of", "above", "below") if word in text)
    axis, sign = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}[side]
    found = set()
    for index in set(range(len(scene.things))) - anchors:
        both = (seen.share[index] > 0.5) & (seen.share[anchor] > 0.5)
        gap = sign * (seen.center[index] - seen.center[anchor])[both][:, axis]
        if gap.mean() > 0.04:
            found.add(index)
    return found


def passes_behind(text: str, scene: Scene, seen: Seen) -> set[int]:
    anchors = named(text, scene)
    if not anchors:
        return set()
    (anchor,) = anchors
    found = set()
    for index in set(range(len(scene.things))) - anchors:
        away = seen.center[index] - seen.center[anchor]
        near = np.hypot(*away.T) < 0.5
        dips = np.flatnonzero((seen.share[index] < 0.6) & (near | np.isnan(away[:, 0])) & ~seen.at_border[index])
        for dip in dips:
            clear = np.flatnonzero(seen.share[index] > 0.75)
            before, after = clear[clear < dip], clear[clear > dip]
            if len(before) and len(after) and away[before[-1]] @ away[after[0]] < 0:
                found.add(index)
    return found


def sound(_: str, scene: Scene) -> set[int]:
    return {i for i, thing in enumerate(scene.things) if scene.sound is not None and thing.shape == scene.sound.shape}


BY_WORDS: dict[Kind, Callable[[str, Scene], set[int]]] = {
    Kind.ATTRIBUTE: named,
    Kind.PLURAL: named,
    Kind.SOUND: sound,
}
BY_SIGHT: dict[Kind, Callable[[str, Scene, Seen], set[int]]] = {
    Kind.RELATION: relation,
    Kind.FASTEST: fastest,
    Kind.APPEARS_LAST: appears_last,
    Kind.LEAVES: leaves,
    Kind.DIRECTION: direction,
    Kind.PASSES_BEHIND: passes_behind,
}


def found_again(question: Question, scene: Scene) -> set[int]:
    asked = question.query.kind
    if asked in BY_WORDS:
        return BY_WORDS[asked](question.text, scene)
    return BY_SIGHT[asked](question.text, scene, look(scene))


@pytest.mark.parametrize("kind", list(Kind))
def test_answers_are_found_again_from_the_label_maps(kind: Kind) -> None:
    wrong = []
    for level, count in ((EASY, 24), (MEDIUM, 24), (HARD, 12)):
        for seed in range(FIRST, FIRST + count):
            example = make_scene(seed, kind, level)
            found = found_again(example.question, example.scene)
            if found != set(example.question.targets):
                wrong.append((level.name, seed, example.question.text, found, example.question.targets))
    assert not wrong


@pytest.mark.parametrize("level", list(LEVELS.values()), ids=list(LEVELS))
@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_is_found_at_every_level_in_few_draws(kind: Kind, level: Level) -> None:
    draws = [make_scene(FIRST + 1000 + n, kind, level).draws for n in range(8)]
    assert max(draws) < DRAWS_MAX / 4
    assert np.mean(draws) < 12


def check_form(question: Question, scene: Scene) -> None:
    absent = question.kind is Kind.ABSENT
    assert (question.targets == ()) == (question.description == "") == absent
    assert absent or question.kind is question.query.kind
    assert question.mode == ("avs" if question.query.kind is Kind.SOUND else "vos")
    assert "{" not in question.text
    assert "  " not in question.text
    if question.kind is Kind.PLURAL:
        assert len(question.targets) >= 2
    elif not absent:
        assert len(question.targets) == 1
        # The description is for one picture: it must tell the target from everything else in the clip.
        assert named(question.description, scene) == set(question.targets)


@pytest.mark.parametrize("level", list(LEVELS.values()), ids=list(LEVELS))
def test_questions_are_well_formed_and_keep_to_their_level(level: Level) -> None:
    for kind in Kind:
        for seed in range(FIRST + 2000, FIRST + 2006):
            example = make_scene(seed, kind, level)
            check_form(example.question, example.scene)
            scene = example.scene
            assert len(scene.things) <= level.thing_count[1]
            assert level.duration_s[0] <= scene.duration_s <= level.duration_s[1]
            assert {thing.shape for thing in scene.things} <= set(level.shapes)
            assert {thing.texture for thing in scene.things} <= set(level.textures)


def test_absent_questions_use_the_wordings_of_every_kind_and_all_wordings_occur() -> None:
    asked, texts = set(), set()
    for seed in range(FIRST + 3000, FIRST + 3080):
        question = make_scene(seed, Kind.ABSENT, MEDIUM).question
        asked.add(question.query.kind)
        texts.add(make_scene(seed, Kind.FASTEST, EASY).question.text)
    assert asked == set(Kind) - {Kind.ABSENT}
    assert texts == set(WORDINGS[Kind.FASTEST])


def test_a_seed_is_one_example_and_another_seed_is_another() -> None:
    for kind in Kind:
        assert make_scene(FIRST, kind, HARD) == make_scene(FIRST, kind, HARD)
        assert make_scene(FIRST, kind, HARD) != make_scene(FIRST + 1, kind, HARD)
