"""Our own processes as local services: API, GPU worker, io worker and beat; the commands of docker-compose.yml."""

import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from integrations.local.label_studio import answers
from integrations.local.ports import LOOPBACK
from integrations.local.service import Service
from integrations.local.state import StateDir

CELERY = (sys.executable, "-m", "celery", "-A", "workers.app:app")
#: SIGTERM: finish what runs. SIGQUIT: give it back to the queue (prefork does; a solo pool would lose it).
WORKER_STOP = ((signal.SIGTERM, 8.0), (signal.SIGQUIT, 5.0))


def api_command(host: str, port: int) -> tuple[str, ...]:
    return (
        sys.executable, "-m", "uvicorn", "backend.api.app:create_app", "--factory",
        "--host", host, "--port", str(port), "--timeout-graceful-shutdown", "3",
    )  # fmt: skip


def worker_command(queue: str, *pool: str) -> tuple[str, ...]:
    # Liveness is a row in the database and routing is by queue: gossip and mingle only slow the start.
    return (
        *CELERY, "worker", "-Q", queue, *pool, "-n", f"{queue}@premask", "-l", "INFO",
        "--without-gossip", "--without-mingle",
    )  # fmt: skip


def services(state: StateDir, port: int, environment: Mapping[str, str]) -> list[Service]:
    variables = {**environment, "PYTHONUNBUFFERED": "1"}

    def service(
        name: str,
        command: tuple[str, ...],
        *,
        ready_text: str | None = None,
        probe: Callable[[], bool] = lambda: True,
        stop_signals: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 8.0),),
    ) -> Service:
        return Service(
            name=name,
            command=command,
            log=state.log(name),
            probe=probe,
            ready_text=ready_text,
            environment=variables,
            # Where the launcher was started: premask.toml is looked for there by all processes alike.
            folder=Path.cwd(),
            stop_signals=stop_signals,
            # A warm shutdown would wait for the running job, with nobody left to wait for it.
            orphan_signal=signal.SIGKILL,
            ready_timeout_s=90.0,
            quiet=False,
            restarts=True,
            layer=1,
        )

    schedule = state.folder("beat") / "schedule"
    return [
        service("api", api_command(LOOPBACK, port), probe=lambda: answers(f"http://{LOOPBACK}:{port}/healthz")),
        service(
            "gpu",
            worker_command("gpu", "-P", "prefork", "-c", "1"),
            ready_text="gpu@premask ready.",
            stop_signals=WORKER_STOP,
        ),
        service(
            "io",
            worker_command("io", "-P", "threads", "-c", "4"),
            ready_text="io@premask ready.",
            stop_signals=WORKER_STOP,
        ),
        service(
            "beat", (*CELERY, "beat", "-l", "INFO", "--pidfile=", "-s", str(schedule)), ready_text="beat: Starting"
        ),
    ]
