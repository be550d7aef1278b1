"""What models write, spoilt: real forms of System 1's and System 2's completions with a few mutations each, from a
seed."""

import random
import string
from collections.abc import Callable

ONE = '{"start_time": "00:01.00", "end_time": "00:01.50", "description": "the red cup"}'
TWO = '{"start_time": "00:04.00", "end_time": "00:04.50", "description": "a man in {blue} [sic]"}'
BOX = '{"bbox_2d": [10, 20, 30.5, 40], "label": "cup"}'
FORMS = (
    f"<think>because</think><answer>{ONE}{TWO}</answer>",
    f"<think>because</think>\n<answer>\n{ONE},\n{TWO}\n</answer>",
    f'<think>because</think><answer>```json\n{{"moments": [{ONE}, {TWO}]}}\n```</answer>',
    f'<think>because</think>\n"answer": {ONE}, {TWO}',
    f"<think>it says <answer></answer> at times</think><answer>these: {ONE} and {TWO}</answer>",
    f"<think>because</think><answer>{ONE}{TWO}",
    "<think>nothing there</think><answer>[]</answer>",
    f"```json\n[{BOX}, {BOX}]\n```",
    f"{BOX}, {BOX}",
    f'{{"boxes": {{"all": [{BOX}]}}}}',
)
NUMBERS = (
    "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "10" + "0" * 400, "9" * 5000, "1" * 4300, "-0", "-3.5",
    "1e-400", "1E+2", "01", ".5", "5.", "0x10", "true", "null", "1_000", "٣", "３", "²", "1e15", "999999999999999.9",
)  # fmt: skip
TIMES = (
    '"-00:01.00"', '"00:01:02.5"', '"1:2:3:4"', '"00:01,50"', '".5"', '"٠٠:٠١.٥٠"', '"99:99:99"', '"1e3"', '"NaN"',
    '"1s"', '"00:01.00\\n"', '"²"', '""', '" "', '"0:0:0"', '"00:06.00"', '"00:05.9999999999999999"',
    '"' + "9" * 63 + '"', '"' + "1:" * 40 + '"', "[1]", "{}",
)  # fmt: skip
MARKS = (
    "<think>", "</think>", "<answer>", "</answer>", "<answer></answer>", '"start_time":', '"bbox_2d":', "```json",
    "<|im_end|>", "\\ud800", "\\u0000", "\ud800", "\udfff", "\x00", "\x1f", "\u2028", "\ufeff",
    "é", "😀", "\\", '\\"', "'", "“",
    "”", "//", "#", "[[[[", "]]]]", "{{{{", "}}}}", "[[1, 2, 3, 4]]", "[" * 1500, '{"a":' * 1500, "\t" * 500,
)  # fmt: skip
_CHARACTERS = string.printable + '{}[]":,<>/\\'


def _insert(draw: random.Random, text: str, what: str) -> str:
    at = draw.randrange(len(text) + 1)
    return text[:at] + what + text[at:]


def _delete(draw: random.Random, text: str) -> str:
    at = draw.randrange(len(text) + 1)
    return text[:at] + text[at + draw.randint(1, 20) :]


def _repeat(draw: random.Random, text: str) -> str:
    begin = draw.randrange(len(text) + 1)
    return _insert(draw, text, text[begin : begin + draw.randint(1, 120)])


def _without_one(draw: random.Random, text: str) -> str:
    """A comma, a colon, a quote or a bracket is left out."""
    places = [at for at, character in enumerate(text) if character in ',:"[]{}']
    if not places:
        return text
    at = draw.choice(places)
    return text[:at] + text[at + 1 :]


def _other_value(draw: random.Random, text: str) -> str:
    """Something else in place of a time, a number or a string."""
    places = [at for at, character in enumerate(text) if character in ":,[" and at + 1 < len(text)]
    if not places:
        return text
    at = draw.choice(places) + 1
    end = min((found for mark in ",}]" if (found := text.find(mark, at)) >= 0), default=at)
    return text[:at] + draw.choice(NUMBERS + TIMES) + text[end:]


def _nest(draw: random.Random, text: str) -> str:
    depth = draw.choice([1, 1, 2, 2, 5, 50, 1500])
    return "[" * depth + text + "]" * draw.choice([depth, depth, max(0, depth - 1)])


_MUTATIONS: tuple[Callable[[random.Random, str], str], ...] = (
    lambda draw, text: text[: draw.randrange(len(text) + 1)],
    lambda draw, text: _insert(draw, text, draw.choice(MARKS)),
    lambda draw, text: _insert(draw, text, "".join(draw.choices(_CHARACTERS, k=draw.randint(1, 6)))),
    lambda draw, text: text.replace('"', draw.choice("'“´"), draw.choice([1, 2, -1])),
    lambda draw, text: _insert(draw, text, draw.choice(FORMS)),
    _delete, _repeat, _without_one, _without_one, _other_value, _other_value, _other_value, _nest,
)  # fmt: skip


def mutated_output(draw: random.Random) -> str:
    text = draw.choice(FORMS)
    for _ in range(draw.choice([1, 1, 1, 2, 2, 3, 5, 8])):
        text = draw.choice(_MUTATIONS)(draw, text)
    return text
