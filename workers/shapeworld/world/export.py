"""Export: clips with their questions in the layout of MeViS, and reading it back.

    videos/<video>.mp4                 the clip: picture, sound, exact times
    JPEGImages/<video>/<frame>.jpg     the same frames, five digits from 00000 in decoder order (can be left out)
    meta_expressions.json              {"videos": {video: {"frames", "vid_id", "expressions": {id: …}}}}
    mask_dict.json                     {annotation id: [COCO RLE or null, one for each frame]}

An expression has MeViS's `exp`, `obj_id` and `anno_id` (both empty where nothing fits), and our `kind`, `asked_kind`,
`mode` and `description`. Every thing has an annotation, asked for or not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from backend.domain.annotation import Mask
from integrations.exports.clips import frame_name
from integrations.exports.mevis import MevisExpression, MevisVideo, read_mevis, write_mevis
from workers.shapeworld.world.queries import Kind, Question
from workers.shapeworld.world.scene import Scene
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
    (root / "videos").mkdir(parents=True, exist_ok=True)
    write_mevis(root, (_render(root, *clip, side_px, jpeg) for clip in clips))


def read_export(root: Path) -> list[ExportedVideo]:
    """What `export` wrote, or any MeViS set whose expressions carry our fields."""
    return [
        ExportedVideo(
            video.name,
            root / "videos" / f"{video.name}.mp4",
            video.frame_names,
            tuple(_read_expression(one, video) for one in video.expressions),
        )
        for video in read_mevis(root)
    ]


def _render(root: Path, name: str, scene: Scene, questions: Sequence[Question], side_px: int, jpeg: bool) -> MevisVideo:
    path = root / "videos" / f"{name}.mp4"
    truth = write(scene, path, side_px)
    if jpeg:
        _write_jpegs(path, root / "JPEGImages" / name)
    return MevisVideo(
        name,
        tuple(frame_name(index) for index in range(truth.frame_count)),
        tuple(truth.masks[thing] for thing in range(len(scene.things))),
        tuple(MevisExpression(one.text, one.targets, _fields(one)) for one in questions),
    )


def _fields(question: Question) -> dict[str, object]:
    return {
        "kind": question.kind.value,
        "asked_kind": question.query.kind.value,
        "mode": question.mode,
        "description": question.description,
    }


def _read_expression(one: MevisExpression, video: MevisVideo) -> Expression:
    return Expression(
        text=one.text,
        kind=Kind(one.more["kind"]),
        asked_kind=Kind(one.more["asked_kind"]),
        mode=one.more["mode"],
        description=one.more["description"],
        targets=tuple(one.more["obj_id"]),
        masks=tuple(tuple(video.objects[target]) for target in one.targets),
    )


def _write_jpegs(video: Path, folder: Path) -> None:
    """The frames as the decoder puts them out: what a reader of the mp4 sees."""
    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(video)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            frame.save(str(folder / f"{frame_name(index)}.jpg"), qscale=_JPEG_QUALITY)
