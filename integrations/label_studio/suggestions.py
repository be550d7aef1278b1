"""Label Studio's `/predict`: what a person clicked on a keyframe page, and the masks that answer it.

A prompt is a region of its own (`keypoint`, `rectangle`), and comes with a second entry of the same id where a label
was chosen. All prompts of one kind and label come together, of every page; the last one says which page is looked at.
The body also holds the task with all its annotations, of which the masks on that page are used, and nothing else.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np

from backend.domain.annotation import Box, Mask
from backend.domain.errors import BadInput, InvalidEvent
from backend.domain.masks import iou
from backend.domain.prompts import Click, ThingPrompt
from backend.ports.pipeline import SuggestedMask
from integrations.label_studio import bitmask
from integrations.label_studio.config import DEFAULT_LABEL, MASK, PAGES, KnownConfig, read_config
from integrations.label_studio.coordinates import from_percent
from integrations.label_studio.task_data import PAGE_FRAMES_FIELD

_POINTS = frozenset({"keypoint", "keypointlabels"})
_BOXES = frozenset({"rectangle", "rectanglelabels"})
#: Types of regions that ask for a mask and are none.
PROMPTS = _POINTS | _BOXES
#: A suggestion is about the mask on its page that it overlaps so much.
_SAME_THING_IOU = 0.3
_AGAIN = re.compile(r"(?P<of>.+)-again[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Question:
    """What a person asks: `regions` are what they clicked and drew on that page of the task, `shown` the masks that are
    there already, by id, the newest of each."""

    project_id: int
    task_id: int
    page: int
    frame_index: int
    regions: Sequence[Mapping[str, Any]]
    shown: Mapping[str, Mapping[str, Any]]
    config: KnownConfig


def read_question(body: bytes) -> Question | None:
    """None where nobody asks anything: Label Studio wants predictions of its own accord, or the last prompt was taken
    away. Raises `InvalidEvent` for what isn't its request, `BadInput` where the task is none of ours."""
    try:
        asked = json.loads(body)
        context = (asked.get("params") or {}).get("context")
        regions = [] if context is None else list(context.get("result") or [])
        tasks = list(asked["tasks"])
        prompts = [one for one in regions if one.get("type") in PROMPTS and one.get("to_name") == PAGES]
        if not prompts or not tasks:
            return None
        task, page = tasks[0], int(prompts[-1].get("item_index") or 0)
        project_id, task_id = int(str(asked["project"]).split(".")[0]), int(task["id"])
        frames = task["data"].get(PAGE_FRAMES_FIELD)
        mine = [one for one in regions if int(one.get("item_index") or 0) == page]
        shown = dict(_shown(task, page))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidEvent(f"the body is no request for predictions: {type(error).__name__} {error}") from error
    if not isinstance(frames, list) or not 0 <= page < len(frames) or not isinstance(frames[page], int):
        raise BadInput(
            f"task {task_id} of Label Studio has no keyframe page {page + 1} of ours ({PAGE_FRAMES_FIELD}: {frames}): "
            "it is another project's, or its data was changed",
            code="unknown_page",
        )
    config = read_config(str(asked.get("label_config") or "<View/>"))
    return Question(project_id, task_id, page, frames[page], mine, shown, config)


def _shown(task: Mapping[str, Any], page: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Mask regions of the page by id, older ones first."""
    for source in ("predictions", "annotations", "drafts"):
        found = [one for one in task.get(source) or [] if isinstance(one, dict)]
        for one in sorted(found, key=lambda one: int(one.get("id") or 0)):
            for region in one.get("result") or []:
                is_mask = region.get("type") == "bitmasklabels" and "imageDataURL" in region.get("value", {})
                if is_mask and int(region.get("item_index") or 0) == page:
                    yield str(region["id"]), region


def prompts_of(question: Question, size: tuple[int, int]) -> list[ThingPrompt]:
    """One for each box; clicks belong to the last box, or together to a thing of their own. `size`: (width, height) of
    the page in pixels. Empty where only negative clicks were made. Raises `BadInput` for what is outside the page."""
    clicks, boxes = list[Click](), list[Box]()
    for region in question.regions:
        try:
            value = region.get("value") or {}
            if region.get("type") in _POINTS:
                place = from_percent(float(value["x"]), float(value["y"]), 0, 0, *size)
                clicks.append(Click(place.x1, place.y1, region.get("is_positive") is not False))
            elif region.get("type") in _BOXES:
                boxes.append(_box(value, size))
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(
                f"prompt {region.get('id')!r} can't be read: {type(error).__name__} {error}", code="invalid_prompt"
            ) from error
    outside = [click for click in clicks if not (0 <= click.x_px <= size[0] and 0 <= click.y_px <= size[1])]
    if outside:
        raise BadInput(f"a click at {outside[0].x_px:.0f}, {outside[0].y_px:.0f} is outside the page of {size[0]}×"
                       f"{size[1]} pixels", code="invalid_prompt")  # fmt: skip
    if boxes:
        return [*(ThingPrompt((), box) for box in boxes[:-1]), ThingPrompt(tuple(clicks), boxes[-1])]
    return [ThingPrompt(tuple(clicks))] if any(click.positive for click in clicks) else []


def _box(value: Mapping[str, Any], size: tuple[int, int]) -> Box:
    """The part of a rectangle that lies in the page; of a turned one the box around it. Raises `ValueError`."""
    drawn = from_percent(float(value["x"]), float(value["y"]), float(value["width"]), float(value["height"]), *size)
    angle = np.deg2rad(float(value.get("rotation") or 0))
    # Label Studio turns a rectangle around its upper left corner.
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    width, height = drawn.x2 - drawn.x1, drawn.y2 - drawn.y1
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ turn.T + [drawn.x1, drawn.y1]
    (x1, y1), (x2, y2) = corners.min(0).clip(0, size), corners.max(0).clip(0, size)
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"the box {value} has no pixel of the page in it")
    return Box(float(x1), float(y1), float(x2), float(y2))


def answer(question: Question | None, found: Sequence[SuggestedMask | None]) -> dict[str, Any]:
    """The body of the answer: one result for a question, which may hold nothing; none where nobody asked."""
    if question is None:
        return {"results": []}
    regions = [_region(question, one) for one in found if one is not None]
    score = min((one.predicted_iou for one in found if one is not None), default=0.0)
    return {"results": [{"result": regions, "score": score}]}


def _region(question: Question, found: SuggestedMask) -> dict[str, Any]:
    mask = found.mask
    corrected = _corrected(question, mask)
    return {
        # Never the id of a region that is there: the labeling page breaks at that.
        "id": f"suggestion-{uuid4().hex}" if corrected is None else _id_again(str(corrected["id"])),
        "type": "bitmasklabels",
        "from_name": MASK,
        "to_name": PAGES,
        "origin": "prediction",
        "item_index": question.page,
        "original_width": mask.width,
        "original_height": mask.height,
        "image_rotation": 0,
        "score": found.predicted_iou,
        "value": {"imageDataURL": bitmask.to_data_url(mask), "bitmasklabels": [_label(question, corrected)]},
    }


def _corrected(question: Question, mask: Mask) -> Mapping[str, Any] | None:
    """The region on the page that the mask is another drawing of; None: of none."""
    best, fits = None, _SAME_THING_IOU
    for region in question.shown.values():
        try:
            known = bitmask.from_data_url(str(region["value"]["imageDataURL"]))
        except BadInput:
            continue  # It isn't what is asked about.
        if (known.width, known.height) == (mask.width, mask.height) and iou(known, mask) >= fits:
            best, fits = region, iou(known, mask)
    return best


def _label(question: Question, corrected: Mapping[str, Any] | None) -> str:
    """That which the person chose, else that of the mask it is about, else the default one. Raises `BadInput` where the
    configuration has none."""
    known = question.config.mask_labels
    if not known:
        raise BadInput(
            "Label Studio's project has no labels for masks of ours; `premask projects connect` mends it",
            code="no_mask_labels",
        )
    values = [region.get("value") or {} for region in reversed(question.regions)]
    values += [corrected["value"]] if corrected is not None else []
    said = [label for value in values for name, labels in value.items() if name.endswith("labels") for label in labels]
    return next((label for label in said if label in known), DEFAULT_LABEL if DEFAULT_LABEL in known else known[0])


def _id_again(region_id: str) -> str:
    return f"{drawn_again(region_id) or region_id}-again{uuid4().hex[:8]}"


def drawn_again(region_id: str) -> str | None:
    """The id of the region that a suggestion of this id is another drawing of; None: of none, or it is no
    suggestion."""
    found = _AGAIN.fullmatch(region_id)
    return None if found is None else found["of"]
