"""The state folder of an embedded stack: its lock, the generated secrets, the ports that stick, logs, and `stack.json`.

`stack.json` is written when a stack is ready and holds what a command beside it needs; it counts only while the lock is
held, so that a killed launcher leaves no stack that seems to run.
"""

import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from backend.domain.errors import Conflict, Misconfigured
from integrations.local.ports import Reservation, reserve

LOCK_PATIENCE_S = 1.0
#: Longer than the guard gives the processes of a killed launcher.
CLEANING_PATIENCE_S = 15.0


def write_private(path: Path, text: str) -> None:
    """Replace the file in one step, readable by its owner only."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)


class StateDir:
    """One folder, one stack. Secrets and ports are written as soon as they are chosen."""

    def __init__(self, path: Path, *, well_known_ports: bool = True) -> None:
        """`well_known_ports=False` is for tests: several at once must not race for 5432."""
        self.path = path.absolute()
        self._well_known_ports = well_known_ports
        self.logs.mkdir(parents=True, exist_ok=True)
        self._memory_file = self.path / "state.json"
        self._memory = self._remembered()
        self._reservations: dict[str, Reservation] = {}
        # The services are prepared side by side, some of them in threads.
        self._mutex = threading.RLock()

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def stack_file(self) -> Path:
        return self.path / "stack.json"

    @property
    def identity(self) -> str:
        """Changes when the folder is deleted and made anew, although its path stays."""
        return self.secret("identity")

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def folder(self, name: str) -> Path:
        folder = self.path / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def secret(self, name: str, make: Callable[[], str] = lambda: secrets.token_hex(20)) -> str:
        with self._mutex:
            known: dict[str, str] = self._memory.setdefault("secrets", {})
            if name not in known:
                known[name] = make()
                self._remember()
            return known[name]

    def port(self, name: str, well_known: int) -> int:
        """The port of that name, held for this process: last time's, else the well-known one, else any free one."""
        with self._mutex:
            if name not in self._reservations:
                kept: dict[str, int] = self._memory.setdefault("ports", {})
                # Another name's kept port is not for the taking: it would make both move at every start.
                others = {port for other, port in kept.items() if other != name}
                self._reservations[name] = reserve(self._preferred(name, well_known), others)
                if kept.get(name) != self._reservations[name].port:
                    kept[name] = self._reservations[name].port
                    self._remember()
            return self._reservations[name].port

    def release_ports(self) -> None:
        """Another stack may take them now."""
        with self._mutex:
            while self._reservations:
                self._reservations.popitem()[1].release()

    def _preferred(self, name: str, well_known: int) -> list[int]:
        kept = self._memory["ports"].get(name)
        if kept is not None:
            return [kept]
        return [well_known] if self._well_known_ports else []

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the folder for this process; yields the lock's descriptor. Raises `Conflict` when another holds it."""
        with (self.path / "lock").open("a+") as lock:
            self._acquire(lock)
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            self.stack_file.unlink(missing_ok=True)
            try:
                yield lock.fileno()
            finally:
                self.stack_file.unlink(missing_ok=True)
                self.release_ports()

    def _acquire(self, lock: TextIO) -> None:
        """Patient where the holder is only an instant's reader, or the guard of a killed launcher cleaning up."""
        started = time.monotonic()
        while not _try_lock(lock.fileno(), fcntl.LOCK_EX):
            lock.seek(0)
            holder = lock.read()
            patience_s = LOCK_PATIENCE_S if _is_alive(holder) else CLEANING_PATIENCE_S
            if time.monotonic() - started > patience_s:
                whose = f" (process {holder})" if holder else ""
                raise Conflict(f"a stack is already running in {self.path}{whose}; stop it first (Ctrl-C there)")
            time.sleep(0.05)

    def publish(self, description: Mapping[str, Any]) -> None:
        """Say that the stack is ready, for the commands beside it."""
        write_private(self.stack_file, json.dumps({"pid": os.getpid(), **description}, indent=1))

    def _remembered(self) -> dict[str, Any]:
        if not self._memory_file.exists():
            return {}
        try:
            memory: dict[str, Any] = json.loads(self._memory_file.read_text())
        except ValueError as error:
            raise Misconfigured(f"{self._memory_file} is not readable as JSON ({error}); mend or delete it") from error
        return memory

    def _remember(self) -> None:
        write_private(self._memory_file, json.dumps(self._memory, indent=1))


def running_stack(state_dir: Path) -> dict[str, Any] | None:
    """What `stack.json` says, if a stack is ready and its launcher is alive."""
    try:
        with (state_dir / "lock").open("r") as lock:
            if _try_lock(lock.fileno(), fcntl.LOCK_SH) or not _is_alive(lock.read()):
                return None
        description: dict[str, Any] = json.loads((state_dir / "stack.json").read_text())
    except FileNotFoundError:
        return None
    return description


def running_environment(state_dir: Path) -> dict[str, str] | None:
    """The `PREMASK__…` variables of the stack running in that folder, or None when none is ready there."""
    description = running_stack(state_dir)
    return None if description is None else {str(k): str(v) for k, v in description["environment"].items()}


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, and alive
        return True
    return True
