"""A run's life under claims, leases and fences: what a worker that is too late does has no effect."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import text

from backend.bootstrap import Container
from backend.db.repositories import runs as run_rows
from backend.domain.errors import Conflict, FenceLost
from backend.domain.runs import Stage
from backend.services import outbox, runs, videos
from tests.factories import core

pytestmark = pytest.mark.stack

IDLE = {outbox.GPU_QUEUE, outbox.IO_QUEUE}


@pytest.fixture
def run_id(container: Container) -> int:
    core.make_project(container)
    return core.ready_run(container)


def _execute(container: Container, statement: str) -> None:
    with container.engine.begin() as connection:
        connection.execute(text(statement))


def _expire(container: Container) -> None:
    _execute(container, "UPDATE runs SET lease_expires_at = now() - interval '1 s' WHERE status = 'running'")


def _reap(container: Container, idle: set[str] | None = None) -> dict[str, int]:
    with container.transaction() as session:
        return runs.reap(session, container.settings.worker, idle or set())


def test_of_many_that_claim_at_once_one_gets_it(container: Container, run_id: int) -> None:
    start = Barrier(8)

    def claim(number: int) -> bool:
        start.wait()
        return core.claim(container, run_id, f"w{number}") is not None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(8))) == 1
    assert core.status_of(container, run_id) == ("running", 1, None)


def test_a_claim_carries_what_the_run_was_made_with(container: Container, run_id: int) -> None:
    claim = core.claim(container, run_id)
    assert claim is not None
    assert (claim.object_version, claim.instruction, claim.mode) == (core.version("in/a.mp4"), "the cup", "vos")
    assert claim.model_digest == container.profile.digest
    assert type(container.profile).model_validate(claim.profile).digest == container.profile.digest
    assert claim.config == container.settings.pipeline.configuration()
    assert core.claim(container, run_id + 1000) is None


def test_an_expired_lease_is_claimed_anew_and_the_old_worker_is_fenced_off(container: Container, run_id: int) -> None:
    old = core.claim(container, run_id, "old")
    assert core.claim(container, run_id, "new") is None
    _expire(container)
    new = core.claim(container, run_id, "new")
    assert old is not None
    assert new is not None
    assert (new.fence, new.attempt) == (old.fence + 1, 2)
    for late in (
        lambda s: runs.extend_lease(s, run_id, old.fence, container.settings.worker),
        lambda s: runs.set_stage(s, run_id, old.fence, Stage.SEGMENT, 0.5),
        lambda s: runs.fail(s, run_id, old.fence, "late", "too late"),
        lambda s: runs.give_back(s, run_id, old.fence, "too late", container.settings.worker),
        lambda s: runs.postpone(s, run_id, old.fence),
    ):
        with pytest.raises(FenceLost), container.transaction() as session:
            late(session)
    with container.transaction() as session:
        run = run_rows.get(session, run_id)
        assert (run.status, run.worker, run.stage) == ("running", "new", "fetch")
        runs.set_stage(session, run_id, new.fence, Stage.SEGMENT, 0.5)


def test_a_lease_that_is_kept_alive_is_not_reaped(container: Container, run_id: int) -> None:
    claim = core.claim(container, run_id)
    assert claim is not None
    _expire(container)
    with container.transaction() as session:
        runs.extend_lease(session, run_id, claim.fence, container.settings.worker)
    assert _reap(container)["expired"] == 0
    assert core.status_of(container, run_id)[0] == "running"


def test_a_silent_worker_is_reaped_and_the_run_sent_again_until_it_is_quarantined(
    container: Container, run_id: int
) -> None:
    sent = len(core.unsent(container))
    for attempt in (1, 2, 3):
        assert core.claim(container, run_id) is not None
        _expire(container)
        assert _reap(container)["expired"] == 1
        assert _reap(container)["expired"] == 0
        expected = "quarantined" if attempt == 3 else "queued"
        assert core.status_of(container, run_id)[:2] == (expected, attempt)
        assert len(core.unsent(container)) == sent + min(attempt, 2)
    reason = core.status_of(container, run_id)[2]
    assert reason is not None
    assert "3 attempts" in reason
    assert "fell silent in stage fetch" in reason
    assert core.claim(container, run_id) is None


def test_a_claim_itself_quarantines_when_no_reaper_came(container: Container, run_id: int) -> None:
    for _ in range(3):
        assert core.claim(container, run_id) is not None
        _expire(container)
    assert core.claim(container, run_id) is None
    assert core.status_of(container, run_id)[0] == "quarantined"


def test_errors_are_retried_later_and_later_then_quarantined_with_the_reason(container: Container, run_id: int) -> None:
    delays = []
    for attempt in (1, 2, 3):
        claim = core.claim(container, run_id)
        assert claim is not None
        with container.transaction() as session:
            runs.give_back(session, run_id, claim.fence, "CUDA went away", container.settings.worker)
        if attempt < 3:
            with container.sessions() as session:
                wait = session.scalar(text("SELECT max(available_at - now()) FROM outbox WHERE task = 'runs.annotate'"))
                delays.append(round(wait.total_seconds()))
    assert delays == [5, 10]
    assert core.status_of(container, run_id) == (
        "quarantined", 3, "given up after 3 attempts; the last: CUDA went away",
    )  # fmt: skip


def test_an_outage_costs_no_attempt(container: Container, run_id: int) -> None:
    for _ in range(5):
        claim = core.claim(container, run_id)
        assert claim is not None
        with container.transaction() as session:
            runs.postpone(session, run_id, claim.fence)
    assert core.status_of(container, run_id) == ("queued", 0, None)


def test_cancel_stops_the_worker_at_its_next_sign(container: Container, run_id: int) -> None:
    claim = core.claim(container, run_id)
    assert claim is not None
    with container.transaction() as session:
        runs.cancel(session, run_id)
    with pytest.raises(FenceLost), container.transaction() as session:
        runs.set_stage(session, run_id, claim.fence, Stage.SEGMENT, 0.1)
    with pytest.raises(Conflict), container.transaction() as session:
        runs.cancel(session, run_id)
    with container.transaction() as session:
        runs.retry(session, run_id)
    with pytest.raises(FenceLost), container.transaction() as session:
        runs.fail(session, run_id, claim.fence, "late", "too late")
    assert core.status_of(container, run_id) == ("queued", 0, None)
    again = core.claim(container, run_id)
    assert again is not None
    assert again.fence > claim.fence


def test_only_what_failed_is_retried_and_an_unreadable_video_is_probed_again(container: Container) -> None:
    core.make_project(container)
    taken = core.take_in(container, core.version("in/b.mp4"))
    run_id, video_id = taken.run_ids[0], taken.video_id
    assert video_id is not None
    with pytest.raises(Conflict), container.transaction() as session:
        runs.retry(session, run_id)
    with container.transaction() as session:
        videos.record_unreadable(session, video_id, "object_gone", "it is gone")
    assert core.status_of(container, run_id) == ("failed", 0, "it is gone")
    with container.transaction() as session:
        runs.retry(session, run_id)
    assert core.video_status(container, video_id) == "pending"
    assert core.unsent(container)[-1] == ("videos.probe", {"video_id": video_id})


def test_forgotten_work_is_asked_for_again_only_when_its_queue_is_empty(container: Container, run_id: int) -> None:
    pending = core.take_in(container, core.version("in/pending.mp4")).video_id
    _execute(container, "UPDATE outbox SET sent_at = now()")
    assert _reap(container, IDLE) == {"expired": 0, "runs": 0, "videos": 0, "publications": 0}
    _execute(container, "UPDATE runs SET dispatched_at = now() - interval '1 h'")
    _execute(container, "UPDATE videos SET touched_at = now() - interval '1 h'")
    assert _reap(container, set()) == {"expired": 0, "runs": 0, "videos": 0, "publications": 0}
    assert _reap(container, IDLE) == {"expired": 0, "runs": 1, "videos": 1, "publications": 0}
    assert _reap(container, IDLE) == {"expired": 0, "runs": 0, "videos": 0, "publications": 0}
    assert core.unsent(container) == [
        ("runs.annotate", {"run_id": run_id}), ("videos.probe", {"video_id": pending}),
    ]  # fmt: skip


def test_a_file_that_ends_its_reader_is_given_up(container: Container) -> None:
    core.make_project(container)
    taken = core.take_in(container, core.version("in/bomb.mp4"))
    assert taken.video_id is not None
    for expected in (True, True, True, False):
        with container.transaction() as session:
            version = videos.claim_probe(session, taken.video_id, container.settings.worker)
        assert (version is not None) == expected
    assert core.video_status(container, taken.video_id) == "unreadable"
    assert core.status_of(container, taken.run_ids[0])[0] == "failed"
