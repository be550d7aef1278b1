"""How fast many pre-annotations get into Label Studio, beside its own bulk import.

`python -m benchmarks.bulk_import [TASKS] [PAIRS]`: 1,000 tasks, each with one track of 200 keyframes, into projects of
a Label Studio with a new database (SQLite): by its import API with bodies that are ready, in the same batches; and by
ours, which builds and validates them meanwhile. Five pairs of both, right after each other, by turns the one and the
other first: what slows the machine for a while, or the database as it grows, meets both alike. Every project is deleted
after its pass. The ratio, ours over Label Studio's own, is the median of the pairs'; all of them are printed, with the
CPU time that this process took for a task (both ways send it; ours also builds it), and last one JSON line.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
from pydantic import SecretStr

from backend.domain.annotation import Box, VideoProbe
from backend.domain.errors import Misconfigured
from backend.domain.runs import Mode, RunStatus
from backend.domain.tracks import BoxKeyframe
from backend.ports.publication import PublicationItem, PublicationTrack
from backend.settings import LabelStudioSettings, StorageSettings
from integrations.label_studio.bulk import MAX_TASKS
from integrations.label_studio.config import labeling_config, read_config
from integrations.label_studio.coordinates import frame_rate
from integrations.label_studio.prediction import prediction
from integrations.label_studio.task_data import task_data
from integrations.label_studio.tool import LabelStudioTool
from integrations.local import label_studio
from integrations.local.service import running
from integrations.local.state import StateDir

TARGET, TASKS, KEYFRAMES, PAIRS = 0.9, 1000, 200, 5
FRAMES = 2 * KEYFRAMES


def _item(number: int) -> PublicationItem:
    """A track with a keyframe on every second frame; no pages, as masks are not what is measured."""
    rng = np.random.default_rng(number)
    places = np.cumsum(rng.uniform(-2, 2, (KEYFRAMES, 2)), axis=0) + np.array([300, 150])
    track = PublicationTrack(
        0, "the thing", 0.9,
        tuple(BoxKeyframe(2 * i, Box(x, y, x + 40.0, y + 30.0), True) for i, (x, y) in enumerate(places.tolist())), {},
    )  # fmt: skip
    rate = Fraction(25)
    probe = VideoProbe(
        FRAMES, 640, 360, 0, float(FRAMES / rate), False, "h264", 1, 25, np.arange(FRAMES, dtype=np.int64)
    )
    return PublicationItem(
        run_id=number + 1, video_id=number + 1, instruction_id=1, instruction="the thing", mode=Mode.VOS,
        video_uri="s3://bucket/clip.mp4", probe=probe, status=RunStatus.SUCCEEDED, outcome_code=None,
        reasoning="There is one thing.", pages=(), tracks=(track,), model_version="benchmark",
    )  # fmt: skip


def _own_import(server: label_studio.LabelStudio, project_id: int, bodies: list[bytes]) -> float:
    """Seconds of Label Studio's own import, its bodies ready."""
    headers = {"Authorization": f"Token {server.token}", "Content-Type": "application/json"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=600) as api:
        begin = time.perf_counter()
        for body in bodies:
            answer = api.post(f"/api/projects/{project_id}/import", params={"return_task_ids": "true"}, content=body)
            if answer.status_code != 201:
                raise SystemExit(f"Label Studio answered {answer.status_code}: {answer.text[:300]}")
        return time.perf_counter() - begin


def _bodies(items: list[PublicationItem]) -> list[bytes]:
    config, tasks = read_config(labeling_config([])), []
    for item in items:
        rate = frame_rate(item.probe)
        body = prediction(item, config, rate, [])
        del body["neighbors"]
        tasks.append({"data": task_data(item, rate), "predictions": [body]})
    return [json.dumps(tasks[i : i + MAX_TASKS]).encode() for i in range(0, len(tasks), MAX_TASKS)]


def _ours(tool: LabelStudioTool, project_id: int, items: list[PublicationItem]) -> float:
    begin = time.perf_counter()
    found = tool.publish_new(project_id, items)
    spent = time.perf_counter() - begin
    if not all(isinstance(task_id, int) for task_id in found):
        raise SystemExit(f"not all were made: {found[:3]}")
    return spent


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else TASKS
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else PAIRS
    with tempfile.TemporaryDirectory() as folder:
        state = StateDir(Path(folder) / "state", well_known_ports=False)
        try:
            server = label_studio.prepare(state, Path(".venv-label-studio"))
        except Misconfigured as error:
            raise SystemExit(str(error)) from error
        with running(label_studio.service(server, state.log("label-studio"))):
            settings = LabelStudioSettings(url=server.url, api_key=SecretStr(server.token), timeout_s=600)
            tool = LabelStudioTool(settings, StorageSettings())
            detail = _measure(server, tool, count, pairs)
    ratio = round(median(detail["ratios"]), 3)
    print(json.dumps({"benchmark": "bulk_import", "ratio": ratio, "target": TARGET, "ok": ratio >= TARGET,
                      "detail": detail}))  # fmt: skip


def _measure(server: label_studio.LabelStudio, tool: LabelStudioTool, count: int, pairs: int) -> dict[str, Any]:
    items = [_item(number) for number in range(count)]
    bodies = _bodies(items)
    # The first import into a new server is slower than those after it.
    few = [replace(item, video_id=10**6 + item.video_id) for item in items[:20]]
    ways: dict[str, Callable[[int], float]] = {
        "Label Studio's own import": lambda project: _own_import(server, project, bodies),
        "ours": lambda project: _ours(tool, project, items),
    }
    _own_import(server, _project(server, "warm"), _bodies(few))
    _ours(tool, _project(server, "warm, too"), few)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    cpu_s = dict.fromkeys(ways, 0.0)
    for number in range(pairs):
        for name in ways if number % 2 == 0 else reversed(ways):
            project = _project(server, f"pair {number}, {name}"[:50])
            begin = time.process_time()
            rates[name].append(count / ways[name](project))
            cpu_s[name] += time.process_time() - begin
            _delete(server, project)
            print(f"pair {number + 1}, {name}: {rates[name][-1]:.1f} tasks/s")
    theirs, ours = rates.values()
    ratios = [round(one / other, 3) for other, one in zip(theirs, ours, strict=True)]
    print(f"ratios: {', '.join(map(str, ratios))}")
    return {
        "tasks": count,
        "bytes_per_task": round(sum(map(len, bodies)) / count),
        "label_studio_per_s": round(median(theirs), 1),
        "ours_per_s": round(median(ours), 1),
        "ratios": ratios,
        "cpu_ms_per_task": {name: round(1000 * spent / count / pairs, 2) for name, spent in cpu_s.items()},
    }


def _delete(server: label_studio.LabelStudio, project_id: int) -> None:
    headers = {"Authorization": f"Token {server.token}"}
    httpx.delete(f"{server.url}/api/projects/{project_id}/", headers=headers, timeout=600).raise_for_status()


def _project(server: label_studio.LabelStudio, title: str) -> int:
    body = {"title": title, "label_config": labeling_config([])}
    headers = {"Authorization": f"Token {server.token}"}
    answer = httpx.post(f"{server.url}/api/projects/", json=body, headers=headers, timeout=60)
    answer.raise_for_status()
    return int(answer.json()["id"])


if __name__ == "__main__":
    main()
