"""JSON objects and lists wherever they stand in a text, in time linear in its length whatever the text is.

Python's decoder, begun anew at every bracket, takes a minute for a hundred thousand brackets, and what is nested deeply
ends it with a RecursionError. Here a bracket is read once: where an outer value breaks off, what was read of the inner
ones is kept. So a character is read twice at most, once as part of a string and once as not (two readings that take
the same character alike take all that follows alike, so the later one would have begun at a bracket that the earlier
one has noted), and once more where a value breaks off at it.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_OPENING = re.compile(r"[\[{]")
# Possessive quantifiers: no character is tried twice.
_TOKEN = re.compile(
    r'[ \t\n\r]*+(?:("(?:[^"\\]++|\\.)*+")|([\[\]{},:])'
    r"|(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?|true|false|null|NaN|-?Infinity))",
    re.S,
)
_STRING, _MARK = 1, 2  # the groups; the third is a number or a word
_DECODER = json.JSONDecoder(strict=False)

# What may come next, by first character; 0 stands for a number or a word.
_VALUE, _FIRST_VALUE, _AFTER_VALUE = '[{"0', '[{"0]', ",]"
_KEY, _FIRST_KEY, _AFTER_KEY, _AFTER_PAIR = '"', '"}', ":", ",}"


@dataclass(slots=True)
class _Open:
    """An object or a list of which the end was not reached yet; `key` waits for its value."""

    begin: int
    value: Any
    key: str = ""

    def put(self, value: Any) -> str:
        """Take the value; what may come next."""
        if isinstance(self.value, list):
            self.value.append(value)
            return _AFTER_VALUE
        self.value[self.key] = value
        return _AFTER_PAIR


def json_values(text: str) -> Iterator[Any]:
    """Every JSON object or list that begins somewhere in the text, outermost first, in order.

    As Python's decoder reads them: NaN and Infinity are numbers, strings may hold control characters.
    """
    noted: dict[int, tuple[Any, int] | None] = {}
    position = 0
    while (opening := _OPENING.search(text, position)) is not None:
        if opening.start() not in noted:
            _read(text, opening.start(), noted)
        found = noted.pop(opening.start())
        if found is None:
            position = opening.end()
        else:
            value, position = found
            yield value


def _read(text: str, begin: int, noted: dict[int, tuple[Any, int] | None]) -> None:
    """Read the value at `begin` and note it, and all within it, by where they begin: the value and its end, or None
    where it is malformed."""
    open_values: list[_Open] = []
    position, expected = begin, _VALUE
    while (token := _TOKEN.match(text, position)) is not None:
        kind = token.lastindex or 0
        start, position = token.start(kind), token.end()
        mark = text[start] if kind == _MARK else '"' if kind == _STRING else "0"
        if mark not in expected:
            break
        if mark in "[{":
            open_values.append(_Open(start, [] if mark == "[" else {}))
            expected = _FIRST_VALUE if mark == "[" else _FIRST_KEY
        elif mark in ",:":
            expected = _KEY if expected == _AFTER_PAIR else _VALUE
        elif mark in "]}":
            closed = open_values.pop()
            noted[closed.begin] = closed.value, position
            if not open_values:
                return
            expected = open_values[-1].put(closed.value)
        else:
            try:
                value = _DECODER.decode(token[kind])
            except ValueError:  # an escape that is none, or a number of thousands of digits
                break
            if expected in (_KEY, _FIRST_KEY):
                open_values[-1].key, expected = value, _AFTER_KEY
            else:
                expected = open_values[-1].put(value)
    noted.update((broken.begin, None) for broken in open_values)
