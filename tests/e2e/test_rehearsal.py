"""`premask rehearse`: one small night of the learning loop, from clips in the bucket to the gate's verdict."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from integrations.local.state import StateDir
from tests.conftest import ROOT, remove_refuge

pytestmark = [pytest.mark.stack, pytest.mark.label_studio, pytest.mark.slow]

CLIPS = 10
SUITE = "shapeworld:validation:200000:200001:attribute"


@pytest.mark.timeout(600)
def test_a_night_of_mixed_up_reviews_is_refused_and_everything_is_told(tmp_path: Path) -> None:
    """Each clip reviewed with another's truth: whatever one step learns of it, the champion goes on."""
    state_dir = tmp_path / "state"
    command = [
        sys.executable, "-m", "backend.cli.main", "rehearse", "--nights", "1", "--clips", str(CLIPS), "--steps", "1",
        "--min-videos", "2", "--shuffled", "--regression", SUITE,
        "--base", str(ROOT / "workers/shapeworld/checkpoints/system1"), "--state-dir", str(state_dir), "--json",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=580, check=False
        )
    finally:
        # Not before: a folder with a state is another's.
        remove_refuge(StateDir(state_dir, well_known_ports=False).identity)
    assert (done.returncode, bool(done.stdout)) == (0, True), done.stderr[-2000:]
    report = json.loads(done.stdout)
    # Progress went beside it, and what the nights told is kept, for one that is ended before its last.
    assert f"night 1: {CLIPS} clips are in the bucket" in done.stderr
    assert json.loads((state_dir / "nights.json").read_text()) == report
    [night] = report["nights"]
    assert (report["ok"], night["state"], night["promoted"]) == (True, "refused", False)
    assert "the gate refused" in night["said"]
    # All were reviewed, none left as it was, and what was corrected was counted.
    assert (night["clips"], night["accepted"], night["corrections"]) == (CLIPS, 0, CLIPS)
    assert night["edits_per_task"] >= 1
    # They were frozen, both sides, and learned from.
    sides = night["items"]
    assert sides["train"]["items"] + sides["holdout"]["items"] == CLIPS
    assert len(night["dataset"]) == len(night["candidate"]) == len(night["verdict"]) == 64
    assert night["steps"] == 1
    # And measured, on what is new and on what must not get worse.
    suites = {suite["role"]: suite for suite in night["held_out"]}
    # A video of which no mask is known isn't scored.
    assert 2 <= suites["fresh"]["all"]["difference"]["videos"] <= sides["holdout"]["videos"]
    assert suites["fresh"]["all"]["difference"]["low"] <= 0
    assert suites["regression"]["suite"] == SUITE
    # For the nights to come both models' scores there are kept, beside what says whose they are.
    kept = list((state_dir / "retrainings" / "scores").rglob("*.jsonl"))
    assert len(kept) == 2
    assert all(len(scores.read_text().splitlines()) == 2 for scores in kept)
    assert suites["regression"]["all"]["champion_jf"] > 0.5
