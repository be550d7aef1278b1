"""Which run a worker takes: the next instruction on the video it has at hand, or one on a video that nobody is at; each
message has one run carried out, whichever it asked for."""

import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select, text

from backend.bootstrap import Container
from backend.db.tables import Instruction, Run
from backend.domain.errors import ObjectGone
from backend.ports.storage import ObjectVersion
from backend.services import renditions, runs, videos
from backend.services.runs import Claim
from backend.settings import WorkerSettings
from tests.factories import core
from workers import at_hand, process

pytestmark = pytest.mark.stack

ASKED = ("the cup", "the spoon", "the fork")
A, B, C = (f"in/{name}.mp4" for name in "abc")


@pytest.fixture
def waiting(container: Container) -> dict[str, list[int]]:
    """Three videos with three instructions each, in order: the runs of each."""
    core.make_project(container, "table", *ASKED)
    found = {}
    for key in (A, B, C):
        taken = core.take_in(container, core.version(key))
        assert taken.video_id is not None
        with container.transaction() as session:
            videos.record_probe(session, taken.video_id, core.probe(), "0" * 64)
            renditions.note_need(session, taken.video_id, ())
        found[key] = list(taken.run_ids)
    return found


def take(container: Container, asked: int, worker: str = "w1", at: Claim | None = None) -> Claim | None:
    worked_on = None if at is None else (at.object_version, at.model_digest)
    with container.transaction() as session:
        return runs.claim_next(session, asked, worker, container.settings.worker, worked_on)


def end(container: Container, claim: Claim) -> None:
    with container.transaction() as session:
        runs.fail(session, claim.run_id, claim.fence, "a_test", "it is over")


def execute(container: Container, statement: str) -> None:
    with container.engine.begin() as connection:
        connection.execute(text(statement))


def test_the_next_instruction_on_the_video_at_hand_comes_first(
    container: Container, waiting: dict[str, list[int]]
) -> None:
    first = take(container, waiting[B][0])
    assert first is not None
    assert first.run_id == waiting[B][0]
    end(container, first)
    then = take(container, waiting[A][0], at=first)
    assert then is not None
    assert then.run_id == waiting[B][1]


def test_another_model_version_has_nothing_at_hand(container: Container, waiting: dict[str, list[int]]) -> None:
    first = take(container, waiting[B][0])
    assert first is not None
    end(container, first)
    with container.transaction() as session:
        worked_on = (first.object_version, "f" * 64)
        then = runs.claim_next(session, waiting[A][0], "w1", container.settings.worker, worked_on)
    assert then is not None
    assert then.run_id == waiting[A][0]


def test_a_video_that_another_worker_is_at_is_left_to_it_while_there_are_others(
    container: Container, waiting: dict[str, list[int]]
) -> None:
    taken = [take(container, run_id, f"w{n}") for n, run_id in enumerate([*waiting[A], waiting[A][0]])]
    assert [claim and claim.run_id for claim in taken] == [
        waiting[A][0], waiting[B][0], waiting[C][0], waiting[A][1],
    ]  # fmt: skip


def test_a_project_of_higher_priority_goes_before_all_else(container: Container, waiting: dict[str, list[int]]) -> None:
    """Also before the next instruction on the video at hand, and whichever run a message asks for; then the others."""
    first = take(container, waiting[A][0])
    assert first is not None
    core.make_project(container, "urgent", "the knife", priority=5)
    with container.transaction() as session:
        urgent = list(
            session.scalars(
                select(Run.id).join(Instruction, Instruction.id == Run.instruction_id)
                .where(Instruction.text == "the knife").order_by(Run.id)
            )
        )  # fmt: skip
    assert len(urgent) == 3
    end(container, first)
    taken = [take(container, waiting[C][0], f"w{n}", at=first) for n in range(len(urgent) + 1)]
    assert [claim and claim.run_id for claim in taken] == [*urgent, waiting[A][1]]
    execute(container, "UPDATE projects SET priority = -1 WHERE name = 'urgent'")
    assert (after := take(container, waiting[C][0])) is not None
    assert after.run_id == waiting[C][0]


def test_what_may_not_begin_yet_is_not_taken(container: Container, waiting: dict[str, list[int]]) -> None:
    first = take(container, waiting[A][0])
    assert first is not None
    end(container, first)
    execute(container, f"UPDATE runs SET dispatched_at = now() + interval '1 h' WHERE id = {waiting[A][1]}")
    execute(container, f"UPDATE videos SET probe_status = 'pending' WHERE key = '{B}'")
    then = take(container, first.run_id, at=first)
    assert then is not None
    assert then.run_id == waiting[A][2]
    assert (after := take(container, first.run_id)) is not None
    assert after.run_id == waiting[C][0]


def test_nothing_is_taken_where_nothing_waits(container: Container, waiting: dict[str, list[int]]) -> None:
    execute(container, "UPDATE runs SET status = 'cancelled'")
    assert take(container, waiting[A][0]) is None
    assert take(container, 10**6) is None


@pytest.mark.parametrize("seed", range(4))
def test_as_many_messages_as_runs_have_every_run_carried_out_once(
    container: Container, waiting: dict[str, list[int]], seed: int
) -> None:
    """Of three workers that end their runs in any order; runs of one video stay together as far as they can: nine would
    be fetched if nobody kept anything."""
    chance = random.Random(seed)
    messages = [run_id for key in (A, B, C) for run_id in waiting[key]]
    chance.shuffle(messages)
    at_work: dict[str, Claim] = {}
    last: dict[str, Claim] = {}
    done, fetched = list[int](), 0
    while messages or at_work:
        worker = f"w{chance.randrange(3)}"
        if worker in at_work:
            end(container, at_work.pop(worker))
        elif messages:
            claim = take(container, messages.pop(), worker, last.get(worker))
            assert claim is not None
            fetched += worker not in last or last[worker].object_version != claim.object_version
            done.append(claim.run_id)
            at_work[worker] = last[worker] = claim
    assert sorted(done) == sorted(run_id for ids in waiting.values() for run_id in ids)
    assert fetched <= 6


class OneFile:
    """A store that counts what it gives."""

    def __init__(self) -> None:
        self.given = list[str]()

    def download(self, version: ObjectVersion, path: Path) -> None:
        if version.key == C:
            raise ObjectGone("it is gone")
        self.given.append(version.key)
        path.write_text(version.key)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[WorkerSettings]:
    yield WorkerSettings(scratch_dir=tmp_path / "scratch")
    at_hand.let_go()


def test_a_video_is_fetched_once_and_its_path_is_never_anothers(settings: WorkerSettings) -> None:
    store = OneFile()

    container: Any = SimpleNamespace(store=store, settings=SimpleNamespace(worker=settings))
    assert at_hand.worked_on() is None
    first = at_hand.video(container, core.version(A), "m1")
    assert at_hand.video(container, core.version(A), "m2") == first
    assert at_hand.worked_on() == (core.version(A), "m2")
    other = at_hand.video(container, core.version(A, etag="e2"), "m2")
    assert (store.given, other.read_text(), first.exists(), other == first) == ([A, A], A, False, False)
    with pytest.raises(ObjectGone):
        at_hand.video(container, core.version(C), "m2")
    assert at_hand.worked_on() is None
    assert settings.scratch_dir is not None
    assert list(settings.scratch_dir.iterdir()) == []
    assert at_hand.video(container, core.version(B), "m2").name == process.SCRATCH_VIDEO
