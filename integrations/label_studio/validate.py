"""What Label Studio should refuse but takes: checked here, before anything is sent.

Label Studio 1.23 stores unknown labels, unknown controls and coordinates of 300% without a word, and the labeler then
sees nothing, or nonsense.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from backend.domain.errors import BadInput
from integrations.label_studio.config import KnownConfig

#: Bodies over 250 MB fail in Label Studio; a browser is in trouble much earlier.
MAX_BODY_BYTES = 50_000_000
#: Boxes that touch the edge may lie past it by rounding.
_SLACK_PERCENT = 1e-6
_SIDES = (("x", "width"), ("y", "height"))


def check_prediction(
    body: Mapping[str, Any], config: KnownConfig, frame_count: int, page_count: int, size_bytes: int | None = None
) -> None:
    """Raise `BadInput` (code `invalid_prediction`) that names the region and what is wrong with it. `size_bytes`: of
    the body as it is sent, where that is known."""
    seen: set[str] = set()
    names = config.names
    for region in body["result"]:
        name = f"region {region['id']}"
        _require(region["id"] not in seen, f"{name}: the id is used twice")
        seen.add(region["id"])
        match (region["type"], region["from_name"], region["to_name"]):
            case ("videorectangle", from_name, to_name) if (from_name, to_name) == (names.box, names.video):
                _check_labels(name, region["value"]["labels"], config.box_labels)
                _check_sequence(name, region["value"]["sequence"], frame_count)
            case ("bitmasklabels", from_name, to_name) if (from_name, to_name) == (names.mask, names.pages):
                _check_labels(name, region["value"]["bitmasklabels"], config.mask_labels)
                index = region["item_index"]
                _require(0 <= index < page_count, f"{name}: page {index} of {page_count}")
            case (kind, from_name, to_name):
                raise _invalid(f"{name}: the configuration has no {from_name} ({kind}) on {to_name}")
        _require(_is_number(region.get("score", 0.0)), f"{name}: the score is {region.get('score')}")
    size = len(json.dumps(body)) if size_bytes is None else size_bytes
    _require(size <= MAX_BODY_BYTES, f"the prediction has {size:,} bytes; at most {MAX_BODY_BYTES:,} can be sent")


def _check_labels(name: str, labels: list[str], known: tuple[str, ...]) -> None:
    _require(len(labels) == 1, f"{name}: {len(labels)} labels instead of one")
    _require(
        labels[0] in known, f"{name}: the configuration has no label {labels[0]!r}, only {', '.join(known) or 'none'}"
    )


def _check_sequence(name: str, sequence: list[Mapping[str, Any]], frame_count: int) -> None:
    """Words are put together only where something is wrong: there may be hundreds of thousands of these entries."""
    _require(len(sequence) > 0, f"{name}: no keyframe")
    previous = 0
    for entry in sequence:
        frame = entry["frame"]
        if not 1 <= frame <= frame_count:
            raise _invalid(f"{name}: frame {frame} of {frame_count}")
        if frame <= previous:
            raise _invalid(f"{name}: frame {frame} follows frame {previous}")
        previous = frame
        for start, side in _SIDES:
            low, extent = entry[start], entry[side]
            # What is no number lies nowhere: every comparison with it is false.
            if not (low >= -_SLACK_PERCENT and extent > 0 and low + extent <= 100 + _SLACK_PERCENT):
                if not (_is_number(low) and _is_number(low + extent)):
                    raise _invalid(f"{name}, frame {frame}: {start} is {low}, {side} {extent}")
                raise _invalid(
                    f"{name}, frame {frame}: {start} {low:.3f}% and {side} {extent:.3f}% don't lie in the frame"
                )
        if entry.get("rotation") != 0:
            raise _invalid(f"{name}, frame {frame}: no rotation")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise _invalid(message)


def _invalid(message: str) -> BadInput:
    return BadInput(f"the prediction is not valid: {message}", code="invalid_prediction")
