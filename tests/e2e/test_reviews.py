"""What people change in Label Studio comes back by itself: its webhook tells, polling finds, a GPU worker carries it
on, the commands show it and freeze it as a data set."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import LiveStack
from tests.e2e.test_first_light import RUN_TIMEOUT_S, make_clip, make_project, predictions_of, published
from tests.factories.waiting import wait_for
from workers.shapeworld.world.queries import Kind

pytestmark = [pytest.mark.stack, pytest.mark.label_studio, pytest.mark.slow]

#: The webhook's way takes a second; polling, for what it didn't tell, half a minute.
TOLD_S, POLLED_S = 20.0, 60.0


def versions(stack: LiveStack, run_id: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stack.premask("reviews", "show", str(run_id))
    return [version for review in found if review["deleted_at"] is None for version in review["versions"]]


def ready_layer(stack: LiveStack, run_id: int) -> dict[str, Any] | None:
    [version] = versions(stack, run_id)
    layer: dict[str, Any] | None = version["layer"]
    return layer if layer and layer["state"] == "ready" else None


def test_a_correction_is_told_compared_and_counted(live_stack: LiveStack, tmp_path: Path) -> None:
    instruction, mode = make_clip(tmp_path / "r.mp4", Kind.ATTRIBUTE, seed=3000)
    project_id = make_project(live_stack, "reviewed", instruction, mode)
    live_stack.put(tmp_path / "r.mp4", "reviewed/r.mp4")
    run_id = wait_for(published(live_stack, project_id), "the run is published", RUN_TIMEOUT_S)["id"]
    [prediction] = predictions_of(live_stack, run_id)
    [(task_id,)] = live_stack.query("SELECT task_id FROM publications WHERE run_id = %s", run_id)
    moved = deepcopy(prediction["result"])
    box = next(region for region in moved if region["type"] == "videorectangle")
    box["value"]["sequence"][0]["y"] += 7
    token = live_stack.environment["PREMASK__LABEL_STUDIO__API_KEY"]
    headers = {"Authorization": f"Token {token}"}
    with httpx.Client(base_url=live_stack.urls["label_studio"], headers=headers, timeout=30) as api:
        body = {"result": moved, "parent_prediction": prediction["id"], "lead_time": 42.0}
        made = api.post(f"/api/tasks/{task_id}/annotations/", json=body)
        assert made.status_code == 201, made.text
        [version] = wait_for(lambda: versions(live_stack, run_id), "the correction is told", TOLD_S)
        assert (version["accepted"], version["lead_time_s"]) == (False, 42.0)
        changes = {track["region_id"]: track["change"] for track in version["tracks"]}
        assert changes.pop(box["id"]) == "edited"
        assert set(changes.values()) | {mask["change"] for mask in version["masks"]} == {"untouched"}
        layer = wait_for(lambda: ready_layer(live_stack, run_id), "the corrected layer is ready", RUN_TIMEOUT_S)
        track = next(one for one in layer["tracks"] if one["region_id"] == box["id"])
        frame = box["value"]["sequence"][0]["frame"] - 1
        assert (track["change"], track["boxed_frames"]) == ("edited", [frame])
        assert any(begin <= frame < end for begin, end in track["changed"])
        assert {one["change"] for one in layer["tracks"] if one is not track} <= {"untouched"}
        [line] = live_stack.premask("reviews", "stats", "--by", "project", "--project", "reviewed")
        assert (line["reviews"], line["accepted_share"], line["tracks_edited"]) == (1, 0.0, 1)
        frozen = live_stack.premask("datasets", "freeze", "reviewed")
        splits = [frozen["counts"][split] for split in ("train", "holdout")]
        assert sorted(part["items"] for part in splits) == [0, 1]
        assert sum(part["objects"] for part in splits) == len(changes) + 1
        assert live_stack.premask("datasets", "freeze", "reviewed") == frozen
        # Deleting an annotation tells no task: the polling finds which.
        assert api.delete(f"/api/annotations/{made.json()['id']}/").status_code == 204
        wait_for(lambda: not versions(live_stack, run_id), "the deletion is noticed", POLLED_S)
