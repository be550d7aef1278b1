"""Label Studio's ML backend as our API serves it, with the real small segmenter in a server of its own."""

import base64
import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import select

from backend.api.app import create_app
from backend.bootstrap import Container
from backend.cli.doctor import Doctor, examine
from backend.db.tables import OutboxMessage, Project
from backend.domain.errors import BadInput, Misconfigured, ServiceUnavailable
from backend.domain.masks import decode_mask, encode_mask
from backend.domain.prompts import Click
from backend.services import projects
from backend.settings import InteractiveSettings, LabelStudioSettings
from integrations.label_studio import bitmask
from tests.conftest import S3
from tests.factories import clickable, core, reviewed
from tests.factories.clickable import Clickable, box_region, click_regions, middle_of, predict_body
from tests.factories.labeling_desk import UnusedTool
from workers.interactive.desk import MaskDesk
from workers.interactive.service import Waiting

pytestmark = pytest.mark.stack

SECRET, TOKEN = "s3cret", "between us"
NOBODY = "http://127.0.0.1:1"
BASIC = {"Authorization": "Basic " + base64.b64encode(f"premask:{SECRET}".encode()).decode()}


@dataclass
class Place:
    """The API over a published run, and what draws for it."""

    api: TestClient
    container: Container
    waiting: Waiting
    run: Clickable

    def predict(self, *regions: Any, **more: Any) -> Any:
        return self.api.post("/interactive/predict", json=predict_body(regions, **more), headers=BASIC)

    def mask(self, answer: Any) -> np.ndarray:
        [result] = answer.json()["results"]
        [region] = result["result"]
        return decode_mask(bitmask.from_data_url(region["value"]["imageDataURL"]))


@pytest.fixture
def waiting() -> Iterator[tuple[Waiting, str]]:
    waiting = Waiting()
    with clickable.mask_server(waiting, TOKEN) as url:
        yield waiting, url


@pytest.fixture
def make(
    database_url: str, s3: S3, prefix: str, waiting: tuple[Waiting, str]
) -> Iterator[Callable[[InteractiveSettings | None], Place]]:
    made: list[Container] = []

    def place(interactive: InteractiveSettings | None = None) -> Place:
        drawing = InteractiveSettings(service_url=waiting[1], service_token=SecretStr(TOKEN), deadline_s=20)
        labeling = LabelStudioSettings(url="http://label.example", ml_backend_secret=SecretStr(SECRET))
        container = Container(
            core.settings(
                database_url, storage=reviewed.storage(s3, prefix), label_studio=labeling,
                interactive=interactive or drawing,
            )
        )  # fmt: skip
        made.append(container)
        run = clickable.published(container, prefix)
        return Place(TestClient(create_app(container), raise_server_exceptions=False), container, waiting[0], run)

    yield place
    for container in made:
        container.close()


@pytest.fixture
def place(make: Callable[[], Place]) -> Place:
    made = make()
    made.waiting.set(MaskDesk(made.container).draw)
    return made


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_click_a_box_and_more_clicks_give_masks_of_the_page(place: Place) -> None:
    run = place.run
    for page in range(len(clickable.PAGES)):
        thing = run.thing(page)
        clicked = place.predict(*click_regions(middle_of(thing), run.size, page))
        assert clicked.status_code == 200, clicked.text
        assert overlap(place.mask(clicked), thing) > 0.85
        boxed = place.predict(box_region(encode_mask(thing).box_xyxy_px, run.size, page))
        assert overlap(place.mask(boxed), thing) > 0.85
    thing, other = run.thing(0), run.thing(0, 2)
    both = [*click_regions(middle_of(thing), run.size, 0, 1), *click_regions(middle_of(other), run.size, 0, 2)]
    assert overlap(place.mask(place.predict(*both)), thing | other) > 0.8


def test_a_page_is_looked_at_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    run, click = place.run, middle_of(place.run.thing(0))
    with caplog.at_level(logging.INFO, "workers.interactive.desk"):
        first, second = (place.predict(*click_regions(click, run.size, 0)) for _ in range(2))
        bucket = place.container.settings.storage.artifact_bucket
        # Another picture at the same place is another page.
        blank = clickable.png(np.zeros_like(run.pictures[0].image))
        place.container.store.put(bucket, run.image_keys[clickable.PAGES[0]], blank, "image/png")
        place.predict(*click_regions(click, run.size, 0))
    drawn = [line for line in caplog.messages if "masks on" in line]
    assert ["first time" in line for line in drawn] == [True, False, True]
    assert np.array_equal(place.mask(first), place.mask(second))


def test_nobody_asks_and_nothing_is_answered(place: Place) -> None:
    """Label Studio asks of its own accord when a task without predictions is opened: a control must stay without."""
    body = predict_body(None)
    assert place.api.post("/interactive/predict", json=body, headers=BASIC).json() == {"results": []}
    only_negative = place.predict(*click_regions(Click(5, 5, False), place.run.size, 0))
    assert only_negative.json() == {"results": [{"result": [], "score": 0.0}]}


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"task_id": 71}, 404, "not_found"),
        ({"project": "6.1764000000"}, 404, "not_found"),
        ({"data": {}}, 422, "unknown_page"),
        ({"data": {"keyframe_frame_indices": [5]}}, 404, "stale_page"),
    ],
)
def test_what_is_not_ours_is_told_so(place: Place, more: dict[str, Any], status: int, code: str) -> None:
    answer = place.predict(*click_regions(Click(5, 5), place.run.size, 0), **more)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_picture_that_is_gone_or_no_picture_is_told_so(place: Place) -> None:
    run, storage = place.run, place.container.settings.storage
    ask = click_regions(middle_of(run.thing(0)), run.size, 0)
    key = run.image_keys[clickable.PAGES[0]]
    place.container.store.put(storage.artifact_bucket, key, b"no picture", "image/png")
    answer = place.predict(*ask)
    assert (answer.status_code, answer.json()["code"]) == (422, "masks_refused")
    small = clickable.png(np.zeros((8, 8, 3), np.uint8))
    place.container.store.put(storage.artifact_bucket, key, small, "image/png")
    assert "8×8 pixels" in place.predict(*ask).json()["detail"]
    place.container.store._client.delete_object(Bucket=storage.artifact_bucket, Key=key)
    answer = place.predict(*ask)
    assert (answer.status_code, answer.json()["code"]) == (422, "object_gone")


def examined(place: Place) -> tuple[str, str]:
    [finding] = examine({"masks": Doctor(place.container).masks_on_demand})
    return finding.status, finding.detail


def test_the_doctor_notes_that_the_model_is_being_loaded(
    make: Callable[[], Place], waiting: tuple[Waiting, str]
) -> None:
    """A stack that was just started is not a broken one."""
    place = make()
    status, detail = examined(place)
    assert (status, "still being loaded" in detail) == ("note", True)
    place.waiting.set(MaskDesk(place.container).draw)
    assert examined(place) == ("ok", f"drawn at {waiting[1]}; 0 projects ask for them")


@pytest.mark.parametrize(
    ("away", "said"), [({"service_token": "another"}, "refuses the token"), ({"service_url": NOBODY}, "doesn't answer")]
)
def test_the_doctor_finds_who_draws_away_or_strange(
    make: Callable[[InteractiveSettings], Place], waiting: tuple[Waiting, str], away: dict[str, str], said: str
) -> None:
    asked = InteractiveSettings.model_validate(
        {"service_url": waiting[1], "service_token": TOKEN, "deadline_s": 5} | away
    )
    status, detail = examined(make(asked))
    assert (status, said in detail) == ("failed", True)


@pytest.mark.parametrize("body", [b"", b"[]", b"no json", b'{"tasks": [1], "params": 3}'])
def test_nonsense_is_refused(place: Place, body: bytes) -> None:
    for path in ("predict", "webhook"):
        assert place.api.post(f"/interactive/{path}", content=body, headers=BASIC).status_code == 422


def test_who_is_away_late_or_busy_leaves_the_page_alone(
    make: Callable[[InteractiveSettings], Place], waiting: tuple[Waiting, str], caplog: pytest.LogCaptureFixture
) -> None:
    """An empty result, and a line in the log: an error would be the labeler's trouble."""
    nothing = {"results": [{"result": [], "score": 0.0}]}
    place = make(InteractiveSettings(service_url=waiting[1], service_token=SecretStr(TOKEN), deadline_s=0.3))
    ask = click_regions(middle_of(place.run.thing(0)), place.run.size, 0)
    assert place.predict(*ask).json() == nothing  # its model is still being loaded
    release = threading.Event()

    def busy(_: Any) -> Any:
        release.wait(30)
        raise ServiceUnavailable("busy")

    place.waiting.set(busy)
    assert place.predict(*ask).json() == nothing
    release.set()
    assert place.predict(*ask).json() == nothing
    away = InteractiveSettings(service_url=f"http://127.0.0.1:{core.free_port()}")
    place.container.mask_service = type(place.container.mask_service)(away)
    assert place.predict(*ask).json() == nothing
    told = [line for line in caplog.messages if line.startswith("no mask for task 70, page 1: ")]
    assert len(told) == 4


def test_a_wrong_token_between_us_is_said_in_the_log(
    make: Callable[[InteractiveSettings], Place], waiting: tuple[Waiting, str], caplog: pytest.LogCaptureFixture
) -> None:
    place = make(InteractiveSettings(service_url=waiting[1], service_token=SecretStr("another")))
    answer = place.predict(*click_regions(middle_of(place.run.thing(0)), place.run.size, 0))
    assert answer.json() == {"results": [{"result": [], "score": 0.0}]}
    assert "interactive.service_token" in caplog.text


def test_only_who_has_the_password_is_answered_and_its_token_is_not_kept(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = {"Authorization": "Basic " + base64.b64encode(b"premask:wrong").decode()}
    other_user = {"Authorization": "Basic " + base64.b64encode(f"eve:{SECRET}".encode()).decode()}
    bearer, torn = {"Authorization": f"Bearer {SECRET}"}, {"Authorization": "Basic ???"}
    for headers in ({}, wrong, other_user, bearer, torn):
        assert place.api.get("/interactive/health", headers=headers).status_code == 401
        for path in ("setup", "predict", "webhook"):
            assert place.api.post(f"/interactive/{path}", json={}, headers=headers).status_code == 401
    assert place.api.get("/interactive/health", headers=BASIC).json() == {"status": "UP"}
    with caplog.at_level(logging.DEBUG):
        said = {"project": "5.1", "schema": "<View/>", "hostname": "http://ls", "access_token": "their-token"}
        assert place.api.post("/interactive/setup", json=said, headers=BASIC).json()["model_version"]
    assert "their-token" not in caplog.text


def test_its_webhook_is_a_hint_like_the_other_one(place: Place) -> None:
    body = {"action": "ANNOTATION_CREATED", "project": {"id": 5}, "task": {"id": 70}}
    assert place.api.post("/interactive/webhook", content=json.dumps(body), headers=BASIC).json() == {"tasks": 1}
    with place.container.transaction() as session:
        told = session.execute(select(OutboxMessage.task, OutboxMessage.payload)).all()
    assert ("reviews.collect", {"project_id": 5, "task_id": 70}) in [tuple(row) for row in told]


class Tool(UnusedTool):
    """Notes what masks on demand are asked of it."""

    def __init__(self, refuses: bool = False) -> None:
        self.asked: list[tuple[int, bool]] = []
        self._refuses = refuses

    def ensure_project(self, *_: Any) -> int:
        return 9

    def ensure_interactive(self, project_id: int, wanted: bool) -> None:
        if self._refuses:
            raise Misconfigured("no way")
        self.asked.append((project_id, wanted))


def test_a_project_is_made_with_masks_on_demand_or_not_at_all(place: Place) -> None:
    container, tool = place.container, Tool()
    ask: dict[str, Any] = {"sources": [], "instructions": [], "labels": [], "spec": container.run_spec}
    with pytest.raises(Misconfigured):
        projects.create_connected(container.transaction, Tool(refuses=True), "a", **ask, interactive=True)
    with pytest.raises(Misconfigured, match="has no place"):
        projects.create_connected(container.transaction, None, "a", **ask, interactive=True)
    made = projects.create_connected(container.transaction, tool, "a", **ask, interactive=True)
    assert (made.interactive, tool.asked) == (True, [(9, True)])
    projects.connect(container.transaction, tool, "a")
    assert not projects.set_interactive(container.transaction, tool, "a", False).interactive
    projects.connect(container.transaction, tool, "a")
    assert tool.asked == [(9, True), (9, True), (9, False)]


def test_a_project_of_somebody_else_is_left_alone(place: Place) -> None:
    tool = Tool()
    with place.container.transaction() as session:
        session.scalars(select(Project)).one().adoption = {"changes": [], "annotations_until": None}
    with pytest.raises(BadInput, match="somebody else's"):
        projects.set_interactive(place.container.transaction, tool, "clicks", True)
    assert tool.asked == []
