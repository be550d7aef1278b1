"""The parsers against anything: no exception, nothing outside the clip, nothing that isn't finite, and no text for
which the work grows faster than the text."""

import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.factories.mutated_outputs import BOX, FORMS, MARKS, NUMBERS, ONE, TIMES, TWO, mutated_output
from workers.pipeline import json_fragments
from workers.pipeline.json_fragments import json_values
from workers.pipeline.parsing import parse_system1, parse_system2

DURATION_S = 6.0
WANTED = 4


def assert_system1_holds(text: str) -> int:
    """How many moments there are."""
    answer = parse_system1(text, DURATION_S, WANTED)
    assert len(answer.moments) <= WANTED
    starts = [moment.start_s for moment in answer.moments]
    assert starts == sorted(set(starts))
    for moment in answer.moments:
        assert 0 <= moment.start_s <= moment.end_s <= DURATION_S
        assert moment.description.strip()
        assert len(moment.description) <= 500
        moment.description.encode()  # a tokenizer takes it
    assert not (answer.says_none and answer.moments)
    return len(starts)


def assert_system2_holds(text: str) -> int:
    """How many boxes there are."""
    boxes, _ = parse_system2(text)
    for box in boxes:
        assert all(-1e15 < value < 1e15 for value in (box.x1, box.y1, box.x2, box.y2))
        assert len(box.label) <= 200
        box.label.encode()
    return len(boxes)


pieces = st.one_of(
    st.sampled_from([*FORMS, *MARKS, *NUMBERS, *TIMES, ONE, TWO, BOX]),
    st.sampled_from([*'[]{}",:', '"start_time": ', '"end_time": ', '"description": ', '"bbox_2d": ', '"label": "']),
    st.text(alphabet=st.characters(), max_size=8),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(pieces, max_size=12).map("".join))
def test_any_text_is_read_without_exception_and_within_the_clip(text: str) -> None:
    assert_system1_holds(text)
    assert_system2_holds(text)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_a_spoilt_output_is_read_without_exception_and_within_the_clip(seed: int) -> None:
    text = mutated_output(random.Random(seed))
    assert_system1_holds(text)
    assert_system2_holds(text)


@pytest.mark.slow
def test_100_000_spoilt_outputs() -> None:
    draw = random.Random(20_250_520)
    moments = boxes = 0
    for _ in range(100_000):
        text = mutated_output(draw)
        moments += assert_system1_holds(text) > 0
        boxes += assert_system2_holds(text) > 0
    # Most spoilt outputs still say something: the mutations aren't all noise.
    assert moments > 30_000
    assert boxes > 10_000


def _reference(text: str) -> Iterator[Any]:
    """What Python's own decoder finds, begun anew at every bracket."""
    decoder, position = json.JSONDecoder(strict=False), 0
    while (opening := re.compile(r"[\[{]").search(text, position)) is not None:
        try:
            value, position = decoder.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            position = opening.end()
            continue
        yield value


json_pieces = st.one_of(
    st.sampled_from([*'[]{}",:\\ \n', "[", "]", '"', '"a":', '"b"', "1", "-0.5e1", "true", "null", "NaN", '"\\u00e9"']),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ).map(json.dumps),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(json_pieces, max_size=25).map("".join))
def test_the_values_found_are_those_of_pythons_own_decoder(text: str) -> None:
    # As text: NaN is not equal to itself.
    assert [json.dumps(value) for value in json_values(text)] == [json.dumps(value) for value in _reference(text)]


GROWING: dict[str, Callable[[int], str]] = {
    "opening brackets": lambda n: "[" * n,
    "opening braces": lambda n: "{" * n,
    "objects in objects": lambda n: '{"a":' * (n // 5),
    "deep and closed": lambda n: "[" * (n // 2) + "]" * (n // 2),
    "deep times": lambda n: f'{{"start_time": {"[" * (n // 2)}{"]" * (n // 2)}, "end_time": 1, "description": "x"}}',
    "deep boxes": lambda n: f'{{"bbox_2d": {"[" * (n // 2)}{"]" * (n // 2)}}}',
    "a list that never ends": lambda n: "[" * 900 + "1," * (n // 2),
    "lists in a list that never ends": lambda n: "[" + "[1]," * (n // 4),
    "lists in a list": lambda n: "[" + "[1]," * (n // 4) + "1]",
    "brackets and quotes": lambda n: '[",' * (n // 3),
    "escaped quotes": lambda n: '["\\"' * (n // 4),
    "wrong escapes": lambda n: '["\\x' * (n // 4),
    "a string that never ends": lambda n: '["' + "[{" * (n // 2),
    "backslashes": lambda n: '["' + "\\" * n,
    "strings that never end": lambda n: '{"a":"' * (n // 6),
    "blanks": lambda n: "[" + " " * n + "{",
    "digits": lambda n: "[" + "1" * n,
    "numbers of digits": lambda n: "[" + "1" * 4000 + ("," + "1" * 4000) * (n // 4000),
    "thinking": lambda n: "<think>" * (n // 7),
    "answers": lambda n: "<answer>" * (n // 8),
    "answers closed": lambda n: "<answer></answer>" * (n // 17),
    "answers of blanks": lambda n: ("<answer>" + " " * 100) * (n // 108),
    "half tags": lambda n: "<think>" + "</think" * (n // 7),
    "moments": lambda n: "<answer>" + ONE * (n // len(ONE)),
    "boxes": lambda n: BOX * (n // len(BOX)),
    "a long description": lambda n: ONE.replace("red", "red " * (n // 4)),
    "blanks in a time": lambda n: ONE.replace("00:01.00", " " * n),
    "digits in a time": lambda n: ONE.replace("00:01.00", "1" * n),
    "half keys": lambda n: '"start_time"' * (n // 12),
}


@pytest.mark.parametrize("name", GROWING)
def test_the_work_grows_as_the_text_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in characters looked at; a clock would only tell how busy the machine is."""
    looked_at = 0
    plain = json_fragments._TOKEN

    class Counting:
        def match(self, text: str, position: int) -> re.Match[str] | None:
            nonlocal looked_at
            token = plain.match(text, position)
            if token is not None:
                looked_at += token.end() - position
            else:
                blanks = len(text) - position - len(text[position:].lstrip())
                # The end of a string is looked for up to the end of the text.
                looked_at += len(text) - position if text.startswith('"', position + blanks) else 1 + blanks
            return token

    monkeypatch.setattr(json_fragments, "_TOKEN", Counting())
    text = GROWING[name](200_000)
    for parse in (assert_system1_holds, assert_system2_holds):
        looked_at = 0
        parse(text)
        # Once as part of a string and once as not, and each time once more where a value breaks off.
        assert looked_at <= 4 * len(text)


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        (f"<think>I write <answer></answer> when there is none</think><answer>{ONE}</answer>", [1.0]),
        (f"<think>first {ONE}, no, better:</think><answer>{TWO}</answer>", [4.0]),
        (f"<answer>{ONE}</answer><answer>{TWO}</answer>", [1.0, 4.0]),
        (f"<answer></answer><answer>{TWO}</answer>", [4.0]),
        (f"<answer><answer>{ONE}</answer></answer>", [1.0]),
        (f"<answer>{ONE}</answer><think>late</think>", [1.0]),
        (f"<think>not closed <answer>{ONE}</answer>", [1.0]),
    ],
)
def test_tags_twice_or_within_the_reasoning(text: str, starts: list[float]) -> None:
    answer = parse_system1(text, DURATION_S, WANTED)
    assert [moment.start_s for moment in answer.moments] == starts
    assert not answer.says_none


@pytest.mark.parametrize(
    ("text", "says_none"),
    [
        ("<answer></answer><answer>[]</answer>", True),
        ("<think>or <answer></answer>?</think><answer>no idea</answer>", False),
        ("<think>or <answer></answer>?</think>", False),
        ("<answer></answer><answer>", False),
        ("<think>no</think>\n<answer>\n\n</answer>\n", True),
    ],
)
def test_only_the_answer_itself_says_that_there_is_none(text: str, says_none: bool) -> None:
    assert parse_system1(text, DURATION_S, WANTED).says_none is says_none


@pytest.mark.parametrize(
    ("spoilt", "lost"),
    [
        (ONE.replace(", ", " ", 1), 1),
        (ONE[:-30], 1),
        (ONE.replace('"00:01.00"', "9" * 5000), 1),
        (ONE[:-30] + ONE.replace(", ", " ", 1), 2),
    ],
)
def test_an_object_that_is_no_json_is_told_and_the_others_stay(spoilt: str, lost: int) -> None:
    answer = parse_system1(f"<answer>{TWO}{spoilt}</answer>", DURATION_S, WANTED)
    assert [moment.start_s for moment in answer.moments] == [4.0]
    [warning] = answer.warnings
    assert warning.startswith(f"{lost} of System 1's moments")


def test_a_box_that_is_no_json_or_no_box_is_told_and_the_others_stay() -> None:
    boxes, warnings = parse_system2(
        f'{BOX}, {{"bbox_2d": [1, 2 3, 4]}}, {{"bbox_2d": [NaN, 1e400, 0, 1]}}, {BOX[:-20]}'
    )
    assert [(box.x1, box.y1, box.x2, box.y2, box.label) for box in boxes] == [(10, 20, 30.5, 40, "cup")]
    assert [warning[:27] for warning in warnings] == ["2 of System 2's boxes were ", "System 2's box [nan, inf, 0"]


def test_words_come_without_what_no_tokenizer_takes() -> None:
    text = ONE.replace("the red", "the\\ud800red\\u0000\\u0007 \\ud83d\\ude00")
    assert parse_system1(text, DURATION_S, WANTED).moments[0].description == "the red 😀 cup"
    assert parse_system2(BOX.replace("cup", "c\\udfffup"))[0][0].label == "c up"
