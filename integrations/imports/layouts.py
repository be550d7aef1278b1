"""Public sets of referring segmentation in their own layouts, read clip by clip.

    mevis             meta_expressions.json, mask_dict.json, JPEGImages/<video>/<frame>.jpg
    revos             the same, the expressions of a split in meta_expressions_<split>_.json, and the videos' folders
                      beside the files or under JPEGImages/
    ref-youtube-vos   <split>/JPEGImages/, <split>/Annotations/ (palette PNG), <split>/meta.json,
                      meta_expressions/<split>/meta_expressions.json
    refcocog          `refcocog`
    ref-avs           `ref_avs`

They are folders of pictures without times: the caller says how many frames a second they are.
"""

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from backend.domain.errors import BadInput
from backend.domain.masks import encode_mask
from backend.ports.media import PublicClip, PublicExpression
from integrations.exports.mevis import MevisVideo, read_mevis
from integrations.imports.objects import truth_object
from integrations.imports.ref_avs import read_ref_avs
from integrations.imports.refcocog import read_refcocog
from integrations.label_studio.config import DEFAULT_LABEL


class PublicLayout(StrEnum):
    MEVIS = "mevis"
    REVOS = "revos"
    REF_YOUTUBE_VOS = "ref-youtube-vos"
    REFCOCOG = "refcocog"
    REF_AVS = "ref-avs"

    @property
    def fps(self) -> float:
        """Pictures a second as the set is given out: ten seconds of Ref-AVS are ten pictures, and a video that is
        read every fifth frame has about six."""
        return 1.0 if self is PublicLayout.REF_AVS else 6.0


#: Of sets that have all their splits in one folder this one is read, lest anybody learn from a benchmark's test.
_SPLIT = "train"


def read_public(layout: PublicLayout, root: Path, split: str | None = None) -> Iterator[PublicClip]:
    """The clips of a folder, in order of their names. `split`: of a set that has several in one folder; default: train.

    Raises `BadInput` where something isn't as the layout has it.
    """
    if split is not None and layout is PublicLayout.MEVIS:
        raise BadInput(f"{layout} has a folder for each split: name that of {split}", code="bad_layout")
    try:
        match layout:
            case PublicLayout.MEVIS:
                yield from _mevis(root, "meta_expressions.json")
            case PublicLayout.REVOS:
                yield from _mevis(root, f"meta_expressions_{split or _SPLIT}_.json")
            case PublicLayout.REF_YOUTUBE_VOS:
                yield from _ref_youtube_vos(root, split or _SPLIT)
            case PublicLayout.REFCOCOG:
                yield from read_refcocog(root, split or _SPLIT)
            case PublicLayout.REF_AVS:
                yield from read_ref_avs(root, split or _SPLIT)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise BadInput(
            f"{root} can't be read as {layout}: {type(error).__name__} {error}", code="bad_layout"
        ) from error


def _mevis(root: Path, meta: str) -> Iterator[PublicClip]:
    for video in sorted(read_mevis(root, meta), key=lambda one: one.name):
        pictures = _pictures(root, video)
        yield PublicClip(
            video.name,
            pictures,
            tuple(range(len(pictures))),
            tuple(
                PublicExpression(one.text, tuple(truth_object(DEFAULT_LABEL, video.objects[k]) for k in one.targets))
                for one in video.expressions
            ),
        )


def _pictures(root: Path, video: MevisVideo) -> tuple[Path, ...]:
    folder = next((one for one in (root / "JPEGImages" / video.name, root / video.name) if one.is_dir()), None)
    if folder is None:
        raise BadInput(f"{root} has no pictures of video {video.name!r}", code="bad_layout")
    if any(len(found) != len(video.frame_names) for found in video.objects):
        raise BadInput(f"video {video.name!r} has another number of masks than of frames", code="bad_layout")
    return tuple(folder / f"{name}.jpg" for name in video.frame_names)


def _ref_youtube_vos(root: Path, name: str) -> Iterator[PublicClip]:
    split = root / name
    if not (split / "Annotations").is_dir():
        # The benchmark keeps the truth of its validation and test videos to itself.
        raise BadInput(f"{root} has no masks of split {name!r} ({split / 'Annotations'})", code="bad_layout")
    videos = json.loads((root / "meta_expressions" / name / "meta_expressions.json").read_text())["videos"]
    labels = json.loads((split / "meta.json").read_text())["videos"] if (split / "meta.json").exists() else {}
    for video_name, video in sorted(videos.items()):
        yield _painted_clip(split, video_name, video, labels.get(video_name, {}).get("objects", {}))


def _painted_clip(split: Path, name: str, video: Any, labels: Any) -> PublicClip:
    frames: list[str] = video["frames"]
    painted = {
        place: np.asarray(Image.open(path))
        for place, frame in enumerate(frames)
        if (path := split / "Annotations" / name / f"{frame}.png").exists()
    }
    expressions = []
    for one in video["expressions"].values():
        number = int(one["obj_id"])
        masks = [encode_mask(painted[place] == number) if place in painted else None for place in range(len(frames))]
        label = labels.get(str(number), {}).get("category", DEFAULT_LABEL)
        expressions.append(PublicExpression(one["exp"], (truth_object(label, masks),)))
    pictures = tuple(split / "JPEGImages" / name / f"{frame}.jpg" for frame in frames)
    return PublicClip(name, pictures, tuple(sorted(painted)), tuple(expressions))
