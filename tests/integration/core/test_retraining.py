"""Retrainings are opened once, claimed by one, one at a time on a device; they end once, and people are told."""

import json
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, update

from backend.bootstrap import Container
from backend.db.repositories import retraining as rows
from backend.db.tables import OutboxMessage, Retraining, RetrainingNotice, RetrainingSchedule
from backend.domain.errors import BadInput, Conflict, FenceLost, Misconfigured, NotFound, ServiceUnavailable
from backend.domain.retraining import RetrainingStage, RetrainingState
from backend.ports.messages import Notice
from backend.services import notices, outbox, retraining, schedules
from backend.services.retraining import Claim
from backend.services.schedules import Plan
from backend.settings import RetrainingSettings
from integrations.notices.sender import Sender
from tests.factories import core

pytestmark = pytest.mark.stack

NIGHTLY = "0 2 * * *"


def scheduled(container: Container, name: str = "cups", **plan: Any) -> None:
    """A project whose time has come."""
    core.make_project(container, name, prefix=f"{name}/")
    with container.transaction() as session:
        schedules.set_schedule(session, name, NIGHTLY, "Europe/Berlin", Plan(**plan))
        session.execute(update(RetrainingSchedule).values(next_at=func.clock_timestamp() - timedelta(hours=1)))


def opened(container: Container) -> list[int]:
    with container.transaction() as session:
        return [row.id for row in schedules.open_due(session)]


def claim(container: Container, number: int, device: str = "here/cpu", worker: str = "w1") -> Claim | None:
    with container.transaction() as session:
        return retraining.claim(session, number, worker, device, container.profile, container.settings.worker)


def one_open(container: Container, **plan: Any) -> int:
    scheduled(container, **plan)
    [number] = opened(container)
    return number


def state_of(container: Container, number: int) -> RetrainingState:
    with container.transaction() as session:
        return RetrainingState(rows.get(session, number).state)


def let_the_lease_end(container: Container) -> None:
    with container.transaction() as session:
        over = func.clock_timestamp() - timedelta(seconds=1)
        session.execute(update(Retraining).where(Retraining.state == "running").values(lease_expires_at=over))


def test_what_is_due_is_opened_once_by_however_many_look(container: Container) -> None:
    scheduled(container)
    scheduled(container, "bowls")
    with ThreadPoolExecutor(4) as executor:
        found = [number for part in executor.map(lambda _: opened(container), range(4)) for number in part]
    assert len(found) == 2
    assert opened(container) == []
    with container.transaction() as session:
        for schedule in schedules.schedules(session):
            assert schedule.next_at is not None
            assert schedule.next_at > rows.now(session), "nights that were missed are not made up for"


def test_a_schedule_waits_for_the_one_that_is_under_way(container: Container) -> None:
    number = one_open(container)
    with container.transaction() as session:
        session.execute(update(RetrainingSchedule).values(next_at=func.clock_timestamp()))
    assert opened(container) == []
    with pytest.raises(Conflict, match="under way"), container.transaction() as session:
        schedules.ask_now(session, "cups", "ada")
    with container.transaction() as session:
        retraining.cancel(session, number, "ada")
    with container.transaction() as session:
        assert schedules.ask_now(session, "cups", "ada").who == "ada"


def test_a_project_without_a_schedule_needs_a_plan(container: Container) -> None:
    core.make_project(container)
    with pytest.raises(NotFound, match="no schedule"), container.transaction() as session:
        schedules.ask_now(session, "cups", "ada")
    with container.transaction() as session:
        made = schedules.ask_now(session, "cups", "ada", Plan(min_corrections=3))
        assert made.plan["min_corrections"] == 3
    with pytest.raises(NotFound, match="no schedule"), container.transaction() as session:
        schedules.remove_schedule(session, "cups")


def test_one_claims_and_its_writes_end_with_its_claim(container: Container) -> None:
    number = one_open(container)
    with ThreadPoolExecutor(4) as executor:
        claims = [c for c in executor.map(lambda n: claim(container, number, worker=f"w{n}"), range(4)) if c]
    assert len(claims) == 1
    [first] = claims
    assert first.base == container.profile.digest
    with container.transaction() as session:
        retraining.enter(session, first, RetrainingStage.TRAIN)
        retraining.tell(session, first, 0.5, {"step": 5})
    let_the_lease_end(container)
    second = claim(container, number, worker="w9")
    assert second is not None
    with pytest.raises(FenceLost), container.transaction() as session:
        retraining.tell(session, first, 0.9, {})
    with pytest.raises(FenceLost), container.transaction() as session:
        retraining.end(session, first, RetrainingState.PROMOTED, "not mine")
    with container.transaction() as session:
        row = rows.get(session, number)
        assert (row.stage, row.stage_progress, row.figures, row.attempt) == ("train", 0.5, {"step": 5}, 2)


def test_one_at_a_time_on_a_device(container: Container) -> None:
    scheduled(container)
    scheduled(container, "bowls")
    first, second = sorted(opened(container))
    with ThreadPoolExecutor(2) as executor:
        found = [c for c in executor.map(lambda number: claim(container, number), (first, second)) if c]
    assert len(found) == 1
    [other] = {first, second} - {found[0].retraining_id}
    assert state_of(container, other) == "queued"
    assert claim(container, other, "there/cpu") is not None
    with container.transaction() as session:
        retraining.end(session, found[0], RetrainingState.SKIPPED, "enough")
    assert state_of(container, found[0].retraining_id) == "skipped"


def test_cancelled_wherever_it_is(container: Container) -> None:
    number = one_open(container)
    claimed = claim(container, number)
    assert claimed is not None
    with container.transaction() as session:
        assert retraining.cancel(session, number, "ada").said == "cancelled by ada"
    with pytest.raises(FenceLost), container.transaction() as session:
        retraining.extend_lease(session, claimed, container.settings.worker)
    with pytest.raises(Conflict, match="cancelled"), container.transaction() as session:
        retraining.cancel(session, number, "ada")
    assert claim(container, number) is None


def test_what_a_dead_worker_left_is_sent_again_and_given_up_in_the_end(container: Container) -> None:
    number, worker = one_open(container), container.settings.worker
    for _ in range(worker.max_attempts):
        assert claim(container, number) is not None
        let_the_lease_end(container)
        with container.transaction() as session:
            assert retraining.reap(session, worker, ()) == 1
        assert state_of(container, number) == "queued"
    assert claim(container, number) is None
    with container.transaction() as session:
        row = rows.get(session, number)
        assert (row.state, row.said) == ("failed", "given up after 3 attempts, none of which ended")


def test_an_outage_costs_no_attempt_and_a_failure_does(container: Container) -> None:
    number, worker = one_open(container), container.settings.worker
    claimed = claim(container, number)
    assert claimed is not None
    with container.transaction() as session:
        retraining.postpone(session, claimed, 1.0)
        assert rows.get(session, number).attempt == 0
    for attempt in range(1, worker.max_attempts + 1):
        claimed = claim(container, number)
        assert claimed is not None
        with container.transaction() as session:
            retraining.give_back(session, claimed, f"boom {attempt}", worker)
    with container.transaction() as session:
        row = rows.get(session, number)
        assert (row.state, row.said) == ("failed", "boom 3")


class Receiver:
    """A webhook that answers as it is told, and keeps what came."""

    def __init__(self, statuses: list[int]) -> None:
        self.statuses, self.bodies, self.tokens = statuses, list[dict[str, Any]](), list[str | None]()

    @contextmanager
    def listening(self) -> Iterator[str]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                outer.tokens.append(self.headers["Authorization"])
                self.send_response(outer.statuses.pop(0))
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/secret"
        finally:
            server.shutdown()
            server.server_close()


def notices_of(container: Container, number: int) -> list[RetrainingNotice]:
    with container.transaction() as session:
        return list(rows.get(session, number).notices)


def test_everybody_is_told_once_again_and_again_until_it_is_taken(container: Container) -> None:
    receiver = Receiver([503, 200, 500])
    settings = RetrainingSettings(webhook_token=SecretStr("t0ken"))
    with receiver.listening() as url:
        number = one_open(container, notify=(url,))
        claimed = claim(container, number)
        assert claimed is not None
        assert notices_of(container, number) == []
        with container.transaction() as session:
            retraining.end(session, claimed, RetrainingState.REFUSED, "the gate refused it")
        [notice] = notices_of(container, number)
        for _ in range(3):
            notices.send(container.sessions, Sender(settings), notice.id, settings)
    assert receiver.statuses == [500], "it was taken the second time"
    assert receiver.tokens == ["Bearer t0ken"] * 2
    body = receiver.bodies[1]
    assert (body["project"], body["state"], body["said"]) == ("cups", "refused", "the gate refused it")
    [notice] = notices_of(container, number)
    assert (notice.attempts, notice.problem) == (2, None)
    assert notice.sent_at is not None


def test_a_notice_whose_message_was_lost_is_asked_for_again(container: Container) -> None:
    number, settings = one_open(container, notify=("mailto:ada@example.org",)), RetrainingSettings()
    with container.transaction() as session:
        retraining.cancel(session, number, "ada")

    def found(queues: set[str], silent_s: float) -> int:
        with container.transaction() as session:
            return notices.reap(session, settings, silent_s, queues)

    assert found({outbox.IO_QUEUE}, 60) == 0, "it has just been sent"
    assert found({outbox.GPU_QUEUE}, 0) == 0, "its queue is busy"
    assert found({outbox.IO_QUEUE}, 0) == 1
    with container.transaction() as session:
        sent = [m for m in session.scalars(select(OutboxMessage)) if m.task == outbox.NOTIFY_TASK]
        assert len(sent) == 2


def test_who_refuses_is_asked_no_more_and_the_path_is_kept_secret(container: Container) -> None:
    receiver = Receiver([404, 200])
    settings = RetrainingSettings()
    with receiver.listening() as url:
        number = one_open(container, notify=(url,), notify_on="trouble")
        claimed = claim(container, number)
        assert claimed is not None
        with container.transaction() as session:
            retraining.end(session, claimed, RetrainingState.FAILED, "no disk")
        [notice] = notices_of(container, number)
        for _ in range(2):
            notices.send(container.sessions, Sender(settings), notice.id, settings)
    assert receiver.statuses == [200]
    [notice] = notices_of(container, number)
    assert notice.problem == "the webhook at 127.0.0.1 refused it: 404"


@pytest.mark.parametrize(
    ("wants", "state", "told"),
    [("trouble", "skipped", 0), ("verdict", "skipped", 0), ("verdict", "refused", 1), ("end", "skipped", 1)],
)
def test_told_of_what_they_want_to_know(container: Container, wants: Any, state: str, told: int) -> None:
    number = one_open(container, notify=("mailto:ada@example.org",), notify_on=wants)
    claimed = claim(container, number)
    assert claimed is not None
    with container.transaction() as session:
        retraining.end(session, claimed, RetrainingState(state), "so")
    assert len(notices_of(container, number)) == told


class MailServer(socketserver.StreamRequestHandler):
    """As much of SMTP as takes one letter."""

    letters: ClassVar[list[str]] = []

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        letter: list[str] | None = None
        for line in self.rfile:
            words = line.decode().rstrip("\r\n")
            command = words.upper()
            if letter is not None:
                if words == ".":
                    self.letters.append("\n".join(letter))
                    letter = None
                    self.wfile.write(b"250 taken\r\n")
                else:
                    letter.append(words)
            elif command == "DATA":
                letter = []
                self.wfile.write(b"354 go on\r\n")
            elif command.startswith("RCPT") and "refused" in words:
                self.wfile.write(b"550 nobody of that name\r\n")
            else:
                self.wfile.write(b"221 bye\r\n" if command == "QUIT" else b"250 fine\r\n")


def test_mail() -> None:
    notice = Notice("A title", "so it ended", {})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), MailServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        sender = Sender(RetrainingSettings(smtp_url=SecretStr(f"smtp://127.0.0.1:{port}"), mail_from="p@here.example"))
        sender.send("mailto:ada@example.org", notice)
        with pytest.raises(BadInput, match="refuses mail to refused"):
            sender.send("mailto:refused@example.org", notice)
        with_password = RetrainingSettings(smtp_url=SecretStr(f"smtp://ada:pw@127.0.0.1:{port}"))
        with pytest.raises(Misconfigured, match="in the clear"):
            Sender(with_password).send("mailto:ada@example.org", notice)
        server.shutdown()
    [letter] = MailServer.letters
    assert "Subject: A title" in letter
    assert "To: ada@example.org" in letter
    assert letter.endswith("so it ended")
    with pytest.raises(Misconfigured, match="smtp_url"):
        Sender(RetrainingSettings()).send("mailto:ada@example.org", notice)
    nobody = RetrainingSettings(smtp_url=SecretStr(f"smtp://127.0.0.1:{core.free_port()}"))
    with pytest.raises(ServiceUnavailable, match="didn't take it"):
        Sender(nobody).send("mailto:ada@example.org", notice)


def test_messages_go_to_the_queue_of_the_trainers(container: Container) -> None:
    scheduled(container)
    with container.transaction() as session:
        [made] = schedules.open_due(session)
        [message] = session.scalars(select(OutboxMessage))
        assert (message.task, message.queue, message.payload) == (
            outbox.RETRAIN_TASK, "train", {"retraining_id": made.id},
        )  # fmt: skip
