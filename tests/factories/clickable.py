"""A run whose keyframe pages show a scene of the proving ground, published to a task; and what Label Studio sends when
somebody clicks there."""

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt
from sqlalchemy import update

from backend.bootstrap import Container
from backend.db.tables import Publication
from backend.domain.annotation import Annotation, Detection, Keyframe, Track, VideoProbe
from backend.domain.masks import encode_mask
from backend.domain.prompts import Click
from backend.domain.runs import RunStatus
from backend.services import renditions, results, videos
from backend.settings import LabelStudioSettings
from integrations.label_studio.config import labeling_config
from integrations.label_studio.coordinates import to_percent
from tests.factories import core
from workers.interactive.service import Waiting, make_server
from workers.shapeworld.world.levels import EASY
from workers.shapeworld.world.make import make_scene
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.render import Frame, frames_at

PROJECT, TASK = 5, 70
#: Frame indices of the pages.
PAGES = (4, 10, 16)
_FRAMES, _FPS = 20, 10


def pictures(seed: int = 0, side_px: int = 384) -> list[Frame]:
    """One a page, with at least two things in it."""
    scene = make_scene(seed, Kind.ATTRIBUTE, EASY).scene
    return list(frames_at(scene, [scene.duration_s * page / _FRAMES for page in PAGES], side_px))


def middle_of(mask: np.ndarray, *, positive: bool = True) -> Click:
    """A click well inside of what is set."""
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return Click(x + 0.5, y + 0.5, positive)


@dataclass(frozen=True)
class Clickable:
    """`pictures[i]`: of page i, with its truth."""

    container: Container
    run_id: int
    pictures: list[Frame]
    image_keys: dict[int, str]

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.pictures[0].labels.shape
        return width, height

    def thing(self, page: int, number: int = 1) -> np.ndarray:
        """(H, W) bool: where it is seen on that page. Numbers are from 1."""
        return self.pictures[page].labels == number


def published(container: Container, prefix: str, *, side_px: int = 384, seed: int = 0, **project: Any) -> Clickable:
    """Recorded, with its pictures in the storage; its publication is to the task `TASK` of the project `PROJECT`. Two
    things are tracks of it."""
    shown = pictures(seed, side_px)
    height, width = shown[0].labels.shape
    core.make_project(container, "clicks", prefix=prefix, **{"label_studio_project_id": PROJECT, **project})
    taken = core.take_in(container, core.version(f"{prefix}a.mp4"))
    assert taken.video_id is not None
    pts = np.arange(_FRAMES, dtype=np.int64)
    probe = VideoProbe(_FRAMES, width, height, 0, _FRAMES / _FPS, False, "h264", 1, _FPS, pts)
    with container.transaction() as session:
        videos.record_probe(session, taken.video_id, probe, "0" * 64)
        renditions.note_need(session, taken.video_id, ())
    [run_id] = taken.run_ids
    claim = core.claim(container, run_id)
    assert claim is not None
    keys = {frame: f"{prefix}artifacts/{frame}.png" for frame in PAGES}
    for frame, picture in zip(PAGES, shown, strict=True):
        container.store.put(container.settings.storage.artifact_bucket, keys[frame], png(picture.image), "image/png")
    labeling = LabelStudioSettings(url="http://label.example")
    with container.transaction() as session:
        results.record(session, run_id, claim.fence, _annotation(probe, shown), keys, labeling)
        done = {"state": "published", "task_id": TASK, "prediction_id": 700}
        session.execute(update(Publication).where(Publication.run_id == run_id).values(**done))
    return Clickable(container, run_id, shown, keys)


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _annotation(probe: VideoProbe, shown: Sequence[Frame]) -> Annotation:
    masks = [
        {frame: encode_mask(picture.labels == number) for frame, picture in zip(PAGES, shown, strict=True)}
        for number in (1, 2)
    ]
    keyframes = tuple(
        Keyframe(
            frame, place, frame / _FPS, 0.0, 1.0, "the thing",
            tuple(Detection(n, track[frame].box_xyxy_px, "thing", 0.9, n) for n, track in enumerate(masks)),
        )
        for place, frame in enumerate(PAGES)
    )  # fmt: skip
    tracks = tuple(Track(index, "thing", 0.9, track) for index, track in enumerate(masks))
    return Annotation(
        probe=probe, status=RunStatus.SUCCEEDED, outcome_code=None, reasoning="", raw_output="", keyframes=keyframes,
        tracks=tracks, timings_s={}, warnings=(), model={"profile": "test"},
    )  # fmt: skip


def click_regions(click: Click, size: tuple[int, int], page: int, number: int = 0, label: str | None = None) -> Any:
    """A click as Label Studio 1.23.2 puts it into the context; a second entry where a label or mask was chosen."""
    width, height = size
    common = {
        "original_width": width, "original_height": height, "image_rotation": 0, "item_index": page,
        "is_positive": click.positive, "id": f"click{number}", "to_name": "keyframes", "origin": "manual",
    }  # fmt: skip
    labels = [] if label is None else [label]
    value = {"x": 100 * click.x_px / width, "y": 100 * click.y_px / height, "width": 0.5, "labels": labels}
    found = [{**common, "from_name": "click", "type": "keypoint", "value": value}]
    if label is not None:
        labeled = {**value, "bitmasklabels": labels}
        found.append({**common, "from_name": "mask", "type": "bitmasklabels", "value": labeled})
    return found


def box_region(box: Any, size: tuple[int, int], page: int, number: int = 0, rotation: float = 0) -> dict[str, Any]:
    return {
        "original_width": size[0], "original_height": size[1], "image_rotation": 0, "item_index": page,
        "id": f"box{number}", "from_name": "around", "to_name": "keyframes", "type": "rectangle", "origin": "manual",
        "value": {**to_percent(box, *size), "rotation": rotation},
    }  # fmt: skip


def predict_body(
    regions: Sequence[Any] | None, *, task_id: int = TASK, project: str = f"{PROJECT}.1764000000",
    shown: Sequence[Any] = (), labels: Sequence[str] = (), data: Any = None,
) -> dict[str, Any]:  # fmt: skip
    """What Label Studio posts to `/predict`. `shown`: regions of the task's prediction."""
    context = None if regions is None else {"result": list(regions)}
    task = {
        "id": task_id,
        "data": {"keyframe_frame_indices": list(PAGES)} if data is None else data,
        "predictions": [{"id": 700, "result": list(shown)}],
        "annotations": [],
        "drafts": [],
    }
    return {
        "tasks": [task],
        "project": project,
        "label_config": labeling_config(labels, interactive=True),
        "params": {"login": None, "password": None, "context": context},
    }


@contextmanager
def mask_server(waiting: Waiting, token: str | None = None) -> Iterator[str]:
    """Its address; what draws there is for the test to `set`."""
    server = make_server(waiting, "127.0.0.1", 0, token=token)
    thread = threading.Thread(target=server.serve_forever, name="masks")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(timeout=30)
        server.server_close()
