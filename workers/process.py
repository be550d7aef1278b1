"""What belongs to one worker process: its container, its name, its scratch folders and its signs of life."""

import hashlib
import logging
import os
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from backend.bootstrap import Container, bootstrap
from backend.db.repositories import outbox as outbox_rows
from backend.settings import WorkerSettings

log = logging.getLogger(__name__)

SIGN_OF_LIFE_EVERY_S = 2.0
#: Nothing from outside is in it: FFmpeg reads patterns and addresses into names.
SCRATCH_VIDEO = "video"
_containers: dict[int, Container] = {}
_lock = threading.Lock()


def container() -> Container:
    """This process's container. After a fork it is a new one: a child must not touch its parent's connections.

    The parent's stays referenced, so that it isn't collected, and its connections closed, in the child.
    """
    with _lock:
        return _containers.setdefault(os.getpid(), bootstrap())


def worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


@contextmanager
def scratch(settings: WorkerSettings) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with kept_scratch(settings) as folder:
        yield Path(folder)


def kept_scratch(settings: WorkerSettings) -> "tempfile.TemporaryDirectory[str]":
    """A folder that is gone when it is cleaned up, or with this process."""
    if settings.scratch_dir is not None:
        settings.scratch_dir.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=f"premask-{os.getpid()}-", dir=settings.scratch_dir)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_left_scratch(settings: WorkerSettings) -> None:
    """Remove the scratch folders of processes that were killed."""
    for folder in Path(settings.scratch_dir or tempfile.gettempdir()).glob("premask-*-*"):
        named = re.fullmatch(r"premask-(\d+)-\w+", folder.name)
        if named and folder.is_dir() and not Path(f"/proc/{named[1]}").exists() and Path("/proc").exists():
            shutil.rmtree(folder, ignore_errors=True)


class Ticker:
    """Calls `tick` at once and every so often from a thread of its own, until it is stopped."""

    def __init__(self, name: str, every_s: float, tick: Callable[[], None]) -> None:
        self._every_s = every_s
        self._tick = tick
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while True:
            try:
                self._tick()
            except SQLAlchemyError as error:
                # The database is away for a moment: the next tick tries again; who is too late notices by lease.
                log.warning("no sign of life written: %s", str(error).splitlines()[0])
            if self._stop.wait(self._every_s):
                return


def signs_of_life(name: str, queues: list[str]) -> Ticker:
    """Writes this worker's heartbeat rows, one a queue."""

    def tick() -> None:
        with container().transaction() as session:
            for queue in queues:
                outbox_rows.beat(session, name if len(queues) == 1 else f"{name}/{queue}", queue)

    return Ticker("premask-signs-of-life", SIGN_OF_LIFE_EVERY_S, tick)


def forget_signs(name: str) -> None:
    """A worker that stops in order is not alive any more, at once."""
    with container().transaction() as session:
        outbox_rows.delete_heartbeats_of(session, name)
