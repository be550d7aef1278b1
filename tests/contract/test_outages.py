"""Outages of the real Label Studio, by a proxy before it; keys of both kinds; projects that are deleted or another's.

Each time: the status says what is wrong, no publication is lost or made twice, and few requests are made meanwhile.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, text, update
from typer.testing import CliRunner

from backend.bootstrap import Container
from backend.cli import doctor
from backend.cli import projects as command
from backend.db.tables import OutboxMessage, Project, Publication, Run
from backend.domain.errors import Misconfigured, ServiceUnavailable
from backend.services import outages, publish, results, review_feed
from backend.services.outages import GuardedTool
from backend.settings import LabelStudioSettings, StorageSettings
from integrations.label_studio.tool import LabelStudioTool
from tests.conftest import LabelStudioServer
from tests.factories import core, pending_runs
from tests.factories.outage_proxy import DOWN, Proxy, before

pytestmark = [pytest.mark.stack, pytest.mark.label_studio]

RUNS = 5


@pytest.fixture(autouse=True)
def _long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that none is over before a slow machine has come to the next line."""
    monkeypatch.setattr(outages, "FIRST_WAIT_S", 500.0)
    monkeypatch.setattr(outages, "LONGEST_WAIT_S", 5000.0)


@pytest.fixture
def proxy(label_studio: LabelStudioServer) -> Iterator[Proxy]:
    with before(label_studio.url) as made:
        yield made


@pytest.fixture
def container(
    database_url: str, proxy: Proxy, settings: LabelStudioSettings, storage: StorageSettings
) -> Iterator[Container]:
    """With a project that is connected through the proxy, and some runs whose publications are pending."""
    labeling = settings.model_copy(update={"url": proxy.url, "timeout_s": 20.0})
    made = Container(core.settings(database_url, label_studio=labeling, storage=storage))
    pending_runs.make(made, RUNS)
    yield made
    made.close()


def work(container: Container) -> None:
    """What the io worker does with every pending publication, and with a pass of the polling."""
    assert container.labeling_tool is not None
    settings = container.settings
    with container.transaction() as session:
        run_ids = session.scalars(select(Publication.run_id).where(Publication.state == "pending")).all()
        number = session.scalars(select(Project.label_studio_project_id)).one()
    assert number is not None
    for run_id in run_ids:
        try:
            publish.publish_run(
                container.sessions, container.labeling_tool, run_id, settings.storage, settings.label_studio
            )
        except ServiceUnavailable as error:
            with container.transaction() as session:
                results.postpone_publication(session, run_id, error.retry_after_s)
    with suppress(ServiceUnavailable):
        review_feed.poll(container.sessions, container.labeling_tool, number, settings.storage)


def status(container: Container) -> outages.Status:
    with container.transaction() as session:
        [found] = outages.statuses(session)
        return found


def time_passes(container: Container) -> None:
    """The next try is due, and so is what was postponed."""
    with container.transaction() as session:
        session.execute(text("UPDATE labeling_states SET next_try_at = now() - interval '1 s', probing_until = NULL"))


def predictions(container: Container, server: LabelStudioServer) -> int:
    """How many the server has; each of a task of its own."""
    number = status(container).label_studio_project_id
    assert number is not None
    found = pending_runs.predictions(server, number)
    assert len(set(found)) == len(found)
    return len(found)


@pytest.mark.parametrize(
    ("answer", "state", "opens_after"), [(DOWN, "away", 1), (503, "away", 1), (429, "busy", 1), (500, "failing", 3)]
)
def test_an_outage_is_told_costs_few_requests_and_loses_nothing(
    container: Container, proxy: Proxy, label_studio: LabelStudioServer, answer: int, state: str, opens_after: int
) -> None:
    proxy.asked.clear()
    proxy.answer, proxy.headers = answer, {"Retry-After": "9000"} if answer == 429 else {}
    for _ in range(4):
        work(container)
    assert len(proxy.asked) == opens_after
    found = status(container)
    assert (found.state, found.pending, found.published, found.failed) == (state, RUNS, 0, 0)
    assert found.detail is not None
    assert found.next_try_at is not None
    wait_s = (found.next_try_at - datetime.now(UTC)).total_seconds()
    assert wait_s > 8000 if answer == 429 else 0 < wait_s <= 500 * 2 ** (opens_after - 1)
    # One asks whether it is over, however many there are; and the next time later.
    time_passes(container)
    work(container)
    assert len(proxy.asked) == opens_after + 1
    later = status(container)
    assert later.since == found.since
    assert later.next_try_at is not None
    assert (later.next_try_at - datetime.now(UTC)).total_seconds() > min(wait_s, 700)
    with container.transaction() as session:
        query = select(func.min(OutboxMessage.available_at)).where(OutboxMessage.task == "runs.publish")
        soonest = session.scalars(query.where(OutboxMessage.available_at > func.now())).one()
        assert soonest is not None
    proxy.answer = None
    time_passes(container)
    work(container)
    found = status(container)
    assert (found.state, found.detail, found.pending, found.published) == ("ok", None, 0, RUNS)
    assert predictions(container, label_studio) == RUNS


def test_while_one_asks_the_others_wait(container: Container, proxy: Proxy) -> None:
    tool = container.labeling_tool
    assert isinstance(tool, GuardedTool)
    number = status(container).label_studio_project_id
    assert number is not None
    proxy.answer = DOWN
    with pytest.raises(ServiceUnavailable):
        tool.answered(number, 1)
    time_passes(container)
    with tool._guarded(number):
        asked = len(proxy.asked)
        with pytest.raises(ServiceUnavailable, match="asked again at"):
            tool.answered(number, 1)
        assert len(proxy.asked) == asked


def test_a_deleted_project_is_told_and_connecting_anew_publishes_everything(
    container: Container, proxy: Proxy, label_studio: LabelStudioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(container)
    with container.transaction() as session:
        session.execute(update(Publication).where(Publication.id == 1).values(state="pending"))
    number = status(container).label_studio_project_id
    headers = {"Authorization": f"Token {label_studio.token}"}
    deleted = httpx.delete(f"{label_studio.url}/api/projects/{number}/", headers=headers, timeout=60)
    assert deleted.status_code == 204
    proxy.asked.clear()
    for _ in range(3):
        work(container)
    found = status(container)
    assert (found.state, found.pending, found.failed) == ("project_gone", 1, 0)
    assert len(proxy.asked) == 1
    monkeypatch.setattr(command, "bootstrap", lambda: container)
    shown = CliRunner().invoke(command.app, ["status"], catch_exceptions=False).stdout
    assert "project_gone" in shown
    runner = CliRunner()
    assert runner.invoke(command.app, ["connect", found.project], catch_exceptions=False).exit_code == 0
    [printed] = json.loads(runner.invoke(command.app, ["status", "--json"], catch_exceptions=False).stdout)
    assert (printed["state"], printed["pending"]) == ("ok", RUNS)
    assert printed["label_studio_project_id"] != number
    work(container)
    assert predictions(container, label_studio) == RUNS
    with container.transaction() as session:
        old = session.scalars(select(Publication).where(Publication.id == 1)).one()
        assert (old.state, "is gone" in str(old.last_error)) == ("failed", True)
        assert session.scalar(select(func.count()).select_from(Run)) == RUNS


def test_another_ones_project_gets_nothing(container: Container, label_studio: LabelStudioServer) -> None:
    headers = {"Authorization": f"Token {label_studio.token}"}
    config = '<View><Image name="i" value="$i"/><Choices name="c" toName="i"><Choice value="a"/></Choices></View>'
    body = {"title": "Theirs", "label_config": config}
    made = httpx.post(f"{label_studio.url}/api/projects/", json=body, headers=headers, timeout=60).json()
    with container.transaction() as session:
        session.execute(update(Project).values(label_studio_project_id=made["id"]))
        session.execute(update(Publication).values(target=results.target_of(made["id"])))
    work(container)
    found = status(container)
    assert (found.state, found.pending, found.failed) == ("project_wrong", RUNS, 0)
    assert "'Theirs'" in str(found.detail)
    tasks = httpx.get(f"{label_studio.url}/api/tasks", params={"project": made["id"]}, headers=headers, timeout=60)
    assert tasks.json()["tasks"] == []


def test_the_doctor_mends_what_drifted(
    container: Container, label_studio: LabelStudioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration replaced and the storage removed behind our back: told, then mended, then all is published."""
    number = status(container).label_studio_project_id
    headers = {"Authorization": f"Token {label_studio.token}"}
    config = '<View><Image name="i" value="$i"/><Choices name="c" toName="i"><Choice value="a"/></Choices></View>'
    with httpx.Client(base_url=label_studio.url, headers=headers, timeout=60) as api:
        assert api.patch(f"/api/projects/{number}/", json={"label_config": config}).status_code == 200
        for storage in api.get("/api/storages/s3", params={"project": number}).json():
            assert api.delete(f"/api/storages/s3/{storage['id']}").status_code == 204
        monkeypatch.setattr(doctor, "bootstrap", lambda _: container)
        work(container)
        look = ["--only", "labeling-projects"]
        told = CliRunner().invoke(doctor.app, look, catch_exceptions=False)
        assert (told.exit_code, f"{status(container).project} is project_wrong" in told.stdout) == (1, True)
        mended = CliRunner().invoke(doctor.app, [*look, "--repair"], catch_exceptions=False)
        time_passes(container)
        work(container)
        assert mended.exit_code == 0
        assert len(api.get("/api/storages/s3", params={"project": number}).json()) == 1
    assert predictions(container, label_studio) == RUNS
    assert CliRunner().invoke(doctor.app, look, catch_exceptions=False).exit_code == 0


@pytest.fixture(scope="module")
def personal_token(label_studio: LabelStudioServer) -> str:
    """As a person makes it on their account page; they may have one at a time."""
    headers = {"Authorization": f"Token {label_studio.token}"}
    with httpx.Client(base_url=label_studio.url, headers=headers, timeout=60) as api:
        allowed = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": True}
        assert api.post("/api/jwt/settings", json=allowed).status_code in (200, 201)
        made: dict[str, Any] = api.post("/api/token/").json()
        return str(made["token"])


def test_a_personal_access_token_works_and_is_refreshed(
    personal_token: str, storage: StorageSettings, settings: LabelStudioSettings, proxy: Proxy
) -> None:
    labeling = settings.model_copy(update={"url": proxy.url, "api_key": SecretStr(personal_token)})
    tool = LabelStudioTool(labeling, storage)
    number = tool.ensure_project(f"token {uuid4().hex[:8]}", [], [])
    assert proxy.asked.count("/api/token/refresh/") == 1
    # As after five minutes: the short-lived one is over.
    tool._client._client_wrapper._tokens_client._access_token = None
    assert list(tool.changed_tasks(number, None)) == []
    assert proxy.asked.count("/api/token/refresh/") == 2


@pytest.mark.parametrize("kind", ["legacy", "expired", "revoked"])
def test_a_key_that_is_refused_is_told_as_that(
    container: Container, label_studio: LabelStudioServer, proxy: Proxy, personal_token: str, kind: str
) -> None:
    key = "f" * 40
    if kind == "expired":
        over = datetime.now(UTC) - timedelta(days=1)
        key = jwt.encode({"exp": over, "token_type": "refresh"}, "x" * 32, algorithm="HS256")
    elif kind == "revoked":
        key = personal_token
        headers = {"Authorization": f"Token {label_studio.token}"}
        gone = httpx.post(f"{label_studio.url}/api/token/blacklist", json={"refresh": key}, headers=headers, timeout=60)
        assert gone.status_code < 300, gone.text
    labeling = container.settings.label_studio.model_copy(update={"api_key": SecretStr(key)})
    tool = LabelStudioTool(labeling, container.settings.storage)
    with pytest.raises(Misconfigured, match="PREMASK__LABEL_STUDIO__API_KEY"):
        tool.answered(1, 1)
    container.labeling_tool = GuardedTool(container.sessions, tool, 20.0)
    proxy.asked.clear()
    for _ in range(3):
        work(container)
    found = status(container)
    assert (found.state, found.pending, found.failed) == ("key_refused", RUNS, 0)
    assert len(proxy.asked) == (0 if kind == "expired" else 1)
    assert key not in str(found.detail)
