"""Renditions in the database and the storage: made once, before anything is published, and shown in place of the
video; where none can be made the video itself is shown, and people are told."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select, update
from typer.testing import CliRunner

from backend.cli import runs as run_commands
from backend.cli import videos as video_commands
from backend.db.tables import Publication, RenditionRow, Run, Video
from backend.domain.errors import ServiceUnavailable
from backend.ports.storage import ObjectVersion
from backend.services import bulk, outbox, renditions, runs
from integrations.media.decode import iter_frames
from integrations.media.probe import probe_video
from tests.conftest import S3
from tests.factories import rendering_desk
from tests.factories.numbered_clips import Kind, number_of
from tests.factories.rendering_desk import Desk
from workers.tasks import renditions as render_task

pytestmark = pytest.mark.stack

PTS_MS = (0, 40, 200, 240, 280, 900, 940, 1000, 1500, 1540)
UNEVEN = Kind("a.mp4", frames=len(PTS_MS), pts_ms=PTS_MS)
#: They average to it.
FPS = 6


@pytest.fixture
def desk(
    database_url: str, s3: S3, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:  # fmt: skip
    yield from rendering_desk.opened(database_url, s3, prefix, tmp_path, monkeypatch)


def test_a_publication_waits_for_the_rendition_and_shows_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = desk.put("a.mp4", UNEVEN)
    assert desk.asked(outbox.RENDER_TASK) == [{"video_id": video_id}], "made while the models look at the video"
    run_id = desk.annotate(video_id)
    desk.publish(run_id)
    assert desk.tool.items == []
    with desk.container.transaction() as session:
        assert bulk.repository.count_untried(session, "label_studio:5", 10) == 0
    before = len(desk.asked(outbox.PUBLISH_TASK))
    desk.render(video_id)
    assert len(desk.asked(outbox.PUBLISH_TASK)) == before + 1, "what waited is sent for"
    desk.publish(run_id)
    [item] = desk.tool.items
    said = desk.video(video_id).rendition
    assert said is not None
    assert (said.state, said.fps_num, said.fps_den, said.problem) == ("ready", FPS, 1, None)
    assert item.rendition is not None
    assert (item.rendition.fps, item.rendition.uri) == (FPS, f"s3://{desk.storage.artifact_bucket}/{said.key}")
    assert item.probe.clock.times_s() == pytest.approx(np.array(PTS_MS) / 1000), "times stay the source's"
    stored = desk.container.store.head(desk.storage.artifact_bucket, str(said.key))
    assert stored.size_bytes == said.size_bytes
    desk.container.store.download(stored, desk.folder / "back.mp4")
    probe = probe_video(desk.folder / "back.mp4")
    assert [number_of(image) for _, image in iter_frames(desk.folder / "back.mp4", probe)] == list(range(len(PTS_MS)))
    monkeypatch.setattr(video_commands, "bootstrap", lambda: desk.container)
    monkeypatch.setattr(run_commands, "bootstrap", lambda: desk.container)
    shown = CliRunner().invoke(run_commands.app, ["show", str(run_id)], catch_exceptions=False).stdout
    assert "Rendition: 6 frames a second, because its frames follow no constant rate" in shown
    assert "6 frames a second" in CliRunner().invoke(video_commands.app, ["show", str(video_id)]).stdout
    told = json.loads(CliRunner().invoke(video_commands.app, ["show", str(video_id), "--json"]).stdout)
    assert told["rendition"]["state"] == "ready"


def test_a_video_that_browsers_show_exactly_is_left_alone(desk: Desk) -> None:
    video_id = desk.put("a.mp4", Kind("a.mp4"))
    assert desk.asked(outbox.RENDER_TASK) == []
    run_id = desk.annotate(video_id)
    desk.publish(run_id)
    [item] = desk.tool.items
    assert item.rendition is None
    said = desk.video(video_id).rendition
    assert said is not None
    assert (said.state, said.reasons, said.key) == ("not_needed", [], None)


def test_one_is_made_once_however_often_it_is_asked_for_and_shared_by_equal_files(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    write = render_task.write_rendition

    def counted(*arguments: object) -> object:
        written.append(Path(str(arguments[0])))
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(render_task, "write_rendition", counted)
    one, other = desk.put("a.mp4", UNEVEN), desk.put("again.mp4", UNEVEN)
    for video_id in (one, one, other, other, one):
        desk.render(video_id)
    assert len(written) == 1
    first, second = desk.video(one).rendition, desk.video(other).rendition
    assert first is not None
    assert second is not None
    assert (first.state, first.key) == (second.state, second.key) == ("ready", first.key)


def test_a_worker_that_dies_between_storing_and_recording_costs_one_more_attempt_and_no_second_object(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    video_id = desk.put("a.mp4", UNEVEN)

    class Killed(BaseException):
        pass

    def dies(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(renditions, "record", dies)
        with pytest.raises(Killed):
            desk.render(video_id)
    desk.render(video_id)
    said = desk.video(video_id).rendition
    assert said is not None
    assert said.state == "ready"
    found = [o.key for o in desk.container.store.list(desk.storage.artifact_bucket, f"{desk.prefix}artifacts/")]
    assert found == [said.key]
    with desk.container.sessions() as session:
        assert session.scalars(select(RenditionRow.attempts)).one() == 2


def test_where_none_can_be_made_the_video_is_shown_and_the_run_says_why(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A codec that breaks, twice; then what waits is published as it is."""
    video_id = desk.put("a.mp4", UNEVEN)
    run_id = desk.annotate(video_id)

    def breaks(*_: object) -> None:
        raise MemoryError("the picture is too large")

    monkeypatch.setattr(render_task, "write_rendition", breaks)
    for _ in range(2):
        with pytest.raises(MemoryError):
            desk.render(video_id)
        desk.publish(run_id)
    [item] = desk.tool.items
    assert item.rendition is None
    with desk.container.transaction() as session:
        [warning] = [w for w in runs.repository.get(session, run_id).warnings if w != "one"]
    assert "shows the video itself" in warning
    assert "given up after 2 attempts; the last: MemoryError: the picture is too large" in warning
    with desk.container.transaction() as session:
        assert bulk.repository.count_untried(session, "label_studio:5", 10) == 0, "not without a word"


def test_a_storage_that_is_out_costs_no_attempt(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = desk.put("a.mp4", UNEVEN)

    def out(_: ObjectVersion, __: Path) -> None:
        raise ServiceUnavailable("the storage is away")

    with monkeypatch.context() as patched:
        patched.setattr(desk.container.store, "download", out)
        for _ in range(5):
            render_task.render(video_id=video_id)  # as a message: being put off is not raised
    desk.render(video_id)
    said = desk.video(video_id).rendition
    assert said is not None
    assert said.state == "ready"


def test_a_video_from_before_is_looked_at_when_it_is_next_published(desk: Desk) -> None:
    needy, fine = desk.put("a.mp4", UNEVEN), desk.put("b.mp4", Kind("b.mp4"))
    run_ids = {video_id: desk.annotate(video_id) for video_id in (needy, fine)}
    with desk.container.transaction() as session:
        session.query(RenditionRow).delete()
    for video_id, run_id in run_ids.items():
        desk.publish(run_id)
        desk.publish(run_id)
        said = desk.video(video_id).rendition
        assert said is not None
        assert (said.state, said.reasons) == ("pending", None)
    assert desk.tool.items == []
    for video_id, run_id in run_ids.items():
        desk.render(video_id)
        desk.publish(run_id)
    assert [item.rendition is None for item in desk.tool.items] == [False, True]


def test_what_was_forgotten_is_asked_for_again_and_a_waiting_publication_is_not(desk: Desk) -> None:
    video_id = desk.put("a.mp4", UNEVEN)
    run_id = desk.annotate(video_id)
    desk.publish(run_id)
    settings = desk.container.settings.worker
    long_ago = func.clock_timestamp() - func.make_interval(0, 0, 0, 1)
    with desk.container.transaction() as session:
        session.execute(update(RenditionRow).values(touched_at=long_ago))
        session.execute(update(Publication).values(dispatched_at=long_ago))
    with desk.container.transaction() as session:
        assert renditions.reap(session, settings, set()) == 0
        assert renditions.reap(session, settings, {outbox.IO_QUEUE}) == 1
        assert renditions.reap(session, settings, {outbox.IO_QUEUE}) == 0
        assert runs.reap(session, settings, {outbox.IO_QUEUE})["publications"] == 0
    desk.render(video_id)
    with desk.container.transaction() as session:
        session.execute(update(Publication).values(dispatched_at=long_ago))
    with desk.container.transaction() as session:
        assert runs.reap(session, settings, {outbox.IO_QUEUE})["publications"] == 1


def test_without_a_labeling_tool_nothing_is_made(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.container.settings.label_studio, "url", None)
    video_id = desk.put("a.mp4", UNEVEN)
    assert desk.video(video_id).rendition is None
    assert desk.asked(outbox.RENDER_TASK) == []


def test_a_rendition_goes_with_its_video(desk: Desk) -> None:
    video_id = desk.put("a.mp4", UNEVEN)
    with desk.container.transaction() as session:
        session.query(Run).delete()
        session.query(Video).filter_by(id=video_id).delete()
        assert session.query(RenditionRow).count() == 0
