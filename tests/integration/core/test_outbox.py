"""The outbox against a real broker: what is said while it is away arrives when it is back, and nothing twice over."""

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from backend.bootstrap import Container
from backend.domain.errors import ServiceUnavailable
from backend.services import outbox
from backend.settings import BrokerSettings
from integrations.local import valkey
from integrations.local.service import running
from integrations.local.state import StateDir
from tests.factories import core

pytestmark = pytest.mark.stack


@pytest.fixture
def broker(tmp_path: Path) -> valkey.Valkey:
    """A broker of this test's own, not yet started: it will be killed."""
    return valkey.prepare(StateDir(tmp_path / "state", well_known_ports=False))


@pytest.fixture
def speaking(database_url: str, broker: valkey.Valkey) -> Iterator[Container]:
    made = Container(core.settings(database_url, broker=BrokerSettings(url=broker.url)))
    yield made
    made.close()


def _messages(broker: valkey.Valkey, queue: str) -> list[tuple[str, dict[str, int]]]:
    """(task, payload) of what lies in the broker, oldest first."""
    with redis.Redis.from_url(broker.url) as client:
        bodies = [json.loads(raw) for raw in reversed(client.lrange(queue, 0, -1))]
    return [(body["headers"]["task"], json.loads(body["headers"]["kwargsrepr"].replace("'", '"'))) for body in bodies]


def test_messages_outlive_the_broker(speaking: Container, broker: valkey.Valkey, tmp_path: Path) -> None:
    core.make_project(speaking)
    began = time.monotonic()
    first = core.take_in(speaking, core.version("in/a.mp4"))
    assert time.monotonic() - began < 3, "a broker that is away must not hold up who announces a video"
    assert core.unsent(speaking) == [("videos.probe", {"video_id": first.video_id})]
    with pytest.raises(ServiceUnavailable):
        speaking.queue.depth("io")

    with running(valkey.service(broker, tmp_path / "valkey.log")) as process:
        assert outbox.relay(speaking.sessions, speaking.queue) == 1
        assert outbox.relay(speaking.sessions, speaking.queue) == 0
        second = core.take_in(speaking, core.version("in/b.mp4"))
        assert core.unsent(speaking) == []
        probes = [("videos.probe", {"video_id": first.video_id}), ("videos.probe", {"video_id": second.video_id})]
        assert _messages(broker, "io") == probes
        assert speaking.queue.depth("io") == 2
        assert speaking.queue.depth("gpu") == 0
        time.sleep(1.2)  # the broker syncs its file once a second
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        third = core.take_in(speaking, core.version("in/c.mp4"))
        assert len(core.unsent(speaking)) == 1

    with running(valkey.service(broker, tmp_path / "valkey.log")):
        # Through the connections that were open when the broker was killed.
        assert outbox.relay(speaking.sessions, speaking.queue) == 1
        assert _messages(broker, "io") == [*probes, ("videos.probe", {"video_id": third.video_id})]


def test_relays_at_once_send_each_message_once(speaking: Container, broker: valkey.Valkey, tmp_path: Path) -> None:
    with speaking.sessions.begin() as session:
        for number in range(300):
            outbox.enqueue(session, "runs.annotate", "gpu", {"run_id": number})
        outbox.enqueue(session, "runs.annotate", "gpu", {"run_id": 999}, delay_s=3600)
    with running(valkey.service(broker, tmp_path / "valkey.log")):
        with ThreadPoolExecutor(4) as pool:
            sent = list(pool.map(lambda _: outbox.relay(speaking.sessions, speaking.queue), range(4)))
        assert sum(sent) == 300
        assert sorted(payload["run_id"] for _, payload in _messages(broker, "gpu")) == list(range(300))


def test_nothing_is_sent_for_a_transaction_that_failed(
    speaking: Container, broker: valkey.Valkey, tmp_path: Path
) -> None:
    with running(valkey.service(broker, tmp_path / "valkey.log")):
        with pytest.raises(ZeroDivisionError), speaking.transaction() as session:
            outbox.enqueue(session, "runs.annotate", "gpu", {"run_id": 1 // 0})
        with pytest.raises(KeyError):
            _fail_after_writing(speaking)
        assert speaking.queue.depth("gpu") == 0
        assert core.unsent(speaking) == []


def _fail_after_writing(container: Container) -> None:
    with container.transaction() as session:
        outbox.enqueue(session, "runs.annotate", "gpu", {"run_id": 1})
        raise KeyError


def test_sent_messages_are_forgotten_after_a_day(container: Container) -> None:
    from sqlalchemy import text

    with container.transaction() as session:
        for number in range(3):
            outbox.enqueue(session, "runs.annotate", "gpu", {"run_id": number})
        session.execute(text("UPDATE outbox SET sent_at = now() - interval '2 days' WHERE payload->>'run_id' = '0'"))
        session.execute(text("UPDATE outbox SET sent_at = now() WHERE payload->>'run_id' = '1'"))
        assert outbox.prune(session) == 1
