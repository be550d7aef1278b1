"""A command of our own as a process of its own: what it printed, how it ended, and that nothing of it is left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.factories.waiting import wait_for
from workers.retraining import command

#: Stands for a launcher: prints its process id, and then waits beside a child of its own.
LAUNCHER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_it_printed_and_what_it_said_are_apart(tmp_path: Path) -> None:
    log, printed = tmp_path / "log", tmp_path / "out"
    assert command.run(["retrain", "--help"], log, printed, lambda: None) == 0
    assert "schedule" in printed.read_text()
    assert command.run(["retrain", "nonsense"], log, printed, lambda: None) == 2
    assert "nonsense" in command.last_words(log)


def test_what_the_watch_raises_ends_the_whole_group(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    printed = tmp_path / "out"

    def watch() -> None:
        if printed.read_text().strip():
            raise Enough

    with pytest.raises(Enough):
        command.run([], tmp_path / "log", printed, watch, launch=[sys.executable, "-c", LAUNCHER], every_s=0.05)
    child = int(printed.read_text())
    wait_for(lambda: not is_alive(child), "its child is gone", 20)


@pytest.mark.skipif(not Path("/proc").exists(), reason="death signals are Linux's")
def test_it_dies_with_the_worker_that_is_killed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    worker = f"""
import sys
from pathlib import Path
from workers.retraining import command
waiting = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
command.run([], Path({str(tmp_path / "log")!r}), Path({str(out)!r}), lambda: None,
            launch=[sys.executable, "-c", waiting])
"""
    process = subprocess.Popen([sys.executable, "-c", worker])
    try:
        wait_for(lambda: out.exists() and out.read_text().strip(), "it runs")
        pid = int(out.read_text())
        assert is_alive(pid)
        os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: not is_alive(pid), "it is gone", 20)
    finally:
        process.kill()
        process.wait()
