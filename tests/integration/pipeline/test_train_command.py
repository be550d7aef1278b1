"""`premask shapeworld train` as a person runs it: told to stop it saves, given again it goes on; refusals are said."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.domain.errors import BadInput
from backend.profiles import REPOSITORY_ROOT
from tests.factories.waiting import wait_for
from workers.shapeworld.training import command, optimizers
from workers.shapeworld.training.command import train

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "backend.cli.main", "shapeworld", "train", "segmenter", "--loaders", "1"]


def steps(folder: Path) -> int:
    rows = (folder / "curve.jsonl").read_text().splitlines() if (folder / "curve.jsonl").exists() else []
    return int(json.loads(rows[-1])["step"]) if rows else 0


@pytest.mark.parametrize(
    "send",
    [lambda process: os.killpg(process.pid, signal.SIGINT), lambda process: process.send_signal(signal.SIGTERM)],
    ids=["ctrl-c", "sigterm"],  # a terminal sends Ctrl-C to the loader, too
)
def test_a_training_that_is_told_to_stop_saves_and_goes_on(
    tmp_path: Path, send: Callable[[subprocess.Popen[str]], None]
) -> None:
    folder = tmp_path / "training"
    command = [*COMMAND, "--out", str(folder)]
    options: Any = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, cwd=REPOSITORY_ROOT, **options) as process:
        wait_for(lambda: process.poll() is None and steps(folder) >= 50, "fifty steps were made", 120)
        send(process)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "stopped and saved; the same command goes on" in said
    stopped_at = torch.load(folder / "state.pt")["step"]
    assert stopped_at >= 50
    done = subprocess.run(
        [*command, "--minutes", "0"], cwd=REPOSITORY_ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert "stopped and saved" in done.stdout
    assert torch.load(folder / "state.pt")["step"] == stopped_at + 1


def test_what_can_not_be_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "training"
    assert not train("segmenter", folder, loaders=0, stop_after_s=0)
    with pytest.raises(BadInput, match="choose another folder"):
        train("segmenter", folder, seed=1, loaders=0, stop_after_s=0)
    with pytest.raises(BadInput, match="with --eyes"):
        train("system1", tmp_path / "other")
    with pytest.raises(BadInput, match="leave out --eyes"):
        train("system2", tmp_path / "other", eyes=tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(BadInput, match="--device cpu"):
            train("system2", tmp_path / "other", device="cuda")


def test_a_thinker_is_trained_in_float32_where_the_cpu_has_no_bfloat16_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for has in (True, False):
        for module in (command, optimizers):
            monkeypatch.setattr(module, "has_bfloat16", lambda _device, has=has: has)
        assert not train("system2", tmp_path / str(has), loaders=0, stop_after_s=0)
        assert ("training in float32" in capsys.readouterr().out) is not has
