"""A long video in windows, in a real browser on a real Label Studio: each task shows its part and no more, the frame on
screen is the frame in the database, and what is drawn on it comes back for that frame of the whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page
from sqlalchemy import select

from backend.db.tables import Publication, ReviewVersion
from backend.domain.windows import Window
from backend.services import reviews
from integrations.label_studio.coordinates import label_studio_frame
from integrations.label_studio.prediction import box_keyframes_of
from tests.conftest import S3, LabelStudioServer
from tests.factories.labeling_page import LabelingPage, browser_page, until
from tests.factories.numbered_clips import number_of
from tests.factories.uneven_video import FRAMES, HEIGHT, WIDTH, Case, box_at, counted, lies_at, made, seen

pytestmark = [pytest.mark.stack, pytest.mark.label_studio, pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def case(
    module_database_url: str, s3: S3, label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:  # fmt: skip
    with made(module_database_url, s3, label_studio, tmp_path_factory.mktemp("clip"), window_s=2.0) as found:
        yield found


@pytest.fixture(scope="module")
def browser(label_studio: LabelStudioServer) -> Iterator[Page]:
    with browser_page(label_studio) as page:
        yield page


def windows(case: Case) -> list[Window]:
    with case.container.transaction() as session:
        found = session.scalars(select(Publication).order_by(Publication.window_first_frame)).all()
        return [one.window for one in found if one.window is not None]


def shows(page: LabelingPage, window: Window, frame: int) -> None:
    page.jump_to(label_studio_frame(frame, window.first_frame))
    until(
        lambda: number_of(seen(page)) == frame and lies_at(seen(page), box_at(frame)), f"frame {frame} and its box", 10
    )


def test_the_frame_on_screen_is_the_frame_in_the_database(browser: Page, case: Case, tmp_path: Path) -> None:
    found = windows(case)
    assert [frame for window in found for frame in window.frames] == list(range(FRAMES))
    assert len(found) == len(case.urls) == 2
    for url, window in zip(case.urls, found, strict=True):
        page = LabelingPage.opened(browser, url)
        until(lambda page=page: len(page.regions()) >= 1, "the track is listed")
        assert "PART OF A LONGER VIDEO" in page.guide()
        total = int(page.page.locator(".lsf-frames-control").inner_text().split()[-1])
        assert total == window.frame_count, "its own frames, and no more"
        # Not to the last one: Label Studio jumps to that of no video.
        for frame in (window.first_frame, window.stop - 2, window.first_frame + 1, window.first_frame + 7):
            shows(page, window, frame)
        page.save(tmp_path / f"window-{window.first_frame}.png")


def test_a_box_moved_in_the_second_window_comes_back_for_its_frame_of_the_whole(browser: Page, case: Case) -> None:
    window, frame, by_px = windows(case)[1], 51, (-60.0, 10.0)
    page = LabelingPage.opened(browser, case.urls[1])
    shows(page, window, frame)
    scale, left, top = page.video_place(WIDTH, HEIGHT)
    box = box_at(frame)
    at = (left + (box.x1 + box.x2) / 2 * scale, top + (box.y1 + box.y2) / 2 * scale)
    page.drag(at, (by_px[0] * scale, by_px[1] * scale))
    assert counted(page) == label_studio_frame(frame, window.first_frame)
    assert page.submit() == 201
    storage = case.container.settings.storage
    taken = [
        reviews.collect(case.container.sessions, case.tool, case.project_id, one, storage) for one in case.task_ids
    ]
    assert taken == [0, 1]
    with case.container.transaction() as session:
        [version] = session.scalars(select(ReviewVersion))
        assert version.problem is None
        [track] = version.tracks
        assert (track.change, list(track.touched_frames)) == ("edited", [frame])
        assert set(track.moved_frames) <= set(window.frames)
        region = next(r for r in version.raw["result"] if r["type"] == "videorectangle")
    back = {k.frame_index: k.box for k in box_keyframes_of(region, WIDTH, HEIGHT, window.first_frame)}
    moved = back[frame]
    assert (moved.x1 - box.x1, moved.y1 - box.y1) == pytest.approx(by_px, abs=4)
