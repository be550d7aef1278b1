"""Our own processes as local services: API, the workers of each queue, and beat; the commands of docker-compose.yml."""

import functools
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg

from integrations.local.label_studio import answers
from integrations.local.ports import LOOPBACK
from integrations.local.service import Service
from integrations.local.state import StateDir

CELERY = (sys.executable, "-m", "celery", "--quiet", "-A", "workers.app:app")
#: Celery's warning about root is about pickled messages; ours are JSON.
NO_WORD_ABOUT_ROOT = "ignore:You're running the worker with superuser privileges"
#: SIGTERM: finish what runs. SIGQUIT: give it back to the queue (prefork does; a solo pool would lose it).
WORKER_STOP = ((signal.SIGTERM, 8.0), (signal.SIGQUIT, 5.0))


def api_command(host: str, port: int) -> tuple[str, ...]:
    return (
        sys.executable, "-m", "uvicorn", "backend.api.app:create_app", "--factory",
        "--host", host, "--port", str(port), "--timeout-graceful-shutdown", "3",
    )  # fmt: skip


def masks_command(host: str, port: int) -> tuple[str, ...]:
    return (sys.executable, "-m", "backend.cli.main", "interactive", "serve", "--host", host, "--port", str(port))


def worker_command(queue: str, *pool: str) -> tuple[str, ...]:
    # Liveness is a row in the database and routing is by queue: gossip and mingle only slow the start.
    return (
        *CELERY, "worker", "-Q", queue, *pool, "-n", worker_name(queue), "-l", "INFO",
        "--without-gossip", "--without-mingle",
    )  # fmt: skip


def beat_command(schedule: Path) -> tuple[str, ...]:
    return (*CELERY, "beat", "-l", "INFO", "--pidfile=", "-s", str(schedule))


def worker_name(queue: str) -> str:
    return f"{queue}@premask"


def services(
    state: StateDir, port: int, masks_port: int, database_url: str, environment: Mapping[str, str]
) -> list[Service]:
    """`database_url` is libpq's, for looking whether the workers have given a sign of life."""
    started = time.time()
    make = functools.partial(
        Service,
        environment={**environment, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": NO_WORD_ABOUT_ROOT},
        # Where the launcher was started: premask.toml is looked for there by all processes alike.
        folder=Path.cwd(),
        # A warm shutdown would wait for the running job, with nobody left to wait for it.
        orphan_signal=signal.SIGKILL,
        ready_timeout_s=90.0,
        quiet=False,
        restarts=True,
        layer=1,
    )

    def worker(queue: str, *pool: str) -> Service:
        return make(
            queue,
            worker_command(queue, *pool),
            state.log(queue),
            probe=lambda: gave_sign(database_url, worker_name(queue), started),
            stop_signals=WORKER_STOP,
        )

    return [
        make(
            "api", api_command(LOOPBACK, port), state.log("api"), lambda: answers(f"http://{LOOPBACK}:{port}/healthz")
        ),
        make(
            "masks",
            masks_command(LOOPBACK, masks_port),
            state.log("masks"),
            # Its model is loaded after it listens: nobody clicks yet, and the stack needn't wait for it.
            lambda: listens(masks_port),
        ),
        worker("gpu", "-P", "prefork", "-c", "1"),
        worker("io", "-P", "threads", "-c", "4"),
        worker("train", "-P", "prefork", "-c", "1"),
        make("beat", beat_command(state.folder("beat") / "schedule"), state.log("beat")),
    ]


def listens(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=2.0):
            return True
    except OSError:
        return False


def gave_sign(database_url: str, worker: str, since: float) -> bool:
    """Whether that worker has written a heartbeat since then; an earlier one is of a worker that was killed."""
    try:
        with psycopg.connect(database_url, connect_timeout=2) as connection:
            query = "SELECT 1 FROM worker_heartbeats WHERE name = %s AND seen_at > to_timestamp(%s)"
            return connection.execute(query, (worker, since)).fetchone() is not None
    except psycopg.OperationalError:
        return False
