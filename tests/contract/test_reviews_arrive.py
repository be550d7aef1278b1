"""Every annotation of the real Label Studio arrives, and once, whatever becomes of its webhooks.

The API listens at a real port, and is away at times; what it was told is carried out late, twice, in any order, or not
at all, with passes of the polling between.
"""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from sqlalchemy import delete, select

from backend.api.app import create_app
from backend.bootstrap import Container
from backend.db.tables import OutboxMessage, Review, ReviewVersion
from backend.services import review_feed, reviews
from backend.settings import LabelStudioSettings, StorageSettings
from integrations.label_studio.tool import LabelStudioTool
from tests.conftest import LabelStudioServer
from tests.factories import core, moving_square
from tests.factories.waiting import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.label_studio]

TASKS, STEPS = 6, 45


@dataclass
class People:
    """What labelers do through Label Studio's API, and the last thing they said of each annotation."""

    api: httpx.Client
    tasks: list[int]
    said: dict[int, str]

    def save(self, rng: random.Random, words: str) -> None:
        number = rng.choice([*self.said, None])
        result = [{"id": "r", "type": "textarea", "from_name": "note", "to_name": "video", "value": {"text": [words]}}]
        if number is None:
            path = f"/api/tasks/{rng.choice(self.tasks)}/annotations/"
            answer = self.api.post(path, json={"result": result, "was_cancelled": rng.random() < 0.2})
            assert answer.status_code == 201, answer.text
            number = int(answer.json()["id"])
        else:
            answer = self.api.patch(f"/api/annotations/{number}/", json={"result": result})
            assert answer.status_code == 200, answer.text
        self.said[number] = words

    def delete(self, rng: random.Random) -> None:
        if self.said:
            number = rng.choice(list(self.said))
            assert self.api.delete(f"/api/annotations/{number}/").status_code == 204
            del self.said[number]


@contextmanager
def serving(container: Container, port: int) -> Iterator[None]:
    server = uvicorn.Server(uvicorn.Config(create_app(container), host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, name="api")
    thread.start()
    wait_for(lambda: server.started, "the API listens")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=30)


@pytest.fixture
def settings(label_studio: LabelStudioServer) -> LabelStudioSettings:
    return LabelStudioSettings(
        url=label_studio.url, api_key=SecretStr(label_studio.token), webhook_token=SecretStr("s3cret"),
        webhook_url=f"http://127.0.0.1:{core.free_port()}/api/v1/events/label-studio",
    )  # fmt: skip


@pytest.fixture
def container(database_url: str, settings: LabelStudioSettings) -> Iterator[Container]:
    made = Container(core.settings(database_url, label_studio=settings))
    yield made
    made.close()


def messages(container: Container) -> list[tuple[str, dict[str, int]]]:
    """What the webhook asked for, taken out of the outbox."""
    with container.transaction() as session:
        rows = session.execute(delete(OutboxMessage).returning(OutboxMessage.task, OutboxMessage.payload)).all()
        return [(task, payload) for task, payload in rows if task.startswith("reviews.")]


def worker(
    container: Container, tool: LabelStudioTool, storage: StorageSettings
) -> Callable[[str, dict[str, int]], None]:
    def carry_out(task: str, payload: dict[str, int]) -> None:
        if task == "reviews.collect":
            reviews.collect(container.sessions, tool, payload["project_id"], payload["task_id"], storage)
        else:
            review_feed.poll(container.sessions, tool, payload["project_id"], storage)

    return carry_out


def arrived(container: Container) -> dict[int, list[str]]:
    with container.transaction() as session:
        query = select(Review.annotation_id, ReviewVersion.raw).join(ReviewVersion).where(Review.deleted_at.is_(None))
        found: dict[int, list[str]] = {}
        for annotation_id, raw in session.execute(query.order_by(ReviewVersion.review_id, ReviewVersion.number)):
            found.setdefault(annotation_id, []).append(raw["result"][0]["value"]["text"][0])
        return found


def test_every_annotation_arrives_once(
    container: Container, settings: LabelStudioSettings, storage: StorageSettings, label_studio: LabelStudioServer
) -> None:
    tool, rng = LabelStudioTool(settings, storage), random.Random(4)
    project_id = tool.ensure_project(f"arrive {uuid4().hex[:8]}", [], [])
    carry_out, hints, told = worker(container, tool, storage), list[tuple[str, dict[str, int]]](), 0
    assert settings.webhook_url is not None
    port = int(settings.webhook_url.split(":")[2].split("/")[0])
    headers = {"Authorization": f"Token {label_studio.token}"}
    with httpx.Client(base_url=label_studio.url, headers=headers, timeout=60) as api:
        clip = moving_square.item(f"s3://{storage.artifact_bucket}/clip.mp4")
        items = [replace(clip, instruction_id=number) for number in range(TASKS)]
        tasks = [tool.publish(project_id, item).task_id for item in items]
        people = People(api, tasks, {})
        for away in (False, True, False):
            with serving(container, port if not away else core.free_port()):
                for step in range(STEPS // 3):
                    people.delete(rng) if rng.random() < 0.2 else people.save(rng, f"words {away} {step}")
                    new = messages(container)
                    told += len(new)
                    # Lost, told once, told twice; and carried out in any order, some much later.
                    hints += [hint for hint in new for _ in range(rng.choice([0, 1, 2]))]
                    rng.shuffle(hints)
                    for _ in range(min(len(hints), rng.randrange(3))):
                        carry_out(*hints.pop())
        assert told > STEPS / 3
        for hint in hints:
            carry_out(*hint)
        review_feed.poll(container.sessions, tool, project_id, storage)
        found = arrived(container)
        assert {number: said[-1] for number, said in found.items()} == people.said
        assert all(len(set(said)) == len(said) for said in found.values())
        # Nothing is left to be told: another pass over everything brings nothing new.
        assert review_feed.poll(container.sessions, tool, project_id, storage) == review_feed.Found()
