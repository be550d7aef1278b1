"""What System 1 is taught to write is true, can be answered from, and is what the product reads."""

from dataclasses import replace

import numpy as np
import pytest

from tests.factories.taught import SCENES, SECONDS, chosen, encoder, samples
from workers.pipeline.parsing import parse_system1
from workers.shapeworld.training.system1 import scenes, sightings, words
from workers.shapeworld.training.system1.batches import System1Source, Turn
from workers.shapeworld.training.system1.validation import MAX_NEW_TOKENS
from workers.shapeworld.training.trainee import Phase
from workers.shapeworld.world.queries import Kind, Query
from workers.shapeworld.world.splits import HELD_OUT_PAIRS
from workers.shapeworld.world.things import describe


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.ABSENT])
def test_the_choice_follows_from_the_marks_of_the_list(kind: Kind) -> None:
    """So that choosing can be learned from lists alone."""
    asked = [sample for sample in samples() if sample.question.query.kind is kind]
    assert asked
    for sample in asked:
        order = words.in_order(sample.question, sample.sightings)
        marks = sorted(words.marked(sample.question, sample.sightings), key=order.index)
        if kind is Kind.PLURAL:
            assert chosen(sample.completion) == (words.ALL if marks else words.NONE)
        else:
            assert chosen(sample.completion) == (words.NUMBERS[order.index(marks[-1])] if marks else words.NONE)


@pytest.mark.parametrize("kind", [Kind.RELATION, Kind.PASSES_BEHIND])
def test_what_others_are_set_against_comes_first_in_the_list(kind: Kind) -> None:
    asked = [sample for sample in samples() if sample.question.query.kind is kind]
    later = 0
    for sample in asked:
        anchors = words.anchors_of(sample.question, sample.sightings)
        order = words.in_order(sample.question, sample.sightings)
        assert set(order[: len(anchors)]) == anchors
        assert not anchors & words.marked(sample.question, sample.sightings)
        look = sample.question.query.look
        named = f"1) {look.color} " if look and look.color else ""
        assert not anchors or named in sample.completion
        later += order != words.in_order(replace(sample.question, query=Query(Kind.PLURAL)), sample.sightings)
    assert later > len(asked) / 4


def test_what_the_list_says_tells_the_answer() -> None:
    """Speed, times, ways and places as they are said, without the scene: nearly always enough."""
    right = [sample.question.targets == _from_list(sample) for sample in samples() if _from_list(sample) is not None]
    assert len(right) > 100
    assert np.mean(right) > 0.97


def _from_list(sample: scenes.Sample) -> tuple[int, ...] | None:
    query, found = sample.question.query, sample.sightings
    if query.kind is Kind.DIRECTION:
        return tuple(i for i, thing in enumerate(found) if thing.way == query.toward)
    if query.kind is Kind.LEAVES:
        return tuple(i for i, thing in enumerate(found) if thing.leaves)
    if query.kind is Kind.FASTEST:
        return _most([thing.speed for thing in found])
    if query.kind is Kind.APPEARS_LAST:
        return _most([thing.first_moment for thing in found])
    if query.kind is Kind.RELATION:
        anchors = [thing for thing in found if words._is_like(thing.look, query.look or thing.look)]
        return _beside(anchors[0], found, str(query.toward)) if anchors else ()
    if query.kind is Kind.PASSES_BEHIND:
        order = words.in_order(sample.question, found)
        said = sample.completion.split(words.CHOICE)[0].split(")")[1:]
        return tuple(index for index, of in zip(order, said, strict=True) if words.BEHIND in of)
    return None


def test_who_is_in_front_is_said_by_what_hides_what() -> None:
    assert [words.depth(*shares) for shares in ((0.6, 0), (0, 0.2), (0.01, 0), (0, 0))] == [
        words.BEHIND, words.OVER, words.APART, words.APART,
    ]  # fmt: skip


def _most(values: list[int]) -> tuple[int, ...]:
    return tuple(i for i, value in enumerate(values) if value == max(values) > 0)


def _beside(anchor: sightings.Sighting, found: tuple[sightings.Sighting, ...], side: str) -> tuple[int, ...]:
    axis, sign = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "below": (1, 1)}[side]
    return tuple(
        index
        for index, thing in enumerate(found)
        if (both := [(a, b) for a, b in zip(thing.trace, anchor.trace, strict=True) if a and b])
        and all(sign * (a[axis] - b[axis]) > 0 for a, b in both)
    )


def test_the_pipeline_reads_the_answers_that_are_taught() -> None:
    for sample in samples():
        answer = parse_system1(sample.completion, SECONDS, 4)
        assert answer.warnings == ()
        assert {m.description for m in answer.moments} == ({sample.question.description} - {""})
        assert answer.says_none is not bool(sample.question.targets)


def test_keyframes_show_the_target_on_their_first_frame() -> None:
    shares = []
    for sample in (sample for sample in samples() if sample.question.targets):
        moments = [round(m.start_s * 2) for m in parse_system1(sample.completion, SECONDS, 4).moments]
        assert 1 <= len(moments) <= scenes.MOMENTS
        time_s = sightings.sampled_times(sample.staged.scene)[::2][moments]
        shares += sightings.shown(sample.staged.seen, time_s)[list(sample.question.targets)].min(0).tolist()
    assert np.mean([share >= sightings.SHOWN_MIN for share in shares]) > 0.95


def test_training_neither_shows_nor_names_what_is_held_out() -> None:
    for sample in samples():
        looks = [thing.look for thing in sample.staged.scene.things] + [sample.question.query.look]
        assert not {(look.color, look.shape) for look in looks if look} & set(HELD_OUT_PAIRS)


def test_every_kind_is_asked_with_and_without_an_answer() -> None:
    rng = np.random.default_rng(1)
    # One in a hundred asks in vain for what appears last.
    drawn = [*samples(), *(scenes.draw_sample(rng, SCENES) for _ in range(900))]
    asked = {(sample.question.query.kind, bool(sample.question.targets)) for sample in drawn}
    kinds = set(Kind) - {Kind.ABSENT}
    assert {kind for kind, there in asked if there} == kinds
    assert {kind for kind, there in asked if not there} >= kinds - {Kind.FASTEST}  # a scene without motion is rare


def test_all_words_of_a_completion_are_single_tokens() -> None:
    coder = encoder()
    assert len(coder.ids(words.PIECES)) == len(set(words.PIECES))
    for sample in samples()[:50]:
        tokens = coder.tokenizer.tokenize(sample.completion)
        assert len(tokens) < min(40 + 20 * len(sample.sightings), MAX_NEW_TOKENS)


def test_a_look_in_the_list_is_named_if_the_instruction_or_the_sound_says_it() -> None:
    coder = encoder()
    listed = "1) red plain star @3.3 - since0 still no 2) blue plain star @3.3 behind no 3) blue plain ring thus none"
    for asked, heard, named in (
        ("all stars", "", [" star", " star"]),
        ("the blue shape", "", [" blue", " blue"]),
        ("the object you can hear", " sound: ring", [" ring"]),
        ("which shape leaves?", "", []),
    ):
        ids, _ = coder.given((Turn(asked, f"{words.BEGIN}{heard} {listed}{words.END}"),))
        there, found = coder.named(ids)
        assert [coder.tokenizer.decode(token) for token in ids[found]] == named
        assert there.sum() == 9


def test_of_two_things_that_go_opposite_ways_either_is_asked_for() -> None:
    """A scene in which one thing alone goes anywhere would be answered without reading which way was asked for."""
    crossed = scenes.CrossedScenes(0)
    assert all(scenes.is_crossed(crossed[number]) for number in range(6))
    assert not all(scenes.is_crossed(SCENES[number]) for number in range(6))
    rng, opposite = np.random.default_rng(0), {"left": "right", "right": "left", "up": "down", "down": "up"}
    crossed.count = 6
    told = set[str]()
    for _ in range(60):
        sample = scenes.draw_sample(rng, crossed, kind=Kind.DIRECTION)
        question, ways = sample.question, [thing.way for thing in sample.sightings]
        assert question.query.kind is Kind.DIRECTION
        assert question.query.toward is not None
        if question.targets:
            assert {ways[target] for target in question.targets} == {question.query.toward}
            if opposite[question.query.toward] in ways:
                told.add(question.query.toward)
    assert any({way, opposite[way]} <= told for way in told)


def test_a_step_and_its_lists_are_crossed_as_often_as_the_phase_says() -> None:
    source = System1Source(0)
    always = Phase("p", 1, 1e-3, options={"stream": 9, "readings": 6, "crossed_readings": 1})
    ways = {turn.question for turn in source._readings(np.random.default_rng(0), always)}
    assert all(" from " in asked and " to " in asked for asked in ways)
    others = {
        turn.question for turn in source._readings(np.random.default_rng(0), replace(always, options={"readings": 12}))
    }
    assert not all(" from " in asked for asked in others)


def test_a_list_in_which_a_thing_stands_twice_still_leads_to_what_is_meant() -> None:
    """As lists that a model writes do, which has seen a thing twice and another not at all."""
    rng, changed = np.random.default_rng(0), 0
    for sample in samples():
        other = scenes.doubled(rng, sample)
        kept = {*sample.question.targets, *words.anchors_of(sample.question, sample.sightings)}
        if len(sample.sightings) < len(kept) + 2:
            assert other == sample
            continue
        changed += 1
        lines, listed = _lines(sample), _lines(other)
        assert len(listed) == len(lines)
        assert set(listed) < set(lines)
        assert len(set(listed)) == len(lines) - 1
        order = words.in_order(sample.question, sample.sightings)
        assert {lines[order.index(index)] for index in kept} <= set(listed)
        assert other.completion.split(words.END)[1] == sample.completion.split(words.END)[1]
        if sample.question.targets and sample.question.query.kind is not Kind.PLURAL:
            meant = lines[order.index(sample.question.targets[0])]
            assert listed[words.NUMBERS.index(chosen(other.completion))] == meant
    assert changed > 100


def _lines(sample: scenes.Sample) -> list[str]:
    """What the list says of each thing, without its number and its mark."""
    said = sample.completion.split(words.CHOICE)[0].split(")")[1:]
    return [line.rstrip(" 123456").removesuffix(" no").removesuffix(" yes") for line in said]


def test_late_scenes_are_harder_and_no_others_of_the_training() -> None:
    late = scenes.LateScenes(0)
    first, last = late._first, late._first + late.count
    for other in (SCENES, scenes.CrossedScenes(0)):
        assert other._first + other.count * scenes._CROSSED_TRIES <= first
    assert last <= scenes.Scenes(1, 1)._first
    hard = [np.mean([one[number].scene.level == "hard" for number in range(60)]) for one in (late, SCENES)]
    assert hard[0] > hard[1]


def test_a_phase_may_have_late_scenes_and_lists_with_a_thing_twice() -> None:
    source = System1Source(0)
    twice = Phase("p", 1, 1e-3, options={"stream": 9, "readings": 12, "late": 1, "doubled_readings": 1})
    turns = source._readings(np.random.default_rng(0), twice)
    listed = [turn.completion.split(words.CHOICE)[0].split(")")[1:] for turn in turns]
    looks = [[line.split("@")[0].split(" -")[0] for line in lines] for lines in listed]
    assert any(len(set(some)) < len(some) for some in looks)
    assert source._late._made
    assert not source._scenes._made


def test_twins_are_told_apart_by_their_textures_alone() -> None:
    rng, named = np.random.default_rng(0), 0
    for number in range(60):
        scene = SCENES[number].scene
        changed = scenes.twinned(rng, scene)
        moved = [n for n, (a, b) in enumerate(zip(scene.things, changed.things, strict=True)) if a != b]
        assert len(moved) <= 1
        for index in moved:
            thing = changed.things[index]
            assert replace(thing, color=scene.things[index].color) == scene.things[index]
            like = [one for n, one in enumerate(changed.things) if n != index and one.look.color == thing.color]
            assert any(one.shape == thing.shape and one.texture != thing.texture for one in like)
            assert (thing.color, thing.shape) not in HELD_OUT_PAIRS or (thing.color, thing.shape) in {
                (one.color, one.shape) for one in scene.things
            }
            named += describe(index, changed.things).texture is not None
    assert named >= 5
