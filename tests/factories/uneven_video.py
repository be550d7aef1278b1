"""A clip of uneven frame times whose every picture shows its number, taken in and annotated as the workers do it, and
shown on a real Label Studio: whole or in windows."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from pydantic import SecretStr
from sqlalchemy import select

from backend.bootstrap import Container
from backend.db.tables import Publication
from backend.domain.annotation import Annotation, Box, Keyframe, Track, VideoProbe
from backend.domain.masks import encode_mask
from backend.domain.runs import RunStatus
from backend.ports.labeling import LabelingTool
from backend.services import projects, results, videos
from backend.services.publish import publish_run
from backend.settings import LabelStudioSettings, StorageSettings
from tests.conftest import S3, LabelStudioServer
from tests.factories import core
from tests.factories.labeling_page import LabelingPage, stroke_box
from tests.factories.numbered_clips import Kind, numbered, write_kind
from workers import process
from workers.tasks import renditions as render_task
from workers.tasks import videos as probe_task
from workers.tasks.runs import _png

WIDTH, HEIGHT, FRAMES, KEYFRAME = 640, 360, 60, 20
#: 25 a second, then as a telephone in the dark, then with a stop of more than a second, then twice as many.
STEPS_MS = [40] * 20 + [40, 80, 120, 30, 50] * 4 + [1300] + [20] * 18
PTS_MS = [0, *np.cumsum(STEPS_MS).tolist()]
CLIP = Kind("uneven.mp4", width=WIDTH, height=HEIGHT, frames=FRAMES, pts_ms=PTS_MS, options={"g": "250", "bf": "2"},
            sound_s=3)  # fmt: skip
#: On the screen: half the outline and the scaling of the picture.
TOLERANCE_PX = 3


def box_at(frame: int) -> Box:
    """Of the track, between the two rows in which the number is read."""
    return Box(60 + 6 * frame, 140, 180 + 6 * frame, 220)


@dataclass(frozen=True)
class Case:
    container: Container
    tool: LabelingTool
    project_id: int
    run_id: int
    #: As they follow each other in the video.
    task_ids: tuple[int, ...]

    @property
    def urls(self) -> list[str]:
        return [self.tool.task_url(self.project_id, task_id) for task_id in self.task_ids]

    @property
    def probe(self) -> VideoProbe:
        with self.container.transaction() as session:
            probe = videos.stored_probe(session, 1)
        assert probe is not None
        return probe


@contextmanager
def made(
    database_url: str, s3: S3, label_studio: LabelStudioServer, folder: Path, window_s: float = 0
) -> Iterator[Case]:
    """The clip taken in, probed, its run recorded, its renditions made and its tasks published."""
    name = f"uneven-{uuid4().hex[:8]}"
    labeling = LabelStudioSettings(url=label_studio.url, api_key=SecretStr(label_studio.token))
    storage = StorageSettings(
        endpoint_url=s3.endpoint_url, access_key_id=s3.access_key_id, secret_access_key=s3.secret_access_key,
        artifact_bucket=s3.bucket, artifact_prefix=f"{name}/artifacts/",
    )  # fmt: skip
    container = Container(core.settings(database_url, storage=storage, label_studio=labeling))
    tool = container.labeling_tool
    assert tool is not None
    project_id = tool.ensure_project(name, [], [s3.bucket])
    core.make_project(container, "uneven", prefix=f"{name}/", label_studio_project_id=project_id)
    with container.transaction() as session:
        projects.set_up(session, "uneven", window_s=window_s)
    clip = write_kind(folder, CLIP)
    taken = core.take_in(container, container.store.upload(s3.bucket, f"{name}/a.mp4", clip, "video/mp4"))
    assert taken.video_id is not None
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(process._containers, os.getpid(), container)
        probe_task.probe.run(taken.video_id)
        [run_id] = taken.run_ids
        _record(container, run_id, taken.video_id, f"{name}/20.png", labeling)
        publish_run(container.sessions, tool, run_id, storage, labeling)
        render_task.render.run(taken.video_id)
    publish_run(container.sessions, tool, run_id, storage, labeling)
    with container.sessions() as session:
        task_ids = session.scalars(select(Publication.task_id).order_by(Publication.window_first_frame)).all()
    assert None not in task_ids
    yield Case(container, tool, project_id, run_id, tuple(int(one) for one in task_ids if one))
    container.close()


def _record(container: Container, run_id: int, video_id: int, image_key: str, labeling: LabelStudioSettings) -> None:
    with container.transaction() as session:
        probe = videos.stored_probe(session, video_id)
    assert probe is not None
    masks = {}
    for frame in range(FRAMES):
        pixels, box = np.zeros((HEIGHT, WIDTH), bool), box_at(frame)
        pixels[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)] = True
        masks[frame] = encode_mask(pixels)
    container.store.put(
        container.settings.storage.artifact_bucket, image_key, _png(numbered(KEYFRAME, WIDTH, HEIGHT)), "image/png"
    )
    keyframe = Keyframe(KEYFRAME, 0, probe.time_s(KEYFRAME), 0.0, 0.5, "the thing", ())
    made = Annotation(
        probe, RunStatus.SUCCEEDED, None, "because", "raw", (keyframe,), (Track(0, "thing", 0.9, masks),), {}, (), {}
    )
    claimed = core.claim(container, run_id)
    assert claimed is not None
    with container.transaction() as session:
        results.record(session, run_id, claimed.fence, made, {KEYFRAME: image_key}, labeling)


def seen(opened: LabelingPage) -> np.ndarray:
    return opened.video_pixels(WIDTH, HEIGHT)


def counted(opened: LabelingPage) -> int:
    """The number of the frame that Label Studio says is shown."""
    return int(opened.page.locator(".lsf-frames-control").inner_text().split()[0])


def lies_at(pixels: np.ndarray, box: Box) -> bool:
    found, scale = stroke_box(pixels), pixels.shape[1] / WIDTH
    if found is None:
        return False
    edges = zip((found.x1, found.y1, found.x2, found.y2), (box.x1, box.y1, box.x2, box.y2), strict=True)
    return all(abs(a - b * scale) <= TOLERANCE_PX for a, b in edges)
