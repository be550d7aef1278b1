"""Splits of the world: nothing that is held out can be reached by training."""

import ast
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import workers
from workers.shapeworld.world.levels import EASY, HARD, LEVELS, Level
from workers.shapeworld.world.make import make_scene, make_training_scene, make_validation_scene
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.scene import Scene
from workers.shapeworld.world.shapes import COLORS, SHAPES
from workers.shapeworld.world.splits import (
    HELD_OUT_PAIRS,
    SEEDS,
    SEEN_PAIRS,
    NotTrainable,
    Split,
    check_trainable,
    split_of,
)


def pairs_of(scene: Scene) -> set[tuple[str, str]]:
    return {(thing.color, thing.shape) for thing in scene.things}


def test_no_seed_is_in_two_splits() -> None:
    ranges = sorted(SEEDS.values(), key=lambda seeds: seeds.start)
    assert set(SEEDS) == set(Split)
    assert all(before.stop <= after.start for before, after in pairwise(ranges))


@given(st.integers(-10, SEEDS[Split.TRAIN].start - 1) | st.integers(SEEDS[Split.TRAIN].stop, 2**40))
def test_training_refuses_every_seed_outside_its_range(seed: int) -> None:
    with pytest.raises(NotTrainable):
        check_trainable(seed)
    with pytest.raises(NotTrainable):
        make_training_scene(seed, Kind.ATTRIBUTE, EASY)


def test_the_edges_of_the_training_range() -> None:
    train = SEEDS[Split.TRAIN]
    assert make_training_scene(train[0], Kind.SOUND, EASY) == make_scene(train[0], Kind.SOUND, EASY)
    check_trainable(train[-1])
    with pytest.raises(ValueError, match="no split"):
        split_of(train.start - 1)


def test_training_is_judged_on_the_validation_range_alone() -> None:
    first = SEEDS[Split.VALIDATION][0]
    assert make_validation_scene(first, Kind.SOUND, EASY) == make_scene(first, Kind.SOUND, EASY)
    for split in set(Split) - {Split.VALIDATION}:
        with pytest.raises(NotTrainable, match="validation"):
            make_validation_scene(SEEDS[split][0], Kind.SOUND, EASY)


WORLD = "workers.shapeworld.world"


def other_ways_in(source: str) -> list[str]:
    """What the source imports of the world that draws scenes of any seed: functions, or modules that have them."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith(WORLD)]
        elif isinstance(node, ast.ImportFrom):
            closed = {"make", "staging", "world"} if node.module in (WORLD, WORLD.rpartition(".")[0]) else set()
            closed |= {"make_scene", "first_scene", "draw", "*"} if (node.module or "").startswith(WORLD) else set()
            found += [alias.name for alias in node.names if alias.name in closed]
    return found


@pytest.mark.parametrize(
    ("source", "ways"),
    [
        ("from workers.shapeworld.world.make import make_training_scene, Example", []),
        ("from workers.shapeworld.world import levels, queries", []),
        ("from workers.shapeworld.world.make import make_scene", ["make_scene"]),
        ("from workers.shapeworld.world.make import first_scene", ["first_scene"]),
        ("from workers.shapeworld.world import make", ["make"]),
        ("def f():\n    import workers.shapeworld.world.make", ["workers.shapeworld.world.make"]),
        ("from workers.shapeworld import world", ["world"]),
        ("from workers.shapeworld.world.staging import *", ["*"]),
    ],
)
def test_other_ways_in_are_noticed(source: str, ways: list[str]) -> None:
    assert other_ways_in(source) == ways


def test_training_code_has_no_other_way_into_the_world() -> None:
    """Training code is what has "train" in its path."""
    root = Path(next(iter(workers.__path__)))
    training = [path for path in root.rglob("*.py") if "train" in str(path.relative_to(root))]
    assert {str(path): ways for path in training if (ways := other_ways_in(path.read_text()))} == {}


def test_held_out_pairs_leave_every_word_to_be_learned() -> None:
    assert set(HELD_OUT_PAIRS) | set(SEEN_PAIRS) == {(color, shape) for color in COLORS for shape in SHAPES}
    assert not set(HELD_OUT_PAIRS) & set(SEEN_PAIRS)
    assert {shape for _, shape in HELD_OUT_PAIRS} == set(SHAPES)
    assert len({color for color, _ in HELD_OUT_PAIRS}) == len(SHAPES)


@pytest.mark.parametrize("split", [Split.TRAIN, Split.VALIDATION, Split.TEST])
def test_held_out_pairs_are_neither_shown_nor_named(split: Split) -> None:
    for kind in Kind:
        for seed in SEEDS[split][:8]:
            example = make_scene(seed, kind, HARD)
            assert not pairs_of(example.scene) & set(HELD_OUT_PAIRS)
            words = example.question.text.strip("?").split()
            for color, shape in HELD_OUT_PAIRS:
                assert not {color, shape} <= set(words)


@pytest.mark.parametrize("level", list(LEVELS.values()), ids=list(LEVELS))
def test_unseen_answers_have_a_held_out_pair(level: Level) -> None:
    for kind in Kind:
        for seed in SEEDS[Split.UNSEEN][:4]:
            scene, question = (example := make_scene(seed, kind, level)).scene, example.question
            pairs = [(thing.color, thing.shape) for thing in scene.things]
            asked = [pairs[target] for target in question.targets] or pairs
            assert set(asked) & set(HELD_OUT_PAIRS)


def test_the_same_number_in_other_kinds_and_levels_is_another_scene() -> None:
    scenes = [make_scene(0, kind, level).scene for kind in (Kind.PLURAL, Kind.LEAVES) for level in LEVELS.values()]
    assert all(one.things != other.things for one, other in combinations(scenes, 2))
