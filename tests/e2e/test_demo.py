"""`premask demo --once --json`: six sample videos through the whole product, and the figures it must reach."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from integrations.local.state import StateDir
from tests.conftest import ROOT, remove_refuge

pytestmark = [pytest.mark.stack, pytest.mark.label_studio, pytest.mark.slow]


def test_six_runs_are_published_and_lie_on_their_targets(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    identity = StateDir(state_dir, well_known_ports=False).identity
    command = [sys.executable, "-m", "backend.cli.main", "demo", "--once", "--json", "--state-dir", str(state_dir)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=280, check=False
        )
    finally:
        remove_refuge(identity)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    runs = report["runs"]
    assert len(runs) == 6
    assert all(run["published"] and run["status"] == "succeeded" for run in runs)
    assert {run["mode"] for run in runs} == {"vos", "avs"}
    assert {run["objects_in_scene"] for run in runs} == {2, 3}
    assert sum(run["j"] for run in runs) / len(runs) >= 0.80
    for run in runs:
        assert run["tracks"] >= 1
        assert {"fetch", "decode", "system1", "system2", "segment", "link"} <= set(run["seconds"])
    assert report["label_studio"]["url"].startswith("http://127.0.0.1:")
    assert report["label_studio"]["project_id"] >= 1
    assert {"total", "render", "project", "annotate", "all"} <= set(report["seconds"])
