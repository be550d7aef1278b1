"""A video of uneven frame times in a real browser on a real Label Studio: the frame on screen is the frame in the
database, and what is drawn on it comes back for that frame, with its own second.

Every picture shows its number; it is read from what is seen.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page
from sqlalchemy import select

from backend.db.tables import ReviewVersion
from backend.domain.annotation import Box
from backend.domain.tracks import BoxKeyframe
from backend.services import results, reviewed, reviews, videos
from backend.services.selection import FreezeQuery
from integrations.label_studio.coordinates import frame_index, label_studio_frame
from integrations.label_studio.prediction import box_keyframes_of
from integrations.label_studio.reader import LabelStudioReader
from tests.conftest import S3, LabelStudioServer
from tests.factories.labeling_page import LabelingPage, browser_page, until
from tests.factories.numbered_clips import number_of
from tests.factories.uneven_video import FRAMES, HEIGHT, PTS_MS, WIDTH, Case, box_at, counted, lies_at, made, seen

pytestmark = [pytest.mark.stack, pytest.mark.label_studio, pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def case(
    module_database_url: str, s3: S3, label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:  # fmt: skip
    with made(module_database_url, s3, label_studio, tmp_path_factory.mktemp("clip")) as found:
        yield found


@pytest.fixture(scope="module")
def browser(label_studio: LabelStudioServer) -> Iterator[Page]:
    with browser_page(label_studio) as page:
        yield page


@pytest.fixture
def opened(browser: Page, case: Case, tmp_path: Path) -> Iterator[LabelingPage]:
    page = LabelingPage.opened(browser, case.urls[0])
    until(lambda: len(page.regions()) == 2, "the regions are listed")
    yield page
    page.save(tmp_path / "uneven.png")


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
    assert reviews.collect(case.container.sessions, case.tool, case.project_id, case.task_ids[0], settings.storage) == 1
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
