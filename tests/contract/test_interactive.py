"""Masks on demand through the real Label Studio: it is told of our API, asks it, and hands the answer to the page."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
from pydantic import SecretStr
from sqlalchemy import update

from backend.bootstrap import Container
from backend.db.tables import Publication
from backend.domain.corrections import Change, compare
from backend.domain.errors import Misconfigured
from backend.domain.masks import decode_mask, encode_mask
from backend.services import publish
from backend.settings import InteractiveSettings, LabelStudioSettings, StorageSettings
from integrations.label_studio import bitmask
from integrations.label_studio.config import labeling_config, read_config
from integrations.label_studio.ml_backend import TITLE
from integrations.label_studio.prediction import CURRENT
from integrations.label_studio.tool import LabelStudioTool
from tests.conftest import LabelStudioServer
from tests.contract.test_reviews_arrive import serving
from tests.factories import clickable, core
from tests.factories.clickable import Clickable, box_region, click_regions, middle_of
from workers.interactive.desk import MaskDesk
from workers.interactive.service import Waiting

pytestmark = [pytest.mark.stack, pytest.mark.label_studio]

SECRET = "s3cret"


@dataclass
class Desk:
    """A run in Label Studio, whose project asks our API for masks."""

    tool: LabelStudioTool
    api: httpx.Client
    project_id: int
    run: Clickable
    port: int
    settings: LabelStudioSettings
    storage: StorageSettings

    def get(self, path: str, **params: Any) -> Any:
        answer = self.api.get(path, params=params)
        answer.raise_for_status()
        return answer.json()

    def backends(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/ml/", project=self.project_id)
        return found

    def publish(self) -> int:
        """The run's task; published as a worker does."""
        container = self.run.container
        labeling = container.settings.label_studio
        with container.transaction() as session:
            session.execute(update(Publication).values(state="pending", task_id=None, prediction_id=None))
        publish.publish_run(container.sessions, self.tool, self.run.run_id, self.storage, labeling)
        [task] = self.get("/api/tasks", project=self.project_id, fields="all")["tasks"]
        return int(task["id"])

    def ask(self, task_id: int, *regions: Any) -> Any:
        """As the labeling page does."""
        [backend] = self.backends()
        body = {"task": task_id, "context": {"result": list(regions)}}
        answer = self.api.post(f"/api/ml/{backend['id']}/interactive-annotating", json=body)
        answer.raise_for_status()
        return answer.json()


@pytest.fixture
def desk(database_url: str, storage: StorageSettings, label_studio: LabelStudioServer, prefix: str) -> Iterator[Desk]:
    port, waiting = core.free_port(), Waiting()
    labeling = LabelStudioSettings(
        url=label_studio.url, api_key=SecretStr(label_studio.token), ml_backend_secret=SecretStr(SECRET),
        ml_backend_url=f"http://127.0.0.1:{port}/interactive",
    )  # fmt: skip
    headers = {"Authorization": f"Token {label_studio.token}"}
    tool = LabelStudioTool(labeling, storage)
    project_id = tool.ensure_project(f"clicks {uuid4().hex[:8]}", ["thing"], [])
    with (
        clickable.mask_server(waiting) as url,
        httpx.Client(base_url=label_studio.url, headers=headers, timeout=60) as api,
    ):
        interactive = InteractiveSettings(service_url=url, deadline_s=20)
        container = Container(
            core.settings(database_url, storage=storage, label_studio=labeling, interactive=interactive)
        )
        waiting.set(MaskDesk(container).draw)
        run = clickable.published(container, prefix, label_studio_project_id=project_id)
        with serving(container, port):
            yield Desk(tool, api, project_id, run, port, labeling, storage)
        container.close()


def test_it_is_wired_once_whatever_is_repeated_and_repaired_where_it_drifted(desk: Desk) -> None:
    tool, number = desk.tool, desk.project_id
    assert tool.interactive_trouble(number) == "its labeling configuration has no smart tools"
    for _ in range(2):
        tool.ensure_interactive(number, True)
    [made] = desk.backends()
    assert (made["title"], made["is_interactive"], made["state"]) == (TITLE, True, "CO")
    assert (made["auth_method"], made["basic_auth_user"], made["basic_auth_pass_is_set"]) == (
        "BASIC_AUTH", "premask", True,
    )  # fmt: skip
    assert tool.interactive_trouble(number) is None
    project = desk.get(f"/api/projects/{number}/")
    assert read_config(project["label_config"]).interactive
    # What Label Studio makes of its own accord: a webhook without a secret, and a version of predictions to show.
    assert desk.get("/api/webhooks/", project=number) == []
    assert project["model_version"] == ""
    # Repairing labels leaves the tools.
    tool.ensure_project(project["description"].removeprefix("Premask project: "), ["thing", "cup"], [])
    config = read_config(desk.get(f"/api/projects/{number}/")["label_config"])
    assert (config.interactive, config.mask_labels) == (True, ("target", "thing", "cup"))
    # Somebody takes the tools away and changes kind and title; and there is a double.
    url = desk.settings.ml_backend_url
    change = {"url": url, "project": number, "is_interactive": False, "title": "mine"}
    assert desk.api.patch(f"/api/ml/{made['id']}", json=change | _auth()).status_code == 200
    assert desk.api.post("/api/ml/", json={**change, "title": TITLE, **_auth()}).status_code == 201
    plain = {"label_config": labeling_config(["thing", "cup"])}
    assert desk.api.patch(f"/api/projects/{number}/", json=plain).status_code == 200
    assert tool.interactive_trouble(number) is not None
    tool.ensure_interactive(number, True)
    assert tool.interactive_trouble(number) is None
    [mended] = desk.backends()
    assert (mended["title"], mended["is_interactive"]) == (TITLE, True)
    for _ in range(2):
        tool.ensure_interactive(number, False)
    assert desk.backends() == []


def _auth() -> dict[str, str]:
    return {"auth_method": "BASIC_AUTH", "basic_auth_user": "premask", "basic_auth_pass": SECRET}


def test_an_api_that_cant_be_reached_or_another_password_is_told(desk: Desk) -> None:
    away = f"http://127.0.0.1:{core.free_port()}/interactive"
    elsewhere = LabelStudioTool(desk.settings.model_copy(update={"ml_backend_url": away}), desk.storage)
    with pytest.raises(Misconfigured, match="must reach our API"):
        elsewhere.ensure_interactive(desk.project_id, True)
    wrong = LabelStudioTool(desk.settings.model_copy(update={"ml_backend_secret": SecretStr("no")}), desk.storage)
    with pytest.raises(Misconfigured, match="must reach our API"):
        wrong.ensure_interactive(desk.project_id, True)
    assert desk.backends() == []
    desk.tool.ensure_interactive(desk.project_id, True)
    unset = LabelStudioTool(desk.settings.model_copy(update={"ml_backend_secret": None}), desk.storage)
    with pytest.raises(Misconfigured, match="ML_BACKEND_SECRET"):
        unset.ensure_interactive(desk.project_id, True)


def test_clicks_on_a_page_come_back_as_masks_of_it(desk: Desk) -> None:
    desk.tool.ensure_interactive(desk.project_id, True)
    task_id, run = desk.publish(), desk.run
    # The prediction is the one that is shown still.
    assert desk.get(f"/api/projects/{desk.project_id}/")["model_version"] == CURRENT
    thing = run.thing(1)
    for prompt in (
        click_regions(middle_of(thing), run.size, 1),
        [box_region(encode_mask(thing).box_xyxy_px, run.size, 1)],
    ):
        said = desk.ask(task_id, *prompt)
        assert "errors" not in said, said
        [region] = said["data"]["result"]
        found = decode_mask(bitmask.from_data_url(region["value"]["imageDataURL"]))
        assert (found & thing).sum() / (found | thing).sum() > 0.85
        assert region["item_index"] == 1
        # It is another drawing of what was sent for that page.
        assert region["id"].startswith(f"run{run.run_id}-track0-frame{clickable.PAGES[1]}-again")
    assert desk.ask(task_id)["errors"], "the last click was taken away: nothing to suggest"


def test_opening_a_task_brings_no_predictions_of_its_own(desk: Desk) -> None:
    """Label Studio asks its backends whenever a task without predictions is opened: a control is to stay one."""
    desk.tool.ensure_interactive(desk.project_id, True)
    made = desk.api.post("/api/tasks/", json={"project": desk.project_id, "data": {"video": "x", "fps": 1,
        "keyframes": ["x"], "guide": "x"}}).json()  # fmt: skip
    assert desk.get(f"/api/tasks/{made['id']}/")["predictions"] == []
    next_one = desk.get(f"/api/projects/{desk.project_id}/next")
    assert (next_one["id"], next_one["predictions"]) == (made["id"], [])


def test_what_was_accepted_is_a_correction_of_that_pages_mask(desk: Desk) -> None:
    """Submitted as the page submits it: the suggestion in the place of the mask, the click left behind."""
    desk.tool.ensure_interactive(desk.project_id, True)
    task_id, run = desk.publish(), desk.run
    click = click_regions(middle_of(run.thing(1)), run.size, 1, label="target")
    [suggested] = desk.ask(task_id, *click)["data"]["result"]
    [prediction] = desk.get("/api/predictions/", project=desk.project_id)
    replaced = f"run{run.run_id}-track0-frame{clickable.PAGES[1]}"
    kept = [region for region in prediction["result"] if region["id"] != replaced]
    result = [*kept, suggested, *click]
    body = {"result": result, "parent_prediction": prediction["id"]}
    assert desk.api.post(f"/api/tasks/{task_id}/annotations/", json=body).status_code == 201
    answered = desk.tool.answered(desk.project_id, task_id)
    assert answered is not None
    [answer] = answered.answers
    container = run.container
    with container.transaction() as session:
        row = session.query(Publication).one()
        item = publish.item_of(session, row, desk.storage)
    sent, returned = desk.tool.layers(answered, answer, item)
    changed = [mask for mask in compare(sent, returned).masks if mask.change is not Change.UNTOUCHED]
    [edited] = changed
    assert (edited.region_id, edited.change, edited.frame_index) == (replaced, Change.EDITED, clickable.PAGES[1])
    [mask] = [mask for mask in returned.masks if mask.region_id == replaced]
    wanted = decode_mask(bitmask.from_data_url(suggested["value"]["imageDataURL"]))
    assert np.array_equal(decode_mask(mask.mask), wanted)


def test_it_asks_with_basic_auth(desk: Desk) -> None:
    """What the endpoint takes is what 1.23.2 sends."""
    url = f"http://127.0.0.1:{desk.port}/interactive/health"
    basic = "Basic " + base64.b64encode(f"premask:{SECRET}".encode()).decode()
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers={"Authorization": basic}).status_code == 200
    desk.tool.ensure_interactive(desk.project_id, True)
    assert desk.backends()[0]["state"] == "CO"
