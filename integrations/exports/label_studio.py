"""Label Studio's JSON: tasks with finished annotations, in the labeling configuration that Premask's projects have.

tasks.json, labels.xml       to be imported, and the configuration of the project
videos/, keyframes/          the media; `url_prefix` is how Label Studio reaches this folder
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backend.domain.datasets import DatasetItem
from backend.domain.runs import RunStatus
from backend.domain.tracks import reduce_boxes
from backend.ports.publication import PublicationItem, PublicationPage, PublicationTrack
from integrations.exports.clips import Clip, frame_name, write_pictures
from integrations.label_studio.config import labeling_config, read_config
from integrations.label_studio.coordinates import frame_rate
from integrations.label_studio.prediction import prediction
from integrations.label_studio.task_data import task_data

#: The boxes of people are kept as they are; what falls away are keyframes that say nothing.
_SAME_BOX_IOU = 0.999


def label_studio(clips: Sequence[Clip], folder: Path, url_prefix: str) -> int:
    """Write the clips as tasks; how many. Masks are on pages, those that people saw alone."""
    folder.mkdir(parents=True, exist_ok=True)
    config = labeling_config(sorted({one.label for clip in clips for one in clip.item.objects}))
    write_pictures([(clip, clip.item.mask_frames) for clip in clips], folder / "keyframes", "{clip}/{frame}.jpg")
    tasks = [_task(number, clip, config, url_prefix) for number, clip in enumerate(clips, start=1)]
    (folder / "videos").mkdir(exist_ok=True)
    for clip in clips:
        shutil.copyfile(clip.media, folder / "videos" / f"{clip.name}.mp4")
    (folder / "tasks.json").write_text(json.dumps(tasks))
    (folder / "labels.xml").write_text(config)
    return len(tasks)


def _task(number: int, clip: Clip, config: str, url_prefix: str) -> dict[str, Any]:
    publication = _publication(number, clip.item, f"{url_prefix}videos/{clip.name}.mp4", [
        PublicationPage(frame, clip.item.probe.time_s(frame), clip.item.instruction,
                        f"{url_prefix}keyframes/{clip.name}/{frame_name(frame)}.jpg")
        for frame in clip.item.mask_frames
    ])  # fmt: skip
    rate = frame_rate(publication.probe)
    made = prediction(publication, read_config(config), rate, list(clip.item.mask_frames))
    return {
        "data": task_data(publication, rate),
        "annotations": [{"result": [_of_a_person(region) for region in made["result"]]}],
    }


def _of_a_person(region: dict[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in region.items() if key != "score"}, "origin": "manual"}


def _publication(number: int, item: DatasetItem, video: str, pages: list[PublicationPage]) -> PublicationItem:
    seen = set(item.mask_frames)
    tracks = tuple(
        PublicationTrack(
            place, one.label, None, tuple(reduce_boxes(one.boxes, item.frame_count, _SAME_BOX_IOU)),
            {frame: mask for frame, mask in one.masks.items() if frame in seen},
        )
        for place, one in enumerate(item.objects)
    )  # fmt: skip
    return PublicationItem(
        run_id=number, video_id=number, instruction_id=number, instruction=item.instruction, mode=item.mode,
        video_uri=video, probe=item.probe, status=RunStatus.SUCCEEDED if tracks else RunStatus.NO_TARGET,
        outcome_code=None, reasoning="", pages=tuple(pages), tracks=tracks, model_version="reviewed",
    )  # fmt: skip
