"""YOLO's layout for boxes: images/<split>/, labels/<split>/ with a text file a picture, classes.txt, data.yaml.

A line of a label is: number of the class, then middle and size of the box as shares of the picture. A picture on which
nothing is seen has an empty file.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from backend.domain.annotation import Box
from integrations.exports.clips import Clip, frame_name, write_pictures


def yolo(clips: Sequence[Clip], folder: Path, split: str, every: int) -> int:
    """Write every n-th of the frames whose boxes are known; how many clips."""
    known = [(clip, clip.item.box_frames[::every]) for clip in clips if clip.item.box_frames]
    write_pictures(known, folder / "images" / split, "{clip}_{frame}.jpg")
    classes = sorted({one.label for clip, _ in known for one in clip.item.objects})
    labels = folder / "labels" / split
    labels.mkdir(parents=True, exist_ok=True)
    for clip, frames in known:
        for frame in frames:
            lines = [
                f"{classes.index(one.label)} {_shares(one.boxes[frame], clip.item.width, clip.item.height)}\n"
                for one in clip.item.objects
                if frame in one.boxes
            ]
            (labels / f"{clip.name}_{frame_name(frame)}.txt").write_text("".join(lines))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    # JSON is YAML, and a label may hold anything.
    names = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(classes))
    (folder / "data.yaml").write_text(f"path: .\ntrain: images/{split}\nval: images/{split}\nnames:\n{names}")
    return len(known)


def _shares(box: Box, width: int, height: int) -> str:
    middle = ((box.x1 + box.x2) / 2 / width, (box.y1 + box.y2) / 2 / height)
    size = ((box.x2 - box.x1) / width, (box.y2 - box.y1) / height)
    return " ".join(f"{share:.6f}" for share in (*middle, *size))
