"""Writes items of a data set into a folder, in the layout of another program."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.domain.datasets import DatasetItem
from backend.domain.errors import BadInput
from backend.services.manifests import write_manifest
from integrations.exports import coco, label_studio, mevis, palette, yolo
from integrations.exports.clips import clips
from integrations.exports.layouts import Layout


@dataclass(frozen=True, slots=True)
class Options:
    """`with_propagated`: also frames whose masks no person saw. `every`: of boxes, each n-th frame (YOLO).
    `url_prefix`: how Label Studio reaches the folder."""

    layout: Layout
    with_propagated: bool = True
    every: int = 1
    url_prefix: str = "/data/local-files/?d="


def export_items(items: Sequence[DatasetItem], media: Path, folder: Path, options: Options) -> int:
    """Write items of one split; how many. `media`: a folder that has their videos by SHA-256.

    Raises `BadInput` if there are none or the folder isn't empty, `UnreadableVideo`.
    """
    if not items:
        raise BadInput("there are no items of that split to export", code="nothing_to_export")
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty: name another folder", code="folder_not_empty")
    found, split = clips(items, media, options.with_propagated), items[0].split.value
    match options.layout:
        case Layout.MEVIS:
            return mevis.export(found, folder)
        case Layout.REF_YOUTUBE_VOS:
            return palette.ref_youtube_vos(found, folder, split)
        case Layout.DAVIS:
            return palette.davis(found, folder, split)
        case Layout.SA_V:
            return coco.sa_v(found, folder, split)
        case Layout.YOUTUBE_VIS:
            return coco.youtube_vis(found, folder)
        case Layout.COCO:
            return coco.coco(found, folder)
        case Layout.YOLO:
            return yolo.yolo(found, folder, split, options.every)
        case Layout.LABEL_STUDIO:
            return label_studio.label_studio(found, folder, options.url_prefix)
        case Layout.PARQUET:
            return _parquet(items, media, folder, split)


def _parquet(items: Sequence[DatasetItem], media: Path, folder: Path, split: str) -> int:
    """`<split>.parquet` is the manifest, `media/<sha256>` the videos it names."""
    (folder / "media").mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.parquet").write_bytes(write_manifest(items))
    for sha256 in {item.media_sha256 for item in items}:
        shutil.copyfile(media / sha256, folder / "media" / sha256)
    return len(items)
