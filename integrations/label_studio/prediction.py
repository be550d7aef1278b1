"""One run's tracks and masks as a Label Studio prediction, and read back from a result.

Boxes become one VideoRectangle region a track; masks one bitmask region for each track and page. Nothing here talks to
Label Studio.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from backend.domain.annotation import Mask
from backend.domain.tracks import BoxKeyframe
from backend.ports.publication import PublicationItem, PublicationTrack
from integrations.label_studio import bitmask
from integrations.label_studio.config import DEFAULT_LABEL, KnownConfig, Names
from integrations.label_studio.coordinates import (
    FrameRate,
    frame_index,
    from_percent,
    label_studio_frame,
    to_percent,
)

#: Label Studio's label stream begins with a prediction only if its `model_version` is the one version that the project
#: names. So all that are to be shown carry the same; the model behind each is in our database and beside the video.
CURRENT = "premask"
#: `neighbors` is free JSON that the open-source edition keeps and does not use: by it a repeat finds the prediction.
_RUN_FIELD, _LAYER_FIELD = "premask_run", "premask_layer"
_OUR_REGION = re.compile(r"run(\d+)-track\d+(?:-frame\d+)?")


def prediction(
    item: PublicationItem, config: KnownConfig, rate: FrameRate, page_frames: Sequence[int]
) -> dict[str, Any]:
    """The prediction as it is sent. `page_frames[i]`: the frame index of the task's page i."""
    result = []
    for track in item.tracks:
        label = _label(item, track, config)
        result.append(_box_region(item, track, label, rate, config.names))
        result += [
            _mask_region(item, track, label, page_frames.index(frame), frame, mask, config.names)
            for frame, mask in sorted(track.masks.items())
        ]
    scores = [track.score for track in item.tracks if track.score is not None]
    return {
        "result": result,
        "score": sum(scores) / len(scores) if scores else None,
        "model_version": CURRENT,
        "neighbors": {_RUN_FIELD: item.run_id, **({} if item.layer_id is None else {_LAYER_FIELD: item.layer_id})},
    }


def track_indices(item: PublicationItem) -> dict[str, int]:
    """Of each region of the item's prediction the index of its track."""
    boxes = {_box_id(item, track): track.index for track in item.tracks}
    return boxes | {_mask_id(item, track, frame): track.index for track in item.tracks for frame in track.masks}


def _box_id(item: PublicationItem, track: PublicationTrack) -> str:
    return f"run{item.run_id}-track{track.index}"


def _mask_id(item: PublicationItem, track: PublicationTrack, frame: int) -> str:
    return f"run{item.run_id}-track{track.index}-frame{frame}"


def origin_of(neighbors: object, result: Sequence[Mapping[str, Any]] | None) -> tuple[int, int | None] | None:
    """The run and the corrected layer whose prediction this is: by its `neighbors`, or, where it was imported without
    them, by its regions' ids; None if it is not one of ours."""
    if isinstance(neighbors, dict) and isinstance(run_id := neighbors.get(_RUN_FIELD), int):
        layer_id = neighbors.get(_LAYER_FIELD)
        return run_id, layer_id if isinstance(layer_id, int) else None
    named = _OUR_REGION.fullmatch(str(result[0].get("id"))) if result else None
    return None if named is None else (int(named[1]), None)


def superseded_version(run_id: int, layer_id: int | None) -> str:
    """The `model_version` of a prediction after a later one took its place."""
    which = f"run {run_id}" if layer_id is None else f"run {run_id}, correction {layer_id}"
    return f"{CURRENT}, superseded ({which})"


def box_keyframes_of(region: Mapping[str, Any], width: int, height: int, first_frame: int = 0) -> list[BoxKeyframe]:
    """The box keyframes of a VideoRectangle region, in source pixels of a video of that size. `first_frame`: of the
    window that was shown."""
    return [
        BoxKeyframe(
            frame_index(int(entry["frame"]), first_frame),
            from_percent(entry["x"], entry["y"], entry["width"], entry["height"], width, height),
            bool(entry["enabled"]),
        )
        for entry in sorted(region["value"]["sequence"], key=lambda entry: int(entry["frame"]))
    ]


def mask_of(region: Mapping[str, Any]) -> Mask:
    """The mask of a bitmask region. Raises `BadInput`."""
    return bitmask.from_data_url(region["value"]["imageDataURL"])


def _label(item: PublicationItem, track: PublicationTrack, config: KnownConfig) -> str:
    """The project's label of that name, else the default one: the track's own words stay in `meta.text`."""
    if item.adopted is not None and item.adopted.label is not None:
        return item.adopted.label
    known = {label.casefold(): label for label in config.box_labels}
    return known.get(track.label.strip().casefold(), DEFAULT_LABEL)


def _box_region(
    item: PublicationItem, track: PublicationTrack, label: str, rate: FrameRate, names: Names
) -> dict[str, Any]:
    probe, shown = item.probe, item.shown
    sequence = []
    for keyframe in track.box_keyframes:
        frame = label_studio_frame(keyframe.frame_index, shown.first_frame)
        percent = to_percent(keyframe.box, probe.width, probe.height)
        # Without `rotation` Label Studio's interpolation yields NaN.
        sequence.append(
            {"frame": frame, "enabled": keyframe.visible, "rotation": 0, "time": frame / rate.fps, **percent}
        )
    region: dict[str, Any] = {
        "id": _box_id(item, track),
        "type": "videorectangle",
        "from_name": names.box,
        "to_name": names.video,
        "origin": "prediction",
        "meta": {"text": [track.label]},
        "value": {
            "framesCount": shown.frame_count,
            "duration": probe.duration_s if item.rendition is None else shown.frame_count / rate.fps,
            "labels": [label],
            "sequence": sequence,
        },
    }
    return _scored(region, track)


def _mask_region(
    item: PublicationItem,
    track: PublicationTrack,
    label: str,
    page: int,
    frame: int,
    mask: Mask,
    names: Names,
) -> dict[str, Any]:
    region: dict[str, Any] = {
        "id": _mask_id(item, track, frame),
        "type": "bitmasklabels",
        "from_name": names.mask,
        "to_name": names.pages,
        "origin": "prediction",
        "item_index": page,
        "original_width": mask.width,
        "original_height": mask.height,
        "image_rotation": 0,
        "meta": {"text": [track.label]},
        "value": {"imageDataURL": bitmask.to_data_url(mask), "bitmasklabels": [label]},
    }
    return _scored(region, track)


def _scored(region: dict[str, Any], track: PublicationTrack) -> dict[str, Any]:
    return region if track.score is None else {**region, "score": track.score}
