"""Export: clips with their questions in the layout of MeViS, and reading it back.

    videos/<video>.mp4                 the clip: picture, sound, exact times
    JPEGImages/<video>/<frame>.jpg     the same frames, five digits from 00000 in decoder order (can be left out)
    meta_expressions.json              {"videos": {video: {"frames", "vid_id", "expressions": {id: …}}}}
    mask_dict.json                     {annotation id: [COCO RLE or null, one for each frame]}

An expression has MeViS's `exp`, `obj_id` and `anno_id` (both empty where nothing fits), and our `kind`, `asked_kind`,
`mode` and `description`. Every thing has an annotation, asked for or not.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from backend.domain.annotation import Mask
from backend.domain.masks import as_coco, from_counts
from workers.shapeworld.world.queries import Kind, Question
from workers.shapeworld.world.scene import Scene
from workers.shapeworld.world.truth import Truth
from workers.shapeworld.world.video import write

_JPEG_QUALITY = 2


@dataclass(frozen=True, slots=True)
class Expression:
    """One instruction as it stands in an export. `masks[k]` are those of `targets[k]`, None on frames without it."""

    text: str
    kind: Kind
    asked_kind: Kind
    mode: str
    description: str
    targets: tuple[int, ...]
    masks: tuple[tuple[Mask | None, ...], ...]


@dataclass(frozen=True, slots=True)
class ExportedVideo:
    """One clip of an export."""

    name: str
    path: Path
    frame_names: tuple[str, ...]
    expressions: tuple[Expression, ...]


def export(
    root: Path, clips: Iterable[tuple[str, Scene, Sequence[Question]]], side_px: int = 384, jpeg: bool = True
) -> None:
    """Render the clips (name, scene, questions) into `root`."""
    videos: dict[str, Any] = {}
    masks: dict[str, Any] = {}
    (root / "videos").mkdir(parents=True, exist_ok=True)
    for number, (name, scene, questions) in enumerate(clips):
        path = root / "videos" / f"{name}.mp4"
        truth = write(scene, path, side_px)
        if jpeg:
            _write_jpegs(path, root / "JPEGImages" / name)
        first = len(masks)
        masks.update({str(first + i): _as_json(truth, i) for i in range(len(scene.things))})
        videos[name] = {
            "vid_id": number,
            "frames": [f"{index:05d}" for index in range(truth.frame_count)],
            "expressions": {str(i): _expression(question, first) for i, question in enumerate(questions)},
        }
    (root / "meta_expressions.json").write_text(json.dumps({"videos": videos}, indent=1))
    (root / "mask_dict.json").write_text(json.dumps(masks))


def read_export(root: Path) -> list[ExportedVideo]:
    """What `export` wrote, or any MeViS set whose expressions carry our fields."""
    meta = json.loads((root / "meta_expressions.json").read_text())
    masks = json.loads((root / "mask_dict.json").read_text())
    return [
        ExportedVideo(
            name,
            root / "videos" / f"{name}.mp4",
            tuple(video["frames"]),
            tuple(_read_expression(expression, masks) for expression in video["expressions"].values()),
        )
        for name, video in meta["videos"].items()
    ]


def _expression(question: Question, first_annotation: int) -> dict[str, object]:
    return {
        "exp": question.text,
        "obj_id": list(question.targets),
        "anno_id": [first_annotation + target for target in question.targets],
        "kind": question.kind.value,
        "asked_kind": question.query.kind.value,
        "mode": question.mode,
        "description": question.description,
    }


def _read_expression(expression: dict[str, Any], masks: dict[str, list[Any]]) -> Expression:
    return Expression(
        text=expression["exp"],
        kind=Kind(expression["kind"]),
        asked_kind=Kind(expression["asked_kind"]),
        mode=expression["mode"],
        description=expression["description"],
        targets=tuple(expression["obj_id"]),
        masks=tuple(tuple(_read_mask(rle) for rle in masks[str(number)]) for number in expression["anno_id"]),
    )


def _read_mask(rle: dict[str, Any] | None) -> Mask | None:
    return None if rle is None else from_counts(rle["counts"], *rle["size"])


def _as_json(truth: Truth, thing: int) -> list[dict[str, object] | None]:
    return [as_coco(mask) if mask.area else None for mask in truth.masks[thing]]


def _write_jpegs(video: Path, folder: Path) -> None:
    """The frames as the decoder puts them out: what a reader of the mp4 sees."""
    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(video)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            frame.save(str(folder / f"{index:05d}.jpg"), qscale=_JPEG_QUALITY)
