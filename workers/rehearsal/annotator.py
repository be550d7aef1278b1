"""A simulated annotator. It knows what is true of each clip, opens the tasks by Label Studio's own API as a person's
browser does, leaves a good pre-annotation as it is, and draws the right boxes and masks where it is a bad one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from backend.bootstrap import Container
from backend.domain.annotation import Box, Mask
from backend.domain.errors import Misconfigured
from backend.domain.masks import iou, union
from backend.domain.tracks import reduce_boxes
from backend.ports.publication import PublicationItem, PublicationTrack
from integrations.label_studio.config import labeling_config, read_config
from integrations.label_studio.coordinates import frame_rate
from integrations.label_studio.prediction import prediction
from integrations.label_studio.task_data import PAGE_FRAMES_FIELD

#: From this mean IoU over the pages on, a person leaves it.
GOOD_ENOUGH = 0.75
_SAME_BOX_IOU = 0.98


@dataclass(frozen=True, slots=True)
class Shown:
    """A published run: its task, and the item that was sent. `truth`: of each target its masks by frame index."""

    task_id: int
    item: PublicationItem
    truth: Sequence[Mapping[int, Mask]]


class SimulatedAnnotator:
    """Works on one Label Studio project."""

    def __init__(self, container: Container) -> None:
        labeling = container.settings.label_studio
        if labeling.url is None or labeling.api_key is None:
            raise Misconfigured("a rehearsal needs Label Studio")
        self._client = httpx.Client(
            base_url=labeling.url, headers={"Authorization": f"Token {labeling.api_key.get_secret_value()}"}, timeout=60
        )
        self._config = read_config(labeling_config([]))

    def review(self, shown: Shown) -> bool:
        """Submit the task; whether it was left as it was."""
        task = self._get(f"/api/tasks/{shown.task_id}/")
        made = task["predictions"][0]
        accepted = agreement(shown) >= GOOD_ENOUGH
        result = made["result"] if accepted else self._drawn(shown, task["data"][PAGE_FRAMES_FIELD])
        body = {"result": result, "parent_prediction": made["id"], "lead_time": 5.0 if accepted else 60.0}
        self._client.post(f"/api/tasks/{shown.task_id}/annotations/", json=body).raise_for_status()
        return accepted

    def _get(self, path: str) -> dict[str, Any]:
        answer = self._client.get(path)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def _drawn(self, shown: Shown, pages: Sequence[int]) -> list[dict[str, Any]]:
        """What is true, drawn anew: nothing of the prediction is kept."""
        tracks = tuple(_track(n, masks, shown.item.probe.frame_count, pages) for n, masks in enumerate(shown.truth))
        item = replace(shown.item, tracks=tracks)
        regions = prediction(item, self._config, frame_rate(item.probe), list(pages))["result"]
        return [{**region, "id": f"drawn-{region['id']}", "origin": "manual"} for region in regions]


def _track(index: int, masks: Mapping[int, Mask], frame_count: int, pages: Sequence[int]) -> PublicationTrack:
    boxes: dict[int, Box] = {frame: mask.box_xyxy_px for frame, mask in masks.items()}
    keyframes = tuple(reduce_boxes(boxes, frame_count, _SAME_BOX_IOU))
    return PublicationTrack(index, "object", None, keyframes, {f: masks[f] for f in pages if f in masks})


def agreement(shown: Shown) -> float:
    """Mean IoU, over the pages, of everything that was marked with everything that should be; 1 where both are
    nothing."""
    found = []
    for page in shown.item.pages:
        marked = [track.masks[page.frame_index] for track in shown.item.tracks if page.frame_index in track.masks]
        true = [masks[page.frame_index] for masks in shown.truth if page.frame_index in masks]
        both_nothing = not marked and not true
        found.append(1.0 if both_nothing else iou(union(marked), union(true)) if marked and true else 0.0)
    return sum(found) / len(found) if found else 0.0
