"""The base of the stack under a real launcher: what Ctrl-C, kill -9 and a crash leave behind. Nothing."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from integrations.local.ports import is_free
from integrations.local.state import StateDir, running_environment, running_stack
from tests.conftest import ROOT, remove_refuge
from tests.integration.local.processes import family, living, wait_until

pytestmark = pytest.mark.stack

LAUNCHER = textwrap.dedent(
    """
    import asyncio, pathlib, sys
    from integrations.local.session import Interrupted, run
    from integrations.local.stack import Stack

    async def forever(stack):
        await asyncio.Event().wait()

    stack = Stack(pathlib.Path(sys.argv[1]), with_label_studio=False, with_app=False, well_known_ports=False)
    try:
        asyncio.run(run(stack, forever))
    except Interrupted:
        print("interrupted", stack.seconds)
    """
)
Launch = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "state"
    yield folder
    remove_refuge(StateDir(folder).identity)


@pytest.fixture
def launch(state_dir: Path) -> Iterator[Launch]:
    """Starts the launcher and waits until the stack is ready."""
    started: list[subprocess.Popen[str]] = []

    def start() -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", LAUNCHER, str(state_dir)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        started.append(process)
        wait_until(lambda: running_stack(state_dir) or process.poll() is not None, "ready", within_s=60)
        if process.poll() is not None:
            assert process.stdout is not None
            pytest.fail(f"the launcher ended: {process.stdout.read()}")
        return process

    yield start
    for process in started:
        if process.poll() is None:
            everybody = family(process.pid)
            process.kill()
            wait_until(lambda everybody=everybody: not living(everybody), "all processes ended")
        process.communicate()


def ports(state_dir: Path) -> dict[str, int]:
    remembered: dict[str, Any] = json.loads((state_dir / "state.json").read_text())
    return dict(remembered["ports"])


def test_ctrl_c_stops_everything_and_frees_every_port(launch: Launch, state_dir: Path) -> None:
    launcher = launch()
    everybody = family(launcher.pid)
    assert {"postgres", "weed", "valkey-server"} <= {process.name() for process in everybody}
    environment = running_environment(state_dir)
    assert environment is not None
    assert environment["PREMASK__STORAGE__ENDPOINT_URL"].startswith("http://127.0.0.1:")
    used = ports(state_dir)
    launcher.send_signal(signal.SIGINT)
    output, _ = launcher.communicate(timeout=30)
    assert launcher.returncode == 0
    assert "interrupted" in output
    assert living(everybody) == []
    assert [name for name, port in used.items() if not is_free(port)] == []
    assert running_environment(state_dir) is None


def test_everything_listens_on_loopback_only(launch: Launch) -> None:
    launcher = launch()
    addresses = set()
    for process in family(launcher.pid)[1:]:
        # Postgres has processes that live for a moment.
        with suppress(psutil.NoSuchProcess):
            connections = process.net_connections("inet")
            addresses |= {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    assert addresses == {"127.0.0.1"}


def test_kill_9_of_the_launcher_leaves_no_process_and_the_data_whole(launch: Launch, state_dir: Path) -> None:
    launcher = launch()
    everybody = family(launcher.pid)
    launcher.kill()
    wait_until(lambda: not living(everybody), "all processes ended", within_s=15)
    used = ports(state_dir)
    second = launch()
    assert ports(state_dir) == used, "yesterday's addresses are today's"
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=30)
    assert second.returncode == 0


def test_a_crashed_base_service_ends_the_stack_with_its_name(launch: Launch, state_dir: Path) -> None:
    launcher = launch()
    everybody = family(launcher.pid)
    stack = running_stack(state_dir)
    assert stack is not None
    os.kill(stack["pids"]["valkey"], signal.SIGKILL)
    output, _ = launcher.communicate(timeout=30)
    assert launcher.returncode == 1
    assert "valkey was ended by SIGKILL" in output
    assert living(everybody) == []
