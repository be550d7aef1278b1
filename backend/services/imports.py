"""Public sets as data sets: their pictures bound into videos, their masks as truth, the hold-out as ever."""

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from backend.db.repositories import datasets as repository
from backend.db.session import session_scope
from backend.db.tables import Dataset
from backend.domain.datasets import DatasetItem, Provenance, Split
from backend.domain.errors import BadInput
from backend.ports.media import PictureBinder, PublicClip, PublicExpression, VideoProber
from backend.services import sources
from backend.services.dataset_files import sha256_of
from backend.services.datasets import Workshop, record
from backend.services.selection import Selection
from backend.services.sources import Media

#: The source of an imported video is its place in the public set, not in anybody's storage.
_SCHEME = "public"


def import_clips(
    workshop: Workshop, bind: PictureBinder, prober: VideoProber, clips: Iterable[PublicClip], layout: str, name: str,
    fps: Fraction,
) -> Dataset:  # fmt: skip
    """Freeze the clips of a public set, which has that name; what was frozen before is found.

    Its videos get their sides as all others do, and what resembles a held-out video follows it. Raises `BadInput` for
    pictures that can't be read, or a set without clips, and `ServiceUnavailable`.
    """
    items: list[DatasetItem] = []
    media: dict[str, Media] = {}
    for clip in clips:
        with tempfile.TemporaryDirectory(prefix="premask-import-") as folder:
            path = Path(folder) / "clip.mov"
            bind(clip.pictures, path, fps, clip.audio)
            found = _items(path, prober, clip, layout, name)
            items += found
            sha256, uri = found[0].media_sha256, found[0].provenance.source_uri
            media[sha256] = sources.keep_file(
                workshop.store, workshop.hasher, path, found[0].probe, sha256, uri, workshop.storage
            )
    with session_scope(workshop.factory) as session:
        sources.decide(session, media, workshop.settings)
    with session_scope(workshop.factory) as session:
        rows = repository.sources(session, media.keys())
    selection = Selection([])
    # A question that is asked twice of the same pictures keeps the answer that came first.
    for item in {item.question: item for item in reversed(items)}.values():
        row = rows[item.source_id]
        if row.split == Split.NEITHER:
            selection.left_out["resembles both sides"] += 1
            continue
        selection.items.append(
            replace(item, split=Split(row.split), media_key=row.media_key, media_size_bytes=row.media_size_bytes)
        )
    selection.left_out["asked twice"] += len(items) - len({item.question for item in items})
    told = Selection(selection.items, +selection.left_out)
    return record(workshop, told, f"import:{layout}", {"layout": layout, "name": name, "fps": str(fps)}, {})


def _items(path: Path, prober: VideoProber, clip: PublicClip, layout: str, name: str) -> list[DatasetItem]:
    if not clip.expressions:
        raise BadInput(f"clip {clip.name!r} asks nothing", code="bad_layout")
    probe, sha256 = prober(path), sha256_of(path)

    def item(expression: PublicExpression) -> DatasetItem:
        return DatasetItem(
            media_sha256=sha256, media_key="", media_size_bytes=path.stat().st_size, instruction=expression.text,
            mode=clip.mode, frame_count=probe.frame_count, width=probe.width, height=probe.height,
            rotation_deg=probe.rotation_deg, duration_s=probe.duration_s, has_audio=probe.has_audio, codec=probe.codec,
            time_base_num=probe.time_base_num, time_base_den=probe.time_base_den, pts=tuple(probe.pts.tolist()),
            objects=expression.objects, box_frames=clip.mask_frames, mask_frames=clip.mask_frames,
            propagated_frames=(), split=Split.TRAIN, fresh=True,
            provenance=Provenance(f"import:{layout}", f"{_SCHEME}:{name}/{clip.name}"),
        )  # fmt: skip

    return [item(expression) for expression in clip.expressions]
