"""A video of uneven frame times in a real browser on a real Label Studio: the frame on screen is the frame in the
database, and what is drawn on it comes back for that frame, with its own second.

Every picture shows its number; it is read from what is seen.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from playwright.sync_api import Page
from pydantic import SecretStr
from sqlalchemy import select

from backend.bootstrap import Container
from backend.db.tables import Publication, ReviewVersion
from backend.domain.annotation import Annotation, Box, Keyframe, Track, VideoProbe
from backend.domain.masks import encode_mask
from backend.domain.runs import RunStatus
from backend.domain.tracks import BoxKeyframe
from backend.services import results, reviewed, reviews, videos
from backend.services.publish import publish_run
from backend.services.selection import FreezeQuery
from backend.settings import LabelStudioSettings, StorageSettings
from integrations.label_studio.coordinates import frame_index, label_studio_frame
from integrations.label_studio.prediction import box_keyframes_of
from integrations.label_studio.reader import LabelStudioReader
from tests.conftest import S3, LabelStudioServer
from tests.factories import core
from tests.factories.labeling_page import LabelingPage, browser_page, stroke_box, until
from tests.factories.numbered_clips import Kind, number_of, numbered, write_kind
from workers import process
from workers.tasks import renditions as render_task
from workers.tasks import videos as probe_task
from workers.tasks.runs import _png

pytestmark = [pytest.mark.stack, pytest.mark.label_studio, pytest.mark.browser, pytest.mark.slow]

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
    tool: object
    project_id: int
    task_id: int
    run_id: int
    url: str

    @property
    def probe(self) -> VideoProbe:
        with self.container.transaction() as session:
            probe = videos.stored_probe(session, 1)
        assert probe is not None
        return probe


@pytest.fixture(scope="module")
def case(
    module_database_url: str, s3: S3, label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:  # fmt: skip
    """The clip taken in, probed, its run recorded, its rendition made and its task published, as the workers do it."""
    prefix = f"uneven-{uuid4().hex[:8]}/"
    labeling = LabelStudioSettings(url=label_studio.url, api_key=SecretStr(label_studio.token))
    storage = StorageSettings(
        endpoint_url=s3.endpoint_url, access_key_id=s3.access_key_id, secret_access_key=s3.secret_access_key,
        artifact_bucket=s3.bucket, artifact_prefix=f"{prefix}artifacts/",
    )  # fmt: skip
    container = Container(core.settings(module_database_url, storage=storage, label_studio=labeling))
    tool = container.labeling_tool
    assert tool is not None
    project_id = tool.ensure_project(f"uneven {uuid4().hex[:8]}", [], [s3.bucket])
    core.make_project(container, "uneven", prefix=prefix, label_studio_project_id=project_id)
    clip = write_kind(tmp_path_factory.mktemp("clip"), CLIP)
    taken = core.take_in(container, container.store.upload(s3.bucket, f"{prefix}a.mp4", clip, "video/mp4"))
    assert taken.video_id is not None
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(process._containers, os.getpid(), container)
        probe_task.probe.run(taken.video_id)
        [run_id] = taken.run_ids
        _record(container, run_id, taken.video_id, f"{prefix}20.png", labeling)
        render_task.render.run(taken.video_id)
    publish_run(container.sessions, tool, run_id, storage, labeling)
    with container.sessions() as session:
        [publication] = session.scalars(select(Publication))
    assert publication.task_id is not None
    url = tool.task_url(project_id, publication.task_id)
    yield Case(container, tool, project_id, publication.task_id, run_id, url)
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


@pytest.fixture(scope="module")
def browser(label_studio: LabelStudioServer) -> Iterator[Page]:
    with browser_page(label_studio) as page:
        yield page


@pytest.fixture
def opened(browser: Page, case: Case, tmp_path: Path) -> Iterator[LabelingPage]:
    page = LabelingPage.opened(browser, case.url)
    until(lambda: len(page.regions()) == 2, "the regions are listed")
    yield page
    page.save(tmp_path / "uneven.png")


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


def test_the_source_is_uneven_and_its_rendition_is_shown(case: Case) -> None:
    assert [round(1000 * case.probe.time_s(i)) for i in range(FRAMES)] == PTS_MS
    with case.container.transaction() as session:
        [item] = [results.load_annotation(session, case.run_id)]
        row = videos.repository.get(session, 1).rendition
        assert row is not None
        assert (row.state, row.problem) == ("ready", None)
    assert item.probe.frame_count == FRAMES


def test_the_frame_on_screen_is_the_frame_in_the_database(opened: LabelingPage) -> None:
    """Jumps there and back, into every part of the clip; the box lies where it was sent for that frame. Not to the last
    frame: Label Studio jumps to that of no video, of even times or not."""
    for frame in (0, 1, 19, 20, 21, 22, 27, 39, 40, 41, 50, 58, 33, 2):
        opened.jump_to(label_studio_frame(frame))
        until(
            lambda frame=frame: number_of(seen(opened)) == frame and lies_at(seen(opened), box_at(frame)),
            f"frame {frame} is seen, with its box",
            10,
        )
        assert frame_index(counted(opened)) == frame


def test_in_a_stretch_no_frame_is_left_out_and_none_is_shown_twice(opened: LabelingPage) -> None:
    """Over the stop, one frame after the other; then ten on, with the key."""
    for frame in range(37, 45):
        opened.jump_to(label_studio_frame(frame))
        until(lambda frame=frame: number_of(seen(opened)) == frame, f"frame {frame} is seen", 10)
    opened.page.keyboard.press("Alt+ArrowRight")
    until(lambda: counted(opened) == label_studio_frame(54), "ten on", 10)
    until(lambda: number_of(seen(opened)) == 54, "frame 54 is seen", 10)


def test_a_box_moved_on_a_frame_comes_back_for_it_with_its_second(
    opened: LabelingPage, case: Case, tmp_path: Path
) -> None:
    """Behind the stop of 1.3 s, where a player that counts by one rate is farthest off."""
    frame, by_px = 47, (-60.0, 10.0)
    opened.jump_to(label_studio_frame(frame))
    until(lambda: lies_at(seen(opened), box_at(frame)), "the box is there", 10)
    pixels, view = seen(opened), opened.video.bounding_box()
    assert view is not None
    scale, box = pixels.shape[1] / WIDTH, box_at(frame)
    left = view["x"] + (view["width"] - pixels.shape[1]) / 2
    at = (left + (box.x1 + box.x2) / 2 * scale, view["y"] + (box.y1 + box.y2) / 2 * scale)
    opened.drag(at, (by_px[0] * scale, by_px[1] * scale))
    assert number_of(seen(opened)) == frame
    opened.save(tmp_path / "moved.png")
    assert opened.submit() == 201
    settings = case.container.settings
    assert reviews.collect(case.container.sessions, case.tool, case.project_id, case.task_id, settings.storage) == 1  # type: ignore[arg-type]
    with case.container.transaction() as session:
        [version] = session.scalars(select(ReviewVersion))
        assert version.problem is None
        [track] = version.tracks
        assert (track.change, list(track.touched_frames)) == ("edited", [frame])
        [candidate], left_out = reviewed.candidates(session, LabelStudioReader(), FreezeQuery(projects=("uneven",)))
    assert not +left_out
    assert frame in candidate.item.box_frames
    probe = candidate.item.probe
    assert probe.time_s(frame) == pytest.approx(PTS_MS[frame] / 1000)
    region = next(r for r in version.raw["result"] if r["type"] == "videorectangle")
    back: dict[int, BoxKeyframe] = {k.frame_index: k for k in box_keyframes_of(region, WIDTH, HEIGHT)}
    wanted = Box(box.x1 + by_px[0], box.y1 + by_px[1], box.x2 + by_px[0], box.y2 + by_px[1])
    assert back[frame].box.iou(wanted) > 0.93
    truth = candidate.item.objects[0].boxes[frame]
    assert truth.iou(wanted) > 0.93
