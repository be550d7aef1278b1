"""What a local service is (a command, how to see that it is ready, how it is stopped), and how its process is spawned.

Both the asyncio supervisor and the synchronous runner of the test fixtures consume `Service`; neither knows Postgres
from Valkey.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.domain.errors import ServiceUnavailable
from integrations.local.accounts import Account

POLL_S = 0.05
LOG_LIMIT_BYTES = 20_000_000
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    command: tuple[str, ...]
    log: Path
    #: One probe: False for "not yet". Failures that mean anything else are let through.
    probe: Callable[[], bool] = lambda: True
    #: Run once when the probe has said yes, before the service counts as ready.
    after_ready: Callable[[], None] = lambda: None
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path("/")
    account: Account | None = None
    #: One after the other, with the seconds each is given; then SIGKILL for the whole process group.
    stop_signals: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 10.0),)
    #: What the kernel sends when the launcher is killed.
    orphan_signal: signal.Signals = signal.SIGTERM
    ready_timeout_s: float = 60.0
    #: Quiet services speak to their log only.
    quiet: bool = True
    #: A crashed worker is started again; a crashed base service ends the stack.
    restarts: bool = False
    #: The highest layer is stopped first.
    layer: int = 0

    def spawn_arguments(self) -> dict[str, Any]:
        """Keyword arguments for `subprocess.Popen` and `asyncio.create_subprocess_exec` alike.

        Call either from the main thread: the death signal is bound to the thread that forks, not to the process.
        """
        arguments: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "env": {**os.environ, **self.environment},
            "cwd": self.folder,
            "start_new_session": True,
            "preexec_fn": die_with_parent(self.orphan_signal),
        }
        if self.account is not None:
            arguments |= {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
        return arguments


def die_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:  # killed between fork and prctl
            os._exit(1)

    return in_child


def read_from(log: Path, offset: int) -> bytes:
    with log.open("rb") as file:
        file.seek(offset)
        return file.read()


def open_log(log: Path) -> int:
    """Make room in the log file and return the offset at which this start begins."""
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    log.touch(mode=0o600)
    return log.stat().st_size


def last_lines(log: Path, offset: int, count: int = 15) -> str:
    text = read_from(log, offset).decode(errors="replace").rstrip()
    return "\n".join(f"    {line}" for line in text.splitlines()[-count:]) or "    (it printed nothing)"


def exited(service: Service, returncode: int, log_offset: int) -> ServiceUnavailable:
    how = f"was ended by {signal.Signals(-returncode).name}" if returncode < 0 else f"exited with status {returncode}"
    return ServiceUnavailable(
        f"{service.name} {how}; its last lines, from {service.log}:\n{last_lines(service.log, log_offset)}"
    )


def too_slow(service: Service, log_offset: int) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"{service.name} was not ready within {service.ready_timeout_s:.0f} s; its last lines, from {service.log}:\n"
        f"{last_lines(service.log, log_offset)}"
    )


@contextmanager
def running(service: Service) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the service, wait until it is ready, stop it at the end. Synchronous: for tests and short commands."""
    offset = open_log(service.log)
    with service.log.open("ab") as log:
        process = subprocess.Popen(service.command, stdout=log, stderr=subprocess.STDOUT, **service.spawn_arguments())
    try:
        deadline = time.monotonic() + service.ready_timeout_s
        while not service.probe():
            if process.poll() is not None:
                raise exited(service, process.returncode, offset)
            if time.monotonic() > deadline:
                raise too_slow(service, offset)
            time.sleep(POLL_S)
        service.after_ready()
        yield process
    finally:
        stop(service, process)


def stop(service: Service, process: "subprocess.Popen[bytes]") -> None:
    for number, patience_s in service.stop_signals:
        if process.poll() is not None:
            break
        process.send_signal(number)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
    kill_group(process.pid)
    process.wait()


def kill_group(leader_pid: int) -> None:
    """SIGKILL to what is left of the process group; nothing left is the ordinary case."""
    try:
        os.killpg(leader_pid, signal.SIGKILL)
    except ProcessLookupError:
        return
