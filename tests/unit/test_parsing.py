"""What models write, well formed and not: tables of literal completions, and mutations of them."""

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.pipeline.parsing import (
    Moment,
    best_spread,
    parse_system1,
    parse_system1_of_image,
    parse_system2,
    parse_time_s,
    read_system1,
)

IMAGE_ONLY = '{"description": "the red cup"}'
ONE = '{"start_time": "00:01.00", "end_time": "00:01.50", "description": "the red cup"}'
TWO = '{"start_time": "00:04.00", "end_time": "00:04.50", "description": "a man in blue"}'
BOTH = [(1.0, 1.5, "the red cup"), (4.0, 4.5, "a man in blue")]

WELL_FORMED = {
    "consecutive objects": f"<think>because</think><answer>{ONE}{TWO}</answer>",
    "commas between": f"<think>because</think>\n<answer>\n{ONE},\n{TWO}\n</answer>",
    "a bracketed list": f"<think>because</think><answer>[{ONE}, {TWO}]</answer>",
    "wrapped once more": f'<think>because</think><answer>{{"moments": [{ONE}, {TWO}]}}</answer>',
    "fenced as code": f"<think>because</think><answer>```json\n[{ONE}, {TWO}]\n```</answer>",
    "no closing tag": f"<think>because</think><answer>{ONE}{TWO}",
    "the figures' form": f'<think>because</think>\n"answer": {ONE}, {TWO}',
    "text before the objects": f"<think>because</think><answer>these: {ONE} and {TWO}</answer>",
    "typographic quotes": f"<think>because</think><answer>{ONE}{TWO}</answer>".replace('cup"', "cup”"),
    "the prompt's example before the words": f"<think>because</think><answer>{ONE}{TWO}</answer>".replace(
        "the red cup", "direct description of referred object(s):\\nthe red cup"
    ).replace("a man", "plain description of the referred object or objects at this moment a man"),
    "unordered": f"<think>because</think><answer>{TWO}{ONE}</answer>",
}


@pytest.mark.parametrize("text", WELL_FORMED.values(), ids=WELL_FORMED.keys())
def test_every_form_gives_the_same_moments(text: str) -> None:
    answer = parse_system1(text, 12.0, 4)
    assert [(m.start_s, m.end_s, m.description) for m in answer.moments] == BOTH
    assert answer.reasoning == "because"
    assert answer.warnings == ()


@pytest.mark.parametrize(
    ("text", "says_none"),
    [
        ("<think>because</think><answer></answer>", True),
        ("<think>because</think><answer>\n[ ]\n</answer>", True),
        ("<answer></answer>", True),
        ("<think>because</think><answer>", False),  # cut off: what would have come isn't known
        ("<think>because</think><answer>nothing to see</answer>", False),
        ("<think>because</think>", False),
        ("", False),
        (f"<think>because</think><answer>{ONE}</answer>", False),
        ('<answer>{"start_time": "later"}</answer>', False),
    ],
)
def test_only_a_finished_empty_answer_says_that_there_is_none(text: str, says_none: bool) -> None:
    answer = parse_system1(text, 12.0, 4)
    assert answer.says_none is says_none
    assert not (answer.says_none and answer.moments)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("00:01.50", 1.5), ("1:02", 62.0), ("00:01.5", 1.5), ("00:01.500", 1.5), ("01:00:00", 3600.0), ("7.25", 7.25),
        (".5", 0.5), ("3 s", 3.0), (3, 3.0), (2.5, 2.5), ("", None), ("soon", None), ("-1", None), (-1, None),
        (None, None), (True, None), ("1:2:3:4", None), (float("nan"), None), (10**400, None), ("9" * 80, None),
        ([1], None),
    ],
)  # fmt: skip
def test_times(value: object, seconds: float | None) -> None:
    assert parse_time_s(value) == seconds


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ('{"start_time": "00:01.00", "end_time": "00:01.50"}', "no description"),
        ('{"start_time": "00:01.00", "end_time": "00:01.50", "description": " "}', "no description"),
        ('{"start_time": 1, "end_time": 2, "description": "description of the referred object"}', "no description"),
        ('{"start_time": "00:01.00", "description": "x"}', "can't be read"),
        ('{"start_time": "later", "end_time": "00:01.50", "description": "x"}', "can't be read"),
        ('{"start_time": "00:02.00", "end_time": "00:01.50", "description": "x"}', "after its end"),
        ('{"start_time": "00:13.00", "end_time": "00:14.00", "description": "x"}', "beyond the clip"),
    ],
)
def test_an_invalid_moment_is_dropped_with_its_reason_and_the_others_stay(item: str, reason: str) -> None:
    answer = parse_system1(f"<think>t</think><answer>{item}{ONE}</answer>", 12.0, 4)
    assert [m.description for m in answer.moments] == ["the red cup"]
    [warning] = answer.warnings
    assert reason in warning
    assert "moment 0" in warning


def test_an_end_beyond_the_clip_is_cut_and_a_repeated_start_dropped() -> None:
    late = '{"start_time": "00:11.50", "end_time": "00:13.00", "description": "x"}'
    answer = parse_system1(f"<answer>{late}{late}</answer>", 12.0, 4)
    assert [(m.start_s, m.end_s) for m in answer.moments] == [(11.5, 12.0)]
    assert "repeats" in answer.warnings[0]


def test_a_reading_keeps_what_the_pipeline_would_drop() -> None:
    """Repeated starts and too many moments, as they were written: training punishes them."""
    starts = [3, 1, 1, 5, 9, 7]
    items = [f'{{"start_time": {start}, "end_time": 12, "description": "x"}}' for start in starts]
    text = f'<think>t</think><answer>{"".join(items)}{{"start_time": 99}}</answer>'
    reading, answer = read_system1(text, 12.0), parse_system1(text, 12.0, 4)
    assert [moment.start_s for moment in reading.moments] == starts
    assert len(reading.warnings) == 1
    assert len(answer.moments) == 4
    assert len(answer.warnings) == 3


@pytest.mark.parametrize("text", ["", "I don't see it.", "<think>hm", "<answer></answer>", "{" * 5000, "[" * 100_000])
def test_nothing_usable_is_an_answer_without_moments(text: str) -> None:
    assert parse_system1(text, 12.0, 4).moments == ()
    assert parse_system2(text) == ((), ())


def test_the_best_distributed_moments_are_kept_not_the_earliest() -> None:
    starts = [0, 0.5, 1, 1.5, 6, 11]
    kept = best_spread([Moment(s, s + 0.5, "x") for s in starts], 4)
    assert [m.start_s for m in kept][-2:] == [6, 11]
    assert next(m.start_s for m in kept) == 0


@given(starts=st.lists(st.integers(0, 240), min_size=1, max_size=40, unique=True), count=st.integers(1, 5))
def test_the_best_spread_has_the_size_asked_for_and_comes_in_order(starts: list[int], count: int) -> None:
    kept = best_spread([Moment(s / 10, s / 10 + 1, "x") for s in starts], count)
    assert len(kept) == min(count, len(starts))
    assert [m.start_s for m in kept] == sorted(m.start_s for m in kept)
    assert {m.start_s for m in kept} <= {s / 10 for s in starts}


def _mutations(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    seeds = [*WELL_FORMED.values(), '[{"bbox_2d": [10, 20, 30, 40], "label": "cup"}]']
    alphabet = string.printable + '{}[]":,<>/\\\u2028é😀\x00'
    texts = []
    for _ in range(count):
        text = list(draw.choice(seeds))
        for _ in range(draw.randint(1, 12)):
            at = draw.randrange(len(text) + 1)
            action = draw.randrange(4)
            if action == 0:
                text[at:at] = draw.choices(alphabet, k=draw.randint(1, 6))
            elif action == 1:
                del text[at : at + draw.randint(1, 20)]
            elif action == 2:
                text[at:at] = text[: draw.randint(1, 40)]
            else:
                text[at : at + 1] = list(
                    draw.choice(["NaN", "1e999", "-0", "null", "9" * 5000, '"start_time":', "\ud800"])
                )
        texts.append("".join(text))
    return texts


def test_mutated_outputs_never_raise_and_never_give_a_moment_outside_the_clip() -> None:
    for text in _mutations(5000, seed=7):
        answer = parse_system1(text, 6.0, 4)
        assert len(answer.moments) <= 4
        for moment in answer.moments:
            assert 0 <= moment.start_s <= moment.end_s <= 6.0
            assert moment.description
        parse_system2(text)


def test_system2_boxes_in_order_with_labels_and_what_was_dropped() -> None:
    items = '{"bbox_2d": [1, 2, 3.5, 4], "label": "a  cup"}, {"bbox_2d": [1, 2, 3]}, {"bbox_2d": [0, 0, 9, 9]}'
    text = f"```json\n[{items}]\n```"
    boxes, warnings = parse_system2(text)
    assert [(b.x1, b.y1, b.x2, b.y2, b.label) for b in boxes] == [(1, 2, 3.5, 4, "a cup"), (0, 0, 9, 9, "")]
    assert len(warnings) == 1


@pytest.mark.parametrize("answer", [IMAGE_ONLY, ONE, f"[{IMAGE_ONLY}]", ONE.replace("00:01.00", "99:00.00"), ONE + ONE])
def test_of_an_image_the_first_description_counts_whatever_is_said_of_times(answer: str) -> None:
    read = parse_system1_of_image(f"<think>because</think><answer>{answer}</answer>", 0.5)
    assert (read.reasoning, read.moments, read.warnings) == ("because", (Moment(0.0, 0.5, "the red cup"),), ())


def test_of_an_image_a_second_thing_is_dropped_and_said() -> None:
    read = parse_system1_of_image(f"<think>so</think><answer>{IMAGE_ONLY}{TWO}</answer>", 0.5)
    assert [moment.description for moment in read.moments] == ["the red cup"]
    assert ["'a man in blue' was dropped" in warning for warning in read.warnings] == [True]
    nothing = parse_system1_of_image("<think>so</think><answer></answer>", 0.5)
    assert (nothing.moments, nothing.says_none) == ((), True)
