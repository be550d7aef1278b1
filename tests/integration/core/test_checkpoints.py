"""Checkpoints in the database: one worker's work up to a moment, what the next one gets, and what is left of them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import func, select, text
from typer.testing import CliRunner

from backend.api.schemas.runs import RunDetail
from backend.bootstrap import Container
from backend.db.repositories import runs as run_rows
from backend.db.tables import CarriedMaskRow, RunCheckpoint, RunWay
from backend.domain.annotation import Box, Mask
from backend.domain.errors import FenceLost
from backend.ports.pipeline import CarriedMask, Estimate, Way
from backend.services import results, runs
from backend.services.runs import Claim
from backend.settings import LabelStudioSettings
from tests.factories import core
from workers.checkpoints import RunCheckpoints
from workers.pipeline.carried import Carried, Stitched
from workers.pipeline.linking import stretches

pytestmark = pytest.mark.stack
SIZE = (64, 48)


def carried(detection: int, frame_index: int) -> CarriedMask:
    mask = Mask(48, 64, f"rle{detection}:{frame_index}", 16, Box(frame_index % 40, 1, frame_index % 40 + 8, 3))
    return CarriedMask(detection, frame_index, mask, Estimate(1 / (frame_index + 3), 1 / (frame_index + 2)))


@pytest.fixture
def claim(container: Container) -> Claim:
    core.make_project(container)
    claimed = core.claim(container, core.ready_run(container), "old")
    assert claimed is not None
    return claimed


def successor_of(container: Container, claim: Claim) -> Claim:
    """Another worker's claim, after the first one fell silent."""
    with container.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET lease_expires_at = now() - interval '1 s'"))
    claimed = core.claim(container, claim.run_id, "new")
    assert claimed is not None
    return claimed


def rows_left(container: Container) -> list[int]:
    with container.sessions() as session:
        tables = (RunCheckpoint, RunWay, CarriedMaskRow)
        return [session.scalar(select(func.count()).select_from(table)) or 0 for table in tables]


def test_the_next_worker_gets_what_was_committed(container: Container, claim: Claim) -> None:
    old = RunCheckpoints(container, claim, SIZE)
    assert old.decision() is None
    old.decide(b"\x00made")
    assert old.begin(0, "plan", [100, 50]) == {}
    masks = [carried(detection, frame) for frame in range(64) for detection in (0, 1)]
    old.commit(0, 0, Way(100, 64, b"\x00state"), masks)
    new = RunCheckpoints(container, successor_of(container, claim), SIZE)
    assert new.decision() == b"\x00made"
    assert new.begin(0, "plan", [100, 50]) == {0: Way(100, 64, b"\x00state")}
    assert list(new.masks(0, 1, range(10, 20))) == [carried(1, frame) for frame in range(10, 20)]
    assert (new.counted(0, 1), new.counted(0, 2), new.counted(1, 1)) == (64, 0, 0)


def test_who_lost_the_run_writes_nothing_more(container: Container, claim: Claim) -> None:
    old = RunCheckpoints(container, claim, SIZE)
    old.decide(b"made")
    old.begin(0, "plan", [100])
    old.commit(0, 0, Way(100, 1, b"first"), [carried(0, 0)])
    new = RunCheckpoints(container, successor_of(container, claim), SIZE)
    late: list[Callable[[], object]] = [
        old.decision,
        lambda: old.decide(b"other"),
        lambda: old.begin(0, "other", [7]),
        lambda: old.commit(0, 0, Way(100, 2, b"late"), [carried(0, 1)]),
    ]
    for attempt in late:
        with pytest.raises(FenceLost):
            attempt()
    assert new.decision() == b"made"
    assert new.begin(0, "plan", [100]) == {0: Way(100, 1, b"first")}
    assert list(new.masks(0, 0, range(100))) == [carried(0, 0)]


def test_a_chunk_is_kept_whole_or_not_at_all(container: Container, claim: Claim) -> None:
    kept = RunCheckpoints(container, claim, SIZE)
    kept.begin(0, "plan", [100])
    spoilt = replace(carried(0, 5), mask=replace(carried(0, 5).mask, area=0))
    with pytest.raises(Exception, match="ck_carried_masks_area"):
        kept.commit(0, 0, Way(100, 6, b""), [carried(0, 4), spoilt])
    assert (kept.begin(0, "plan", [100]), kept.counted(0, 0)) == ({}, 0)


def test_another_plan_begins_anew_and_so_does_what_came_after(container: Container, claim: Claim) -> None:
    kept = RunCheckpoints(container, claim, SIZE)
    for round_index in (0, 1, 2):
        kept.begin(round_index, "plan", [10])
        kept.commit(round_index, 0, Way(10, 10, b"end"), [carried(0, 3)])
    assert kept.begin(1, "other", [12, 13]) == {}
    assert [kept.counted(round_index, 0) for round_index in (0, 1, 2)] == [1, 0, 0]
    assert kept.begin(0, "plan", [10]) == {0: Way(10, 10, b"end")}
    assert kept.begin(2, "plan", [10]) == {}
    kept.decide(b"another decision")
    assert rows_left(container) == [1, 0, 0]


def test_several_ways_commit_at_once(container: Container, claim: Claim) -> None:
    kept = RunCheckpoints(container, claim, SIZE)
    kept.begin(0, "plan", [20] * 4)

    def go(number: int) -> None:
        for done in range(1, 21):
            kept.commit(0, number, Way(20, done, bytes([done])), [carried(number, done)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(go, range(4)))
    assert kept.begin(0, "plan", [20] * 4) == {n: Way(20, 20, bytes([20])) for n in range(4)}
    assert [kept.counted(0, n) for n in range(4)] == [20] * 4


def test_masks_are_read_page_by_page_and_in_order(
    container: Container, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = RunCheckpoints(container, claim, SIZE)
    kept.begin(0, "plan", [100])
    kept.commit(0, 0, Way(100, 1, b""), [carried(0, frame) for frame in reversed(range(0, 100, 3))])
    monkeypatch.setattr("workers.checkpoints._READ_AT_ONCE", 7)
    mapping = Carried(kept, 0, 0, 100, lambda one: one.mask)
    assert list(mapping) == list(range(0, 100, 3))
    assert dict(mapping.items()) == {frame: carried(0, frame).mask for frame in range(0, 100, 3)}
    track = Stitched([(stretches([40])[0], mapping)])
    assert list(track.items()) == list(mapping.items())
    assert mapping[9] == carried(0, 9).mask
    assert 10 not in mapping
    assert len(mapping) == 34


def test_a_running_run_shows_how_far_it_is(container: Container, claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    def shown() -> tuple[int | None, int | None]:
        with container.transaction() as session:
            run = RunDetail.of(run_rows.get_whole(session, claim.run_id))
        return run.frames_done, run.frames_total

    assert shown() == (None, None)
    kept = RunCheckpoints(container, claim, SIZE)
    kept.begin(0, "plan", [100, 50])
    kept.commit(0, 1, Way(50, 32, b""), [])
    assert shown() == (32, 150)
    from backend.cli import runs as commands

    monkeypatch.setattr(commands, "bootstrap", lambda: container)
    told = CliRunner().invoke(commands.app, ["show", str(claim.run_id)])
    assert "Frames: 32 of 150" in told.output


@pytest.mark.parametrize("end", ["recorded", "failed", "cancelled", "quarantined"])
def test_nothing_is_left_when_the_run_is_over(container: Container, claim: Claim, end: str) -> None:
    kept = RunCheckpoints(container, claim, SIZE)
    kept.decide(b"made")
    kept.begin(0, "plan", [300])
    kept.commit(0, 0, Way(300, 300, b"end"), [carried(0, frame) for frame in range(1, 300)])
    assert rows_left(container) == [1, 1, 299]
    with container.transaction() as session:
        if end == "recorded":
            masks = Carried(kept, 0, 0, 300, lambda one: one.mask)
            made = core.annotation()
            tracks = (replace(made.tracks[0], masks=masks), made.tracks[1])
            annotation = replace(made, tracks=tracks)
            results.record(session, claim.run_id, claim.fence, annotation, core.IMAGE_KEYS, LabelStudioSettings())
        elif end == "failed":
            runs.fail(session, claim.run_id, claim.fence, "why", "because")
        elif end == "cancelled":
            runs.cancel(session, claim.run_id)
        else:
            settings = container.settings.worker.model_copy(update={"max_attempts": 1})
            runs.give_back(session, claim.run_id, claim.fence, "because", settings)
    assert rows_left(container) == [0, 0, 0]
    if end == "recorded":
        with container.transaction() as session:
            [track, _] = results.load_annotation(session, claim.run_id).tracks
        assert dict(track.masks.items()) == {frame: carried(0, frame).mask for frame in range(1, 300)}


def test_a_run_that_is_given_back_keeps_them_for_its_next_attempt(container: Container, claim: Claim) -> None:
    RunCheckpoints(container, claim, SIZE).decide(b"made")
    with container.transaction() as session:
        runs.give_back(session, claim.run_id, claim.fence, "a driver crashed", container.settings.worker)
    again = core.claim(container, claim.run_id)
    assert again is not None
    assert RunCheckpoints(container, again, SIZE).decision() == b"made"
