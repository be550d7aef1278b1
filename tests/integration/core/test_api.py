"""The HTTP API over a real database: who may, what comes back, and how errors look."""

import json
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from backend.api.app import create_app
from backend.bootstrap import Container
from backend.services import results
from backend.settings import ApiSettings, BrokerSettings, IngestSettings, LabelStudioSettings, StorageSettings
from tests.conftest import S3
from tests.factories import core

pytestmark = pytest.mark.stack

WEBHOOK = {"Authorization": "Bearer hook-secret"}


@pytest.fixture
def served(database_url: str, valkey_url: str, s3: S3) -> Iterator[Container]:
    storage = StorageSettings(
        endpoint_url=s3.endpoint_url, access_key_id=s3.access_key_id, secret_access_key=s3.secret_access_key,
        artifact_bucket=s3.bucket,
    )  # fmt: skip
    made = Container(
        core.settings(
            database_url,
            broker=BrokerSettings(url=valkey_url),
            storage=storage,
            ingest=IngestSettings(webhook_token="hook-secret"),
        )
    )
    yield made
    made.close()


@pytest.fixture
def client(served: Container) -> Iterator[TestClient]:
    with TestClient(create_app(served), raise_server_exceptions=False) as made:
        yield made


def _event(key: str, etag: str = "e1") -> bytes:
    item = {"key": key, "eTag": etag, "size": 5}
    return json.dumps(
        {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": core.BUCKET}, "object": item}}]}
    ).encode()


def _problem(answer: object, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text  # type: ignore[attr-defined]
    assert answer.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    body = answer.json()  # type: ignore[attr-defined]
    assert (body["status"], body["code"]) == (status, code)
    return str(body["detail"])


def test_health_says_what_is_wrong(client: TestClient, container: Container) -> None:
    assert client.get("/healthz").json() == {
        "status": "ok", "parts": {"database": "ok", "broker": "ok", "storage": "ok"},
    }  # fmt: skip
    with TestClient(create_app(container)) as ill:
        container.settings.storage = StorageSettings(
            endpoint_url="http://127.0.0.1:9", access_key_id="a", secret_access_key="b"
        )
        answer = ill.get("/healthz")
    assert answer.status_code == 503
    parts = answer.json()["parts"]
    assert parts["database"] == "ok"
    assert "can't be reached" in parts["broker"]
    assert "can't be reached" in parts["storage"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "hook-secret"}])
def test_events_without_the_token_are_refused(client: TestClient, headers: dict[str, str]) -> None:
    _problem(client.post("/api/v1/events/s3", content=_event("in/a.mp4"), headers=headers), 401, "unauthorized")


def test_events_are_refused_where_no_token_is_configured(container: Container) -> None:
    with TestClient(create_app(container)) as closed:
        answer = closed.post("/api/v1/events/s3", content=b"{}", headers={"Authorization": "Bearer "})
    _problem(answer, 401, "unauthorized")


def test_an_event_makes_the_run_once(client: TestClient, served: Container) -> None:
    core.make_project(served)
    for created in (1, 0, 0):
        answer = client.post(
            "/api/v1/events/s3", content=_event("in/a+b.mp4"), headers={**WEBHOOK, "Content-Type": "application/json"}
        )
        assert answer.json() == {"objects": 1, "created": created}
    listed = client.get("/api/v1/videos").json()
    assert [video["key"] for video in listed["items"]] == ["in/a b.mp4"]
    assert core.unsent(served) == []


def test_an_event_without_a_version_is_looked_up_and_one_that_is_gone_is_fine(
    client: TestClient, served: Container, s3: S3, prefix: str
) -> None:
    core.make_project(served, prefix=prefix)
    put = served.store.put(s3.bucket, prefix + "ü.mp4", b"bytes", "video/mp4")

    def announce(name: str) -> dict[str, int]:
        entry = {"key": f"/buckets/{s3.bucket}/{prefix}{name}", "message": {"new_entry": {"name": name}}}
        return client.post("/api/v1/events/s3", json=entry, headers=WEBHOOK).json()

    assert announce("ü.mp4") == {"objects": 1, "created": 1}
    assert announce("ü.mp4") == {"objects": 1, "created": 0}
    assert announce("gone.mp4") == {"objects": 1, "created": 0}
    assert client.get("/api/v1/videos").json()["items"][0]["version"] == put.version
    # The listing knows it as the same video.
    assert not core.take_in(served, next(served.store.list(s3.bucket, prefix))).created


@pytest.mark.parametrize("body", [b"", b"nonsense", b"{}", b'{"Records": [1]}'])
def test_a_body_nobody_knows_is_a_problem(client: TestClient, body: bytes) -> None:
    _problem(client.post("/api/v1/events/s3", content=body, headers=WEBHOOK), 422, "invalid_event")


def test_hostile_keys_are_ignored(client: TestClient, served: Container) -> None:
    core.make_project(served)
    for key in ("in/%00.mp4", "in/\\ud800.mp4", "in/" + "x" * 2000 + ".mp4"):
        answer = client.post("/api/v1/events/s3", content=_event("KEY").replace(b"KEY", key.encode()), headers=WEBHOOK)
        assert answer.json() == {"objects": 0, "created": 0}


def test_projects_are_made_shown_and_extended(client: TestClient, served: Container) -> None:
    body = {"name": "cups", "sources": [{"bucket": "premask", "prefix": "in/"}], "instructions": [{"text": "the cup"}]}
    made = client.post("/api/v1/projects", json=body)
    assert made.status_code == 201
    assert made.json()["instructions"][0]["mode"] == "vos"
    _problem(client.post("/api/v1/projects", json=body), 409, "project_exists")
    _problem(client.post("/api/v1/projects", json={"name": ""}), 422, "invalid_request")
    added = client.post("/api/v1/projects/cups/instructions", json={"text": "x" * 10_000, "mode": "avs"})
    assert added.status_code == 201
    assert client.post("/api/v1/projects/cups/sources", json={"bucket": "other"}).status_code == 201
    shown = client.get("/api/v1/projects/cups").json()
    assert [len(shown["instructions"]), len(shown["sources"])] == [2, 2]
    assert client.get("/api/v1/projects").json() == [shown]
    _problem(client.get("/api/v1/projects/none"), 404, "not_found")
    assert len(core.take_in(served, core.version("in/a.mp4")).run_ids) == 2


def test_runs_come_in_pages_and_by_filters(client: TestClient, served: Container) -> None:
    core.make_project(served, "cups", "a", "b")
    core.make_project(served, "balls", "c")
    for number in range(4):
        core.take_in(served, core.version(f"in/{number}.mp4"))
    seen: list[int] = []
    cursor: str | None = None
    while True:
        query = {"limit": 5} | ({"cursor": cursor} if cursor else {})
        page = client.get("/api/v1/runs", params=query).json()
        seen += [run["id"] for run in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == 12
    assert len(client.get("/api/v1/runs", params={"project": "balls"}).json()["items"]) == 4
    assert len(client.get("/api/v1/runs", params={"video": 1}).json()["items"]) == 3
    assert client.get("/api/v1/runs", params={"status": ["failed", "running"]}).json()["items"] == []
    _problem(client.get("/api/v1/runs", params={"status": "sleeping"}), 422, "invalid_request")
    _problem(client.get("/api/v1/runs", params={"cursor": "1; DROP"}), 422, "bad_cursor")
    assert len(client.get("/api/v1/videos", params={"project": "cups", "limit": 3}).json()["items"]) == 3


def test_a_finished_run_is_shown_whole_with_its_masks(client: TestClient, served: Container) -> None:
    core.make_project(served)
    run_id = core.ready_run(served)
    claim = core.claim(served, run_id)
    assert claim is not None
    made = core.annotation(frame_count=5, tracks=1)
    with served.transaction() as session:
        results.record(session, run_id, claim.fence, made, core.IMAGE_KEYS, LabelStudioSettings())
    shown = client.get(f"/api/v1/runs/{run_id}").json()
    assert (shown["status"], shown["project"], shown["video_key"]) == ("succeeded", "cups", "in/a.mp4")
    assert [keyframe["frame_index"] for keyframe in shown["keyframes"]] == [120, 5]
    assert len(shown["keyframes"][0]["detections"]) == 2
    assert shown["timings_s"] == {"decode": 0.5}
    masks = client.get(f"/api/v1/runs/{run_id}/masks", params={"track": 0}).json()["masks"]
    assert sorted(masks) == ["1", "2", "3", "4"]
    assert masks["1"]["size"] == [48, 64]
    _problem(client.get(f"/api/v1/runs/{run_id}/masks", params={"track": 9}), 404, "not_found")
    _problem(client.post(f"/api/v1/runs/{run_id}/cancel"), 409, "illegal_transition")
    _problem(client.get("/api/v1/runs/99999"), 404, "not_found")


def test_cancel_and_retry(client: TestClient, served: Container) -> None:
    core.make_project(served)
    run_id = core.ready_run(served)
    assert client.post(f"/api/v1/runs/{run_id}/cancel").json()["status"] == "cancelled"
    assert client.post(f"/api/v1/runs/{run_id}/retry").json()["status"] == "queued"
    _problem(client.post(f"/api/v1/runs/{run_id}/retry"), 409, "conflict")
    assert client.get(f"/api/v1/runs/{run_id}").json()["status"] == "queued"


def test_a_key_is_asked_where_one_is_configured(served: Container) -> None:
    served.settings.api = ApiSettings(api_key="api-secret")
    with TestClient(create_app(served)) as guarded:
        for path in ("/api/v1/runs", "/api/v1/videos", "/api/v1/projects"):
            _problem(guarded.get(path), 401, "unauthorized")
            assert guarded.get(path, headers={"Authorization": "Bearer api-secret"}).status_code == 200
        assert guarded.get("/healthz").status_code == 200
        assert guarded.post("/api/v1/events/s3", content=b'{"Records": []}', headers=WEBHOOK).status_code == 200


def test_every_operation_has_an_answer_model(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            good = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
            # A verdict's page is for people, all else for programs.
            assert list(good["content"]) == (["text/html"] if path.endswith("/page") else ["application/json"])
            assert path.endswith("/page") or good["content"]["application/json"]["schema"], (method, path)
