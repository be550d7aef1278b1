"""What comes back from the real Label Studio: what people made of a task, what changed, and the webhook that tells."""

import json
import re
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from backend.domain.corrections import compare
from backend.domain.errors import BadInput
from backend.settings import LabelStudioSettings, StorageSettings
from integrations.label_studio.tool import LabelStudioTool
from integrations.label_studio.webhooks import ACTIONS
from integrations.local.label_studio import BANNED_SUBNETS
from tests.conftest import ROOT
from tests.contract.conftest import Desk
from tests.factories import moving_square

pytestmark = [pytest.mark.stack, pytest.mark.label_studio]


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


def test_the_embedded_server_refuses_all_that_it_would_by_itself_but_our_loopback() -> None:
    [source] = (ROOT / ".venv-label-studio" / "lib").glob("python3*/site-packages/label_studio/core/utils/io.py")
    listed = re.search(r"default_banned_subnets = \[(.*?)\]", source.read_text(), re.DOTALL)
    assert listed is not None
    assert {*BANNED_SUBNETS, "127.0.0.0/8"} == set(re.findall(r"'([^']+)',", listed[1]))


def test_annotators_can_be_pseudonyms(desk: Desk, settings: LabelStudioSettings, storage: StorageSettings) -> None:
    """The same one for the same person, and their number is nowhere."""
    published = desk.tool.publish(desk.project_id, desk.item)
    for _ in range(2):
        annotate(desk, published.task_id, published.prediction_id, [])
    plain = desk.tool.answered(desk.project_id, published.task_id)
    secret = settings.model_copy(update={"annotator_secret": SecretStr("s3cret")})
    named = LabelStudioTool(secret, storage).answered(desk.project_id, published.task_id)
    assert plain is not None
    assert named is not None
    [number] = {answer.annotator for answer in plain.answers}
    [name] = {answer.annotator for answer in named.answers}
    assert re.fullmatch(r"person-[0-9a-f]{12}", str(name))
    for before, after in zip(plain.answers, named.answers, strict=True):
        changed = {field for field in before.raw if before.raw[field] != after.raw[field]}
        assert changed == {field for field in before.raw if field.endswith("_by") and before.raw[field] is not None}
        assert str(before.raw["completed_by"]) == number
        assert after.raw["completed_by"] == name
