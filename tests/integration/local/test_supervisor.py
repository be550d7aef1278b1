"""The supervisor on small made-up services: order, restarts, failures, and nothing left behind."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

from backend.domain.errors import ServiceUnavailable
from integrations.local import guard
from integrations.local.console import Console
from integrations.local.service import Service
from integrations.local.supervisor import Supervisor, together
from tests.integration.local.processes import living

SLEEPER = "import time; print('here we go', flush=True); time.sleep(600)"


def make(tmp_path: Path, name: str, program: str = SLEEPER, **fields: Any) -> Service:
    command = (sys.executable, "-I", "-S", "-u", "-c", program)
    return Service(name=name, command=command, log=tmp_path / f"{name}.log", **fields)


def prints(log: Path, text: str) -> Callable[[], bool]:
    return lambda: text in log.read_text()


def supervised(test: Callable[[Supervisor], Coroutine[Any, Any, None]]) -> None:
    async def body() -> None:
        supervisor = Supervisor(Console(quiet=True))
        try:
            await asyncio.wait_for(test(supervisor), 30)
        finally:
            await supervisor.stop()

    asyncio.run(body())


def test_ready_only_when_the_probe_says_so_and_the_log_is_added_to(tmp_path: Path) -> None:
    log = tmp_path / "late.log"
    log.write_text("go\n")
    program = "import time; time.sleep(0.4); print('go'); time.sleep(600)"
    service = make(tmp_path, "late", program, probe=lambda: log.read_text().count("go") == 2)

    async def test(supervisor: Supervisor) -> None:
        await supervisor.start(service)
        assert supervisor.seconds["late"] >= 0.4
        assert service.log.read_text() == "go\ngo\n"

    supervised(test)


def test_a_service_that_dies_while_starting_is_told_with_its_last_lines(tmp_path: Path) -> None:
    service = make(tmp_path, "broken", "print('no such flag'); raise SystemExit(3)", probe=lambda: False)

    async def test(supervisor: Supervisor) -> None:
        with pytest.raises(ServiceUnavailable, match=r"(?s)broken exited with status 3.*no such flag"):
            await supervisor.start(service)

    supervised(test)


def test_a_service_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    service = make(tmp_path, "slow", probe=lambda: False, ready_timeout_s=0.5)

    async def test(supervisor: Supervisor) -> None:
        with pytest.raises(ServiceUnavailable, match=r"(?s)slow was not ready within.*here we go"):
            await supervisor.start(service)

    supervised(test)


def test_a_killed_worker_is_started_again(tmp_path: Path) -> None:
    changes: list[int] = []

    async def test(supervisor: Supervisor) -> None:
        supervisor.on_change = lambda: changes.append(supervisor.pids["worker"])
        await supervisor.start(make(tmp_path, "worker", restarts=True))
        first = supervisor.pids["worker"]
        os.kill(first, signal.SIGKILL)
        while not changes:
            await asyncio.sleep(0.02)
        assert changes[0] != first
        assert psutil.pid_exists(changes[0])
        assert not supervisor.failure.done()

    supervised(test)
    assert not psutil.pid_exists(changes[0])


def test_a_killed_base_service_is_a_failure(tmp_path: Path) -> None:
    async def test(supervisor: Supervisor) -> None:
        await supervisor.start(make(tmp_path, "base", probe=prints(tmp_path / "base.log", "here we go")))
        os.kill(supervisor.pids["base"], signal.SIGKILL)
        error = await supervisor.failure
        assert "base was ended by SIGKILL" in str(error)
        assert "here we go" in str(error)

    supervised(test)


def test_stop_goes_from_the_top_and_takes_grandchildren_along(tmp_path: Path) -> None:
    order = tmp_path / "order"
    note = (
        "import signal, sys, time, pathlib\n"
        "def bye(*_):\n"
        "    with open({order!r}, 'a') as f: f.write({name!r} + '\\n')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, bye)\n"
        "print('set', flush=True); time.sleep(600)"
    )
    stubborn = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('child', child.pid, flush=True); time.sleep(600)"
    )
    grandchild: list[psutil.Process] = []

    async def test(supervisor: Supervisor) -> None:
        for layer, name in ((0, "base"), (1, "app")):
            text = note.format(order=str(order), name=name)
            await supervisor.start(
                make(tmp_path, name, text, probe=prints(tmp_path / f"{name}.log", "set"), layer=layer)
            )
        patience = ((signal.SIGTERM, 0.3),)
        probe = prints(tmp_path / "stubborn.log", "child")
        service = make(tmp_path, "stubborn", stubborn, probe=probe, layer=2, stop_signals=patience)
        await supervisor.start(service)
        grandchild.append(psutil.Process(int(service.log.read_text().split()[1])))

    supervised(test)
    assert order.read_text().split() == ["app", "base"]
    assert living(grandchild) == []


def test_the_guard_ends_what_the_death_signal_does_not_reach() -> None:
    """As a Celery pool process in the middle of a job: its parent is dead, it hears no signal."""
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    command = [sys.executable, "-I", "-S", "-c", deaf]
    left, gone = (subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) for _ in range(2))
    try:
        for process in (left, gone):
            assert process.stdout is not None
            process.stdout.readline()
        told = f"+{left.pid}\n+{gone.pid}\n-{gone.pid}\n"
        subprocess.run(
            [sys.executable, "-I", "-S", guard.__file__, "0.2"], input=told, text=True, check=True, timeout=10
        )
        assert left.wait(5) == -signal.SIGKILL
        assert gone.poll() is None, "no longer the launcher's"
    finally:
        for process in (left, gone):
            process.kill()
            process.communicate()


def test_together_cancels_the_others_when_one_fails() -> None:
    ended: list[str] = []

    async def endless() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            ended.append("endless")

    async def failing() -> None:
        await asyncio.sleep(0.01)
        raise ServiceUnavailable("no")

    with pytest.raises(ServiceUnavailable):
        asyncio.run(asyncio.wait_for(together(endless(), failing()), 10))
    assert ended == ["endless"]
