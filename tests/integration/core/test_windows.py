"""Long videos in windows, in the database and the storage: a task and a rendition of its own for each, made of one
fetch; what can't be made is told, and tried again when somebody says so."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from backend.cli import runs as run_commands
from backend.cli import videos as video_commands
from backend.db.tables import Publication, RenditionRow
from backend.domain.errors import BadInput
from backend.domain.tracks import interpolate
from backend.domain.windows import Window
from backend.ports.storage import ObjectVersion
from backend.services import bulk, outbox, projects
from integrations.label_studio.task_data import task_key
from integrations.media.decode import iter_frames
from integrations.media.probe import probe_video
from tests.conftest import S3
from tests.factories import rendering_desk
from tests.factories.numbered_clips import Kind, number_of
from tests.factories.rendering_desk import Desk
from workers.tasks import renditions as render_task

pytestmark = pytest.mark.stack

#: 4 s at 10 frames a second, shown in three windows.
LONG = Kind("a.mp4", frames=40)
WINDOWS = [Window(0, 14), Window(14, 13), Window(27, 13)]


@pytest.fixture
def desk(
    database_url: str, s3: S3, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:  # fmt: skip
    for found in rendering_desk.opened(database_url, s3, prefix, tmp_path, monkeypatch):
        with found.container.transaction() as session:
            projects.set_up(session, "cups", window_s=1.5)
        yield found


def publications(desk: Desk) -> list[Publication]:
    with desk.container.transaction() as session:
        return list(session.scalars(select(Publication).order_by(Publication.window_first_frame)))


def shown_numbers(desk: Desk, uri: str) -> list[int | None]:
    bucket, key = uri.removeprefix("s3://").split("/", 1)
    path = desk.folder / "back.mp4"
    desk.container.store.download(desk.container.store.head(bucket, key), path)
    return [number_of(image) for _, image in iter_frames(path, probe_video(path))]


def test_each_window_is_a_task_with_its_own_video_and_together_they_are_the_whole(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    video_id = desk.put("a.mp4", LONG)
    run_id = desk.annotate(video_id)
    desk.publish(run_id)
    assert desk.tool.items == [], "they wait for what is to be shown"
    assert {p["video_id"] for p in desk.asked(outbox.RENDER_TASK)} == {video_id}
    fetched: list[ObjectVersion] = []
    download = desk.container.store.download

    def counted(version: ObjectVersion, path: Path) -> None:
        fetched.append(version)
        download(version, path)

    with monkeypatch.context() as patched:
        patched.setattr(desk.container.store, "download", counted)
        desk.render(video_id)
    assert len(fetched) == 1
    with desk.container.transaction() as session:
        assert bulk.repository.count_untried(session, "label_studio:5", 10) == len(WINDOWS)
        taken = bulk.repository.take_untried(session, "label_studio:5", 10)
        assert len({publication_id for publication_id, *_ in taken}) == len(WINDOWS), "all of them at once"
        bulk.repository.note_tried(session, [taken[0][0]])
        left = bulk.repository.count_untried(session, "label_studio:5", 10)
        assert left == len(WINDOWS) - 1, "of a task that may be there, no other window's is"
        session.rollback()
    desk.publish(run_id)
    items = desk.tool.items
    assert [item.window for item in items] == WINDOWS
    assert len({task_key(item) for item in items}) == len(WINDOWS)
    numbers = [shown_numbers(desk, item.rendition.uri) for item in items if item.rendition]
    assert [n for part in numbers for n in part] == list(range(LONG.frames)), "every frame once, in order"
    # The track keeps its index, and its boxes, over the windows.
    assert [[track.index for track in item.tracks] for item in items] == [[0]] * 3
    seen = {}
    for item in items:
        dense = interpolate(item.tracks[0].box_keyframes, LONG.frames)
        assert set(dense) <= set(item.shown.frames)
        seen |= dense
    assert set(seen) == set(range(1, LONG.frames)), "where the track is, in one window or another"
    monkeypatch.setattr(run_commands, "bootstrap", lambda: desk.container)
    told = CliRunner().invoke(run_commands.app, ["show", str(run_id)], catch_exceptions=False).stdout
    for frames in ("0–13", "14–26", "27–39"):
        assert frames in told


def test_a_video_that_is_no_longer_than_a_window_is_shown_itself(desk: Desk) -> None:
    video_id = desk.put("a.mp4", Kind("a.mp4", frames=15))
    run_id = desk.annotate(video_id)
    desk.publish(run_id)
    [item] = desk.tool.items
    assert (item.window, item.rendition) == (None, None)


def test_of_a_video_that_is_only_shown_in_windows_no_whole_one_is_made(desk: Desk) -> None:
    uneven = Kind("a.mp4", frames=30, pts_ms=[100 * n + 30 * (n % 2) for n in range(30)])
    video_id = desk.put("a.mp4", uneven)
    assert desk.asked(outbox.RENDER_TASK) == []
    run_id = desk.annotate(video_id)
    desk.publish(run_id)
    desk.render(video_id)
    desk.publish(run_id)
    assert [frame for item in desk.tool.items for frame in item.shown.frames] == list(range(30))
    with desk.container.transaction() as session:
        assert None not in session.scalars(select(RenditionRow.window_first_frame)).all()


def test_a_window_that_can_not_be_made_is_not_shown_until_it_can(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole video in its place would have other frame numbers."""
    video_id = desk.put("a.mp4", LONG)
    run_id = desk.annotate(video_id)
    desk.publish(run_id)
    write = render_task.write_rendition

    def second_breaks(*arguments: object) -> object:
        if arguments[-1] == WINDOWS[1]:
            raise BadInput("the picture is broken", code="no_rendition")
        return write(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(render_task, "write_rendition", second_breaks)
        desk.render(video_id)
    desk.publish(run_id)
    assert [item.window for item in desk.tool.items] == [WINDOWS[0], WINDOWS[2]]
    failed = publications(desk)[1]
    assert failed.state == "failed"
    assert failed.last_error == (
        "frames 14 to 26 can't be shown: the picture is broken; `premask videos render 1` tries again"
    )
    monkeypatch.setattr(video_commands, "bootstrap", lambda: desk.container)
    told = CliRunner().invoke(video_commands.app, ["render", str(video_id)], catch_exceptions=False)
    assert told.stdout == "1 asked for again\n"
    desk.render(video_id)
    desk.publish(run_id)
    assert desk.tool.items[-1].window == WINDOWS[1]
    assert {one.state for one in publications(desk)} == {"published"}
    again = CliRunner().invoke(video_commands.app, ["render", str(video_id)], catch_exceptions=False)
    assert again.stdout == "none has failed\n"


def test_windows_of_equal_files_are_shared_all_of_them(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.publish(desk.annotate(one := desk.put("a.mp4", LONG)))
    desk.render(one)

    def never(*_: object) -> None:
        raise AssertionError("it is there already")

    monkeypatch.setattr(render_task, "write_rendition", never)
    run_id = desk.annotate(other := desk.put("again.mp4", LONG))
    desk.publish(run_id)
    desk.render(other)
    desk.publish(run_id)
    assert [item.window for item in desk.tool.items] == WINDOWS


def test_a_worker_that_dies_between_windows_goes_on_with_the_next(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = desk.put("a.mp4", LONG)
    desk.publish(desk.annotate(video_id))
    written: list[object] = []
    write = render_task.write_rendition

    class Killed(BaseException):
        pass

    def dies(*arguments: object) -> object:
        if len(written) == 1:
            written.append(None)
            raise Killed
        written.append(arguments[-1])
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(render_task, "write_rendition", dies)
    with pytest.raises(Killed):
        desk.render(video_id)
    desk.render(video_id)
    assert written == [WINDOWS[0], None, WINDOWS[1], WINDOWS[2]], "what was made isn't made again"
    with desk.container.transaction() as session:
        rows = session.scalars(select(RenditionRow).where(RenditionRow.window_first_frame.is_not(None))).all()
        assert sorted((row.window_first_frame, row.attempts) for row in rows) == [(0, 1), (14, 2), (27, 1)]
