"""The labeling tool's contract, held by the real Label Studio: repeats and crashes make nothing twice."""

import logging
from dataclasses import replace
from uuid import uuid4

import httpx
import numpy as np
import pytest
from pydantic import SecretStr

from backend.domain.errors import BadInput, Misconfigured, ServiceUnavailable
from backend.domain.masks import decode_mask
from backend.domain.tracks import interpolate
from backend.settings import LabelStudioSettings, StorageSettings
from integrations.label_studio.config import labeling_config
from integrations.label_studio.prediction import CURRENT, box_keyframes_of, mask_of
from integrations.label_studio.storages import ensure_cors
from integrations.label_studio.tool import LabelStudioTool
from tests.conftest import S3
from tests.contract.conftest import Desk
from tests.factories import moving_square

pytestmark = [pytest.mark.stack, pytest.mark.label_studio]


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


def test_the_address_of_a_task(desk: Desk) -> None:
    url = desk.tool.task_url(desk.project_id, 5)
    assert url == f"{str(desk.api.base_url).rstrip('/')}/projects/{desk.project_id}/data?task=5"
