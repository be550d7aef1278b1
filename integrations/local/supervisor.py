"""Starts services, waits for their health, restarts workers that crash, and stops everything in order.

A crash of a base service (one that doesn't restart) ends the stack: `failure` is set and whoever waits on it stops.
"""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.domain.errors import ServiceUnavailable
from integrations.local import guard
from integrations.local.console import Console
from integrations.local.service import POLL_S, Service, exited, kill_group, open_log, too_slow

BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
#: A worker that lived this long is healthy again: the next crash starts at the first backoff.
HEALTHY_S = 60.0


@dataclass(slots=True)
class Running:
    service: Service
    process: asyncio.subprocess.Process
    log_offset: int
    started: float
    output: asyncio.Task[None]
    watcher: asyncio.Task[None] | None = None
    crashes: int = 0


@dataclass(slots=True)
class Supervisor:
    console: Console
    #: Called when a process was replaced (`stack.json` names the pids).
    on_change: Callable[[], None] = lambda: None
    #: Kept open by the guard, so that the state folder stays locked until it has cleaned up after a killed launcher.
    lock_descriptor: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    failure: "asyncio.Future[ServiceUnavailable]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    _running: dict[str, Running] = field(default_factory=dict)
    _stopping: bool = False
    _guard: "subprocess.Popen[str] | None" = None

    @property
    def pids(self) -> dict[str, int]:
        return {name: running.process.pid for name, running in self._running.items()}

    async def start(self, service: Service) -> None:
        """Start it and wait until it is ready. Raises `ServiceUnavailable` with the log's last lines."""
        started = time.monotonic()
        running = await self._spawn(service)
        self._running[service.name] = running
        await self._wait_ready(running)
        await asyncio.to_thread(service.after_ready)
        self.seconds[service.name] = round(time.monotonic() - started, 2)
        self.console.good(service.name, f"ready after {self.seconds[service.name]:.1f} s")
        running.watcher = asyncio.create_task(self._watch(running))

    async def stop(self) -> None:
        """Highest layer first, the services of a layer side by side."""
        self._stopping = True
        for layer in sorted({running.service.layer for running in self._running.values()}, reverse=True):
            group = [running for running in self._running.values() if running.service.layer == layer]
            await asyncio.gather(*(self._stop(running) for running in group))
        self._running.clear()
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            await asyncio.to_thread(self._guard.wait)

    def kill(self) -> None:
        """Now: SIGKILL to every process group. `stop` still has to be awaited."""
        self._stopping = True
        for running in self._running.values():
            kill_group(running.process.pid)

    async def _spawn(self, service: Service) -> Running:
        offset = open_log(service.log)
        process = await asyncio.create_subprocess_exec(
            *service.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **service.spawn_arguments()
        )
        self._tell_guard("+", process.pid)
        output = asyncio.create_task(self._pump(service, process))
        return Running(service, process, offset, time.monotonic(), output)

    async def _pump(self, service: Service, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        rest = b""
        with service.log.open("ab", buffering=0) as log:
            while chunk := await process.stdout.read(65_536):
                log.write(chunk)
                if not service.quiet:
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        self._show(service, line)
        if rest:
            self._show(service, rest)

    def _show(self, service: Service, line: bytes) -> None:
        # A progress bar draws over itself: its last state is the line.
        text = line.decode(errors="replace").rstrip().rpartition("\r")[2]
        if text:
            self.console.line(service.name, text)

    async def _wait_ready(self, running: Running) -> None:
        service, deadline = running.service, time.monotonic() + running.service.ready_timeout_s
        while not await asyncio.to_thread(service.probe):
            if running.process.returncode is not None:
                await running.output
                raise exited(service, running.process.returncode, running.log_offset)
            if time.monotonic() > deadline:
                raise too_slow(service, running.log_offset)
            await asyncio.sleep(POLL_S)

    async def _watch(self, running: Running) -> None:
        while True:
            returncode = await running.process.wait()
            if self._stopping:
                return
            self._bury(running)
            # A grandchild may hold the pipe open; the kill above ends it.
            await running.output
            error = exited(running.service, returncode, running.log_offset)
            if not running.service.restarts:
                if not self.failure.done():
                    self.failure.set_result(error)
                return
            await self._restart(running, error)

    async def _restart(self, running: Running, error: ServiceUnavailable) -> None:
        running.crashes = 0 if time.monotonic() - running.started > HEALTHY_S else running.crashes
        delay_s = BACKOFF_S[min(running.crashes, len(BACKOFF_S) - 1)]
        running.crashes += 1
        self.console.bad(running.service.name, f"{error}\n    it is started again in {delay_s:g} s")
        await asyncio.sleep(delay_s)
        fresh = await self._spawn(running.service)
        running.process, running.log_offset = fresh.process, fresh.log_offset
        running.started, running.output = fresh.started, fresh.output
        self.on_change()

    async def _stop(self, running: Running) -> None:
        if running.watcher is not None:  # first: it may be about to start the process again
            running.watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running.watcher
        process = running.process
        for number, patience_s in running.service.stop_signals:
            if process.returncode is not None:
                break
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(process.wait()), patience_s)
        if process.returncode is None:
            self.console.bad(running.service.name, "did not stop when asked; killed")
        self._bury(running)
        await process.wait()
        await running.output

    def _bury(self, running: Running) -> None:
        """Whatever is left of the process group goes with its leader."""
        kill_group(running.process.pid)
        self._tell_guard("-", running.process.pid)

    def _tell_guard(self, sign: str, pid: int) -> None:
        if self._guard is None:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(guard.__file__))],
                stdin=subprocess.PIPE,
                text=True,
                start_new_session=True,
                pass_fds=() if self.lock_descriptor is None else (self.lock_descriptor,),
            )
        assert self._guard.stdin is not None
        # A guard that somebody killed is missed only if the launcher is killed too, and then there is the death signal.
        with contextlib.suppress(BrokenPipeError):
            print(f"{sign}{pid}", file=self._guard.stdin, flush=True)


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """All side by side; the first failure cancels the others, and is raised when they have ended."""
    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
