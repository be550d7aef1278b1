"""A project of the real Label Studio that somebody else made is adopted: nothing changes that wasn't agreed to."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import select, update
from typer.testing import CliRunner

from backend.bootstrap import Container
from backend.cli import adopt as adopt_command
from backend.cli import projects as projects_command
from backend.db.repositories import projects as project_rows
from backend.db.tables import CorrectedLayer, Publication, Review, ReviewVersion, Video
from backend.domain.adoption import Change
from backend.domain.errors import BadInput, Conflict
from backend.services import adoption, bulk, projects, publish, results, review_feed
from backend.services.adoption import Plan, Request
from backend.services.projects import InstructionSpec, Source
from backend.settings import LabelStudioSettings, StorageSettings
from tests.conftest import S3, LabelStudioServer
from tests.factories import core, pending_runs
from tests.factories.theirs import CONFIG, URI, Theirs, make

pytestmark = [pytest.mark.stack, pytest.mark.label_studio]

WATCHED = Source(core.BUCKET, "in/")


@pytest.fixture
def theirs(label_studio: LabelStudioServer) -> Iterator[Theirs]:
    headers = {"Authorization": f"Token {label_studio.token}"}
    with httpx.Client(base_url=label_studio.url, headers=headers, timeout=60) as api:
        yield make(api, CONFIG)


@pytest.fixture
def container(database_url: str, settings: LabelStudioSettings, storage: StorageSettings) -> Iterator[Container]:
    told = settings.model_copy(
        update={
            "webhook_url": f"http://127.0.0.1:{core.free_port()}/api/v1/events/label-studio",
            "webhook_token": SecretStr("w" * 32),
        }
    )
    made = Container(core.settings(database_url, label_studio=told, storage=storage))
    yield made
    made.close()


def asked(theirs: Theirs, *changes: Change, **more: Any) -> Request:
    return Request(
        "cars", theirs.project_id, (WATCHED,), (InstructionSpec("the red one"),),
        more.pop("labels", {"the red one": "person"}), frozenset(changes), **more,
    )  # fmt: skip


def adopt(container: Container, request: Request, *, apply: bool = True) -> Plan:
    tool = container.labeling_tool
    assert tool is not None
    return adoption.adopt(container.transaction, tool, container.store, request, container.run_spec, apply=apply)


def run_over(container: Container, *names: str) -> dict[str, int]:
    """A recorded result of each of those videos, by name."""
    found = {}
    for name in names:
        found[name] = core.ready_run(container, f"in/{name}.mp4")
        claimed = core.claim(container, found[name])
        assert claimed is not None
        with container.transaction() as session:
            annotation, labeling = pending_runs.annotation(), container.settings.label_studio
            results.record(session, found[name], claimed.fence, annotation, core.IMAGE_KEYS, labeling)
    return found


def publish_all(container: Container, runs: Mapping[str, int]) -> dict[str, Publication]:
    tool, settings = container.labeling_tool, container.settings
    assert tool is not None
    for run_id in runs.values():
        publish.publish_run(container.sessions, tool, run_id, settings.storage, settings.label_studio)
    with container.transaction() as session:
        by_run = {row.run_id: row for row in session.scalars(select(Publication))}
    return {name: by_run[run_id] for name, run_id in runs.items()}


def poll(container: Container, theirs: Theirs) -> None:
    tool = container.labeling_tool
    assert tool is not None
    review_feed.poll(container.sessions, tool, theirs.project_id, container.settings.storage)


def test_a_plan_says_what_maps_and_changes_nothing(container: Container, theirs: Theirs) -> None:
    before = theirs.snapshot()
    every = asked(theirs, *Change)
    plan = adopt(container, every, apply=False)
    assert theirs.snapshot() == before
    assert theirs.predictions() == []
    with container.transaction() as session:
        assert project_rows.find(session, "cars") is None
    assert plan.place.maps == ("boxes: tracks on clip, labels person, car",)
    assert plan.place.missing == ("no Image with a valueList to show keyframes on: no masks",)
    assert (len(plan.place.tasks), plan.used, plan.applied) == (3, 2, False)
    assert set(plan.place.changes) == {Change.WEBHOOK, Change.STORAGE, Change.SHOW_PREDICTIONS}


def test_the_command_prints_the_plan_and_does_it_only_when_told(
    container: Container, theirs: Theirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (projects_command, adopt_command):
        monkeypatch.setattr(module, "bootstrap", lambda: container)
    arguments = [
        "adopt", "cars", "--label-studio-project", str(theirs.project_id), "--source", f"s3://{core.BUCKET}/in/",
        "--instruction", "the red one", "--label", "the red one=person", "--webhook",
    ]  # fmt: skip
    before = theirs.snapshot()
    told = CliRunner().invoke(projects_command.app, arguments, catch_exceptions=False).output
    assert theirs.snapshot() == before
    for line in (
        "shown    boxes: tracks on clip, labels person, car", "missing  no Image with a valueList",
        "label    'the red one' is 'person'", "3, of which 2 show a video of ours", "their 1 annotations stay",
        "--apply does what is agreed to",
    ):  # fmt: skip
        assert line in told
    states = {change: next(line for line in told.splitlines() if f"--{change} " in line) for change in Change}
    assert " agreed to" in states[Change.WEBHOOK]
    assert "not agreed to" in states[Change.STORAGE]
    told = CliRunner().invoke(projects_command.app, [*arguments, "--apply"], catch_exceptions=False).output
    assert "done" in next(line for line in told.splitlines() if "--webhook " in line)
    assert len(theirs.snapshot()["webhooks"]) == len(before["webhooks"]) + 1
    shown = CliRunner().invoke(projects_command.app, ["show", "cars", "--json"], catch_exceptions=False).output
    assert (json.loads(shown)["adopted"], json.loads(shown)["task_order"]) == (True, None)


def test_applied_with_nothing_agreed_predictions_are_added_and_all_else_stays(
    container: Container, theirs: Theirs
) -> None:
    before = theirs.snapshot()
    adopt(container, asked(theirs))
    assert theirs.snapshot() == before
    made = publish_all(container, run_over(container, "a", "b", "new"))
    first, second, _ = theirs.tasks()
    assert [(p["task"], p["model_version"]) for p in theirs.predictions()] == [
        (first["id"], "premask"), (second["id"], "premask"),
    ]  # fmt: skip
    assert made["a"].task_id == first["id"]
    [region] = theirs.predictions()[0]["result"]
    assert (region["from_name"], region["to_name"], region["value"]["labels"]) == ("tracks", "clip", ["person"])
    assert made["new"].state == "failed"
    assert "--new-tasks" in str(made["new"].last_error)
    after = theirs.snapshot()
    for task in (*before["tasks"], *after["tasks"]):
        # A prediction moves its task's time, and nothing else.
        del task["updated_at"]
    assert after == before


def test_repeats_and_repairs_are_harmless(container: Container, theirs: Theirs) -> None:
    adopt(container, asked(theirs))
    runs = run_over(container, "a")
    publish_all(container, runs)
    before, predictions = theirs.snapshot(), theirs.predictions()
    adopt(container, asked(theirs))
    tool = container.labeling_tool
    assert tool is not None
    projects.connect(container.transaction, tool, "cars")
    publish_all(container, runs)
    waiting = bulk.publish_waiting(
        container.sessions, tool, theirs.project_id, container.settings.storage, container.settings.label_studio, 1
    )
    assert waiting == 0
    assert (theirs.snapshot(), theirs.predictions()) == (before, predictions)
    with container.transaction() as session:
        project = project_rows.by_name(session, "cars")
        assert [row.text for row in project.instructions] == ["the red one"]
        assert [row.prefix for row in project.sources] == ["in/"]


def test_new_tasks_are_made_once_they_are_agreed_to(container: Container, theirs: Theirs) -> None:
    adopt(container, asked(theirs))
    runs = run_over(container, "new")
    assert publish_all(container, runs)["new"].state == "failed"
    adopt(container, asked(theirs, Change.NEW_TASKS))
    assert publish_all(container, runs)["new"].state == "published"
    *_, task = theirs.tasks()
    assert (task["data"]["footage"], task["data"]["note"]) == (URI.format("new"), "the red one")
    assert len(theirs.tasks()) == 4
    assert [p["task"] for p in theirs.predictions()] == [task["id"]]


def test_each_further_change_is_made_when_it_is_agreed_to(container: Container, theirs: Theirs) -> None:
    before = theirs.snapshot()
    adopt(container, asked(theirs, Change.WEBHOOK))
    webhook = theirs.snapshot()
    assert {name for name in before if before[name] != webhook[name]} == {"webhooks"}
    assert [hook for hook in webhook["webhooks"] if hook in before["webhooks"]] == before["webhooks"]
    assert len(webhook["webhooks"]) == len(before["webhooks"]) + 1
    theirs.api.delete(f"/api/webhooks/{webhook['webhooks'][-1]['id']}/")
    tool = container.labeling_tool
    assert tool is not None
    projects.connect(container.transaction, tool, "cars")
    assert len(theirs.snapshot()["webhooks"]) == len(webhook["webhooks"]), "what was agreed to is mended"
    adopt(container, asked(theirs, Change.SHOW_PREDICTIONS))
    publish_all(container, run_over(container, "a"))
    after = theirs.snapshot()
    changed = {name for name, value in before["settings"].items() if after["settings"][name] != value}
    assert changed == {"model_version"}
    assert after["settings"]["model_version"] == "premask"


def test_storages_are_added_where_there_is_none(container: Container, theirs: Theirs, s3: S3) -> None:
    request = Request("cars", theirs.project_id, (Source(s3.bucket, "in/"),), (), {}, frozenset({Change.STORAGE}))
    for _ in range(2):
        adopt(container, request)
        [made] = theirs.snapshot()["storages"]
        assert (made["bucket"], made["presign"], made["use_blob_urls"]) == (s3.bucket, True, True)
    renamed = theirs.api.patch(f"/api/storages/s3/{made['id']}", json={"title": "our own", "presign_ttl": 5})
    assert renamed.status_code == 200
    before = theirs.snapshot()
    adopt(container, request)
    assert theirs.snapshot() == before, "a storage that is there is theirs"


def test_people_at_work_before_are_left_alone_until_it_is_asked_for(container: Container, theirs: Theirs) -> None:
    adopt(container, asked(theirs))
    made = publish_all(container, run_over(container, "b"))["b"]
    poll(container, theirs)
    with container.transaction() as session:
        assert session.scalars(select(Review)).all() == []
    prediction = theirs.predictions()[0]
    moved = prediction["result"]
    moved[0]["value"]["sequence"][0]["x"] += 5
    theirs.post(f"/api/tasks/{made.task_id}/annotations/", {"result": moved, "parent_prediction": prediction["id"]})
    poll(container, theirs)
    with container.transaction() as session:
        [review] = session.scalars(select(Review))
        [version] = session.scalars(select(ReviewVersion))
        assert (review.publication_id, version.accepted, version.problem) == (made.id, False, None)
        assert len(session.scalars(select(CorrectedLayer)).all()) == 1
    adopt(container, asked(theirs, Change.READ_ANNOTATIONS))
    poll(container, theirs)
    with container.transaction() as session:
        old, _ = session.scalars(select(Review).order_by(Review.annotation_id))
        assert (old.publication_id, old.task_id) == (None, made.task_id)
        assert len(session.scalars(select(ReviewVersion)).all()) == 2


def test_labels_are_chosen_and_other_places_refused(container: Container, theirs: Theirs) -> None:
    with pytest.raises(BadInput, match=r"has no label.*'person', 'car'"):
        adopt(container, asked(theirs, labels={}))
    with pytest.raises(BadInput, match="'plane'"):
        adopt(container, asked(theirs, labels={"the red one": "plane"}))
    with pytest.raises(BadInput, match="no instruction"):
        adopt(container, asked(theirs, labels={"the red one": "person", "the blue one": "car"}))
    core.make_project(container, "holder", label_studio_project_id=theirs.project_id)
    with pytest.raises(Conflict, match="holder"):
        adopt(container, asked(theirs))


def test_a_configuration_without_boxes_is_completed_only_where_agreed(container: Container, theirs: Theirs) -> None:
    bare = '<View>\n  <Video name="clip" value="$footage" frameRate="25"/>\n  <!-- ours -->\n</View>'
    place = make(theirs.api, bare, annotated=False)
    with pytest.raises(BadInput, match=r"no VideoRectangle on clip.*--config"):
        adopt(container, asked(place))
    assert place.snapshot()["settings"]["label_config"] == bare
    plan = adopt(container, asked(place, Change.CONFIG))
    assert plan.place.changes[Change.CONFIG] == "Labels, VideoRectangle added to the labeling configuration"
    new = place.snapshot()["settings"]["label_config"]
    assert new.startswith(bare.rpartition("</View>")[0])
    made = publish_all(container, run_over(container, "a"))["a"]
    assert made.state == "published", made.last_error
    assert place.predictions()[0]["result"][0]["value"]["labels"] == ["person"]


def test_tasks_are_found_by_the_bytes_of_their_video(container: Container, theirs: Theirs, s3: S3) -> None:
    """A copy in another place of the storage, and one that was uploaded to Label Studio itself."""
    body, key = uuid4().bytes * 100, f"copy-{uuid4().hex[:8]}.mp4"
    s3.server.client().put_object(Bucket=s3.bucket, Key=key, Body=body)
    # Label Studio takes files only where tasks have one field.
    place = make(theirs.api, CONFIG.replace('  <Text name="words" value="$note"/>\n', ""), annotated=False)
    tasks = [{"footage": f"s3://{s3.bucket}/{key}"}, {"footage": "http://127.0.0.1:9/no.mp4"}]
    place.post(f"/api/projects/{place.project_id}/import", tasks)
    answer = place.api.post(
        f"/api/projects/{place.project_id}/import", files={"clip.mp4": ("clip.mp4", body, "video/mp4")}
    )
    assert answer.status_code == 201, answer.text
    plan = adopt(container, asked(place, by_content=True), apply=False)
    tasks = {task.task_id: task.video_uri for task in plan.place.tasks}
    assert len(set(plan.digests.values())) == 1
    assert sorted(str(tasks[task_id])[:5] for task_id in plan.digests) == ["/data", "s3://"]
    adopt(container, asked(place, by_content=True))
    runs = run_over(container, "same", "other")
    digest = plan.digests[min(plan.digests)]
    with container.transaction() as session:
        session.execute(update(Video).where(Video.key == "in/same.mp4").values(sha256=digest))
        session.execute(update(Video).where(Video.key == "in/other.mp4").values(sha256="0" * 64))
    found = publish_all(container, runs)
    assert found["same"].task_id == min(plan.digests)
    assert (found["other"].state, found["other"].task_id) == ("failed", None)
    assert adopt(container, asked(place, by_content=True), apply=False).used == 4


def test_a_rate_that_is_not_the_videos_is_refused_with_both(container: Container, theirs: Theirs) -> None:
    place = make(theirs.api, CONFIG.replace('framerate="25"', ""))
    adopt(container, asked(place))
    made = publish_all(container, run_over(container, "a"))["a"]
    assert made.state == "failed"
    assert "24 frames a second, the video has 25" in str(made.last_error)
