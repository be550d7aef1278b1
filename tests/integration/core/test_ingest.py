"""Ingest: whatever is said, however often and at once, there is one video and one run an instruction."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import func, select, text

from backend.bootstrap import Container
from backend.db.repositories import projects as project_rows
from backend.db.tables import Instruction, ModelVersion, OutboxMessage, Run, Video
from backend.domain.errors import BadInput, Conflict
from backend.domain.runs import Mode
from backend.services import ingest, projects, videos
from backend.services.projects import InstructionSpec, Source
from tests.factories import core
from tests.factories.waiting import wait_for

pytestmark = pytest.mark.stack


def _count(container: Container, table: type) -> int:
    with container.sessions() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_the_same_delivery_from_many_threads_at_once_is_one(container: Container) -> None:
    core.make_project(container, "cups", "the cup", "the spoon")
    core.make_project(container, "balls", "the ball")
    threads, start = 12, Barrier(12)

    def deliver(_: int) -> bool:
        start.wait()
        return core.take_in(container, core.version("in/a.mp4")).created

    with ThreadPoolExecutor(threads) as pool:
        created = list(pool.map(deliver, range(threads)))
    assert sum(created) == 1
    assert [_count(container, table) for table in (Video, Run, OutboxMessage, ModelVersion)] == [1, 3, 1, 1]
    assert core.unsent(container) == [("videos.probe", {"video_id": 1})]


def test_a_repeat_names_the_same_video_and_another_version_is_another(container: Container) -> None:
    core.make_project(container)
    first = core.take_in(container, core.version("in/a.mp4"))
    again = core.take_in(container, core.version("in/a.mp4"))
    other = core.take_in(container, core.version("in/a.mp4", etag="e2"))
    assert (again.video_id, again.created, again.run_ids) == (first.video_id, False, ())
    assert other.created
    assert other.video_id != first.video_id


@pytest.mark.parametrize(
    ("key", "ignored"),
    [("in/notes.txt", "not named as a video"), ("out/a.mp4", "no project watches it"), ("in/x/", "a folder")],
)
def test_what_is_none_of_our_business_leaves_no_row(container: Container, key: str, ignored: str) -> None:
    core.make_project(container)
    assert core.take_in(container, core.version(key)).ignored == ignored
    assert _count(container, Video) == 0
    assert core.take_in(container, core.version("in/a.mp4", bucket="other")).ignored == "no project watches it"


def test_only_instructions_that_apply_become_runs(container: Container) -> None:
    with container.transaction() as session:
        projects.create_project(
            session, "kitchen", spec=container.run_spec, sources=[Source(core.BUCKET, "in/")],
            instructions=[
                InstructionSpec("everywhere"),
                InstructionSpec("only cups", Mode.VOS, ("in/cups/", "in/mugs/")),
                InstructionSpec("only 100%_", Mode.AVS, ("in/100%_",)),
            ],
        )  # fmt: skip
    core.make_project(container, "elsewhere", prefix="out/")

    def asked(key: str) -> list[str]:
        taken = core.take_in(container, core.version(key))
        with container.sessions() as session:
            found = [session.get_one(Run, run_id).instruction_id for run_id in taken.run_ids]
            return sorted(session.get_one(Instruction, instruction_id).text for instruction_id in found)

    assert asked("in/a.mp4") == ["everywhere"]
    assert asked("in/mugs/a.mp4") == ["everywhere", "only cups"]
    assert asked("in/100%_a.mp4") == ["everywhere", "only 100%_"]
    assert asked("in/100xxa.mp4") == ["everywhere"]


def test_an_instruction_added_later_catches_up_with_every_state_of_a_video(container: Container) -> None:
    core.make_project(container)
    ready = core.take_in(container, core.version("in/ready.mp4")).video_id
    bad = core.take_in(container, core.version("in/bad.mp4")).video_id
    pending = core.take_in(container, core.version("in/pending.mp4")).video_id
    assert ready is not None
    assert bad is not None
    with container.transaction() as session:
        videos.record_probe(session, ready, core.probe(), "0" * 64)
        videos.record_unreadable(session, bad, "unreadable_video", "it is a text")
    before = len(core.unsent(container))
    with container.transaction() as session:
        projects.add_instruction(session, "cups", InstructionSpec("the spoon"), container.run_spec)
        projects.add_instruction(session, "cups", InstructionSpec("the spoon"), container.run_spec)
    with container.sessions() as session:
        new = session.scalars(select(Run).join(Instruction).where(Instruction.text == "the spoon")).all()
        states = {run.video_id: (run.status, run.outcome_reason) for run in new}
    assert states == {ready: ("queued", None), bad: ("failed", "it is a text"), pending: ("queued", None)}
    assert [task for task, _ in core.unsent(container)[before:]] == ["runs.annotate"]


def test_without_backfill_only_later_videos_are_asked(container: Container) -> None:
    core.make_project(container)
    core.take_in(container, core.version("in/a.mp4"))
    with container.transaction() as session:
        projects.add_instruction(
            session, "cups", InstructionSpec("the spoon"), container.run_spec, backfill_videos=False
        )
    assert _count(container, Run) == 1
    assert len(core.take_in(container, core.version("in/b.mp4")).run_ids) == 2


def test_an_instruction_added_while_a_video_arrives_waits_for_it(container: Container) -> None:
    """Neither of the two would see the other, and the combination would stay without a run."""
    core.make_project(container)

    def ask() -> None:
        with container.transaction() as session:
            projects.add_instruction(session, "cups", InstructionSpec("the spoon"), container.run_spec)

    def waits() -> bool:
        with container.engine.connect() as connection:
            return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))

    with ThreadPoolExecutor(1) as pool:
        with container.transaction() as session:
            ingest.ingest(session, core.version("in/a.mp4"), container.settings.ingest, container.run_spec)
            asking = pool.submit(ask)
            wait_for(lambda: asking.done() or waits(), "the instruction waits")
        asking.result(30)
    assert _count(container, Run) == 2


def test_videos_and_instructions_that_come_together_all_meet(container: Container) -> None:
    core.make_project(container)
    start = Barrier(4)

    def arrive(worker: int) -> None:
        start.wait()
        for number in range(12):
            core.take_in(container, core.version(f"in/{worker}-{number}.mp4"))

    def ask(worker: int) -> None:
        start.wait()
        for number in range(6):
            with container.transaction() as session:
                projects.add_instruction(session, "cups", InstructionSpec(f"{worker}-{number}"), container.run_spec)

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(arrive, 0), pool.submit(arrive, 1), pool.submit(ask, 0), pool.submit(ask, 1)]
        for future in done:
            future.result()
    assert _count(container, Run) == 24 * 13


def test_a_source_added_later_covers_videos_another_project_brought_in(container: Container) -> None:
    core.make_project(container)
    core.make_project(container, "late", prefix="nowhere/")
    core.take_in(container, core.version("in/a.mp4"))
    with container.transaction() as session:
        projects.add_source(session, "late", Source(core.BUCKET, "in/"), container.run_spec)
    assert _count(container, Run) == 2


def test_what_a_project_may_be(container: Container) -> None:
    core.make_project(container, "cups", "x" * 10_000)
    with pytest.raises(Conflict, match="already"):
        core.make_project(container, "cups")
    for bad in ("", " ", "a\0b", "n" * 201):
        with pytest.raises(BadInput):
            core.make_project(container, bad)
    for bad in (" ", "a\0b", "\ud800", "x" * 100_001):
        with pytest.raises(BadInput):
            core.make_project(container, "other", bad)
    with container.sessions() as session:
        assert [project.name for project in project_rows.all_projects(session)] == ["cups"]
