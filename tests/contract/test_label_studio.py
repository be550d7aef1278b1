"""The labeling tool's contract, held by the real Label Studio: repeats and crashes make nothing twice."""

import json
import logging
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
from pydantic import SecretStr

from backend.domain.corrections import compare
from backend.domain.errors import BadInput, Misconfigured, ServiceUnavailable
from backend.domain.masks import decode_mask
from backend.domain.tracks import interpolate
from backend.ports import PublicationItem
from backend.settings import LabelStudioSettings, StorageSettings
from integrations.label_studio.config import labeling_config
from integrations.label_studio.prediction import CURRENT, box_keyframes_of, mask_of
from integrations.label_studio.storages import ensure_cors
from integrations.label_studio.tool import LabelStudioTool
from integrations.label_studio.webhooks import ACTIONS
from tests.conftest import S3, LabelStudioServer
from tests.factories import moving_square

pytestmark = [pytest.mark.stack, pytest.mark.label_studio]


@dataclass
class Desk:
    """A project of the test's own, and Label Studio's API as anybody may call it, to look behind the adapter's back."""

    tool: LabelStudioTool
    api: httpx.Client
    name: str
    project_id: int
    item: PublicationItem

    def get(self, path: str, **params: Any) -> Any:
        response = self.api.get(path, params=params)
        response.raise_for_status()
        return response.json()

    def tasks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/tasks", project=self.project_id, fields="all")["tasks"]
        return found

    def predictions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/predictions/", project=self.project_id)
        return sorted(found, key=lambda prediction: prediction["id"])


@pytest.fixture(scope="module")
def settings(label_studio: LabelStudioServer) -> LabelStudioSettings:
    return LabelStudioSettings(url=label_studio.url, api_key=SecretStr(label_studio.token))


@pytest.fixture
def desk(settings: LabelStudioSettings, storage: StorageSettings, label_studio: LabelStudioServer) -> Iterator[Desk]:
    tool = LabelStudioTool(settings, storage)
    name = f"contract {uuid4().hex[:8]}"
    with httpx.Client(
        base_url=label_studio.url, headers={"Authorization": f"Token {label_studio.token}"}, timeout=60
    ) as api:
        project_id = tool.ensure_project(name, ["square"], [storage.artifact_bucket])
        yield Desk(tool, api, name, project_id, moving_square.item(f"s3://{storage.artifact_bucket}/clip.mp4"))


def test_label_studio_accepts_the_configuration(desk: Desk) -> None:
    for labels in ([], ["square", 'a "quoted" & <odd> one']):
        answer = desk.api.post("/api/projects/validate/", json={"label_config": labeling_config(labels)})
        assert answer.status_code == 204, answer.text


def test_ensure_project_twice_makes_one(desk: Desk, storage: StorageSettings) -> None:
    again = desk.tool.ensure_project(desk.name, ["square"], [storage.artifact_bucket])
    assert again == desk.project_id
    mine = [p for p in desk.get("/api/projects", page_size=1000)["results"] if desk.name in p["title"]]
    assert len(mine) == 1
    storages = desk.get("/api/storages/s3", project=desk.project_id)
    assert [s["bucket"] for s in storages] == [storage.artifact_bucket]
    assert (storages[0]["presign"], storages[0]["use_blob_urls"]) == (True, True)
    assert storages[0]["presign_ttl"] == 720


def test_the_list_of_tasks_shows_question_and_answer_and_a_teams_own_view_is_left_alone(
    desk: Desk, storage: StorageSettings
) -> None:
    desk.tool.publish(desk.project_id, replace(desk.item, instruction="the square at s3://a/b"))
    [task] = desk.tasks()
    assert task["data"]["instruction"] == "the square at s3:/ /a/b"
    assert task["data"]["answer"] == "the bright square"
    [view] = desk.get("/api/dm/views/", project=desk.project_id)
    hidden = view["data"]["hiddenColumns"]["explore"]
    assert {"tasks:data.guide", "tasks:data.premask_key"} <= set(hidden)
    assert not {"tasks:data.instruction", "tasks:data.answer", "tasks:predictions_score"} & set(hidden)
    own = {**view["data"], "title": "ours", "hiddenColumns": {"explore": [], "labeling": []}}
    assert desk.api.patch(f"/api/dm/views/{view['id']}/", json={"data": own}).status_code == 200
    desk.tool.ensure_project(desk.name, ["square"], [storage.artifact_bucket])
    assert [v["data"]["title"] for v in desk.get("/api/dm/views/", project=desk.project_id)] == ["ours"]


def test_ensure_project_repairs_and_keeps_the_labels_people_added(desk: Desk, storage: StorageSettings) -> None:
    people = labeling_config(["triangle"]).replace('value="square"', 'value="box"')
    broken = {"label_config": people, "show_collab_predictions": False}
    assert desk.api.patch(f"/api/projects/{desk.project_id}/", json=broken).status_code == 200
    desk.tool.ensure_project(desk.name, ["square"], [storage.artifact_bucket])
    project = desk.get(f"/api/projects/{desk.project_id}/")
    assert project["show_collab_predictions"] is True
    assert 'value="triangle"' in project["label_config"]
    assert 'value="square"' in project["label_config"]


def test_a_project_of_the_same_title_is_not_ours(desk: Desk, storage: StorageSettings) -> None:
    title = f"theirs {uuid4().hex[:8]}"
    xml = '<View><Text name="t" value="$t"/></View>'
    theirs = desk.api.post("/api/projects/", json={"title": title, "label_config": xml}).json()["id"]
    ours = desk.tool.ensure_project(title, [], [storage.artifact_bucket])
    assert ours != theirs
    assert desk.get(f"/api/projects/{theirs}/")["label_config"] == xml


def test_a_long_name_is_kept_apart_from_another_with_the_same_beginning(desk: Desk) -> None:
    name = f"{uuid4().hex}{'x' * 60}"
    first, second = (desk.tool.ensure_project(name + end, [], []) for end in "ab")
    assert first != second
    assert desk.tool.ensure_project(name + "a", [], []) == first


def test_publishing_twice_makes_one_task_and_one_prediction(desk: Desk) -> None:
    first = desk.tool.publish(desk.project_id, desk.item)
    assert desk.tool.publish(desk.project_id, desk.item) == first
    assert [task["id"] for task in desk.tasks()] == [first.task_id]
    assert [prediction["id"] for prediction in desk.predictions()] == [first.prediction_id]


def test_a_crash_between_task_and_prediction_leaves_nothing_twice(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        """As when the process dies here."""

    def die(*_: object) -> int:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(LabelStudioTool, "_ensure_prediction", die)
        with pytest.raises(Killed):
            desk.tool.publish(desk.project_id, desk.item)
    assert len(desk.tasks()) == 1
    assert desk.predictions() == []
    published = desk.tool.publish(desk.project_id, desk.item)
    assert [task["id"] for task in desk.tasks()] == [published.task_id]
    assert len(desk.predictions()) == 1


def test_keys_that_begin_alike_are_different_tasks(desk: Desk) -> None:
    """`instruction:2` must not find the task of `instruction:22`."""
    ids = {
        desk.tool.publish(desk.project_id, replace(desk.item, run_id=run, instruction_id=instruction)).task_id
        for run, instruction in ((1, 22), (2, 2), (3, 222))
    }
    assert len(ids) == 3


def test_boxes_come_back_as_they_were_sent(desk: Desk) -> None:
    desk.tool.publish(desk.project_id, desk.item)
    region = next(r for r in desk.predictions()[0]["result"] if r["type"] == "videorectangle")
    back = interpolate(box_keyframes_of(region, moving_square.WIDTH, moving_square.HEIGHT), moving_square.FRAME_COUNT)
    sent = interpolate(desk.item.tracks[0].box_keyframes, moving_square.FRAME_COUNT)
    assert back.keys() == sent.keys() == set(moving_square.VISIBLE)
    for frame, box in sent.items():
        assert (back[frame].x1, back[frame].y1, back[frame].x2, back[frame].y2) == pytest.approx(
            (box.x1, box.y1, box.x2, box.y2), abs=1e-6
        )
        assert back[frame].iou(moving_square.truth(frame)) >= 0.9
    assert region["meta"] == {"text": ["the bright square"]}
    assert desk.predictions()[0]["score"] == pytest.approx(0.87)


def test_masks_come_back_pixel_by_pixel(desk: Desk) -> None:
    desk.tool.publish(desk.project_id, desk.item)
    regions = [r for r in desk.predictions()[0]["result"] if r["type"] == "bitmasklabels"]
    frames = desk.tasks()[0]["data"]["keyframe_frame_indices"]
    assert [frames[region["item_index"]] for region in regions] == list(moving_square.KEYFRAMES)
    for region in regions:
        expected = moving_square.mask(frames[region["item_index"]])
        assert np.array_equal(decode_mask(mask_of(region)), expected)


def test_a_run_without_a_target_is_a_task_with_an_empty_prediction(desk: Desk) -> None:
    item = moving_square.without_target(desk.item)
    first = desk.tool.publish(desk.project_id, item)
    assert desk.tool.publish(desk.project_id, item) == first
    assert [(p["id"], p["result"]) for p in desk.predictions()] == [(first.prediction_id, [])]
    assert "found nothing" in desk.tasks()[0]["data"]["guide"]


def test_a_later_run_adds_its_prediction_to_the_same_task_and_is_the_one_shown(desk: Desk) -> None:
    early = desk.tool.publish(desk.project_id, desk.item)
    before = desk.predictions()[0]["result"]
    later_item = replace(
        desk.item,
        run_id=8,
        model_version="shapeworld@ffffffffffff",
        pages=(replace(desk.item.pages[0], frame_index=5), *desk.item.pages[1:]),
        tracks=(replace(desk.item.tracks[0], masks={30: desk.item.tracks[0].masks[30]}),),
    )
    later = desk.tool.publish(desk.project_id, later_item)
    assert later.task_id == early.task_id
    assert later.prediction_id != early.prediction_id
    old, new = desk.predictions()
    assert old["result"] == before
    assert new["model_version"] == CURRENT != old["model_version"]
    # What Label Studio hands out in its label stream, where it makes an annotation of the first prediction it gets.
    stream = desk.get(f"/api/projects/{desk.project_id}/next")
    assert [prediction["id"] for prediction in stream["predictions"]] == [later.prediction_id]
    assert desk.tasks()[0]["data"]["keyframe_frame_indices"] == [10, 30, 48, 5]


def test_a_correction_survives_a_later_run(desk: Desk) -> None:
    early = desk.tool.publish(desk.project_id, desk.item)
    result = desk.predictions()[0]["result"]
    made = desk.api.post(
        f"/api/tasks/{early.task_id}/annotations/", json={"result": result, "parent_prediction": early.prediction_id}
    )
    assert made.status_code == 201
    desk.tool.publish(desk.project_id, replace(desk.item, run_id=8))
    assert desk.get(f"/api/annotations/{made.json()['id']}/")["result"] == made.json()["result"]


def test_an_invalid_item_is_refused_before_anything_is_sent(desk: Desk) -> None:
    keyframe = desk.item.tracks[0].box_keyframes[0]
    late = replace(desk.item.tracks[0], box_keyframes=(replace(keyframe, frame_index=60),))
    with pytest.raises(BadInput, match="frame 61 of 60"):
        desk.tool.publish(desk.project_id, replace(desk.item, tracks=(late,)))
    assert desk.tasks() == []


def test_the_browser_is_sent_to_the_object_store(desk: Desk, s3: S3) -> None:
    """A task's video leads to a presigned address that answers a range, to a page of Label Studio's origin."""
    key = f"{uuid4().hex}.mp4"
    s3.server.client().put_object(Bucket=s3.bucket, Key=key, Body=b"0123456789", ContentType="video/mp4")
    item = replace(desk.item, video_uri=f"s3://{s3.bucket}/{key}")
    published = desk.tool.publish(desk.project_id, item)
    link = desk.get(f"/api/tasks/{published.task_id}", resolve_uri=True)["data"]["video"]
    redirect = desk.api.get(link)
    assert redirect.is_redirect
    address = redirect.headers["location"]
    assert address.startswith(s3.endpoint_url)
    origin = str(desk.api.base_url).rstrip("/")
    answer = httpx.get(address, headers={"Range": "bytes=2-4", "Origin": origin})
    assert (answer.status_code, answer.content) == (206, b"234")
    assert answer.headers["access-control-allow-origin"] in ("*", origin)


def test_cors_is_added_once_and_leaves_other_rules(s3: S3, storage: StorageSettings) -> None:
    client = s3.server.client()
    bucket = f"cors-{uuid4().hex[:8]}"
    client.create_bucket(Bucket=bucket)
    theirs = {"AllowedOrigins": ["https://theirs.example"], "AllowedMethods": ["GET"], "AllowedHeaders": ["*"]}
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [theirs]})
    assert ensure_cors(bucket, "https://label.example", storage) is True
    assert ensure_cors(bucket, "https://label.example", storage) is False
    rules = client.get_bucket_cors(Bucket=bucket)["CORSRules"]
    assert [rule["AllowedOrigins"] for rule in rules] == [["https://theirs.example"], ["https://label.example"]]


def test_a_server_that_is_down_is_an_outage(storage: StorageSettings) -> None:
    down = LabelStudioTool(
        LabelStudioSettings(url="http://127.0.0.1:9", api_key=SecretStr("0" * 40), timeout_s=2), storage
    )
    with pytest.raises(ServiceUnavailable):
        down.publish(1, moving_square.item())
    with pytest.raises(ServiceUnavailable):
        down.ensure_project("any", [], [])


def test_a_wrong_key_names_the_setting_and_shows_no_key(
    settings: LabelStudioSettings, storage: StorageSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = "f" * 40
    wrong = LabelStudioTool(LabelStudioSettings(url=settings.url, api_key=SecretStr(key)), storage)
    with pytest.raises(Misconfigured, match="PREMASK__LABEL_STUDIO__API_KEY") as refusal:
        wrong.publish(1, moving_square.item())
    assert key not in str(refusal.value)
    assert key not in caplog.text


def test_a_project_that_was_deleted_is_refused_with_label_studios_words(desk: Desk) -> None:
    assert desk.api.delete(f"/api/projects/{desk.project_id}/").status_code == 204
    with pytest.raises(BadInput, match="404"):
        desk.tool.publish(desk.project_id, desk.item)


def test_the_webhook_is_made_once_repaired_and_others_are_left_alone(
    desk: Desk, settings: LabelStudioSettings, storage: StorageSettings
) -> None:
    url = "http://127.0.0.1:9/api/v1/events/label-studio"
    told = settings.model_copy(update={"webhook_url": url, "webhook_token": SecretStr("s3cret")})
    other = {"project": desk.project_id, "url": "http://127.0.0.1:9/theirs", "send_for_all_actions": True}
    assert desk.api.post("/api/webhooks/", json=other).status_code == 201

    def ours() -> list[dict[str, Any]]:
        hooks = desk.get("/api/webhooks/", project=desk.project_id)
        assert [hook["url"] for hook in hooks].count("http://127.0.0.1:9/theirs") == 1
        return [hook for hook in hooks if hook["url"] != "http://127.0.0.1:9/theirs"]

    desk.tool.ensure_project(desk.name, [], [])
    assert ours() == []  # none is asked for
    for _ in range(2):
        LabelStudioTool(told, storage).ensure_project(desk.name, [], [])
    [hook] = ours()
    assert (hook["url"], hook["headers"], hook["is_active"]) == (url, {"Authorization": "Bearer s3cret"}, True)
    assert set(hook["actions"]) == set(ACTIONS)
    broken = {"url": "http://127.0.0.2:9/api/v1/events/label-studio", "is_active": False, "headers": {}}
    assert desk.api.patch(f"/api/webhooks/{hook['id']}/", json=broken).status_code == 200
    LabelStudioTool(told, storage).ensure_project(desk.name, [], [])
    assert [{**again, "updated_at": None} for again in ours()] == [{**hook, "updated_at": None}]


def test_an_address_that_label_studio_refuses_is_a_warning(
    desk: Desk, settings: LabelStudioSettings, storage: StorageSettings, caplog: pytest.LogCaptureFixture
) -> None:
    private = {"webhook_url": "http://10.0.0.1/api/v1/events/label-studio", "webhook_token": SecretStr("s3cret")}
    tool = LabelStudioTool(settings.model_copy(update=private), storage)
    assert tool.ensure_project(desk.name, [], []) == desk.project_id
    assert "USE_DEFAULT_BANNED_SUBNETS" in caplog.text
    assert "s3cret" not in caplog.text


def test_the_address_of_a_task(desk: Desk) -> None:
    url = desk.tool.task_url(desk.project_id, 5)
    assert url == f"{str(desk.api.base_url).rstrip('/')}/projects/{desk.project_id}/data?task=5"


def annotate(desk: Desk, task_id: int, prediction_id: int | None, result: list[dict[str, Any]], **more: Any) -> int:
    """As the labeling page does: an annotation made of a prediction."""
    body = {"result": result, "parent_prediction": prediction_id, "lead_time": 12.5, **more}
    answer = desk.api.post(f"/api/tasks/{task_id}/annotations/", json=body)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def test_what_people_made_of_a_prediction_comes_back_with_what_was_sent(desk: Desk) -> None:
    published = desk.tool.publish(desk.project_id, desk.item)
    result = desk.predictions()[0]["result"]
    moved = deepcopy(result)
    moved[0]["value"]["sequence"][0]["x"] += 5
    broken = deepcopy(result)
    broken[0]["value"]["sequence"] = []
    task_id, prediction_id = published.task_id, published.prediction_id
    accepted = annotate(desk, task_id, prediction_id, result)
    edited = annotate(desk, task_id, prediction_id, moved)
    skipped = annotate(desk, task_id, prediction_id, [], was_cancelled=True)
    unreadable = annotate(desk, task_id, prediction_id, broken)
    drawn = annotate(desk, task_id, None, result)  # from nothing: no review of this prediction
    task = desk.tool.answered(desk.project_id, task_id)
    assert task is not None
    answers = {answer.annotation_id: answer for answer in task.answers}
    assert list(answers) == [accepted, edited, skipped, unreadable, drawn]
    assert [answer.prediction_id for answer in task.answers] == [*[prediction_id] * 4, None]
    assert [answer.skipped for answer in task.answers] == [False, False, True, False, False]
    assert compare(*desk.tool.layers(task, answers[accepted], desk.item)).accepted
    [track] = compare(*desk.tool.layers(task, answers[edited], desk.item)).tracks
    assert track.touched_frames == (moving_square.VISIBLE[0],)
    with pytest.raises(BadInput, match="sequence is empty"):
        desk.tool.layers(task, answers[unreadable], desk.item)
    assert (answers[accepted].lead_time_s, answers[accepted].raw["result"]) == (12.5, result)
    assert str(answers[accepted].annotator).isdigit()
    assert "@" not in json.dumps({**answers[accepted].raw, "result": None})
    assert task.changed_at >= max(answer.changed_at for answer in task.answers)


def test_what_changed_is_listed_by_label_studios_own_clock(desk: Desk) -> None:
    """Saving, saving again and deleting an annotation each move a task to the end of the list."""
    items = [replace(desk.item, instruction_id=number) for number in (1, 2, 3)]
    first, second, third = (desk.tool.publish(desk.project_id, item) for item in items)
    before = list(desk.tool.changed_tasks(desk.project_id, None))
    assert {task_id for task_id, _ in before} == {first.task_id, second.task_id, third.task_id}
    assert before == sorted(before, key=lambda pair: pair[1])

    def changed() -> list[int]:
        nonlocal before
        now = list(desk.tool.changed_tasks(desk.project_id, before[-1][1]))
        before = [*before, *now]
        return [task_id for task_id, _ in now]

    assert changed() == []
    number = annotate(desk, first.task_id, first.prediction_id, [])
    assert changed() == [first.task_id]
    assert desk.api.patch(f"/api/annotations/{number}/", json={"lead_time": 3}).status_code == 200
    assert changed() == [first.task_id]
    annotate(desk, third.task_id, third.prediction_id, [], was_cancelled=True)
    assert desk.api.delete(f"/api/annotations/{number}/").status_code == 204
    assert changed() == [third.task_id, first.task_id]
    read = desk.tool.answered(desk.project_id, first.task_id)
    assert read is not None
    assert read.changed_at == before[-1][1]
    assert desk.api.delete(f"/api/tasks/{second.task_id}/").status_code == 204
    left = {task_id for task_id, _ in desk.tool.changed_tasks(desk.project_id, None)}
    assert left == {first.task_id, third.task_id}


def test_a_task_that_is_gone_or_somebody_elses_is_none_of_the_project(desk: Desk) -> None:
    published = desk.tool.publish(desk.project_id, desk.item)
    other = desk.tool.ensure_project(f"{desk.name} again", [], [])
    assert desk.tool.answered(other, published.task_id) is None
    assert desk.api.delete(f"/api/tasks/{published.task_id}/").status_code == 204
    assert desk.tool.answered(desk.project_id, published.task_id) is None
