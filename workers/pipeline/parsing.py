"""What the models write, read tolerantly: System 1's moments and System 2's boxes.

Malformed output never raises: what is valid is used, what is dropped is said in `warnings`. System 1 is asked for
`<think>…</think><answer>…</answer>` with JSON objects of `start_time`, `end_time`, `description`; it writes them with
or without list brackets and commas, and at times without the answer tags (appendix, Figures 3 and 4).
"""

import re
import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, TypeGuard

from workers.pipeline.json_fragments import json_values

_THINK = re.compile(r"<think>(.*?)(?:</think>|$)", re.S)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.S)
_NOTHING = re.compile(r"\s*(?:\[\s*\]\s*)?")
_TIME = re.compile(r"^\s*(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?|\.\d+)\s*s?\s*$")
#: What a prompt's example says in place of a description; models write it before their own (appendix, Figure 4a).
_ECHO = re.compile(
    r"^(?:\w+ )*description of (?:the )?referred object(?:s|\(s\)| or objects)?(?: at this moment)?\s*:?\s*", re.I
)
_PLAIN_QUOTES = str.maketrans(dict.fromkeys("“”„‟″", '"'))
#: No word of a description, and no tokenizer takes a lone surrogate.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
#: Above this many moments the best spread is searched greedily: the number of subsets would explode.
_EXHAUSTIVE_LIMIT = 14


@dataclass(frozen=True, slots=True)
class Moment:
    """One chosen moment in nominal seconds, with the description that finds the target in that single image."""

    start_s: float
    end_s: float
    description: str


@dataclass(frozen=True, slots=True)
class System1Reading:
    """All that a completion says: `moments` that can be used, as they were written, repeated ones too. `says_none`: the
    answer is well formed and empty, so there is no target; without moments otherwise, it couldn't be read."""

    reasoning: str
    moments: tuple[Moment, ...]
    warnings: tuple[str, ...]
    says_none: bool = False


@dataclass(frozen=True, slots=True)
class System1Answer(System1Reading):
    """What the pipeline goes on with: `moments` ascend in time, begin apart and are at most the number asked for."""


def _is_number(value: Any) -> TypeGuard[int | float]:
    """Whether it is a finite number of a size that a float holds exactly enough."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e15 < value < 1e15


def parse_time_s(value: object) -> float | None:
    """Seconds of `mm:ss.ff`, `h:mm:ss`, `ss.f` or a number (a decimal fraction: ".5" is half a second); None if
    neither."""
    if _is_number(value):
        return float(value) if value >= 0 else None
    match = _TIME.match(value) if isinstance(value, str) and len(value) < 64 else None
    if match is None:
        return None
    hours, minutes, seconds_text = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds_text)


def _objects(value: Any, key: str) -> Iterator[dict[str, Any]]:
    """Dictionaries within `value` that hold `key`; others are looked into, so that wrappers don't matter."""
    pending = [value]  # the next one last
    while pending:
        current = pending.pop()
        if isinstance(current, dict) and key in current:
            yield current
        elif isinstance(current, dict | list):
            inner = current.values() if isinstance(current, dict) else current
            pending += reversed([v for v in inner if isinstance(v, dict | list)])


def _words(value: object, limit: int) -> str:
    """The words of a string, at most `limit` characters; empty if it is none."""
    return " ".join(_UNPRINTABLE.sub(" ", value).split())[:limit] if isinstance(value, str) else ""


def _items(text: str, key: str) -> tuple[list[dict[str, Any]], int]:
    """The dictionaries with that key, and how many more the text seems to begin. Typographic quotes are taken for plain
    ones if that makes more of them."""
    found = list[tuple[list[dict[str, Any]], int]]()
    for form in dict.fromkeys((text, text.translate(_PLAIN_QUOTES))):
        items = [item for value in json_values(form) for item in _objects(value, key)]
        found.append((items, form.count(f'"{key}"') - len(items)))
    return max(found, key=lambda pair: len(pair[0]))


def _moment(item: dict[str, Any], duration_s: float) -> Moment | str:
    """The item as a moment, or the reason why it is dropped."""
    description = _ECHO.sub("", _words(item.get("description"), 600), count=1)[:500]
    start_s, end_s = parse_time_s(item.get("start_time")), parse_time_s(item.get("end_time"))
    if not description:
        return "it has no description"
    if start_s is None or end_s is None:
        # reprlib: a model may write a list in a list in a list, without end.
        times = (reprlib.repr(item.get(key)) for key in ("start_time", "end_time"))
        return f"its times {' to '.join(times)} can't be read"
    if start_s > end_s:
        return f"it starts at {start_s:g} s, after its end at {end_s:g} s"
    if start_s > duration_s:
        return f"it starts at {start_s:g} s, beyond the clip's {duration_s:g} s"
    return Moment(start_s, min(end_s, duration_s), description)


def best_spread(moments: list[Moment], count: int) -> list[Moment]:
    """The `count` moments that lie best apart: the largest smallest gap between neighbours, then the widest spread."""
    ordered = sorted(moments, key=lambda m: m.start_s)
    if len(ordered) <= count:
        return ordered
    if count == 1:
        return [ordered[len(ordered) // 2]]
    if len(ordered) > _EXHAUSTIVE_LIMIT:
        picks = {round(i * (len(ordered) - 1) / (_EXHAUSTIVE_LIMIT - 1)) for i in range(_EXHAUSTIVE_LIMIT)}
        ordered = [ordered[i] for i in sorted(picks)]
        if len(ordered) <= count:
            return ordered

    def spread(chosen: Iterable[Moment]) -> tuple[float, float]:
        starts = [m.start_s for m in chosen]
        return min(b - a for a, b in pairwise(starts)), starts[-1] - starts[0]

    return list(max(combinations(ordered, count), key=spread))


def read_system1(text: str, duration_s: float, *, timed: bool = True) -> System1Reading:
    """Read System 1's completion for a clip of `duration_s` nominal seconds, whatever it chose: what training rewards
    and punishes. `warnings` say what was dropped and why. Not `timed`: it was shown one image, so descriptions are all
    that is asked of it, each for the whole of these seconds."""
    think = _THINK.search(text)
    # What the reasoning says of the tags is no answer.
    rest = text[think.end() :] if think and think.group().endswith("</think>") else text
    answers = list(_ANSWER.finditer(rest)) or list(_ANSWER.finditer(text[: think.start()] if think else ""))
    body = "\n".join(a.group(1) for a in answers) if answers else (text[think.end() :] if think else text)
    reasoning = think.group(1).strip() if think else text[: text.find("{")].strip() if "{" in text else text.strip()
    moments, warnings = list[Moment](), list[str]()
    items, unread = _items(body, "start_time" if timed else "description")
    if unread > 0:
        warnings.append(f"{unread} of System 1's moments were dropped: they are no JSON, or cut off")
    for position, item in enumerate(items):
        moment = _moment(item if timed else item | {"start_time": 0, "end_time": duration_s}, duration_s)
        if isinstance(moment, str):
            warnings.append(f"System 1's moment {position} was dropped: {moment}")
        else:
            moments.append(moment)
    says_none = (
        bool(answers) and all(a.group().endswith("</answer>") for a in answers) and bool(_NOTHING.fullmatch(body))
    )
    return System1Reading(reasoning, tuple(moments), tuple(warnings), says_none)


def parse_system1(text: str, duration_s: float, count: int) -> System1Answer:
    """Read System 1's completion for a clip of `duration_s` nominal seconds; keep the `count` best distributed
    moments, one a start."""
    reading = read_system1(text, duration_s)
    warnings, moments = list(reading.warnings), dict[float, Moment]()
    warnings += [
        f"System 1's moment {moment.description!r} was dropped: it repeats the start {moment.start_s:g} s"
        for moment in reading.moments
        if moments.setdefault(moment.start_s, moment) is not moment
    ]
    kept = best_spread(list(moments.values()), count)
    if len(kept) < len(moments):
        warnings.append(f"System 1 chose {len(moments)} moments; the {len(kept)} best distributed were kept")
    return System1Answer(reading.reasoning, tuple(kept), tuple(warnings), reading.says_none)


def parse_system1_of_image(text: str, duration_s: float) -> System1Answer:
    """Read System 1's completion for one image, shown as so many seconds (mode `aid`): the first description counts,
    whatever it says of times."""
    reading = read_system1(text, duration_s, timed=False)
    others = dict.fromkeys(
        m.description for m in reading.moments[1:] if m.description != reading.moments[0].description
    )
    dropped = tuple(
        f"System 1's description {other!r} was dropped: it is the second one of an image" for other in others
    )
    return System1Answer(reading.reasoning, reading.moments[:1], reading.warnings + dropped, reading.says_none)


@dataclass(frozen=True, slots=True)
class RawBox:
    """A box as System 2 wrote it, in the model's own coordinates."""

    x1: float
    y1: float
    x2: float
    y2: float
    label: str


def _raw_box(item: dict[str, Any]) -> RawBox | None:
    numbers = item["bbox_2d"]
    if not isinstance(numbers, list) or len(numbers) != 4:
        return None
    if not all(_is_number(n) for n in numbers):
        return None
    x1, y1, x2, y2 = (float(n) for n in numbers)
    return RawBox(x1, y1, x2, y2, _words(item.get("label"), 200))


def parse_system2(text: str) -> tuple[tuple[RawBox, ...], tuple[str, ...]]:
    """The boxes in System 2's completion, in order, and what was dropped. Coordinates are not checked here."""
    boxes, warnings = [], []
    items, unread = _items(text, "bbox_2d")
    if unread > 0:
        warnings.append(f"{unread} of System 2's boxes were dropped: they are no JSON, or cut off")
    for item in items:
        box = _raw_box(item)
        if box is None:
            numbers = reprlib.repr(item["bbox_2d"])[:60]
            warnings.append(f"System 2's box {numbers} was dropped: it is not four finite numbers")
        else:
            boxes.append(box)
    return tuple(boxes), tuple(warnings)
