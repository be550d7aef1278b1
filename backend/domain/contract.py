"""The JSON form of an annotation, as `premask annotate --json` prints it. Keys and meanings are a contract."""

from typing import Any

from backend.domain.annotation import Annotation, Box, Keyframe, Track
from backend.domain.confidence import told
from backend.domain.masks import as_coco
from backend.domain.runs import Mode


def annotation_to_json(annotation: Annotation, path: str, instruction: str, mode: Mode) -> dict[str, Any]:
    """One object: boxes in source pixels, masks as COCO RLE by frame index, times in seconds. A track has boxes of
    its own only on frames without a mask (mode `aid`); a mask has its own box."""
    probe = annotation.probe
    return {
        "video": {
            "path": path,
            "frame_count": probe.frame_count,
            "width": probe.width,
            "height": probe.height,
            "duration_s": round(probe.duration_s, 6),
            "has_audio": probe.has_audio,
        },
        "instruction": instruction,
        "mode": mode.value,
        "status": annotation.status.value,
        "outcome_code": annotation.outcome_code,
        "reasoning": annotation.reasoning,
        "raw_output": annotation.raw_output,
        "keyframes": [_keyframe(keyframe) for keyframe in annotation.keyframes],
        "tracks": [_track(track) for track in annotation.tracks],
        "timings_s": annotation.timings_s,
        "warnings": list(annotation.warnings),
        "model": annotation.model,
    }


def _keyframe(keyframe: Keyframe) -> dict[str, Any]:
    return {
        "frame_index": keyframe.frame_index,
        "time_s": keyframe.time_s,
        "description": keyframe.description,
        "score": keyframe.score,
        "origin": keyframe.origin,
        "boxes": [
            {**_box(d.box_xyxy_px), "label": d.label, "score": d.score, "track": d.track_index}
            for d in keyframe.detections
        ],
    }


def _box(box: Box) -> dict[str, float]:
    return {"x1": round(box.x1, 3), "y1": round(box.y1, 3), "x2": round(box.x2, 3), "y2": round(box.y2, 3)}


def _track(track: Track) -> dict[str, Any]:
    masks = {str(frame_index): as_coco(mask) for frame_index, mask in sorted(track.masks.items())}
    boxes = {str(frame_index): _box(box) for frame_index, box in sorted(track.boxes.items())}
    return {
        "index": track.index, "label": track.label, "score": track.score,
        "evidence": None if track.evidence is None else told(track.evidence), "masks": masks, "boxes": boxes,
        "frame_scores": {str(frame_index): score for frame_index, score in (track.frame_scores or {}).items()},
    }  # fmt: skip
